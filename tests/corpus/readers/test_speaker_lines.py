from pathlib import Path

import pytest

from corpus.readers.encodings import LineReader
from corpus.readers.speaker_lines import is_dialogue, read_conversations


def conversations(path: Path, text: str) -> list[list[tuple[str, str]]]:
    path.write_text(text)
    found = [each for _, each in read_conversations(path, LineReader())]
    return [[(turn.speaker, turn.text) for turn in conversation.turns] for conversation in found]


@pytest.mark.parametrize(
    "lines",
    [
        "[12/05/2023, 14:03:22] Ann: Bread?\n[12/05/2023, 14:04:01] Bob: Yes.",
        "12/05/23, 2:03 PM - Ann: Bread?\n12/05/23, 2:04 PM - Bob: Yes.",
        "2023-05-12 14:03 Ann: Bread?\n2023-05-12 14:04 Bob: Yes.",
        "12.05.23, 14:03 - Ann: Bread?\n12.05.23, 14:04 - Bob: Yes.",
        "[14:03] <Ann> Bread?\n[14:04] <Bob> Yes.",
        "Ann: Bread?\nBob: Yes.",
        "Ann : Bread?\nBob : Yes.",
    ],
)
def test_the_common_forms_of_a_line_are_read(tmp_path: Path, lines: str) -> None:
    assert is_dialogue(lines.splitlines() * 2)
    assert conversations(tmp_path / "chat.txt", lines) == [[("Ann", "Bread?"), ("Bob", "Yes.")]]


def test_a_new_day_begins_a_conversation_and_notices_of_the_program_are_ignored(tmp_path: Path) -> None:
    text = (
        "[12/05/2023, 14:03] Messages are encrypted.\n[12/05/2023, 14:03] Ann: Bread?\n\nToday, please.\n"
        "[12/05/2023, 14:05] Bob joined.\n[12/05/2023, 14:06] Bob: Yes.\n[13/05/2023, 09:00] Ann: And now?\n"
    )
    assert conversations(tmp_path / "chat.txt", text) == [
        [("Ann", "Bread? Today, please."), ("Bob", "Yes.")],
        [("Ann", "And now?")],
    ]


@pytest.mark.parametrize(
    "text",
    [
        "Once upon a time there was a king.\nHe had a daughter.\n" * 9,
        "License: MIT\nVersion: 2\nAuthor: Ann\nHomepage: none\n",
        "Ann: a monologue\n" * 9,
        "",
    ],
)
def test_other_texts_are_no_dialogue(text: str) -> None:
    assert not is_dialogue(text.splitlines())
