"""Results: what a run came to, in a file from before Prefect is asked to record its end until it has.

The engine proposes the last state over HTTP. Where nobody answers, the command reads the result here, and the
next start records it.
"""

from dataclasses import dataclass, field
from pathlib import Path

from pydantic import TypeAdapter

from flows.lifecycle.outcome import Outcome
from tasks.store.artifact import Artifact


@dataclass(frozen=True)
class Result:
    """Of the whole chain its outcome, of the data half its outputs."""

    outcome: Outcome | None = None
    artifacts: list[Artifact] = field(default_factory=list)


def save_result(home: Path, flow_run_id: str | None, result: Result) -> None:
    if flow_run_id is None:  # no Prefect, no end to record
        return
    path = _file(home, flow_run_id)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".tmp")
    partial.write_bytes(TypeAdapter(Result).dump_json(result))
    partial.replace(path)


def find_result(home: Path, flow_run_id: str) -> Result | None:
    """None: the run did not come to its end, or Prefect has recorded it."""
    try:
        return TypeAdapter(Result).validate_json(_file(home, flow_run_id).read_bytes())
    except FileNotFoundError:
        return None


def forget_result(home: Path, flow_run_id: str) -> None:
    _file(home, flow_run_id).unlink(missing_ok=True)


def _file(home: Path, flow_run_id: str) -> Path:
    return home / "prefect" / "results" / f"{flow_run_id}.json"
