"""Results: keep the result of a run in a file until Prefect has recorded the end of the run.

Prefect's engine sends the final state over HTTP. If no server answers, the command reads the result from this
file, and the next start of Repartee records the end in Prefect.
"""

from dataclasses import dataclass, field
from pathlib import Path

from pydantic import TypeAdapter

from flows.lifecycle.outcome import Outcome
from tasks.store.artifact import Artifact


@dataclass(frozen=True)
class Result:
    """The outcome of `retrain`, or the outputs of `prepare`."""

    outcome: Outcome | None = None
    artifacts: list[Artifact] = field(default_factory=list)


def save_result(home: Path, flow_run_id: str | None, result: Result) -> None:
    if flow_run_id is None:  # Prefect does not record this run
        return
    path = _file(home, flow_run_id)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".tmp")
    partial.write_bytes(TypeAdapter(Result).dump_json(result))
    partial.replace(path)


def find_result(home: Path, flow_run_id: str) -> Result | None:
    """The result of a run that has ended but whose end Prefect has not recorded yet; otherwise None."""
    try:
        return TypeAdapter(Result).validate_json(_file(home, flow_run_id).read_bytes())
    except FileNotFoundError:
        return None


def forget_result(home: Path, flow_run_id: str) -> None:
    _file(home, flow_run_id).unlink(missing_ok=True)


def _file(home: Path, flow_run_id: str) -> Path:
    return home / "prefect" / "results" / f"{flow_run_id}.json"
