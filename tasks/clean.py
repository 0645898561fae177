"""Clean: one form of text, nothing empty, nothing twice, and each conversation in its split.

TURNS -> SPLIT_TURNS; conversations only ever leave or are cut in two, none appears.
"""

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa
import pyarrow.parquet as pq
from prefect import task
from pydantic import Field

from models.config import Config
from models.data.schemas import SPLIT_TURNS, TURNS
from models.errors import DataRejected
from models.text.normalisation import normalise
from tasks.store.artifact import Artifact
from tasks.store.stage import Stage, named

SPLITS = ("train", "validation", "test")
NO_LETTER = "turns with no letter left"


class CleanConfig(Config):
    normalisation: Literal["plain", "article"] = "plain"
    """`plain`: tidy Unicode, blanks, markup; `article`: lower-case letters and .,!? alone."""
    split_by: Literal["group", "conversation"] = "group"
    """What is never on two sides of a split: a whole group (a movie), or only a conversation."""
    validation_share: float = Field(default=0.05, gt=0, lt=0.5)
    test_share: float = Field(default=0.05, gt=0, lt=0.5)


@dataclass(frozen=True)
class Conversation:
    """Consecutive turns of one conversation, none of them empty."""

    id: str
    group: str
    speakers: list[str]
    texts: list[str]
    source_id: str
    """That of the whole conversation, of which this may be a part."""


def read_conversations(
    turns: Iterable[dict[str, Any]], config: CleanConfig, counts: Counter[str]
) -> Iterator[Conversation]:
    """Normalised conversations of at least two turns; an empty turn takes its two exchanges with it."""
    for conversation, rows in groupby(turns, key=itemgetter("conversation_id")):
        counts["conversations read"] += 1
        parts: list[list[dict[str, Any]]] = [[]]
        for row in rows:
            counts["turns read"] += 1
            text = normalise(row["text"], config.normalisation)
            counts[NO_LETTER] += _has_letter(row["text"]) and not _has_letter(text)
            if text:
                parts[-1].append({**row, "text": text})
            else:
                counts["turns empty, or empty once cleaned"] += 1
                parts.append([])
        whole = [part for part in parts if len(part) > 1]
        counts["turns with no neighbour left"] += sum(len(part) == 1 for part in parts)
        for i, part in enumerate(whole):
            yield Conversation(
                id=conversation if i == 0 else f"{conversation}/{i + 1}",
                group=part[0]["group"],
                speakers=[row["speaker"] for row in part],
                texts=[row["text"] for row in part],
                source_id=conversation,
            )


def _has_letter(text: str) -> bool:
    return any(map(str.isalpha, text))


def unit(conversation: Conversation, config: CleanConfig) -> str:
    """What a split takes or leaves as a whole: not a part, or the rest of its conversation gives it away."""
    return conversation.group if config.split_by == "group" else conversation.source_id


def split_of(name: str, config: CleanConfig) -> str:
    """The split of a group, from its name alone: new data never moves old."""
    place = int.from_bytes(hashlib.sha256(name.encode()).digest()[:8]) / 2**64
    if place < config.test_share:
        return "test"
    return "validation" if place < config.test_share + config.validation_share else "train"


def split_conversations(
    conversations: list[Conversation], config: CleanConfig, counts: Counter[str]
) -> list[tuple[Conversation, str]]:
    """Each conversation with its split; of equal ones the test set's stays, then the validation set's."""
    placed = [(c, split_of(unit(c, config), config)) for c in conversations]
    owner: dict[tuple[str, ...], tuple[str, str]] = {}
    for split in reversed(SPLITS):
        for conversation, its_split in placed:
            if its_split == split:
                owner.setdefault(tuple(conversation.texts), (split, conversation.id))
    kept = []
    for conversation, split in placed:
        first_split, first_id = owner[tuple(conversation.texts)]
        if (split, conversation.id) == (first_split, first_id):
            kept.append((conversation, split))
        elif split == first_split:
            counts["conversations said before in the same split"] += 1
        else:
            counts["conversations that the test or validation set holds"] += 1
    return kept


def exchanges_said_twice(kept: list[tuple[Conversation, str]]) -> int:
    """Exchanges (a turn and its reply) beyond the first of their kind; they stay, but are counted."""
    seen = Counter(pair for c, _ in kept for pair in zip(c.texts, c.texts[1:], strict=False))
    return sum(count - 1 for count in seen.values())


def to_table(kept: list[tuple[Conversation, str]]) -> pa.Table:
    columns: dict[str, list[Any]] = {name: [] for name in SPLIT_TURNS.names}
    for conversation, split in kept:
        for turn, (speaker, text) in enumerate(zip(conversation.speakers, conversation.texts, strict=True)):
            values = (conversation.id, turn, speaker, text, conversation.group, split)
            for name, value in zip(SPLIT_TURNS.names, values, strict=True):
                columns[name].append(value)
    return pa.table(columns, schema=SPLIT_TURNS)


def check_splits(kept: list[tuple[Conversation, str]], counts: Counter[str], config: CleanConfig) -> None:
    """
    Raises:
        InputError: a split is empty, so nothing could be trained or judged.
    """
    sizes = Counter(split for _, split in kept)
    empty = [split for split in SPLITS if not sizes[split]]
    if not empty:
        return
    units = len({unit(c, config) for c, _ in kept})
    remedy = "give more of them"
    if config.normalisation == "article" and counts[NO_LETTER] > counts["turns read"] / 2:
        remedy = (
            f"{counts[NO_LETTER]:,} of {counts['turns read']:,} turns have no letter left: `article` keeps "
            "a to z alone: use --set clean.normalisation=plain"
        )
    elif config.split_by == "group" and len(kept) > units:
        remedy = "give more of them, or use --set clean.split_by=conversation"
    raise DataRejected(
        f"the {' and '.join(empty)} split is empty: {counts['conversations read']:,} conversations read, "
        f"{len(kept):,} usable in {units:,} {config.split_by}s; {remedy}"
    )


def clean_turns(out: Path, config: CleanConfig, parse: Path) -> int:
    """turns.parquet -> turns.parquet with `split`, and report.json."""
    counts: Counter[str] = Counter()
    rows = pq.read_table(parse / "turns.parquet", schema=TURNS).to_pylist()
    conversations = list(read_conversations(rows, config, counts))
    kept = split_conversations(conversations, config, counts)
    check_splits(kept, counts, config)
    table = to_table(kept)
    pq.write_table(table, out / "turns.parquet", compression="zstd", row_group_size=1 << 16)
    sizes = Counter(split for _, split in kept)
    report = {
        "normalisation": config.normalisation,
        "counts": dict(counts),
        "exchanges said more than once": exchanges_said_twice(kept),
        "conversations": {split: sizes[split] for split in SPLITS},
        "turns": table.num_rows,
    }
    (out / "report.json").write_text(json.dumps(report, indent=2) + "\n")
    return int(table.num_rows)


STAGE = Stage("clean", clean_turns)


@task(task_run_name="clean")
def clean(parse: Artifact, config: CleanConfig, home: Path) -> Artifact:
    return named(STAGE.run(home, config, {"parse": parse}))
