"""Enlarged corpora: folders of JSON Lines that hold a corpus several times, with other ids and texts."""

import json
import random
from collections.abc import Iterator
from pathlib import Path

from corpus.contents import open_contents
from corpus.readers.parsing import ParseConfig, Parsing
from corpus.readers.turns import Conversation

FILES_PER_COPY = 10
Record = dict[str, object]


def write_folder(corpus: Path, folder: Path, *, copies: int) -> None:
    """Write FILES_PER_COPY files for each copy of a corpus. The files of the first copies never change."""
    folder.mkdir(parents=True, exist_ok=True)
    conversations = [conversation for conversation, _ in _read(corpus)]
    for copy in range(copies):
        write_copy(conversations, folder, copy, range(FILES_PER_COPY))


def write_copy(conversations: list[Conversation], folder: Path, copy: int, files: range) -> None:
    """Write some files of one copy; each has an equal share of the conversations."""
    size = -(-len(conversations) // FILES_PER_COPY)
    for number in files:
        path = folder / f"copy-{copy:02}-{number}.jsonl"
        own = conversations[number * size : (number + 1) * size]
        if not path.exists():
            unfinished = path.with_suffix(".unfinished")
            unfinished.write_text("".join(f"{json.dumps(record)}\n" for record in _records(own, copy)))
            unfinished.rename(path)


def add_file(corpus: Path, folder: Path, *, copies: int) -> None:
    """Add the first file of another copy to a folder that `write_folder` has written."""
    write_copy([conversation for conversation, _ in _read(corpus)], folder, copies, range(1))


def raw_bytes(corpus: Path) -> int:
    """The size of the files of a corpus that are read."""
    with open_contents(corpus) as files:
        return sum(path.stat().st_size for path in files.values())


def _read(corpus: Path) -> Iterator[tuple[Conversation, object]]:
    with open_contents(corpus) as files:
        yield from Parsing(ParseConfig(), files).read()


def _records(conversations: list[Conversation], copy: int) -> Iterator[Record]:
    """Yield the conversations of a copy. All but the first copy have the words of each turn in another order,
    so they have other texts with the same words."""
    rng = random.Random(copy)
    for conversation in conversations:
        turns = []
        for turn in conversation.turns:
            words = turn.text.split()
            if copy:
                rng.shuffle(words)
            turns.append({"speaker": f"{turn.speaker}-{copy}", "text": " ".join(words)})
        yield {
            "id": f"{conversation.id}-{copy}",
            "group": f"{conversation.group}-{copy}",
            "turns": turns,
        }
