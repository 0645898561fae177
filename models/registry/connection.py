"""The connection to MLflow: its client, its environment variables, and remedies for its errors.

All calls use one client and identify their run by its id. There is no active run, no autologging and no
global tracking URI. MLflow is imported on first use.
"""

import gc
import logging
import os
import re
import shlex
import sqlite3
import ssl
import sys
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from models import sqlite_files
from models.addresses import redact_addresses
from models.errors import InputError, TrackingUnavailable
from models.registry import database

if TYPE_CHECKING:
    from mlflow.tracking.client import MlflowClient

T = TypeVar("T")

DATABASE_ERROR = re.compile(r"\bOperationalError\b|\bDatabaseError\b")
STORES = re.compile(r"https?://|databricks|(sqlite|postgresql|mysql|mssql)(\+\w+)?://")

TIMEOUT = "MLFLOW_HTTP_REQUEST_TIMEOUT"
SLOWEST_START_S, SLOWEST_BYTES_A_SECOND = 60, 1_000_000  # a slower upload counts as hung
ENVIRONMENT = {
    # With MLflow's defaults, a call to a dead server fails only after 247 s; with these values, after 3 s.
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
    "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR": "1",
    TIMEOUT: "10",  # seconds; each call has three attempts
    "MLFLOW_LOGGING_LEVEL": "WARNING",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "GIT_PYTHON_REFRESH": "quiet",
}


class Absent(InputError):
    """There is no database yet."""


@dataclass(frozen=True)
class Connection:
    """A SQLite file or an MLflow server, and the names of the model and the experiment that Repartee uses."""

    tracking_uri: str
    artifacts: Path | None
    """The artifact folder of a SQLite store. A server chooses for itself where it stores artifacts."""
    model: str = "repartee"
    experiment: str = "repartee"

    @contextmanager
    def reading(self) -> "Iterator[MlflowClient]":
        """Yield MLflow's client for calls that only read. If there is no database yet, none is created.

        Raises:
            Absent: there is no database yet.
            TrackingUnavailable: MLflow does not answer.
            InputError: the store cannot be used; the message contains the remedy.
        """
        with self._remedied():
            file, is_connected = self._file, "client" in vars(self)
            if file is not None and not is_connected and database.state(file) not in database.WITH_TABLES:
                raise Absent(f"{file} contains no data yet; run `repartee run` first")
            yield self.client

    @contextmanager
    def writing(self) -> "Iterator[MlflowClient]":
        """Yield MLflow's client for calls that may write, after creating or upgrading a SQLite database.

        Raises:
            TrackingUnavailable: MLflow does not answer.
            InputError: the store cannot be used; the message contains the remedy.
        """
        self.prepare()
        with self._remedied():
            yield self.client

    def find_or_none(self, read: "Callable[[MlflowClient], T]") -> T | None:
        """Return the result of a call that reads, or None if the requested object does not exist.

        Raises:
            TrackingUnavailable, InputError: MLflow cannot be used; the method `reading` lists the cases.
        """
        try:
            with self.reading() as client:
                return read(client)
        except Absent:
            return None
        except Exception as error:
            if getattr(error, "error_code", None) == "RESOURCE_DOES_NOT_EXIST":
                return None
            raise

    def local_folder(self, uri: str) -> Path | None:
        """The local path of the artifact at `uri`, even after the home has moved; None if it is not local."""
        return database.local_folder(uri, self._file, self.artifacts)

    def prepare(self) -> None:
        """Create or upgrade a SQLite database, and correct its artifact addresses if the home has moved.

        Raises:
            InputError: the database cannot be used; the message contains the remedy.
        """
        if self._file is not None:
            with self._remedied():
                self._prepared  # noqa: B018

    @cached_property
    def client(self) -> "MlflowClient":
        """MLflow's client; its first use imports MLflow, which takes seconds.

        Raises:
            TrackingUnavailable: the server does not answer.
            InputError: the address or the store cannot be used; the message contains the remedy.
        """
        _set_environment()
        with self._remedied(), _garbage_collection_off():
            if not STORES.match(self.tracking_uri):
                raise InputError(
                    f"{redact_addresses(self.tracking_uri)[:200]} is not the address of an MLflow server or "
                    "database; set MLFLOW_TRACKING_URI to http://HOST:PORT or sqlite:////PATH, or unset it"
                )
            if self._remote:
                _check_reachable(self.tracking_uri)
            elif self._file is not None:
                database.make_usable(self._file, self.artifacts)
            from mlflow.tracking.client import MlflowClient

            return MlflowClient(tracking_uri=self.tracking_uri, registry_uri=self.tracking_uri)

    @property
    def server(self) -> str | None:
        """The address of the MLflow server without its login; None for a database without a server."""
        return redact_addresses(self.tracking_uri).rstrip("/") if self._remote else None

    @property
    def _remote(self) -> bool:
        return self.tracking_uri.startswith(("http://", "https://"))

    @property
    def _file(self) -> Path | None:
        """The file of a SQLite store, or None for a server or another kind of database."""
        return sqlite_files.file_of(self.tracking_uri)

    @cached_property
    def _prepared(self) -> None:
        """Prepare the database once, before the first call that writes."""
        assert self._file is not None
        _set_environment()
        with _garbage_collection_off():
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
        """Return an error that contains the remedy if the store cannot be used; None for any other error."""
        text, uri = redact_addresses(" ".join(str(error).split())), redact_addresses(self.tracking_uri)
        if "Can't locate revision" in text:
            return InputError(database.newer_message(uri))
        if match := re.search(r"out-of-date database schema \(found version (\w+)", text):
            if match[1] not in database.revisions()[0]:
                return InputError(database.newer_message(uri))
            command = f"mlflow db upgrade {shlex.quote(uri)}"
            return InputError(f"{uri} was written by another version of MLflow; upgrade it: {command}")
        if isinstance(error, ImportError) or "Can't load plugin" in text:
            return InputError(
                f"MLflow at {uri} needs a package that is not installed ({text[:160]}); install the "
                "extra `team`: pip install -c constraints.txt -e '.[team]'"
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
        uri = redact_addresses(self.tracking_uri)
        status = _status(error, text)
        if status in (401, 403):
            return InputError(
                f"MLflow at {uri} refused the login (status {status}); "
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
                    else "wait until `repartee up` has restarted it; `repartee status` shows its state"
                )
            )
        return None

    @contextmanager
    def time_for(self, size_bytes: int) -> Iterator[None]:
        """Within this context, raise the request timeout so that a file of this size can be transferred."""
        if not self._remote:
            yield
            return
        assert self.client  # creating the client sets the time limit
        with self._remedied():
            _check_reachable(self.tracking_uri)  # a hung server is still detected within seconds
        before = os.environ[TIMEOUT]
        needed_s = SLOWEST_START_S + size_bytes // SLOWEST_BYTES_A_SECOND
        os.environ[TIMEOUT] = str(max(int(before), needed_s))
        try:
            yield
        finally:
            os.environ[TIMEOUT] = before


def _set_environment() -> None:
    """Set the environment variables that MLflow reads on import, except those that are already set."""
    for key, value in ENVIRONMENT.items():
        os.environ.setdefault(key, value)
    # urllib3 would log every retry, although the exception already reports the failure.
    logging.getLogger("urllib3.connectionpool").setLevel(logging.ERROR)


def _status(error: Exception, text: str) -> int | None:
    """The HTTP status of a failed request, or None if the error has no HTTP status."""
    if match := re.search(r"failed with error code (\d{3})", text):
        return int(match[1])
    if getattr(error, "error_code", None) == "TEMPORARILY_UNAVAILABLE":
        return 503
    return getattr(getattr(error, "response", None), "status_code", None)


def _check_reachable(uri: str) -> None:
    """Raise an error within seconds if no server responds; an HTTP error counts as a response."""
    try:
        urllib.request.urlopen(f"{redact_addresses(uri).rstrip('/')}/health", timeout=3).close()
    except urllib.error.HTTPError:
        pass
    except urllib.error.URLError as error:
        if not isinstance(error.reason, ssl.SSLError):  # MLflow may use TLS settings that accept this server
            raise


@contextmanager
def _garbage_collection_off() -> Iterator[None]:
    """Keep the garbage collector from scanning the objects that importing MLflow creates. This saves 1 s."""
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
