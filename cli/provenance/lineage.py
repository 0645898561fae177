"""`repartee lineage`: where a version comes from, and when and why it was in service."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from cli.provenance.service import Period, periods_of, trained_by
from cli.versions import run_tags
from models.evaluation.ledger import Decision, Ledger
from models.registry.reference import in_line, open_registry
from models.registry.tags import (
    CHANGES,
    COMMIT,
    CORPUS,
    FINGERPRINT,
    FLOW_RUN_ID,
    LOCATION,
    RECIPE,
    RUN_NAME,
    SCHEDULE,
    SOURCE,
)
from models.registry.version import Version
from models.registry.versions import Registry
from settings import Settings
from tasks.provenance.ancestry import Ancestor, Ancestry
from tasks.provenance.origin import Origin, origin_of
from tasks.run_page.contents import HASHES

STAGES = ("download", "start", "parse", "clean", "vocabulary", "export", "train")
UNKNOWN = "unknown"


@dataclass(frozen=True)
class StoredStage:
    """The output of a stage from which a version was made."""

    stage: str
    digest: str
    fingerprint: str
    """Empty if it is not known."""
    path: str
    """The folder in the store; empty if it is not in the store of this home any more."""


@dataclass(frozen=True)
class Lineage:
    """All that leads from a version to its inputs, and from the version to its use."""

    line: str
    version: Version
    tags: Mapping[str, str]
    """The tags of the version and of the MLflow run that trained it."""
    run_url: str
    run_name: str
    """The name of the run that trained the version."""
    prefect_url: str
    """The address of the run's page in Prefect; empty if no dashboard that shows it answers."""
    stages: list[StoredStage]
    ancestors: list[Ancestor]
    periods: list[Period]
    decisions: list[Decision]

    @property
    def commit(self) -> str:
        return self.tags.get(COMMIT, UNKNOWN).rstrip("+")

    @property
    def is_tree_clean(self) -> bool | None:
        """Whether no file differed from the commit; None if the commit is not known."""
        return None if self.commit == UNKNOWN else not self.tags.get(COMMIT, "").endswith("+")

    def to_json(self) -> dict[str, Any]:
        tags = self.tags
        return {
            "line": self.line,
            "version": self.version.number,
            "aliases": list(self.version.aliases),
            "registered": self.version.created.isoformat(),
            "recipe": tags.get(RECIPE),
            "changes": tags.get(CHANGES, ""),
            "corpus": tags.get(CORPUS),
            "source": tags.get(SOURCE),
            "trained_at": tags.get(LOCATION),
            "schedule": tags.get(SCHEDULE),
            "mlflow": {"run_id": self.version.run_id, "url": self.run_url},
            "prefect": {"id": tags.get(FLOW_RUN_ID), "name": self.run_name, "url": self.prefect_url},
            "git": {"commit": self.commit, "clean": self.is_tree_clean},
            "stages": [asdict(stage) for stage in self.stages],
            "ancestors": [asdict(ancestor) for ancestor in self.ancestors],
            "in_service": [asdict(period) for period in self.periods],
            "decisions": [decision.model_dump() for decision in self.decisions],
        }


def trace_version(ref: str, line: str | None) -> Lineage:
    """The lineage of the version that the reference names.

    Raises:
        InputError: there is no such version, or MLflow cannot be used.
    """
    settings = Settings()
    registry, number_or_alias = in_line(ref, open_registry(settings, line))
    version = registry.find(number_or_alias)
    tags = {**run_tags(registry, version), **version.tags}
    origin = origin_of(settings.root, tags.get(FINGERPRINT, ""))
    prefect = trained_by(tags, settings.dashboard)
    ledger = Ledger(settings.root, registry.model)
    return Lineage(
        line=registry.model,
        version=version,
        tags=tags,
        run_url=registry.run_url(version.run_id),
        run_name=prefect[0].name if prefect else tags.get(RUN_NAME, ""),
        prefect_url=prefect[1] if prefect else "",
        stages=_stages(registry, version, origin),
        ancestors=list(Ancestry(settings.root, registry).of(origin)) if origin else [],
        periods=periods_of(registry.history(), version.number),
        decisions=[each for each in ledger.decisions() if each.model == version.digest],
    )


def _stages(registry: Registry, version: Version, origin: Origin | None) -> list[StoredStage]:
    """The outputs behind a version, by the store, or by what MLflow has recorded if the store lacks them."""
    if origin is None:
        hashes = registry.read_artifact(version.run_id, HASHES) if version.run_id else None
        by_stage = json.loads(hashes or "{}").get("stages", {})
        found = {
            name: StoredStage(name, each["digest"], each["fingerprint"], "")
            for name, each in by_stage.items()
        }
    else:
        found = {name: StoredStage(name, digest, "", "") for name, digest in origin.missing.items()}
        found |= {
            name: StoredStage(name, each.digest, each.fingerprint, str(each.path))
            for name, each in origin.outputs.items()
        }
    return [found[name] for name in STAGES if name in found]
