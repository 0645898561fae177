"""Report: the facts about a corpus, as `repartee corpus inspect` prints them."""

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from corpus.cleaning.config import CleanConfig
from corpus.cleaning.split import empty_splits_problem, splits_at
from corpus.counters import HashSample
from corpus.inspection.figures import Figures
from corpus.inspection.files import FileFacts
from corpus.inspection.rendering import RenderedTurn, render
from corpus.readers.parse import check_recognised, too_many_rejects_error
from corpus.readers.parsing import Parsing
from models.data.overview import SampleConversation, sample_of_turns
from models.data.schemas import SPLITS
from models.record import Record
from models.text.config import MarkupConfig

COMMONEST = 10
CAUSES = 10
LINES_PER_CAUSE = 3
SHARES = [share / 100 for share in range(5, 50, 5)]  # the shares of a split that are suggested


class LengthFigures(Record):
    """Lengths: the median, the length that 90 % do not exceed, and the largest."""

    median: int
    ninety_percent: int
    longest: int


class SplitFigures(Record):
    """The size that a split would have."""

    conversations: int
    """The number of different conversations."""
    groups: int
    """The number of groups; with `clean.split_by=conversation`, of conversations with all of their parts."""


class CommonReply(Record):
    """A reply that occurs more than once."""

    text: str
    """Its first 200 characters."""
    count: int
    """May be too low if the corpus has more than 65,536 different replies."""
    share: float
    """The share of all replies."""


class Repetitions(Record):
    """How many different values occur more than once, and how many copies they have."""

    repeated: int
    copies: int
    """The copies beyond the first one of each value."""
    is_exact: bool
    """False if the numbers are estimates from a random sample."""


class Problem(Record):
    """A cause for which lines cannot be used."""

    cause: str
    count: int
    first: list[str]
    """The first of these lines, as FILE:LINE."""


class Inspection(Record):
    """What a corpus holds, and what a run would train on."""

    files: list[FileFacts]
    encodings: dict[str, int]
    """The number of lines in each encoding, in files that are read line by line."""
    lines_read: int
    """The lines or records that were read."""
    conversations: int
    turns: int
    """The turns that were found, before cleaning."""
    roles: dict[str, dict[str, object]]
    """What became of the turns of each role, as in the report of the stage `parse`."""
    usable_conversations: int
    """The conversations, or parts of them, that are left after cleaning; copies included."""
    usable_turns: int
    replies: int
    """The turns that the model would learn to write, in all splits."""
    removed: dict[str, int]
    """The counts of the stage `clean`."""
    is_exact: bool
    """False if the numbers of groups and of what the splits hold are estimates from a random sample."""
    groups: int
    largest_group: int
    """The number of conversations in the largest group."""
    lengths: dict[str, LengthFigures]
    commonest_replies: list[CommonReply]
    repeated_conversations: Repetitions
    repeated_exchanges: Repetitions
    splits: dict[str, SplitFigures]
    problems: list[Problem]
    warnings: list[str]
    suggested: dict[str, float]
    """Settings with which no split would be empty, if one would be."""
    samples: list[SampleConversation]
    as_the_model_reads_it: list[list[RenderedTurn]]
    """Training sequences from one of the samples."""


def report(
    name: str, files: list[FileFacts], parsing: Parsing, figures: Figures, markup: MarkupConfig
) -> Inspection:
    """The facts about a corpus whose files have been read.

    Raises:
        DataRejected: the files are empty, or none of them could be read.
    """
    check_recognised(name, parsing)
    ledger, groups = parsing.ledger, figures.groups
    suggested = _suggested_shares(figures)
    return Inspection(
        files=files,
        encodings=dict(parsing.reader.encodings.most_common()),
        lines_read=parsing.rejects.lines_read,
        conversations=figures.counts["conversations read"] + parsing.empty_conversations,
        turns=ledger.read.total(),
        roles=ledger.as_dict(),
        usable_conversations=figures.turns_each.total,
        usable_turns=figures.turns,
        replies=figures.replies.total,
        removed={cause: count for cause, count in figures.counts.items() if count},
        is_exact=groups.one_in == figures.units.one_in == figures.conversations.one_in == 1,
        groups=len(groups.values) * groups.one_in,
        largest_group=max(groups.values.values(), default=0),
        lengths=_lengths(figures),
        commonest_replies=_commonest_replies(figures),
        repeated_conversations=_repetitions(
            figures.conversations, (copies for copies, _ in figures.conversations.values.values())
        ),
        repeated_exchanges=_repetitions(figures.exchanges, figures.exchanges.values.values()),
        splits=_splits(figures),
        problems=_problems(parsing),
        warnings=_warnings(name, parsing, figures, suggested),
        suggested=suggested,
        samples=_samples(figures),
        as_the_model_reads_it=_rendered(figures, markup),
    )


def _lengths(figures: Figures) -> dict[str, LengthFigures]:
    counted = {
        "characters per turn": figures.characters,
        "words per turn": figures.words,
        "turns per conversation": figures.turns_each,
    }
    return {
        name: LengthFigures(
            median=lengths.quantile(0.5), ninety_percent=lengths.quantile(0.9), longest=lengths.longest
        )
        for name, lengths in counted.items()
    }


def _commonest_replies(figures: Figures) -> list[CommonReply]:
    return [
        CommonReply(text=text, count=count, share=count / figures.replies.total)
        for text, count in figures.replies.most_common(COMMONEST)
    ]


def _samples(figures: Figures) -> list[SampleConversation]:
    return [
        sample_of_turns(sample.id, sample.split, zip(sample.speakers, sample.texts, strict=True))
        for sample in figures.samples
    ]


def _repetitions(sample: HashSample[int] | HashSample[tuple[int, int]], counts: Iterable[int]) -> Repetitions:
    repeated = [count for count in counts if count > 1]
    return Repetitions(
        repeated=len(repeated) * sample.one_in,
        copies=(sum(repeated) - len(repeated)) * sample.one_in,
        is_exact=sample.one_in == 1,
    )


def _splits(figures: Figures) -> dict[str, SplitFigures]:
    units = dict.fromkeys(SPLITS, 0)
    for split in splits_at(_unit_positions(figures), figures.config).tolist():
        units[SPLITS[split]] += figures.units.one_in
    conversations = figures.conversations_by_split
    return {split: SplitFigures(conversations=conversations[split], groups=units[split]) for split in SPLITS}


def _unit_positions(figures: Figures) -> NDArray[np.uint64]:
    return np.fromiter(figures.units.values, np.uint64, len(figures.units.values))


def _problems(parsing: Parsing) -> list[Problem]:
    first: dict[str, list[str]] = {}
    for row in parsing.rejects.rows:
        lines = first.setdefault(str(row["cause"]), [])
        if len(lines) < LINES_PER_CAUSE:
            lines.append(f"{row['file']}:{row['line']}")
    return [
        Problem(cause=cause, count=count, first=first.get(cause, []))
        for cause, count in parsing.rejects.by_cause.most_common(CAUSES)
    ]


def _warnings(name: str, parsing: Parsing, figures: Figures, suggested: dict[str, float]) -> list[str]:
    warnings = [f"{file} is not read: it {reason}" for file, reason in parsing.skipped.items()]
    if (rejects := parsing.rejects).share > parsing.config.max_reject_share:
        warnings.append(f"a run would stop: {too_many_rejects_error(name, parsing)}")
    if rejects.cut_files:
        warnings.append(f"{', '.join(rejects.cut_files)} cannot be read to the end")
    if number := parsing.suspected_mojibake:
        warnings.append(
            f"{number:,} turns seem to have been decoded with the wrong encoding earlier (’ became â€™)"
        )
    if not figures.replies.total:
        warnings.append("no conversation has a reply to learn from")
    units = len(figures.units.values) * figures.units.one_in
    sizes = figures.conversations_by_split
    if problem := empty_splits_problem(sizes, units, figures.counts, figures.config):
        settings = " ".join(f"--set {key}={value:g}" for key, value in suggested.items())
        warnings.append(f"{problem}, or {settings}" if settings else problem)
    return warnings


def _suggested_shares(figures: Figures) -> dict[str, float]:
    """Shares with which each split has a group; {} if no split is empty, or if there are no such shares."""
    config = figures.config
    if all(figures.conversations_by_split.values()):
        return {}
    positions = _unit_positions(figures)
    for test in [config.test_share, *SHARES]:
        for validation in [config.validation_share, *SHARES]:
            changed = CleanConfig(split_by=config.split_by, validation_share=validation, test_share=test)
            if len(np.unique(splits_at(positions, changed))) == len(SPLITS):
                shares = {"clean.validation_share": validation, "clean.test_share": test}
                return {
                    key: share
                    for key, share in shares.items()
                    if share != getattr(config, key.partition(".")[2])
                }
    return {}


def _rendered(figures: Figures, markup: MarkupConfig) -> list[list[RenderedTurn]]:
    for sample in figures.samples:
        if sequences := render(sample.texts, sample.weights, markup, sample.system):
            return sequences
    return []
