"""The graph of the stages: run a chain of stages in order, or find the stages that one stage depends on."""

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
    """Run the stages in order, or reuse their outputs; return the outputs by stage name.

    `given` contains the outputs that no stage of this chain produces. In a flow, each stage is a Prefect
    task; outside a flow, each stage is a function call that needs no server.
    """
    outputs = dict(given or {})
    for stage in chain:
        if stage.is_used(stage.config(run)):
            inputs = {name: outputs[name] for name in stage.inputs(run, outputs)}
            outputs[stage.name] = stage.task(run, inputs) if in_flow else stage.produce(run, inputs)
    return outputs


def needed_for(chain: Sequence[Stage], goal: Stage) -> tuple[Stage, ...]:
    """The stage `goal`, and the stages of the chain that it depends on, directly or through other stages."""
    wanted: set[str] = {goal.name}
    for stage in reversed(chain):
        if stage.name in wanted:
            wanted.update(stage.reads)
    return tuple(stage for stage in chain if stage.name in wanted)
