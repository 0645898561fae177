"""Exposure: which corpora in the store contain some conversations, and which versions have read them.

The manifests of the stored outputs lead from a version to the data on which it was trained: the version's tag
names its training run, and the inputs of `train`, `export` and `clean` lead to an output of `parse`. The
exposure of a version is unknown if one of these outputs is no longer in the store.
"""

import json
import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from corpus.arrays import number_array
from corpus.cleaning.conversations import first_rows, read_conversations
from corpus.cleaning.forgotten import Forgotten, conversation_digests
from corpus.layout import stored_sources
from models.errors import InputError, TrackingUnavailable
from models.registry.tags import FINGERPRINT
from models.registry.version import Version
from models.registry.versions import Registry
from tasks.store.artifact import StoredOutput, stored_outputs
from tasks.store.shards import SHARDS
from tasks.trunk.chain import Trunk
from tasks.trunk.readings import add_nights

Splits = frozenset[str]

# The stage `clean` appends to the id of a conversation the number of a part, the number of a part that was
# divided because of a leak, and the number of a copy.
PART = re.compile(r"(?P<id>.*?)(?P<part>/\d+)?(?P<divided>~\d+)?(?P<copy>#\d+)?", re.DOTALL)


AFTER_CLEAN = ("vocabulary", "export", "train", "evaluate", "rescore")  # each after those that it reads


class Occurrence(NamedTuple):
    """The conversations in one output of the stage `parse`."""

    corpus: str
    output: StoredOutput
    ids: frozenset[str]
    texts: frozenset[str]
    """Digests of their texts."""
    turns: int
    total: int
    """The number of all conversations in this output."""


@dataclass(frozen=True)
class Exposure:
    """What a version has read of the conversations."""

    line: str
    version: Version
    splits: Splits | None
    """The splits that contained one of them; None if the data of the version are not in the store."""
    start: str = ""
    """The version with whose weights its training began, such as `repartee v3`, if that had read them."""

    @property
    def title(self) -> str:
        return f"{self.line} v{self.version.number}"

    @property
    def has_read(self) -> bool:
        return bool(self.splits) or bool(self.start)

    @property
    def is_unknown(self) -> bool:
        return self.splits is None and not self.start


def occurrences(home: Path, forgotten: Forgotten) -> list[Occurrence]:
    """The stored corpora, the newest first, that contain conversations which `forgotten` names.

    Args:
        forgotten: its `sources` are ignored; those of each corpus are used instead.
    """
    outputs = {output.digest: output for output in reversed(stored_outputs(home, "parse"))}
    found = (_occurrence(home, output, forgotten) for output in reversed(outputs.values()))
    return [each for each in found if each.ids]


def _occurrence(home: Path, output: StoredOutput, forgotten: Forgotten) -> Occurrence:
    sources = sources_of(home, output)
    names = forgotten._replace(sources=tuple(sources))
    ids: set[str] = set()
    texts: set[str] = set()
    turns = total = 0
    for table in read_conversations(output.path / "turns.parquet", ("conversation_id", "speaker", "text")):
        is_named = names.rows(table)
        starts = first_rows(table)
        total += len(starts)
        if is_named.any():
            turns += int(is_named.sum())
            own = number_array(starts[is_named[starts]])
            ids.update(table["conversation_id"].combine_chunks().take(own).to_pylist())
            texts.update(conversation_digests(table.filter(pa.array(is_named.tolist()))))
    name = "+".join(sources) or "a corpus"
    return Occurrence(name, output, frozenset(ids), frozenset(texts), turns, total)


def sources_of(home: Path, parse: StoredOutput) -> list[str]:
    """The names of the sources of a parsed corpus; none if its download is no longer in the store."""
    for download in _with_digest(home, "download", parse.inputs.get("download")):
        with suppress(OSError, ValueError):
            return list(stored_sources(download.path))
    return []


def exposures(home: Path, registries: Iterable[Registry], found: Sequence[Occurrence]) -> Iterator[Exposure]:
    """Yield what each version of some model lines has read of the conversations in `found`, the oldest first.

    A version is exposed as well if its training began with the weights of an exposed version.

    Raises:
        TrackingUnavailable: MLflow does not answer.
    """
    trained, starts = splits_of_trainings(home, found), _starts(home)
    versions = [(registry, version) for registry in registries for version in registry.versions()]
    known: dict[str, Exposure] = {}
    for registry, version in sorted(versions, key=lambda pair: pair[1].created):
        fingerprint = version.tags.get(FINGERPRINT, "")
        exposure = Exposure(registry.model, version, trained.get(fingerprint))
        if origin := starts.get(fingerprint):
            exposure = _with_start(exposure, known.get(origin))
        if location := _location(registry, version):
            known[location] = exposure
        yield exposure


def _with_start(exposure: Exposure, start: Exposure | None) -> Exposure:
    """
    Args:
        start: the version with whose weights the training began; None for a model that is no version.
    """
    if start is not None and start.has_read:
        return Exposure(exposure.line, exposure.version, exposure.splits, start.title)
    if not exposure.splits and (start is None or start.is_unknown):
        return Exposure(exposure.line, exposure.version, None)
    return exposure


def splits_of_trainings(home: Path, found: Sequence[Occurrence]) -> dict[str, Splits | None]:
    """The splits in which each stored training run had one of the conversations, by its fingerprint.

    A night that goes on from a trunk also has those of the nights before it. The value is None if an output
    that leads from the training run to its corpus is not in the store.
    """
    return _trainings_and_trunks(home, found)[0]


def trunks_that_read(home: Path, found: Sequence[Occurrence]) -> list[Trunk]:
    """The trunks that have been trained on one of the conversations, or of which this is unknown."""
    return [
        trunk
        for trunk, splits in _trainings_and_trunks(home, found)[1]
        if splits is None or "train" in splits
    ]


def _trainings_and_trunks(
    home: Path, found: Sequence[Occurrence]
) -> tuple[dict[str, Splits | None], list[tuple[Trunk, Splits | None]]]:
    cleaned = splits_of_outputs(home, found)
    exported = _joined(
        (each.digest, cleaned.get(each.inputs.get("clean", ""))) for each in stored_outputs(home, "export")
    )
    outputs = stored_outputs(home, "train")
    trained = {each.fingerprint: exported.get(each.inputs.get("export", "")) for each in outputs}
    by_model = _joined((each.digest, trained[each.fingerprint]) for each in outputs)
    return trained, add_nights(home, trained, by_model)


def splits_of_outputs(home: Path, found: Sequence[Occurrence]) -> dict[str, Splits | None]:
    """The splits in which each output of `clean` has one of the conversations, by the output's digest."""
    ids: dict[str, Collection[str]] = {each.digest: () for each in stored_outputs(home, "parse")}
    ids.update({each.output.digest: each.ids for each in found})
    return _joined(
        (
            each.digest,
            _splits(each.path, ids[parse]) if (parse := each.inputs.get("parse", "")) in ids else None,
        )
        for each in stored_outputs(home, "clean")
    )


def stored_folders(home: Path, found: Sequence[Occurrence]) -> list[Path]:
    """The folders of the store with text of the conversations, or with what was made from it.

    A vocabulary may contain words of them, a model its vocabulary, and an evaluation contexts and replies.
    The shards are listed as one folder, because they can be deleted together at the cost of some minutes.
    """
    parsed = {each.output.digest for each in found}
    downloaded = {each.output.inputs.get("download", "") for each in found}
    folders = [each.path for each in stored_outputs(home, "download") if each.digest in downloaded]
    folders += [each.path for each in stored_outputs(home, "parse") if each.digest in parsed]
    tainted = {digest for digest, splits in splits_of_outputs(home, found).items() if splits}
    folders += [each.path for each in stored_outputs(home, "clean") if each.digest in tainted]
    for stage in AFTER_CLEAN:
        derived = [each for each in stored_outputs(home, stage) if tainted & set(each.inputs.values())]
        tainted |= {each.digest for each in derived}
        folders += [each.path for each in derived]
    shards = home / "store" / SHARDS
    return [*folders, shards] if found and shards.is_dir() else folders


def id_without_part(conversation: str) -> str:
    """The id that a conversation has in the corpus, from an id that the stage `clean` has written."""
    match = PART.fullmatch(conversation)
    return match["id"] if match else conversation


def _splits(clean: Path, ids: Collection[str]) -> Splits:
    """The splits of the output of `clean` that contain one of these conversations, or a part of one."""
    if not ids:
        return frozenset()
    found: set[str] = set()
    with pq.ParquetFile(clean / "turns.parquet") as file:
        for batch in file.iter_batches(columns=["conversation_id", "turn", "split"]):
            first = batch.filter(pc.equal(batch["turn"], 0))
            for name, split in zip(
                first["conversation_id"].to_pylist(), first["split"].to_pylist(), strict=True
            ):
                if split not in found and any(each in ids for each in possible_ids(name)):
                    found.add(split)
    return frozenset(found)


def possible_ids(name: str) -> Iterator[str]:
    """The ids from which the stage `clean` may have made this one. An id of the corpus may end in `/2`."""
    yield name
    match = PART.fullmatch(name)
    if match is None or match["id"] == name:
        return
    without_copy = name.removesuffix(match["copy"] or "")
    without_division = without_copy.removesuffix(match["divided"] or "")
    yield from (without_copy, without_division, match["id"])


def _starts(home: Path) -> dict[str, str]:
    """Where the initial model of each stored training run came from, by the fingerprint of the run."""
    origins: dict[str, str] = {}
    for start in stored_outputs(home, "start"):
        with suppress(OSError, ValueError, KeyError):
            origin: Mapping[str, str] = json.loads((start.path / "logs" / "source.json").read_text())
            if origin["kind"] == "folder":  # no version comes from the hub or from a GGUF file
                origins[start.digest] = origin["place"]
    trainings = (
        (each.fingerprint, origins.get(each.inputs.get("start", "")))
        for each in stored_outputs(home, "train")
    )
    return {fingerprint: origin for fingerprint, origin in trainings if origin}


def _location(registry: Registry, version: Version) -> str:
    try:
        return registry.location(version)
    except TrackingUnavailable:
        raise
    except InputError:  # the files of the version are deleted
        return ""


def _joined(pairs: Iterable[tuple[str, Splits | None]]) -> dict[str, Splits | None]:
    """The splits by digest. Several outputs may have one digest; what is known of one is known of all."""
    joined: dict[str, Splits | None] = {}
    for digest, splits in pairs:
        known = joined.get(digest)
        joined[digest] = known if splits is None else splits | (known or frozenset())
    return joined


def _with_digest(home: Path, stage: str, digest: str | None) -> Iterator[StoredOutput]:
    return (each for each in stored_outputs(home, stage) if each.digest == digest)
