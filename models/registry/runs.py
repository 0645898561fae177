"""MLflow runs: one a training, found again by its fingerprint, never made twice.

With models/registry/versions.py this is the only door to MLflow. Everything goes through one client with
explicit run ids: no active run, no autolog, no global URI. MLflow is imported on first use.
"""

import gc
import getpass
import json
import logging
import os
import re
import shlex
import sqlite3
import ssl
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import urlsplit

from models import sqlite_files
from models.addresses import bare
from models.errors import InputError, TrackingUnavailable
from models.registry import database

if TYPE_CHECKING:
    from mlflow.tracking.client import MlflowClient

log = logging.getLogger(__name__)

FINGERPRINT = "repartee.train_fingerprint"
HOME = "repartee.home"  # the home's identity, wherever it is: whose run it is
MAX_NAME = 250  # characters of a run's name
MAX_DATASET = 500  # characters of a dataset's name
MAX_VALUE = 6000  # characters of a param; MLflow refuses longer ones
MAX_NOTE = 8000  # characters of a tag, which a note is
MAX_DIGEST = 36  # characters of a dataset's digest
PARAMS_A_CALL, METRICS_A_CALL = 100, 1000  # MLflow's own limits of one log_batch

DATABASE_ERROR = re.compile(r"\bOperationalError\b|\bDatabaseError\b")
STORES = re.compile(r"https?://|databricks|(sqlite|postgresql|mysql|mssql)(\+\w+)?://")
LOOKS = ("get_", "search_", "list_", "download_")  # how the names of calls begin that only read

TIMEOUT = "MLFLOW_HTTP_REQUEST_TIMEOUT"
SLOWEST_START_S, SLOWEST_BYTES_A_SECOND = 60, 1_000_000  # of an upload; what is slower counts as hung
ENVIRONMENT = {
    # With MLflow's defaults one call to a dead server takes 247 s; with these 3 s.
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
    "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR": "1",
    TIMEOUT: "10",  # a hung server costs three of these
    "MLFLOW_LOGGING_LEVEL": "WARNING",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "GIT_PYTHON_REFRESH": "quiet",
}

RunStatus = Literal["FINISHED", "FAILED", "KILLED"]
Point = tuple[str, float, int, int]
"""A metric's key, value, time in milliseconds, and step."""


class Absent(InputError):
    """There is no database yet in which anything could be found."""


@dataclass(frozen=True)
class Tracking:
    """The runs of one experiment, in a SQLite file or behind an MLflow server."""

    tracking_uri: str
    artifacts: Path | None
    """Where a SQLite store keeps its artifacts; a server decides for itself."""
    model: str = "repartee"
    experiment: str = "repartee"

    def open_run(
        self, fingerprint: str, name: str, params: Mapping[str, object], tags: Mapping[str, str]
    ) -> str:
        """The id of this home's run of this fingerprint: the one there is, else a new one.

        What trained a model is written once: a run that has finished stays as it is.
        """
        run = self.find_run(fingerprint, tags.get(HOME))
        if run is None:
            tags = {"mlflow.user": user(), "mlflow.source.name": self.model, **tags}
            run = self.ask(
                "create_run",
                self._experiment_id,
                run_name=name[:MAX_NAME],
                tags={**tags, FINGERPRINT: fingerprint},
            )
        elif run.info.status == "FINISHED":
            return str(run.info.run_id)
        else:
            self.log_tags(run.info.run_id, tags)
            if run.info.status in ("FAILED", "KILLED"):
                self.ask("update_run", run.info.run_id, status="RUNNING")
        # A param cannot change, and an earlier try has logged some of them.
        new = {key: value for key, value in params.items() if key not in run.data.params}
        self._log_params(run.info.run_id, new)
        return str(run.info.run_id)

    def find_run(self, fingerprint: str, home: str | None = None) -> Any | None:
        """The MLflow run of this fingerprint, of one home or of any, with its params, metrics and tags."""
        experiment = self._find_experiment()
        if experiment is None:
            return None
        mine = f" and tags.`{HOME}` = {quoted(home)}" if home else ""
        runs = self.ask(
            "search_runs",
            [experiment],
            filter_string=f"tags.`{FINGERPRINT}` = {quoted(fingerprint)}{mine}",
            order_by=["attributes.start_time ASC"],
            max_results=1,
        )
        return runs[0] if runs else None

    def open_runs(self, home: str, at: str) -> list[str]:
        """The runs that began in a home and have not ended, whoever is at work there.

        Those of before homes had an identity are known by the machine and the path.
        """
        experiment = self._find_experiment()
        if experiment is None:
            return []
        # Compared here: a filter cannot hold every path of a home.
        runs = self.ask("search_runs", [experiment], filter_string="attributes.status = 'RUNNING'")
        owners = {run.info.run_id: run.data.tags for run in runs}
        owner_before = {id_: home for id_, tags in owners.items() if tags.get(database.AT) == at}
        return [id_ for id_, tags in owners.items() if tags.get(HOME, owner_before.get(id_)) == home]

    def is_deleted(self, run_id: str) -> bool:
        """Whether somebody has deleted the run, in the dashboard for one."""
        run = self.ask_or_none("get_run", run_id)
        return run is None or run.info.lifecycle_stage == "deleted"

    def log_metrics(self, run_id: str, points: Sequence[Point]) -> None:
        """Add points to the run's curves; a point sent twice is there once, by its time."""
        from mlflow.entities import Metric

        for start in range(0, len(points), METRICS_A_CALL):
            batch = [Metric(*point) for point in points[start : start + METRICS_A_CALL]]
            self.ask("log_batch", run_id, metrics=batch)

    def metric_steps(self, run_id: str, key: str) -> set[int]:
        """The steps at which the run's curve has a point."""
        return {point.step for point in self.ask("get_metric_history", run_id, key)}

    def log_tags(self, run_id: str, tags: Mapping[str, str]) -> None:
        from mlflow.entities import RunTag

        entities = [RunTag(key, str(value)[:MAX_NOTE]) for key, value in tags.items()]
        for start in range(0, len(entities), PARAMS_A_CALL):
            self.ask("log_batch", run_id, tags=entities[start : start + PARAMS_A_CALL])

    def log_dataset(
        self,
        run_id: str,
        name: str,
        *,
        digest: str,
        source: str,
        profile: Mapping[str, object],
        context: str,
        columns: Mapping[str, str] | None = None,
    ) -> None:
        """Show on the run's page what it read: `context` is train, validation or test."""
        from mlflow.entities import Dataset, DatasetInput, InputTag

        remote = urlsplit(source).scheme in ("http", "https")
        schema = [{"name": n, "type": t, "required": True} for n, t in (columns or {}).items()]
        dataset = Dataset(
            name=name[:MAX_DATASET],
            digest=digest[:MAX_DIGEST],
            source_type="http" if remote else "local",
            source=json.dumps({"url" if remote else "uri": source}),
            schema=json.dumps({"mlflow_colspec": schema}) if schema else None,
            profile=json.dumps(dict(profile)),
        )
        tag = InputTag("mlflow.data.context", context)
        self.ask("log_inputs", run_id, datasets=[DatasetInput(dataset, [tag])])

    def log_artifacts(self, run_id: str, folder: Path, path: str | None = None) -> None:
        """Copy the files of a folder to the run, under `path`."""
        sizes = (file.stat().st_size for file in folder.rglob("*") if file.is_file())
        with self.time_for(max(sizes, default=0)):
            self.ask("log_artifacts", run_id, str(folder), path)

    def log_text(self, run_id: str, text: str, path: str) -> None:
        """Write one text file to the run's artifacts."""
        self.ask("log_text", run_id, text, path)

    def note(self, run_id: str, markdown: str) -> None:
        """The description on top of the run's page."""
        self.log_tags(run_id, {"mlflow.note.content": markdown})

    def close_run(self, run_id: str, status: RunStatus) -> None:
        """End the run; one that has finished has done so when it did."""
        if self.ask("get_run", run_id).info.status != "FINISHED":
            self.ask("set_terminated", run_id, status)

    def run_url(self, run_id: str) -> str:
        """Where to look at a run: a link, or the command that opens the page with it."""
        if not self._remote:
            return f"mlflow ui --backend-store-uri {shlex.quote(bare(self.tracking_uri))}"
        base = bare(self.tracking_uri).rstrip("/")
        try:
            experiment = self._experiment_id
        except TrackingUnavailable as outage:
            log.warning("no link to the run: %s", outage)
            return base
        # The page opens in a mode for agents, where a run is an "evaluation", unless told.
        mode = "workflowType=machine_learning"
        return f"{base}/#/experiments/{experiment}/runs/{run_id}?{mode}"

    def ask(self, method: str, *args: Any, **kwargs: Any) -> Any:
        """Call the client; a store that does not answer is the user's to mend, in one line.

        A look at a database that is not there creates none.
        """
        if self._file is not None:
            with self._remedied():
                if not method.startswith(LOOKS):
                    self._prepared  # noqa: B018
                elif "client" not in vars(self) and database.state(self._file) not in database.FILLED:
                    raise Absent(f"{self._file} holds nothing yet; `repartee run` fills it")
        with self._remedied():
            return getattr(self.client, method)(*args, **kwargs)

    def ask_or_none(self, method: str, *args: Any, **kwargs: Any) -> Any | None:
        """Call the client; none where what is asked for does not exist."""
        try:
            return self.ask(method, *args, **kwargs)
        except Absent:
            return None
        except Exception as error:
            if getattr(error, "error_code", None) == "RESOURCE_DOES_NOT_EXIST":
                return None
            raise

    def local_folder(self, uri: str) -> Path | None:
        """Where an artifact of this address lies on this machine's disk, wherever the home is now."""
        return database.local_folder(uri, self._file, self.artifacts)

    def prepare(self) -> None:
        """The database is there and has this home's addresses; a server's is the server's own affair."""
        if self._file is not None:
            with self._remedied():
                self._prepared  # noqa: B018

    @cached_property
    def client(self) -> "MlflowClient":
        """MLflow's client; the first use imports it (seconds)."""
        _set_environment()
        with self._remedied(), _no_collection():
            if not STORES.match(self.tracking_uri):
                raise InputError(
                    f"{bare(self.tracking_uri)[:200]} is no address of an MLflow server or a database; "
                    "set MLFLOW_TRACKING_URI to one (http://HOST:PORT, sqlite:////PATH), or unset it"
                )
            if self._remote:
                _knock(self.tracking_uri)
            elif self._file is not None:
                database.make_usable(self._file, self.artifacts)
            from mlflow.tracking.client import MlflowClient

            return MlflowClient(tracking_uri=self.tracking_uri, registry_uri=self.tracking_uri)

    @property
    def _remote(self) -> bool:
        return self.tracking_uri.startswith(("http://", "https://"))

    @property
    def _file(self) -> Path | None:
        """The file of a SQLite store; none: a server or another database."""
        return sqlite_files.file_of(self.tracking_uri)

    @cached_property
    def _prepared(self) -> None:
        """Once, before the first call that writes."""
        assert self._file is not None
        _set_environment()
        with _no_collection():
            database.prepare(self._file, self.artifacts)

    @contextmanager
    def _remedied(self) -> Iterator[None]:
        try:
            yield
        except InputError:
            raise
        except Exception as error:
            if remedied := self._remedy(error):
                raise remedied from error
            raise

    def _remedy(self, error: Exception) -> InputError | None:
        """The user's line about a store that cannot be used, else none."""
        text, uri = bare(" ".join(str(error).split())), bare(self.tracking_uri)
        if "Can't locate revision" in text:
            return InputError(database.newer(uri))
        if found := re.search(r"out-of-date database schema \(found version (\w+)", text):
            if found[1] not in database.revisions()[0]:
                return InputError(database.newer(uri))
            command = f"mlflow db upgrade {shlex.quote(uri)}"
            return InputError(f"{uri} was written by another MLflow; upgrade it: {command}")
        if isinstance(error, ImportError) or "Can't load plugin" in text:
            return InputError(
                f"MLflow at {uri} needs a package that is not installed ({text[:160]}); install the team's: "
                "pip install -c constraints.txt -e '.[team]'"
            )
        if self._remote:
            return self._remedy_of_server(error, text)
        if not isinstance(error, OSError | sqlite3.Error) and not DATABASE_ERROR.search(text):
            return None
        kind = TrackingUnavailable if "database is locked" in text else InputError
        return kind(
            f"MLflow cannot use {uri} ({text[:160]}); {sqlite_files.remedy(text)}, "
            "or set MLFLOW_TRACKING_URI or REPARTEE_HOME"
        )

    def _remedy_of_server(self, error: Exception, text: str) -> InputError | None:
        uri = bare(self.tracking_uri)
        status = _status(error, text)
        if status in (401, 403):
            return InputError(
                f"MLflow at {uri} refuses the login (status {status}); "
                "set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD"
            )
        if status and 400 <= status < 500:
            return None
        if status or isinstance(error, OSError) or "API request to" in text:
            return TrackingUnavailable(
                f"MLflow at {uri} does not answer ({text[:160]}); "
                + (
                    "start it, or unset MLFLOW_TRACKING_URI to use the database in REPARTEE_HOME"
                    if os.environ.get("MLFLOW_TRACKING_URI")
                    else "`repartee up` starts it again in a moment, and `repartee status` says how it is"
                )
            )
        return None

    @cached_property
    def _experiment_id(self) -> str:
        found = self._find_experiment()
        if found is not None:
            return found
        root = None
        if self._file is not None and self.artifacts is not None:
            root = self.artifacts.absolute().as_uri()
        try:
            return str(self.ask("create_experiment", self.experiment, root))
        except Exception as error:
            # Another process was faster.
            if getattr(error, "error_code", None) != "RESOURCE_ALREADY_EXISTS":
                raise
            return str(self.ask("get_experiment_by_name", self.experiment).experiment_id)

    def _find_experiment(self) -> str | None:
        """The experiment's id; none: no run has been recorded yet.

        Raises:
            InputError: somebody deleted it; the line has the command that brings it back.
        """
        found = self.ask_or_none("get_experiment_by_name", self.experiment)
        if found is None:
            return None
        if found.lifecycle_stage == "deleted":
            command = (
                f"MLFLOW_TRACKING_URI={shlex.quote(bare(self.tracking_uri))} "
                f"mlflow experiments restore --experiment-id {found.experiment_id}"
            )
            raise InputError(
                f"the experiment {self.experiment!r} of {bare(self.tracking_uri)} is deleted; "
                f"bring it back ({command}) or name another in MLFLOW_EXPERIMENT_NAME"
            )
        return str(found.experiment_id)

    @contextmanager
    def time_for(self, size_bytes: int) -> Iterator[None]:
        """Inside, a request may take as long as a file of this size does."""
        if not self._remote:
            yield
            return
        assert self.client  # which sets the limit
        with self._remedied():
            _knock(self.tracking_uri)  # a server that hangs is found in seconds all the same
        before = os.environ[TIMEOUT]
        needed_s = SLOWEST_START_S + size_bytes // SLOWEST_BYTES_A_SECOND
        os.environ[TIMEOUT] = str(max(int(before), needed_s))
        try:
            yield
        finally:
            os.environ[TIMEOUT] = before

    def _log_params(self, run_id: str, params: Mapping[str, object]) -> None:
        from mlflow.entities import Param

        entities = [Param(key, str(value)[:MAX_VALUE]) for key, value in params.items()]
        for start in range(0, len(entities), PARAMS_A_CALL):
            self.ask("log_batch", run_id, params=entities[start : start + PARAMS_A_CALL])


def _set_environment() -> None:
    """Before MLflow is imported, which reads it then."""
    for key, value in ENVIRONMENT.items():
        os.environ.setdefault(key, value)
    # urllib3 would print each retry on its own; the error says it once.
    logging.getLogger("urllib3.connectionpool").setLevel(logging.ERROR)


def user() -> str:
    """Who is at work here, where the machine knows."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container's user may have no name
        return "unknown"


def quoted(value: str) -> str:
    """A value in one of MLflow's filters, which know no escape.

    Raises:
        InputError: it has both kinds of quotation marks.
    """
    mark = '"' if "'" in value else "'"
    if mark in value:
        raise InputError(
            f"{value!r} has both kinds of quotation marks, which MLflow cannot look for; use one kind"
        )
    return f"{mark}{value}{mark}"


def _status(error: Exception, text: str) -> int | None:
    """The HTTP status of an answer that was none; None where there was no answer, or a good one."""
    if found := re.search(r"failed with error code (\d{3})", text):
        return int(found[1])
    if getattr(error, "error_code", None) == "TEMPORARILY_UNAVAILABLE":
        return 503
    return getattr(getattr(error, "response", None), "status_code", None)


def _knock(uri: str) -> None:
    """Fail within seconds where no server answers; a refusal is an answer."""
    try:
        urllib.request.urlopen(f"{bare(uri).rstrip('/')}/health", timeout=3).close()
    except urllib.error.HTTPError:
        pass
    except urllib.error.URLError as error:
        if not isinstance(error.reason, ssl.SSLError):  # MLflow has settings of its own for these
            raise


@contextmanager
def _no_collection() -> Iterator[None]:
    """Keep the garbage collector from all that MLflow loads: worth 1 s of import and exit."""
    if "mlflow" in sys.modules:
        yield
        return
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        if was_enabled:
            gc.enable()
