"""`repartee data`: what the data stages have produced from a corpus."""

from pathlib import Path
from typing import Any

from corpus.forget_list import forgotten_in
from models.data.overview import DataOverview, overview
from models.errors import InputError
from settings import Settings
from tasks.exposure import sources_of
from tasks.provenance.conversation import ConversationFate, find_conversation
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


def find_in_data(fingerprint: str | None, conversation: str) -> tuple[StoredOutput, ConversationFate]:
    """What has become of one conversation in the data with this fingerprint (by default, in the newest).

    Raises:
        InputError: as `describe_data`, or the corpus has no such conversation.
    """
    home = Settings().root
    export = _find(home, fingerprint)
    clean = _input(home, export, "clean")
    parse = _input(home, clean, "parse")
    forgotten = forgotten_in(home, sources_of(home, parse))
    return export, find_conversation(parse.path, clean.path, conversation, forgotten)


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
