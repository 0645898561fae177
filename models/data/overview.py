"""The overview of the prepared data for users: counts, rejected lines, lengths and ten conversations."""

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from models.data.schemas import LEAKS, SPLIT_TURNS, SPLITS
from models.data.turn_balance import TurnBalance
from models.markdown import markdown_table
from models.record import Record

SAMPLES = 10  # conversations in the sample
LEAKS_SHOWN = 10
SAMPLE_TURNS = 8  # turns shown from the beginning of each sample conversation
SAMPLE_CHARACTERS = 300  # characters shown of each turn
QUANTILES = {"tokens, median": 0.5, "tokens, 90 %": 0.9, "tokens, longest": 1.0}

TOKENS_EXPLAINED = (
    "Tokens are counted with the vocabulary of this run. The last three rows give the number of tokens per "
    "example: the median, the number that 90 % of the examples do not exceed, and the maximum."
)


class SplitOverview(Record):
    """The size of one split."""

    conversations: int
    turns: int
    characters: int
    examples: int
    tokens: int
    """The number of token ids in the examples, including the contexts."""
    length_quantiles: dict[str, int]
    """Tokens per example: the median, the number that 90 % of the examples do not exceed, and the maximum."""


class SampleConversation(Record):
    """The beginning of a conversation, with the cleaned text that training reads."""

    id: str
    split: str
    turns: list[str]
    """Each turn as `speaker: text`."""
    more_turns: int = 0


class Leak(Record):
    """A turn that repeats or nearly repeats a scored reply, which is its twin (docs/data.md)."""

    cause: str
    similarity: float
    split: str
    conversation: str
    text: str
    twin_split: str
    twin_conversation: str
    twin_text: str


class DataOverview(Record):
    """An overview of a corpus after the data stages."""

    lines_read: int
    rejected: dict[str, int]
    """The number of rejected lines by cause."""
    removed: dict[str, int]
    """The counts of the stage `clean` by kind: what it has read, removed or shortened."""
    balance: TurnBalance | None = None
    """What has become of each turn in the stage `clean`; None if an earlier release prepared the data."""
    splits: dict[str, SplitOverview]
    samples: list[SampleConversation]
    leaks: list[Leak] = []
    """The first LEAKS_SHOWN turns that were removed, divided from their context or not scored as leaks."""


def overview(parse: Path, clean: Path, export: Path) -> DataOverview:
    """The overview of the outputs of the stages parse, clean and export."""
    parsed = json.loads((parse / "report.json").read_text())
    cleaned = json.loads((clean / "report.json").read_text())
    turns = pq.read_table(clean / "turns.parquet", schema=SPLIT_TURNS)
    return DataOverview(
        lines_read=parsed["lines_read"],
        rejected=parsed["rejected"],
        removed=cleaned["counts"],
        balance=TurnBalance.of(clean),
        splits={split: _split_overview(turns, split, export) for split in SPLITS},
        samples=_samples(turns),
        leaks=_leaks(clean / "leaks.parquet"),
    )


def _split_overview(turns: pa.Table, split: str, export: Path) -> SplitOverview:
    own = turns.filter(pc.field("split") == split)
    lengths = pc.list_value_length(pq.read_table(export / f"{split}.parquet", columns=["ids"])["ids"])
    quantiles = pc.quantile(lengths, list(QUANTILES.values()), interpolation="higher").to_pylist()
    return SplitOverview(
        conversations=pc.count_distinct(own["conversation_id"]).as_py(),
        turns=own.num_rows,
        characters=pc.sum(pc.utf8_length(own["text"])).as_py() or 0,
        examples=len(lengths),
        tokens=pc.sum(lengths).as_py() or 0,
        length_quantiles={name: int(n or 0) for name, n in zip(QUANTILES, quantiles, strict=True)},
    )


def _samples(turns: pa.Table) -> list[SampleConversation]:
    """The conversations whose IDs have the smallest hashes, which is a random but repeatable choice."""
    ids = pc.unique(turns["conversation_id"]).to_pylist()
    chosen = sorted(ids, key=lambda name: hashlib.sha256(name.encode()).digest())[:SAMPLES]
    rows = turns.filter(pc.is_in(turns["conversation_id"], pa.array(chosen, pa.string()))).to_pylist()
    return [
        _sample(name, list(conversation))
        for name, conversation in groupby(rows, key=lambda row: str(row["conversation_id"]))
    ]


def _leaks(file: Path) -> list[Leak]:
    """The first leaks in the file, which is missing if an earlier release has prepared the data."""
    rows = pq.read_table(file, schema=LEAKS).slice(0, LEAKS_SHOWN).to_pylist() if file.exists() else []
    return [
        Leak(
            cause=row["cause"],
            similarity=row["similarity"],
            split=row["split"],
            conversation=row["conversation_id"],
            text=_shortened(row["text"]),
            twin_split=row["twin_split"],
            twin_conversation=row["twin_conversation_id"],
            twin_text=_shortened(row["twin_text"]),
        )
        for row in rows
    ]


def _sample(name: str, rows: Sequence[Mapping[str, Any]]) -> SampleConversation:
    return sample_of_turns(name, rows[0]["split"], ((row["speaker"], row["text"]) for row in rows))


def sample_of_turns(name: str, split: str, turns: Iterable[tuple[str, str]]) -> SampleConversation:
    """The beginning of a conversation, whose turns are given as pairs of a speaker and a text."""
    pairs = list(turns)
    shown = [f"{speaker}: {_shortened(text)}" for speaker, text in pairs[:SAMPLE_TURNS]]
    return SampleConversation(id=name, split=split, turns=shown, more_turns=max(0, len(pairs) - SAMPLE_TURNS))


def _shortened(text: str) -> str:
    return text if len(text) <= SAMPLE_CHARACTERS else text[: SAMPLE_CHARACTERS - 3] + "..."


def split_rows(data: DataOverview) -> list[dict[str, Any]]:
    """A row for each split: its name, its counts, and quantiles of the number of tokens per example."""
    return [
        {
            "split": name,
            **split.model_dump(exclude={"length_quantiles"}),
            **split.length_quantiles,
        }
        for name, split in data.splits.items()
    ]


def count_rows(data: DataOverview) -> list[dict[str, Any]]:
    """The same figures with a row for each count and a column for each split, which needs less width."""
    rows = split_rows(data)
    first, *keys = rows[0]
    return [{first: key, **{row[first]: row[key] for row in rows}} for key in keys]


def reject_rows(data: DataOverview) -> list[dict[str, Any]]:
    """A row for each cause of rejects, and for each count of the stage `clean`; zeros are left out."""
    causes = [("parse", cause, count) for cause, count in data.rejected.items()]
    kinds = [("clean", kind, count) for kind, count in data.removed.items()]
    return [
        {"stage": stage, "cause": cause, "count": count} for stage, cause, count in causes + kinds if count
    ]


def sample_rows(data: DataOverview) -> list[dict[str, Any]]:
    """A row for each sample conversation."""
    return [
        {"conversation": sample.id, "split": sample.split, "text": "\n".join(sample_lines(sample))}
        for sample in data.samples
    ]


def leak_rows(data: DataOverview) -> list[dict[str, Any]]:
    """A row for each of the first leaks, with the scored reply that it repeats or resembles."""
    return [
        {
            "cause": leak.cause,
            "similarity": round(leak.similarity, 2),
            "turn": f"{leak.text}\n({leak.split}, {leak.conversation})",
            "scored reply": f"{leak.twin_text}\n({leak.twin_split}, {leak.twin_conversation})",
        }
        for leak in data.leaks
    ]


def sample_lines(sample: SampleConversation) -> list[str]:
    """The turns of a sample, one per line, and how many more turns the conversation has."""
    return [*sample.turns, *([f"... and {sample.more_turns} more turns"] if sample.more_turns else [])]


def _balance_sentence(data: DataOverview) -> str:
    return f" In the stage `clean`: {data.balance.text()}." if data.balance else ""


def to_markdown(data: DataOverview) -> str:
    """The overview as Markdown for the dashboard, which shows each line break inside a paragraph."""
    leaks = f"## The first leaks\n\n{markdown_table(leak_rows(data))}\n" if data.leaks else ""
    return f"""## Splits

{markdown_table(count_rows(data))}
{TOKENS_EXPLAINED}

## Counts of parse and clean

{data.lines_read:,} lines were read.{_balance_sentence(data)}

{markdown_table(reject_rows(data))}
{leaks}## Ten conversations

{markdown_table(sample_rows(data))}"""
