"""MLflow's logged models. Each new version has a logged model, which contains the version's files and scores.

MLflow's pages list a logged model under its run and its experiment, with a link to the version.
"""

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from models.registry.runs import MAX_DATASET, MAX_DIGEST, Point, Tracking, quoted
from models.registry.tags import CONTENT_DIGEST, MODEL_VERSIONS

if TYPE_CHECKING:
    from mlflow.entities import LoggedModel

# No artifact folder of a run may have this name, because MLflow would mix the files in that folder with the
# files of the logged model.
NAME = "reply-model"
TYPE = "chat"
TRACKING_URI = "MLFLOW_TRACKING_URI"


@dataclass(frozen=True)
class Scores:
    """The scores of a model, with the name and digest of the dataset on which they were measured."""

    points: Sequence[Point]
    dataset: str
    digest: str


class LoggedModels(Tracking):
    """The logged models of the runs of one experiment."""

    def _open_logged_model(self, run_id: str, content: str) -> str:
        """Return the id of the run's logged model whose files have this digest, creating it if necessary."""
        with self.reading() as client:
            experiment = client.get_run(run_id).info.experiment_id
        for found in self._logged_models(experiment, run_id):
            if found.tags.get(CONTENT_DIGEST) == content:
                return str(found.model_id)
        with self.writing() as client:
            created = client.create_logged_model(
                experiment, NAME, source_run_id=run_id, tags={CONTENT_DIGEST: content}, model_type=TYPE
            )
        return str(created.model_id)

    def _logged_models(self, experiment: str, run_id: str) -> "Iterator[LoggedModel]":
        page = None
        while page is None or page:
            with self.reading() as client:
                batch = client.search_logged_models(
                    [experiment], f"source_run_id = {quoted(run_id)}", page_token=page
                )
            yield from batch
            page = batch.token or ""

    def _finish_logged_model(self, model_id: str) -> None:
        """Mark the logged model as ready. Call this once the model's files are stored and verified."""
        with self.writing() as client:
            client.finalize_logged_model(model_id, "READY")

    def _create_version(
        self, model_id: str, run_id: str, *, tags: Mapping[str, str], description: str
    ) -> int:
        """Register the logged model as a version; return the version number."""
        with self._as_default(), self.writing() as client:
            created = client.create_model_version(
                self.model,
                f"models:/{model_id}",
                run_id=run_id,
                model_id=model_id,
                tags=dict(tags),
                description=description,
            )
        return int(created.version)

    def _show(self, model_id: str, run_id: str, number: int, scores: Scores | None) -> None:
        """Link the logged model to its run and version, and attach its scores. Calling this twice is safe."""
        if scores is not None:
            self._log_scores(model_id, run_id, scores)
        from mlflow.entities import LoggedModelOutput

        with self.reading() as client:
            outputs = client.get_run(run_id).outputs
            tags = client.get_logged_model(model_id).tags
        if model_id not in {output.model_id for output in (outputs.model_outputs if outputs else [])}:
            with self.writing() as client:
                client.log_outputs(run_id, [LoggedModelOutput(model_id, step=0)])
        versions: list[dict[str, Any]] = json.loads(tags.get(MODEL_VERSIONS, "[]"))
        if not any(v["name"] == self.model and int(v["version"]) == number for v in versions):
            versions.append({"name": self.model, "version": number})
            with self.writing() as client:
                client.set_logged_model_tags(model_id, {MODEL_VERSIONS: json.dumps(versions)})

    def _log_scores(self, model_id: str, run_id: str, scores: Scores) -> None:
        from mlflow.entities import Metric

        dataset, digest = scores.dataset[:MAX_DATASET], scores.digest[:MAX_DIGEST]
        metrics = [
            Metric(*point, model_id=model_id, dataset_name=dataset, dataset_digest=digest)
            for point in scores.points
        ]
        with self.writing() as client:
            client.log_batch(run_id, metrics=metrics)

    @contextmanager
    def _as_default(self) -> Iterator[None]:
        """Make this store MLflow's default while MLflow looks up the logged model with its own client."""
        before = os.environ.get(TRACKING_URI)
        os.environ[TRACKING_URI] = self.tracking_uri
        try:
            yield
        finally:
            if before is None:
                os.environ.pop(TRACKING_URI, None)
            else:
                os.environ[TRACKING_URI] = before
