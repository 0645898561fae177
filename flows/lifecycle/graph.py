"""The graph of the stages: what runs before what, in the order of a chain."""

from collections.abc import Mapping, Sequence

from tasks.store.artifact import Artifact
from tasks.store.run_context import RunContext
from tasks.store.stage import Stage


def run_chain(
    run: RunContext,
    chain: Sequence[Stage],
    given: Mapping[str, Artifact] | None = None,
    *,
    in_flow: bool = True,
) -> dict[str, Artifact]:
    """Run the stages in their order, or reuse their outputs; returns the outputs by stage name.

    Outputs that are no stage of this chain are `given`. In a flow each stage is a task of Prefect's; outside
    of one it is a call, and no server is needed.
    """
    outputs = dict(given or {})
    for stage in chain:
        if stage.is_used(stage.config(run)):
            inputs = {name: outputs[name] for name in stage.inputs(run, outputs)}
            outputs[stage.name] = stage.task(run, inputs) if in_flow else stage.produce(run, inputs)
    return outputs


def needed_for(chain: Sequence[Stage], goal: Stage) -> tuple[Stage, ...]:
    """The stages of the chain that the goal reads, directly or through others, and the goal itself."""
    wanted: set[str] = {goal.name}
    for stage in reversed(chain):
        if stage.name in wanted:
            wanted.update(stage.reads)
    return tuple(stage for stage in chain if stage.name in wanted)
