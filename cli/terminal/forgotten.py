"""What `repartee corpus forget` prints: the list, and what has become of what is forgotten."""

import shlex
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from cli.forget import Name, Result, forget, list_forgotten, restore
from cli.terminal.output import print_result
from cli.terminal.tables import moment_text, text_table
from console import signs_of_life
from corpus.forget_list import KINDS, Entry
from models.errors import InputError
from models.quantities import count_text
from tasks.exposure import Exposure, Occurrence

USES = {"train": "trained on it", "validation": "chosen with it (validation)", "test": "scored on it (test)"}


def print_result_of(
    ids: Mapping[str, Sequence[str]], *, reason: str, is_undone: bool, anyway: bool, as_json: bool
) -> None:
    """The body of the verb: shows the list if no id is given.

    Args:
        ids: the ids of conversations and of speakers, by the names of their options.

    Raises:
        InputError: see `forget` and `restore`; or an option needs a name.
    """
    names = [(kind, name) for kind in KINDS for name in ids.get(kind, ())]
    if not names and (reason or is_undone or anyway):
        raise InputError("what is to be forgotten is missing: add --conversation ID or --speaker ID")
    if not names:
        file, listed = list_forgotten()
        shown = {"list": str(file), "forgotten": [entry.model_dump() for entry in listed]}
        print_result(shown, list_text(file, listed), as_json)
    elif is_undone:
        restored = restore(names)
        print_result(
            {"restored": [{kind: name} for kind, name in restored]}, restored_text(restored), as_json
        )
    else:
        with signs_of_life():
            result = forget(names, reason=reason, anyway=anyway)
        print_result(result.to_json(), result_text(result), as_json)


def list_text(file: Path, entries: Sequence[Entry]) -> str:
    """The list of what is forgotten, the oldest entry first."""
    if not entries:
        return f"nothing is forgotten in this home ({file} has no entry)"
    rows = [
        {"what": each.kind, "since": moment_text(each.at), "id": repr(each.id), "reason": each.reason}
        for each in entries
    ]
    return f"{text_table(rows)}\n\nEvery run in this home leaves these out. The list is {file}."


def restored_text(names: Sequence[Name]) -> str:
    return "\n".join(f"{_title(name)} is no longer forgotten: the next run reads it again" for name in names)


def result_text(result: Result) -> str:
    """What has been forgotten, which versions have read it, and what to do."""
    parts = [_found_lines(result)]
    if any(result.found.values()):
        parts += [_version_lines(result), _remedy_lines(result), _trunk_lines(result)]
        parts += [_folder_lines(result)]
    return "\n\n".join(text for part in parts if (text := "\n".join(part)))


def _found_lines(result: Result) -> Iterator[str]:
    for name, found in result.found.items():
        state = "is forgotten" if name in result.added else "was already forgotten"
        corpora = ", ".join(dict.fromkeys(map(_counts, found))) or "no stored corpus contains it"
        yield f"{_title(name)} {state}: {corpora}"
    yield "Every later run in this home leaves it out."


def _counts(found: Occurrence) -> str:
    conversations = count_text(len(found.ids), "conversations")
    return f"{count_text(found.turns, 'turns')} in {conversations} of {found.corpus}"


def _version_lines(result: Result) -> Iterator[str]:
    if result.outage:
        yield f"It is unknown which versions had read it: {result.outage}. Repeat the command later."
        return
    had_read = [each for each in result.versions if each.has_read]
    yield "Versions that had read it:" if had_read else "No version whose data are known had read it."
    yield from (f"  {_with_aliases(each):<26}  {_reading(each)}" for each in had_read)
    unknown = [each.title for each in result.versions if each.is_unknown]
    if unknown:
        yield f"Unknown, because their data are no longer in the store: {', '.join(unknown)}"


def _remedy_lines(result: Result) -> Iterator[str]:
    for remedy in result.remedies:
        yield f"{remedy.champion} does not lose what it has learnt. Train its successor without it:"
        yield f"  remedy: {remedy.retrain}"
        if remedy.rollback:
            yield "Until then, the previous champion, which had not read it, can be in service:"
            yield f"  remedy: {remedy.rollback}"


def _trunk_lines(result: Result) -> Iterator[str]:
    if result.trunks:
        yield (
            "The next night (--init trunk) would go on from a trunk that had read it, or may have read it. "
            "This removes it; the next night then begins with the champion, so replace that first:"
        )
        yield f"  remedy: {shlex.join(['rm', '-r', *map(str, result.trunks)])}"


def _folder_lines(result: Result) -> Iterator[str]:
    yield (
        "Nothing has been removed from the disk. This removes the stored outputs that contain it or that "
        "were made from it, while no run is in progress; the next run reads the source of the corpus again, "
        "and stores what it reads:"
    )
    yield f"  remedy: {shlex.join(['rm', '-r', *map(str, result.folders)])}"


def _with_aliases(exposure: Exposure) -> str:
    aliases = exposure.version.aliases
    return f"{exposure.title} ({', '.join(aliases)})" if aliases else exposure.title


def _reading(exposure: Exposure) -> str:
    """What has been done with the conversations when the version was trained."""
    texts = [text for split, text in USES.items() if split in (exposure.splits or ())]
    if exposure.start:
        texts.append(f"began with the weights of {exposure.start}")
    return ", ".join(texts)


def _title(name: Name) -> str:
    kind, text = name
    return f"{kind} {text!r}"
