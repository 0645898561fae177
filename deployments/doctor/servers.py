"""Checks of the servers that are up or configured: health, cross-origin access, clocks and databases."""

import urllib.error
import urllib.request
from collections.abc import Iterator
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from functools import partial

from deployments.doctor.installation import NO_SERVER, CheckSkipped, Fault, Installation
from deployments.local import prefect_database
from deployments.local.processes import answers
from flows.lifecycle.locks import holder
from models import sqlite_files
from models.addresses import redact_addresses
from models.registry import database
from models.registry.rescue import rescue

OTHER_HOST = "other-site.example"
MAX_SKEW_SECONDS = 30  # one heartbeat interval: with a larger skew, live runs count as crashed
RESTART = "repartee down; repartee up"


def services(installation: Installation) -> Iterator[Fault]:
    """Every running service and every configured server answers."""
    if (
        not installation.services
        and not installation.settings.prefect_api_url
        and not installation.settings.mlflow_tracking_uri
    ):
        raise CheckSkipped("no service is up, and no server is configured")
    for name, service in installation.services.items():
        if service.health and not answers(service.health):
            log = installation.home / "services" / f"{name}.log"
            yield Fault(f"{name} at {service.address} does not answer (log: {log})", RESTART)
    url = installation.settings.prefect_api_url
    if url and installation.prefect_url is None:
        what = f"PREFECT_API_URL is {redact_addresses(url)}, but no server answers there"
        yield Fault(what, "unset PREFECT_API_URL")
    uri = installation.settings.mlflow_tracking_uri
    if uri and uri.startswith("http") and _request(f"{uri.rstrip('/')}/health") is None:
        yield Fault(
            f"MLFLOW_TRACKING_URI is {redact_addresses(uri)}, but no server answers there",
            "unset MLFLOW_TRACKING_URI",
        )


def cross_origin_access(installation: Installation) -> Iterator[Fault]:
    """No web page from another site can send requests to the servers through the user's browser."""
    _need_server(installation)
    if url := installation.prefect_url:
        response = _request(f"{url}/health", {"Origin": f"http://{OTHER_HOST}"})
        if response and response[1].get("access-control-allow-origin") in ("*", f"http://{OTHER_HOST}"):
            yield Fault(
                f"Prefect at {redact_addresses(url)} accepts requests from the web pages of any site",
                _restart_safely(
                    installation,
                    "prefect",
                    url,
                    f"PREFECT_SERVER_CORS_ALLOWED_ORIGINS={_origin(url)} prefect server start",
                ),
            )
    if (uri := installation.settings.tracking_uri).startswith("http"):
        response = _request(f"{uri.rstrip('/')}/", {"Host": OTHER_HOST})
        if response and response[0] == 200:
            host = _origin(uri).partition("//")[2]
            yield Fault(
                f"MLflow at {redact_addresses(uri)} answers requests for any host name, even {OTHER_HOST}",
                _restart_safely(installation, "mlflow", uri, f"mlflow server --allowed-hosts {host}"),
            )


def clock(installation: Installation) -> Iterator[Fault]:
    """The clocks of this machine and of the servers agree."""
    _need_server(installation)
    urls = {"Prefect": installation.prefect_url and f"{installation.prefect_url}/health"}
    if (uri := installation.settings.tracking_uri).startswith("http"):
        urls["MLflow"] = f"{uri.rstrip('/')}/health"
    for name, url in urls.items():
        response = _request(url) if url else None
        if response is None or "date" not in response[1]:
            continue
        skew_s = (parsedate_to_datetime(response[1]["date"]) - datetime.now(UTC)).total_seconds()
        if abs(skew_s) > MAX_SKEW_SECONDS:
            ahead = "ahead of" if skew_s > 0 else "behind"
            yield Fault(
                f"the clock of the {name} server is {abs(skew_s):,.0f} s {ahead} the clock of this machine, "
                "so schedules and heartbeats fail; apply the remedy on the machine whose clock is wrong",
                "timedatectl set-ntp true",
            )


def databases(installation: Installation) -> Iterator[Fault]:
    """The databases are intact, and the paths stored in them point into this home."""
    tracking = sqlite_files.file_of(installation.settings.tracking_uri) or installation.home / "mlflow.db"
    for name, path, is_whole in (
        ("MLflow", tracking, lambda new: database.state(new) in database.WITH_TABLES),
        ("Prefect", installation.home / "prefect" / "prefect.db", prefect_database.is_whole),
    ):
        if sqlite_files.exists(path) and (wrong := sqlite_files.damage(path)):
            in_use = bool(installation.services) or holder(installation.home) is not None
            yield Fault(
                f"{name}'s database {path} is damaged ({wrong}); the remedy copies its readable part into a "
                f"new database and keeps the damaged file as {path.name}.damaged",
                "repartee down; repartee doctor --fix",
                None if in_use else partial(rescue, path, is_whole),
            )
    yield from _moved(installation)


def _moved(installation: Installation) -> Iterator[Fault]:
    path, artifacts = installation.home / "mlflow.db", installation.home / "mlartifacts"
    if not sqlite_files.exists(path) or sqlite_files.damage(path):
        return
    if roots := database.moved_roots(path, artifacts):
        yield Fault(
            f"{path} expects its artifacts in {', '.join(roots)}: the home was moved or copied from there",
            "repartee doctor --fix",
            partial(database.readdress, path, artifacts, roots),
        )


def _request(url: str, headers: dict[str, str] | None = None) -> tuple[int, dict[str, str]] | None:
    """The status of the response, and its headers by lower-case name; None if no server answers."""
    request = urllib.request.Request(redact_addresses(url), headers=headers or {})
    try:
        with urllib.request.urlopen(request, timeout=5) as answer:
            return answer.status, {name.lower(): value for name, value in answer.headers.items()}
    except urllib.error.HTTPError as error:
        return error.code, {name.lower(): value for name, value in error.headers.items()}
    except OSError:
        return None


def _need_server(installation: Installation) -> None:
    if installation.prefect_url is None and not installation.settings.tracking_uri.startswith("http"):
        raise CheckSkipped(NO_SERVER)


def _restart_safely(installation: Installation, name: str, url: str, command: str) -> str:
    """The remedy: for a service of `repartee up`, a restart, which also gives it safe settings; for any other
    server, `command`."""
    ours = installation.services.get(name)
    return RESTART if ours and ours.address == _origin(url) else command


def _origin(url: str) -> str:
    return "/".join(redact_addresses(url).split("/")[:3])
