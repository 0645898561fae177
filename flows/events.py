"""Events: what others may wait for, in Prefect's event feed."""

from collections.abc import Sequence

from prefect.events import emit_event

from flows.lineage import Lineage
from tasks.artifacts import Artifact

NEW_DATA = "repartee.data.prepared"
PROMOTED = "repartee.champion.promoted"


def tell_new_data(run: Lineage, made: Sequence[Artifact]) -> None:
    """Where the examples are others than before: `train` may begin."""
    if made[-1].status == "ran":
        emit_event(
            NEW_DATA,
            resource={"prefect.resource.id": f"repartee.corpus.{run.tags['repartee.corpus']}"},
            payload={
                "recipe": run.tags["repartee.recipe"],
                "corpus": run.tags["repartee.source"],
                "examples": made[-1].rows,
            },
        )


def tell_promotion(run: Lineage, version: int, reason: str) -> None:
    emit_event(
        PROMOTED,
        resource={"prefect.resource.id": f"repartee.model.{run.registry.model}"},
        payload={"version": version, "reason": reason},
    )
