"""`repartee data`: what the data stages have produced from a corpus."""

from pathlib import Path
from typing import Any

from models.data.overview import DataOverview, overview
from models.errors import InputError
from settings import Settings
from tasks.store.artifact import StoredOutput, stored_outputs


def describe_data(fingerprint: str | None) -> tuple[StoredOutput, DataOverview]:
    """The examples with this fingerprint (by default, the newest examples), and an overview of the data.

    Raises:
        InputError: no data have been prepared, the fingerprint matches no output or several outputs, or an
            output from which the examples were made is missing.
    """
    home = Settings().root
    export = _find(home, fingerprint)
    clean = _input(home, export, "clean")
    return export, overview(_input(home, clean, "parse").path, clean.path, export.path)


def to_json(export: StoredOutput, data: DataOverview) -> dict[str, Any]:
    return {"fingerprint": export.fingerprint, "path": str(export.path), **data.model_dump()}


def _find(home: Path, fingerprint: str | None) -> StoredOutput:
    outputs = stored_outputs(home, "export")
    if not outputs:
        raise InputError(f"{home} contains no prepared data; `repartee prepare` prepares a corpus")
    if fingerprint is None:
        return outputs[0]
    found = [output for output in outputs if output.fingerprint.startswith(fingerprint)]
    if len(found) == 1:
        return found[0]
    listed = ", ".join(output.fingerprint for output in (found or outputs)[:5])
    problem = (
        "several fingerprints of prepared data begin" if found else "no fingerprint of prepared data begins"
    )
    raise InputError(f"{problem} with {fingerprint!r}; choose one of {listed}")


def _input(home: Path, output: StoredOutput, stage: str) -> StoredOutput:
    wanted = output.inputs.get(stage)
    for candidate in stored_outputs(home, stage):
        if candidate.digest == wanted:
            return candidate
    raise InputError(
        f"the output of the stage {stage}, from which {output.path} was made, is missing; "
        "`repartee prepare` rebuilds it"
    )
