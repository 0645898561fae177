"""`repartee corpus forget`: what every later run leaves out, and which versions have already read it."""

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from corpus.cleaning.forgotten import PATH, POSITION, Forgotten
from corpus.forget_list import LIST, Entry, Kind, append, entries, forgotten_of
from models.errors import InputError, TrackingUnavailable
from models.registry.promotions import CHAMPION
from models.registry.reference import open_registry
from models.registry.tags import CHANGES, RECIPE
from models.registry.versions import Registry
from settings import Settings
from tasks.exposure import (
    Exposure,
    Occurrence,
    exposures,
    id_without_part,
    occurrences,
    stored_folders,
    trunks_that_read,
)
from tasks.store.artifact import stored_outputs

Name = tuple[Kind, str]


@dataclass(frozen=True)
class Remedy:
    """The commands that replace a champion that has read what is forgotten."""

    champion: str
    """The champion, such as `repartee v3`."""
    retrain: str
    """The command that trains its successor without what is forgotten, and promotes it."""
    rollback: str
    """The command that puts the previous champion into service; "" unless that has certainly not read it."""


@dataclass(frozen=True)
class Result:
    """What has been put on the list, where it occurs, and which versions have read it."""

    list_file: Path
    found: dict[Name, list[Occurrence]]
    """What is forgotten, with the stored corpora that contain it."""
    added: list[Name]
    """Those that were not on the list before."""
    versions: list[Exposure] = field(default_factory=list)
    """The versions that have read one of them, or of which this is unknown."""
    outage: str = ""
    """Why the versions are unknown; "" if they are known."""
    folders: list[Path] = field(default_factory=list)
    """The stored outputs that still contain the text."""
    trunks: list[Path] = field(default_factory=list)
    """The folders of the trunks that have been trained on one of them, or of which this is unknown."""
    remedies: list["Remedy"] = field(default_factory=list)
    """For each champion that has read one of them, what replaces it."""

    def to_json(self) -> dict[str, Any]:
        return {
            "list": str(self.list_file),
            "forgotten": [
                {
                    kind: name,
                    "added": (kind, name) in self.added,
                    "corpora": [
                        {"corpus": each.corpus, "conversations": len(each.ids), "turns": each.turns}
                        for each in found
                    ],
                }
                for (kind, name), found in self.found.items()
            ],
            "versions": [
                {
                    "line": each.line,
                    "version": each.version.number,
                    "aliases": list(each.version.aliases),
                    "splits": None if each.splits is None else sorted(each.splits),
                    "started_from": each.start,
                }
                for each in self.versions
            ],
            "unknown": self.outage,
            "stored": [str(folder) for folder in self.folders],
            "trunks": [str(folder) for folder in self.trunks],
            "remedies": [vars(remedy) for remedy in self.remedies],
        }


def list_forgotten() -> tuple[Path, list[Entry]]:
    """The file of the list, and what is on the list.

    Raises:
        InputError: a line of the list cannot be read.
    """
    home = Settings().root
    return home / LIST, entries(home)


def forget(names: Sequence[Name], *, reason: str, anyway: bool) -> Result:
    """Put conversations and speakers on the list, unless they are on it, and find out who has read them.

    Raises:
        InputError: no stored corpus contains one of them, or nothing of a corpus would be left; `anyway`
            accepts both. Then nothing is put on the list.
    """
    settings = Settings()
    home = settings.root
    known = {(entry.kind, entry.id): entry for entry in entries(home)}
    found = dict(_find(home, name, known, anyway=anyway) for name in dict.fromkeys(names))
    now = datetime.now(UTC).isoformat(timespec="seconds")
    new = [_entry(name, found[name], known.get(name), now, reason) for name in found]
    added = [(entry.kind, entry.id) for entry in new if entry is not None]
    if added:
        append(home, [entry for entry in new if entry is not None])
    everywhere = [occurrence for found_of_name in found.values() for occurrence in found_of_name]
    trunks = [each.folder for each in trunks_that_read(home, everywhere)] if everywhere else []
    result = Result(home / LIST, found, added, folders=stored_folders(home, everywhere), trunks=trunks)
    try:
        return _with_versions(result, settings, everywhere)
    except TrackingUnavailable as outage:
        return replace(result, outage=str(outage))


def restore(names: Sequence[Name]) -> list[Name]:
    """Take conversations and speakers off the list.

    Raises:
        InputError: one of them is not on the list; then nothing changes.
    """
    home = Settings().root
    known = {(entry.kind, entry.id) for entry in entries(home)}
    for kind, name in names:
        if (kind, name) not in known:
            raise InputError(
                f"the {kind} {name!r} is not on the list; `repartee corpus forget` shows what is on it"
            )
    now = datetime.now(UTC).isoformat(timespec="seconds")
    append(home, [Entry(kind=kind, id=name, action="restore", at=now) for kind, name in names])
    return list(names)


def _entry(
    name: Name, found: Sequence[Occurrence], known: Entry | None, at: str, reason: str
) -> Entry | None:
    """The new line of the list; None if the list says the same already."""
    kind, text = name
    texts = {digest for each in found for digest in each.texts} if kind == "conversation" else set()
    before = set(known.texts) if known else set()
    if known and texts <= before:
        return None
    return Entry(kind=kind, id=text, action="forget", at=at, reason=reason, texts=sorted(texts | before))


def _find(
    home: Path, name: Name, known: Mapping[Name, Entry], *, anyway: bool
) -> tuple[Name, list[Occurrence]]:
    """What is to be forgotten, as the corpus names it, and where it occurs.

    Args:
        known: the entries of the list.
    """
    kind, text = name
    if not text.strip():
        raise InputError(f"--{kind} {text!r} names nothing; give the id of a {kind}")
    candidates = [text]
    if kind == "conversation":  # the id may be that of a path of a reply tree, or of a part of a conversation
        candidates = [PATH.sub("", text), PATH.sub("", id_without_part(text))]
    for candidate in candidates:
        entry = known.get((kind, candidate))
        if entry is not None and entry.is_of_texts and not anyway:
            found = occurrences(home, forgotten_of([entry]))
        else:
            found = _occurrences_of(home, kind, candidate)
        if found:
            if not anyway and entry is None:
                _check_rest(kind, candidate, found)
            return (kind, candidate), found
    listed = [candidate for candidate in candidates if (kind, candidate) in known]
    if not anyway and not listed:
        raise InputError(_unknown(home, kind, text))
    return (kind, (listed or candidates)[0]), []


def _occurrences_of(home: Path, kind: Kind, name: str) -> list[Occurrence]:
    found = occurrences(home, _only(kind, name))
    if found and kind == "conversation" and POSITION.fullmatch(name):
        return occurrences(home, Forgotten(texts=found[0].texts))  # those of the newest corpus
    return found


def _only(kind: Kind, name: str) -> Forgotten:
    names = frozenset([name])
    return Forgotten(conversations=names) if kind == "conversation" else Forgotten(speakers=names)


def _check_rest(kind: Kind, name: str, found: Sequence[Occurrence]) -> None:
    for each in found:
        if len(each.ids) == each.total:
            raise InputError(
                f"the {kind} {name!r} takes all {each.total:,} conversations of {each.corpus}, so nothing of "
                "it would be left to train on; if this is meant, add --anyway"
            )


def _unknown(home: Path, kind: Kind, name: str) -> str:
    """The message for a name that no stored corpus contains."""
    other: Kind = "speaker" if kind == "conversation" else "conversation"
    if occurrences(home, _only(other, name)):
        return f"no stored corpus has a {kind} {name!r}, but there is a {other} of this name: use --{other}"
    outputs = stored_outputs(home, "parse")
    if not outputs:
        return (
            f"{home} contains no corpus yet that could have a {kind} {name!r}; `repartee prepare` reads one, "
            "and --anyway lists it for a corpus that comes later"
        )
    column = "conversation_id" if kind == "conversation" else "speaker"
    return (
        f"no stored corpus contains the {kind} {name!r}; the names are in the column {column} of "
        f"{outputs[0].path / 'turns.parquet'}, and --anyway lists it for a corpus that comes later"
    )


def _with_versions(result: Result, settings: Settings, found: Sequence[Occurrence]) -> Result:
    """The result with the versions of all model lines, and with the remedies for the champion.

    Raises:
        TrackingUnavailable: MLflow does not answer.
    """
    default = open_registry(settings)
    registries = {
        line: open_registry(settings, line) for line in dict.fromkeys([default.model, *default.lines()])
    }
    versions = list(exposures(settings.root, registries.values(), found))
    exposed = [each for each in versions if each.has_read or each.is_unknown]
    remedies = [
        _remedy(
            each,
            registries[each.line],
            [other.version.number for other in exposed if other.line == each.line],
        )
        for each in exposed
        if each.has_read and CHAMPION in each.version.aliases
    ]
    return replace(result, versions=exposed if found else [], remedies=remedies)


def _remedy(champion: Exposure, registry: Registry, exposed: Sequence[int]) -> Remedy:
    """
    Args:
        exposed: the versions of the champion's line that have read what is forgotten, or may have read it.
    """
    run = registry.run_or_none(champion.version.run_id)
    tags = {**(run.data.tags if run else {}), **champion.version.tags}
    last = next(iter(registry.history()), None)
    is_clean = last is not None and last.previous is not None and last.previous not in exposed
    line = [] if champion.line == Settings().model_name else ["--line", champion.line]
    return Remedy(
        champion=champion.title,
        retrain=retrain_command(tags),
        rollback=shlex.join(["repartee", "rollback", *line]) if is_clean else "",
    )


def retrain_command(tags: Mapping[str, str]) -> str:
    """The command that trains like the run with these tags, without the weights of a version, and promotes.

    The gate would refuse most of these models, because they are hardly better than the champion.
    """
    from flows.notation import read_change, split_settings  # the flows take a second to import
    from flows.recipes import change_recipe, promote_anyway, run_command

    changes = [read_change(text, "") for text in split_settings(tags.get(CHANGES, ""))]
    others = [change for change in changes if change.key != "start.init" or "/" in str(change.value)]
    recipe = tags.get(RECIPE, "small")
    try:
        return promote_anyway(run_command(change_recipe(recipe, others, "")))
    except InputError:  # the settings of an earlier release
        return shlex.join(["repartee", "run", "--recipe", recipe, "--set", "gate.promote=always"])
