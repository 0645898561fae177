"""MLflow runs: each training run has one MLflow run, identified by the fingerprint of the training run.

Only the package models/registry imports MLflow; it accesses runs through the client of connection.py.
"""

import getpass
import json
import logging
import shlex
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import urlsplit

from models.addresses import redact_addresses
from models.errors import InputError, TrackingUnavailable
from models.registry.connection import Connection
from models.registry.pages import run_page
from models.registry.tags import (
    DATASET_CONTEXT,
    EXPERIMENT_KIND,
    FINGERPRINT,
    HOME,
    LOCATION,
    NOTE,
    SOURCE_NAME,
    USER,
)

if TYPE_CHECKING:
    from mlflow.entities import Run

log = logging.getLogger(__name__)

MAX_NAME = 250  # characters of a run's name
MAX_DATASET = 500  # characters of a dataset's name
MAX_VALUE = 6000  # characters of a param; MLflow refuses longer params
MAX_NOTE = 8000  # characters of a tag; a note is a tag
MAX_DIGEST = 36  # characters of a dataset's digest
PARAMS_A_CALL, METRICS_A_CALL = 100, 1000  # MLflow's own limits for one call of log_batch

RunStatus = Literal["FINISHED", "FAILED", "KILLED"]
Point = tuple[str, float, int, int]
"""A metric's key, value, time in milliseconds, and step."""


@dataclass(frozen=True)
class Tracking(Connection):
    """The runs of one experiment, in a SQLite file or on an MLflow server."""

    def open_run(
        self, fingerprint: str, name: str, params: Mapping[str, object], tags: Mapping[str, str]
    ) -> str:
        """Return the id of this home's run with this fingerprint; create the run if there is none.

        A finished run stays unchanged.

        Raises:
            TrackingUnavailable, InputError: MLflow cannot be used; the method `writing` lists the cases.
        """
        run = self.find_run(fingerprint, tags.get(HOME))
        if run is None:
            tags = {USER: user(), SOURCE_NAME: self.model, **tags}
            experiment = self._experiment_id
            self._set_kind(experiment)
            with self.writing() as client:
                run = client.create_run(
                    experiment, run_name=name[:MAX_NAME], tags={**tags, FINGERPRINT: fingerprint}
                )
        elif run.info.status == "FINISHED":
            return str(run.info.run_id)
        else:
            self.log_tags(run.info.run_id, tags)
            if run.info.status in ("FAILED", "KILLED"):
                with self.writing() as client:
                    client.update_run(run.info.run_id, status="RUNNING")
        # A logged param can never be changed, and an earlier attempt may have logged some of the params.
        new_params = {key: value for key, value in params.items() if key not in run.data.params}
        self._log_params(run.info.run_id, new_params)
        return str(run.info.run_id)

    def find_run(self, fingerprint: str, home: str | None = None) -> Any | None:
        """The MLflow run with this fingerprint, or None if there is no such run.

        Only runs of the home with the identity `home` are searched, or if `home` is None, all runs.
        """
        experiment = self.find_experiment()
        if experiment is None:
            return None
        own_home = f" and tags.`{HOME}` = {quoted(home)}" if home else ""
        with self.reading() as client:
            runs = client.search_runs(
                [experiment],
                filter_string=f"tags.`{FINGERPRINT}` = {quoted(fingerprint)}{own_home}",
                order_by=["attributes.start_time ASC"],
                max_results=1,
            )
        return runs[0] if runs else None

    def open_runs(self, home: str, at: str) -> list[str]:
        """The ids of the runs that were started in the home with the identity `home` and have not ended.

        Runs of earlier releases have no such identity; their tag LOCATION is compared with `at` instead.
        """
        experiment = self.find_experiment()
        if experiment is None:
            return []
        # Some paths cannot be written in MLflow's filter syntax, so the tags are compared here.
        with self.reading() as client:
            runs = client.search_runs([experiment], filter_string="attributes.status = 'RUNNING'")
        owners = {run.info.run_id: run.data.tags for run in runs}
        owner_before = {id_: home for id_, tags in owners.items() if tags.get(LOCATION) == at}
        return [id_ for id_, tags in owners.items() if tags.get(HOME, owner_before.get(id_)) == home]

    def run_or_none(self, run_id: str) -> "Run | None":
        """The MLflow run with this id, or None if it does not exist."""
        return self.find_or_none(lambda client: client.get_run(run_id))

    def is_deleted(self, run_id: str) -> bool:
        """Whether the run has been deleted, for instance on MLflow's page."""
        run = self.run_or_none(run_id)
        return run is None or run.info.lifecycle_stage == "deleted"

    def log_metrics(self, run_id: str, points: Sequence[Point]) -> None:
        """Add points to the run's metrics. MLflow stores a point only once, even if it is sent twice."""
        from mlflow.entities import Metric

        for start in range(0, len(points), METRICS_A_CALL):
            batch = [Metric(*point) for point in points[start : start + METRICS_A_CALL]]
            with self.writing() as client:
                client.log_batch(run_id, metrics=batch)

    def metric_steps(self, run_id: str, key: str) -> set[int]:
        """The steps at which the run's metric has a value."""
        with self.reading() as client:
            return {point.step for point in client.get_metric_history(run_id, key)}

    def log_tags(self, run_id: str, tags: Mapping[str, str]) -> None:
        from mlflow.entities import RunTag

        entities = [RunTag(key, str(value)[:MAX_NOTE]) for key, value in tags.items()]
        for start in range(0, len(entities), PARAMS_A_CALL):
            with self.writing() as client:
                client.log_batch(run_id, tags=entities[start : start + PARAMS_A_CALL])

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
        """Log a dataset that the run used; `context` is train, validation or test."""
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
        tag = InputTag(DATASET_CONTEXT, context)
        with self.writing() as client:
            client.log_inputs(run_id, datasets=[DatasetInput(dataset, [tag])])

    def log_artifacts(self, run_id: str, folder: Path, path: str | None = None) -> None:
        """Copy the files of a folder to the run's artifacts, under `path`."""
        with self.time_for_files(folder), self.writing() as client:
            client.log_artifacts(run_id, str(folder), path)

    def time_for_files(self, folder: Path) -> AbstractContextManager[None]:
        """Within this context, raise the request timeout to suit the largest file in the folder."""
        sizes = (file.stat().st_size for file in folder.rglob("*") if file.is_file())
        return self.time_for(max(sizes, default=0))

    def log_text(self, run_id: str, text: str, path: str) -> None:
        """Write one text file to the run's artifacts."""
        with self.writing() as client:
            client.log_text(run_id, text, path)

    def note(self, run_id: str, markdown: str) -> None:
        """Set the Markdown text that describes the run at the top of its page."""
        self.log_tags(run_id, {NOTE: markdown})

    def close_run(self, run_id: str, status: RunStatus) -> None:
        """End the run with this status; a finished run stays unchanged."""
        with self.reading() as client:
            is_finished = client.get_run(run_id).info.status == "FINISHED"
        if not is_finished:
            with self.writing() as client:
                client.set_terminated(run_id, status)

    def run_url(self, run_id: str) -> str:
        """A link to the run's page; for a database without a server, the command that serves the page."""
        if self.server is None:
            return f"mlflow ui --backend-store-uri {shlex.quote(redact_addresses(self.tracking_uri))}"
        try:
            experiment = self._experiment_id
        except TrackingUnavailable as outage:
            log.warning("the link leads to MLflow's start page instead of the run: %s", outage)
            return self.server
        return f"{self.server}/{run_page(experiment, run_id)}"

    def page_of_run(self, run_id: str, artifact: str = "") -> str:
        """The page of a run or of one of its artifacts, as an address relative to that of the MLflow server.

        Raises:
            TrackingUnavailable, InputError: MLflow cannot be used; the method `writing` lists the cases.
        """
        return run_page(self._experiment_id, run_id, artifact)

    @cached_property
    def _experiment_id(self) -> str:
        found = self.find_experiment()
        if found is not None:
            return found
        root = None
        if self._file is not None and self.artifacts is not None:
            root = self.artifacts.absolute().as_uri()
        try:
            with self.writing() as client:
                return str(client.create_experiment(self.experiment, root))
        except Exception as error:
            # Another process may have just created the experiment.
            if getattr(error, "error_code", None) != "RESOURCE_ALREADY_EXISTS":
                raise
            with self.reading() as client:
                created = client.get_experiment_by_name(self.experiment)
            assert created is not None
            return str(created.experiment_id)

    def _set_kind(self, experiment: str) -> None:
        """Make MLflow show the experiment as a training experiment, unless a user has chosen another kind."""
        with self.reading() as client:
            tags = client.get_experiment(experiment).tags
        if EXPERIMENT_KIND not in tags:
            with self.writing() as client:
                client.set_experiment_tag(experiment, EXPERIMENT_KIND, "custom_model_development")

    def find_experiment(self) -> str | None:
        """The experiment's id, or None if no run has been recorded yet.

        Raises:
            InputError: the experiment was deleted; the message contains the command that restores it.
        """
        experiment = self.find_or_none(lambda client: client.get_experiment_by_name(self.experiment))
        if experiment is None:
            return None
        if experiment.lifecycle_stage == "deleted":
            command = (
                f"MLFLOW_TRACKING_URI={shlex.quote(redact_addresses(self.tracking_uri))} "
                f"mlflow experiments restore --experiment-id {experiment.experiment_id}"
            )
            raise InputError(
                f"the experiment {self.experiment!r} of {redact_addresses(self.tracking_uri)} is deleted; "
                f"restore it ({command}) or name another experiment in MLFLOW_EXPERIMENT_NAME"
            )
        return str(experiment.experiment_id)

    def _log_params(self, run_id: str, params: Mapping[str, object]) -> None:
        from mlflow.entities import Param

        entities = [Param(key, str(value)[:MAX_VALUE]) for key, value in params.items()]
        for start in range(0, len(entities), PARAMS_A_CALL):
            with self.writing() as client:
                client.log_batch(run_id, params=entities[start : start + PARAMS_A_CALL])


def user() -> str:
    """The name of the current user, or `unknown`."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # in a container, the user may have no name
        return "unknown"


def quoted(value: str) -> str:
    """Put a value into quotation marks for MLflow's filters, which have no escape sequences.

    Raises:
        InputError: the value has both kinds of quotation marks.
    """
    mark = '"' if "'" in value else "'"
    if mark in value:
        raise InputError(
            f"{value!r} has both kinds of quotation marks, which MLflow cannot search for; use one kind"
        )
    return f"{mark}{value}{mark}"
