"""What has become of one conversation of a corpus in the stages parse and clean."""

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from corpus.arrays import text_array
from corpus.cleaning.config import CleanConfig, MixConfig
from corpus.cleaning.conversations import clean_conversations
from corpus.cleaning.forgotten import FORGOTTEN, Forgotten
from corpus.cleaning.shares import OUTSIDE, Shares
from models.data.schemas import LEAKS
from models.errors import InputError
from models.record import Record
from tasks.exposure import possible_ids
from tasks.store.artifact import MANIFEST

READ = ("conversations read", "turns read")  # counts that are no removals
EXAMPLES = 5


class Turn(Record):
    """A turn of the conversation."""

    speaker: str
    text: str
    is_scored: bool = True
    """Whether the turn has a loss or a score as a reply; the first turn of a conversation is no reply."""


class Part(Record):
    """The conversation, or a part of it, as training reads it."""

    id: str
    split: str
    turns: list[Turn]


class ConversationFate(Record):
    """A conversation as it was read, as it is used, and what was removed from it."""

    id: str
    as_read: list[Turn]
    parts: list[Part]
    counts: dict[str, int]
    """What the stage `clean` removes or changes in this conversation, by cause."""
    left_out: list[str]
    """Why the conversation, or a part of it, is not in the prepared data, as sentences."""
    leaks: list[dict[str, Any]]
    """The leaks in it (docs/data.md), each with its twin."""


def find_conversation(parse: Path, clean: Path, conversation: str, forgotten: Forgotten) -> ConversationFate:
    """What the outputs of the stages parse and clean have of a conversation, and why they lack the rest.

    Args:
        conversation: its id in the corpus, or that of a part, a divided part or a copy in the prepared data.
        forgotten: what is on the list of what is forgotten now.

    Raises:
        InputError: the corpus has no conversation with this id.
    """
    read = _read(parse / "turns.parquet", conversation)
    own_id = str(read["conversation_id"][0].as_py())
    used = _used(clean / "turns.parquet", own_id)
    config, counts = _config(clean), Counter[str]()
    in_share = Shares(config).used(read)
    parts = clean_conversations(in_share, config, counts).turns if in_share.num_rows else in_share
    reasons = [] if in_share.num_rows else [f"it is one of the {OUTSIDE}"]
    if not used.num_rows and forgotten.rows(read).any():
        reasons.append(f"it is one of the {FORGOTTEN} (`repartee corpus forget`)")
    leaks = _leaks(clean / "leaks.parquet", [own_id, *_ids(parts)])
    if not reasons:
        reasons = list(_reasons(clean / "turns.parquet", parts, used, leaks))
    return ConversationFate(
        id=own_id,
        as_read=_turns(read),
        parts=[
            Part(id=name, split=rows["split"][0].as_py(), turns=_turns(rows))
            for name in _ids(used)
            for rows in [used.filter(pc.equal(used["conversation_id"], name))]
        ],
        counts={cause: count for cause, count in counts.items() if count and cause not in READ},
        left_out=reasons,
        leaks=leaks,
    )


def _read(turns: Path, conversation: str) -> pa.Table:
    for name in possible_ids(conversation):
        found = pq.read_table(turns, filters=[("conversation_id", "==", name)])
        if found.num_rows:
            return found
    first = pq.ParquetFile(turns).read_row_group(0, columns=["conversation_id"])
    examples = ", ".join(_ids(first)[:EXAMPLES])
    raise InputError(
        f"the corpus has no conversation {conversation!r}; the first ones are {examples}, and "
        "`repartee data` shows the ids of ten"
    )


def _used(turns: Path, conversation: str) -> pa.Table:
    """The turns of the conversation in the prepared data, in all of its parts and copies."""
    begins = pc.starts_with(pc.field("conversation_id"), conversation)
    found = pq.read_table(turns, filters=begins)
    own = [name for name in _ids(found) if conversation in possible_ids(name)]
    return found.filter(pc.is_in(found["conversation_id"], text_array(own)))


def _ids(turns: pa.Table) -> list[str]:
    return [str(name) for name in pc.unique(turns["conversation_id"]).to_pylist()]


def _turns(rows: pa.Table) -> list[Turn]:
    names = ("speaker", "text", "weight")
    return [
        Turn(speaker=row["speaker"], text=row["text"], is_scored=row["weight"] > 0)
        for row in rows.select(names).to_pylist()
    ]


def _config(clean: Path) -> CleanConfig:
    values = json.loads((clean / MANIFEST).read_text())["ingredients"].get("config", {})
    return (MixConfig if "weights" in values else CleanConfig).model_validate(values)


def _leaks(file: Path, ids: list[str]) -> list[dict[str, Any]]:
    if not file.exists():  # an earlier release has prepared the data
        return []
    rows: list[dict[str, Any]] = pq.read_table(
        file, schema=LEAKS, filters=[("conversation_id", "in", ids)]
    ).to_pylist()
    return rows


def _reasons(turns: Path, parts: pa.Table, used: pa.Table, leaks: list[dict[str, Any]]) -> Iterator[str]:
    """Why parts that the stage `clean` makes of the conversation are not in the prepared data."""
    if not parts.num_rows:
        yield "no part of it has two turns that are not empty"
        return
    there = {each for name in _ids(used) for each in possible_ids(name)}
    leaking = {leak["conversation_id"] for leak in leaks}
    for name in _ids(parts):
        if name in there:
            continue
        texts = parts.filter(pc.equal(parts["conversation_id"], name))["text"].to_pylist()
        if twin := _with_texts(turns, texts):
            yield f"{name} has the same texts as {twin}, which is used instead"
        elif name in leaking:
            yield f"{name} has no two turns left, because the others are leaks"
        else:
            yield f"{name} is not in the prepared data, and the reason is not recorded"


def _with_texts(turns: Path, texts: list[str]) -> str | None:
    """The conversation in the prepared data that has these texts."""
    first = pq.read_table(
        turns, columns=["conversation_id"], filters=[("turn", "==", 0), ("text", "==", texts[0])]
    )
    for name in _ids(first):
        found = pq.read_table(turns, columns=["text"], filters=[("conversation_id", "==", name)])
        if found["text"].to_pylist() == texts:
            return name
    return None
