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
        "2023-05-12T14:03:22.5Z Ann: Bread?\n2023-05-12T14:04:01+02:00 Bob: Yes.",
        "12/5/23, 2:03 p. m. - Ann: Bread?\n12/5/23, 2:04 p.\u00a0m. - Bob: Yes.",
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


def test_a_line_without_a_time_continues_a_turn_that_has_one(tmp_path: Path) -> None:
    text = "12/05/23, 14:03 - Ann: To buy:\nBread: two\nMilk: one\n12/05/23, 14:04 - Bob: Yes.\n" * 3
    found = conversations(tmp_path / "chat.txt", text)
    assert found == [[("Ann", "To buy: Bread: two Milk: one"), ("Bob", "Yes.")] * 3]


def test_a_time_in_one_line_of_a_script_changes_nothing(tmp_path: Path) -> None:
    text = "Ann: When?\n10:30: that is late\nBob: Yes.\nAnn: Good.\nBob: Well.\n"
    assert [name for name, _ in conversations(tmp_path / "script.txt", text)[0]] == ["Ann", "Bob"] * 2


def test_a_conversation_without_end_is_divided(tmp_path: Path) -> None:
    found = conversations(tmp_path / "long.txt", "Ann: Bread?\nBob: Yes.\n" * 6000)
    assert [len(turns) for turns in found] == [10_000, 2_000]


def test_a_long_turn_is_read_in_linear_time(tmp_path: Path) -> None:
    text = "Ann: Bread?\nBob: Yes.\n" * 600 + "and so on\n" * 50_000
    assert len(conversations(tmp_path / "long.txt", text)[0][-1][1]) == len("Yes.") + 50_000 * 10


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
