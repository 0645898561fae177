"""A registered version of the model, as a record without MLflow's types."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from models.errors import InputError
from models.registry.tags import CONTENT_DIGEST, DIGEST, FINGERPRINT, MODEL_DIGEST


@dataclass(frozen=True)
class Version:
    """One registered version."""

    number: int
    aliases: tuple[str, ...]
    tags: dict[str, str]
    metrics: dict[str, float]
    """The last value of each metric of the version's run, by metric name."""
    run_id: str
    created: datetime
    description: str
    source: str
    """MLflow's address of the files: models:/MODEL_ID; in versions of earlier releases, runs:/RUN_ID/PATH."""

    @property
    def digest(self) -> str:
        """The model's digest, which is equal for equal weights; a unique text if no tag contains it."""
        return self.tags.get(MODEL_DIGEST, f"version {self.number} of {self.run_id}")

    @property
    def scores(self) -> dict[str, float]:
        """The scores on the test split, by names such as `test_bpb`."""
        found = {key: value for key, value in self.metrics.items() if key.startswith("test/")}
        return {key.replace("/", "_"): value for key, value in found.items()}

    @property
    def content_digest(self) -> str:
        """The digest of all files except those for MLflow; "" if Repartee did not register the version."""
        return self.tags.get(CONTENT_DIGEST, self.tags.get(DIGEST, ""))

    @property
    def is_mlflow_model(self) -> bool:
        """Whether MLflow can open the version, that is, whether it contains the files that MLflow needs."""
        return self.content_digest != self.tags.get(DIGEST, "")

    @property
    def logged_model(self) -> str:
        """The id of the version's logged model; "" for a version of an earlier release that has none."""
        scheme, _, model_id = self.source.partition(":/")
        return model_id if scheme == "models" else ""


def version_of(record: Any, aliases: Mapping[str, Any], metrics: dict[str, float]) -> Version:
    """Convert MLflow's record of a version."""
    number = int(record.version)
    return Version(
        number=number,
        aliases=tuple(sorted(a for a, pointed in aliases.items() if int(pointed) == number)),
        tags=dict(record.tags),
        metrics=metrics,
        run_id=record.run_id or "",
        created=datetime.fromtimestamp(record.creation_timestamp / 1000, UTC),
        description=record.description or "",
        source=record.source,
    )


def is_of_training(version: Version, fingerprint: str) -> bool:
    """Whether the training run with this fingerprint produced the version."""
    return version.tags.get(FINGERPRINT) == fingerprint


def source_of(version: Version) -> str:
    """MLflow's address of a version's files, which belong to a logged model or to the version's run.

    Raises:
        InputError: the version was not registered by Repartee.
    """
    if not re.fullmatch(r"models:/m-\w+|runs:/\w+/.+", version.source):
        raise InputError(
            f"version {version.number} (at {version.source}) was not registered by Repartee; "
            "choose another version (`repartee models`)"
        )
    return version.source
