"""Parsing: reads the files of a source, and counts what becomes of what is in them."""

import math
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pydantic import Field

from corpus.layout import CORNELL
from corpus.readers import cornell
from corpus.readers.columns import Columns
from corpus.readers.encodings import LineReader, is_mojibake
from corpus.readers.formats import Unrecognised, damage_reported, read_file, recognise
from corpus.readers.rejects import REJECTS_STORED, Rejects
from corpus.readers.turns import Conversation, Ledger, Turn, settle
from models.config import Config
from models.record import Record


class ParseConfig(Config):
    max_reject_share: float = Field(default=0.01, ge=0, le=1)
    """The largest acceptable share of unusable lines in a source. If more lines are unusable, the run fails,
    because the source is probably in a different format. A file that cannot be read to its end counts as
    0.05."""
    columns: Columns = Columns()


class Counts(Record):
    """What `Parsing` has counted. The order of each mapping is that in which its keys were counted first."""

    lines_read: int
    rejects: list[dict[str, str | int]]
    rejects_by_cause: dict[str, int]
    cut_files: list[str]
    turns_read: dict[str, int]
    turns_accepted: dict[str, int]
    turns_joined: dict[str, int]
    turns_rejected: dict[str, dict[str, int]]
    system_texts: int
    formats: dict[str, str]
    conversations: dict[str, int]
    skipped: dict[str, str]
    encodings: dict[str, int]
    empty_conversations: int
    suspected_mojibake: int


class Parsing:
    """Reads the files of a corpus: what has been read so far, and what became of it."""

    def __init__(self, config: ParseConfig, files: Mapping[str, Path], *, is_strict: bool = True) -> None:
        """
        Args:
            files: the paths of the files by the names that messages and counts give them.
            is_strict: whether reading ends as soon as the share of unusable lines is certainly too large.
        """
        self.config, self.files = config, files
        self.reader, self.ledger = LineReader(), Ledger()
        self.cornell = cornell.paths_in(files)
        total = cornell.count_all_lines(self.cornell) if self.cornell else math.inf
        max_share = config.max_reject_share if is_strict else math.inf
        self.rejects = Rejects(max_share=max_share, total_lines=total)
        self.formats: dict[str, str] = dict.fromkeys(files, CORNELL) if self.cornell else {}
        """The format of each file that is read, for people."""
        self.conversations: Counter[str] = Counter()
        """The number of conversations of each file that was read."""
        self.skipped: dict[str, str] = {}
        """Why a file was not read, by the file's name."""
        self.empty_conversations = 0
        self.suspected_mojibake = 0

    def read(self) -> Iterator[tuple[Conversation, list[Turn]]]:
        """Yield the conversations of all files that have turns, each with these turns.

        Raises:
            InputError: a file is damaged.
            TooManyRejects: the share of unusable lines is too large.
        """
        for conversation in self._conversations():
            turns = settle(conversation, self.ledger, join=self.cornell is None)
            self.suspected_mojibake += sum(is_mojibake(turn.text) for turn in turns)
            if turns:
                yield conversation, turns
            else:
                self.empty_conversations += 1

    def _conversations(self) -> Iterator[Conversation]:
        if self.cornell:
            yield from cornell.read_conversations(self.cornell, self.reader, self.rejects)
            return
        for name, path in self.files.items():
            try:
                with damage_reported(name):
                    found = recognise(path, self.config.columns, self.reader)
                    self.formats[name] = found.format
                    for conversation in read_file(path, name, found, self.reader, self.rejects, self.ledger):
                        self.conversations[name] += 1
                        yield conversation
            except Unrecognised as unrecognised:
                self.skipped[name] = str(unrecognised)

    def counts(self) -> Counts:
        """What has been counted so far."""
        rejects, ledger = self.rejects, self.ledger
        return Counts(
            lines_read=rejects.lines_read,
            rejects=rejects.rows,
            rejects_by_cause=rejects.by_cause,
            cut_files=rejects.cut_files,
            turns_read=ledger.read,
            turns_accepted=ledger.accepted,
            turns_joined=ledger.joined,
            turns_rejected=ledger.rejected,
            system_texts=ledger.system,
            formats=self.formats,
            conversations=self.conversations,
            skipped=self.skipped,
            encodings=self.reader.encodings,
            empty_conversations=self.empty_conversations,
            suspected_mojibake=self.suspected_mojibake,
        )

    def add(self, counts: Counts) -> None:
        """Count what has been counted of a further file, as if the file had been read here."""
        rejects, ledger = self.rejects, self.ledger
        rejects.lines_read += counts.lines_read
        rejects.rows += counts.rejects[: REJECTS_STORED - len(rejects.rows)]
        rejects.by_cause.update(counts.rejects_by_cause)
        rejects.cut_files += counts.cut_files
        ledger.read.update(counts.turns_read)
        ledger.accepted.update(counts.turns_accepted)
        ledger.joined.update(counts.turns_joined)
        ledger.system += counts.system_texts
        for role, causes in counts.turns_rejected.items():
            ledger.rejected[role].update(causes)
        self.formats |= counts.formats
        self.conversations.update(counts.conversations)
        self.skipped |= counts.skipped
        self.reader.encodings.update(counts.encodings)
        self.empty_conversations += counts.empty_conversations
        self.suspected_mojibake += counts.suspected_mojibake

    def report(self) -> dict[str, Any]:
        return {
            "lines_read": self.rejects.lines_read,
            "turns": self.ledger.accepted.total(),
            "rejected": dict(self.rejects.by_cause.most_common()),
            "turns_by_role": self.ledger.as_dict(),
            "conversations_without_turns": self.empty_conversations,
            "formats": self.formats,
            "conversations_by_file": dict(self.conversations),
            "skipped_files": self.skipped,
            "encodings": dict(self.reader.encodings.most_common()),
            "suspected_mojibake": self.suspected_mojibake,
        }
