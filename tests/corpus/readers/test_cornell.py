import json

import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from corpus.layout import stored_files
from corpus.readers import rejects as stored
from corpus.readers.cornell import parse_line_ids, paths_in, read_conversations, read_lines
from corpus.readers.encodings import WINDOWS_1252, LineReader
from corpus.readers.parse import parse_corpus
from corpus.readers.parsing import ParseConfig
from corpus.readers.rejects import Rejects
from corpus.readers.writer import TurnsWriter, tables_of
from models.errors import InputError

LINES = """\
L1045 +++$+++ u0 +++$+++ m0 +++$+++ BIANCA +++$+++ They do not!
L1044 +++$+++ u2 +++$+++ m0 +++$+++ CAMERON +++$+++ They do to!
L985 +++$+++ u0 +++$+++ m0 +++$+++ BIANCA +++$+++ I hope so.
L984 +++$+++ u2 +++$+++ m0 +++$+++ CAMERON +++$+++ She okay?
"""
CONVERSATIONS = """\
u0 +++$+++ u2 +++$+++ m0 +++$+++ ['L1044', 'L1045']
u0 +++$+++ u2 +++$+++ m0 +++$+++ ['L984', 'L985']
"""


@pytest.fixture
def raw(tmp_path):
    def write(lines=LINES, conversations=CONVERSATIONS):
        folder = tmp_path / "download"
        (folder / "logs").mkdir(parents=True, exist_ok=True)
        (folder / "logs" / "source.json").write_text(json.dumps({"name": "tiny"}))
        for name, text in (("movie_lines.txt", lines), ("movie_conversations.txt", conversations)):
            (folder / name).write_bytes(text if isinstance(text, bytes) else text.encode("cp1252"))
        return folder

    return write


def turns_of(folder):
    """The rows of the table that the stage writes, and the rejects."""
    rejects = Rejects()
    path = folder / "turns.parquet"
    with TurnsWriter(path) as writer:
        conversations = read_conversations(paths_in(stored_files(folder)), LineReader(), rejects)
        for table in tables_of((each, each.turns) for each in conversations):
            writer.write(table)
    return pq.read_table(path).to_pylist(), rejects


def test_turns_follow_the_conversation_and_not_the_file(raw):
    """The turns are in order, although movie_lines.txt lists the lines in descending order."""
    turns, rejects = turns_of(raw())
    assert [(t["conversation_id"], t["turn"], t["speaker"], t["text"], t["group"]) for t in turns] == [
        ("L1044", 0, "u2", "They do to!", "m0"),
        ("L1044", 1, "u0", "They do not!", "m0"),
        ("L984", 0, "u2", "She okay?", "m0"),
        ("L984", 1, "u0", "I hope so.", "m0"),
    ]
    assert not rejects.rows


@pytest.mark.parametrize("ending", [" +++$+++ ", " +++$+++"])
def test_an_empty_utterance_keeps_its_line(raw, ending):
    """If the line were stripped of whitespace before it is split, its last field would be lost."""
    lines = LINES.replace(" +++$+++ She okay?", ending)
    turns, rejects = turns_of(raw(lines))
    assert [t["text"] for t in turns][2] == ""
    assert not rejects.rows


def test_a_separator_inside_the_text_stays_text(raw):
    turns, _ = turns_of(raw(LINES.replace("She okay?", "She +++$+++ okay?")))
    assert turns[2]["text"] == "She +++$+++ okay?"


def test_windows_1252_is_recognised_and_no_byte_is_lost(raw):
    """In Windows-1252, 0x96 is a dash and 0x85 does not end a line; 0x81 is undefined and read as Latin-1."""
    turns, _ = turns_of(raw(LINES.encode().replace(b"She okay?", b"She\x96ok\x85\x81\xe9")))
    assert turns[2]["text"] == "She\u2013ok\u2026\x81\xe9"
    assert len(set(WINDOWS_1252)) == 256


def test_an_unknown_id_and_a_malformed_line_are_rejected_with_their_cause(raw):
    folder = raw(
        LINES + "L7 +++$+++ broken\n",
        CONVERSATIONS
        + "u0 +++$+++ u2 +++$+++ m0 +++$+++ ['L1', 'L984']\nx +++$+++ y +++$+++ m0 +++$+++ [oops\n",
    )
    turns, rejects = turns_of(folder)
    assert len(turns) == 4
    assert rejects.by_cause == {
        "2 fields, not 5": 1,
        "refers to a line that does not exist": 1,
        "not a list of line ids": 1,
    }


def test_a_very_long_line_is_rejected_and_the_next_ones_are_read(raw):
    long = b"L1 +++$+++ u0 +++$+++ m0 +++$+++ X +++$+++ " + b"a" * (3 << 20) + b"\n"
    rejects = Rejects()
    lines = read_lines(raw(long + LINES.encode()) / "movie_lines.txt", LineReader(), rejects)
    assert len(lines) == 4
    assert rejects.by_cause == {"longer than 1,048,576 bytes": 1}


def test_too_many_rejects_fail_the_run_and_name_the_first_line(raw, tmp_path):
    folder = raw("".join(f"no corpus at all {i}\n" for i in range(9)))
    (tmp_path / "out").mkdir()
    with pytest.raises(InputError, match=r"tiny: 11 of 11 lines .* movie_lines.txt:1 \(1 fields, not 5\)"):
        parse_corpus(tmp_path / "out", ParseConfig(), folder)


def test_an_empty_corpus_is_refused_in_one_line(raw, tmp_path):
    (tmp_path / "out").mkdir()
    with pytest.raises(InputError, match="are empty"):
        parse_corpus(tmp_path / "out", ParseConfig(), raw("", ""))
    with pytest.raises(InputError, match="has no conversations"):
        parse_corpus(tmp_path / "out", ParseConfig(), raw(LINES, ""))


@given(st.text(max_size=60))
def test_a_field_that_is_no_list_of_ids_is_never_evaluated(field):
    found = parse_line_ids(field)
    assert found is None or all(isinstance(i, str) for i in found)


LINE = st.binary(max_size=80) | st.just(b"L1 +++$+++ u0 +++$+++ m0 +++$+++ X +++$+++ Hi.")


@given(st.lists(LINE, max_size=30))
def test_every_line_is_read_rejected_or_blank(tmp_path_factory, raw_lines):
    path = tmp_path_factory.mktemp("raw") / "movie_lines.txt"
    path.write_bytes(b"\n".join(line.replace(b"\n", b"") for line in raw_lines))
    rejects = Rejects()
    lines = read_lines(path, LineReader(), rejects)
    texts = [line.text for line in LineReader().lines(path)]
    blank = sum(not text.strip() for text in texts)
    repeated = sum(text.count(" +++$+++ ") >= 4 for text in texts) - len(lines)
    assert len(lines) + len(rejects.rows) + blank + repeated == len(texts)


def test_the_rejects_and_the_report_are_written_beside_the_turns(raw, tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    folder = raw(LINES + "L7 +++$+++ broken\n")
    assert parse_corpus(out, ParseConfig(max_reject_share=0.5), folder) == 4
    assert pq.read_table(out / "rejects.parquet").to_pylist() == [
        {"file": "movie_lines.txt", "line": 5, "cause": "2 fields, not 5", "sample": "L7 +++$+++ broken"}
    ]
    assert json.loads((out / "report.json").read_text())["turns"] == 4


def test_any_field_is_a_list_of_ids_or_a_reject():
    """`ast.literal_eval` would raise TypeError for the first field, and accept the lone surrogate."""
    assert parse_line_ids("{[]}") is None
    assert parse_line_ids(r"['L\ud800']") is None
    assert parse_line_ids("['L1', 'L2'") is None
    assert parse_line_ids("[]") is None


@pytest.mark.parametrize(
    "field",
    [
        "['L1', 'L2']",
        '["L1", "L2"]',
        "[ 'L1' ,'L2 ' ]",  # spaces around and inside the ids
        "['L1' 'L2']",  # as numpy prints a list
        "\"['L1', 'L2']\"",  # enclosed in the quotes of a CSV file
        '"[""L1"", ""L2""]"',
        "['L1', 'L2',]",
    ],
)
def test_a_list_of_ids_is_read_however_it_is_written(field):
    assert parse_line_ids(field) == ["L1", "L2"]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32"])
@pytest.mark.parametrize("line_end", ["\n", "\r\n", "\r"])
def test_a_copy_saved_in_another_encoding_holds_the_same_texts(raw, encoding, line_end):
    """With a wrong encoding, the model would learn `cafÃ©`; a byte order mark would spoil the first line."""
    lines, conversations = (
        text.replace("She okay?", "A café – “now”?").replace("\n", line_end)
        for text in (LINES, CONVERSATIONS)
    )
    turns, rejects = turns_of(raw(lines.encode(encoding), conversations.encode(encoding)))
    assert [turn["text"] for turn in turns] == [
        "They do to!",
        "They do not!",
        "A café – “now”?",
        "I hope so.",
    ]
    assert not rejects.rows


def test_each_line_is_in_the_encoding_that_it_is_valid_in(raw, tmp_path):
    """The file mixes lines in UTF-8 with lines in Windows-1252, and one of its lines is mojibake."""
    lines = LINES.replace("She okay?", "Café?").encode("cp1252").replace(b"I hope so.", "Thé’".encode())
    lines = lines.replace(b"They do to!", "It â€™ s".encode())
    (tmp_path / "out").mkdir()
    parse_corpus(tmp_path / "out", ParseConfig(), raw(lines))
    texts = pq.read_table(tmp_path / "out" / "turns.parquet")["text"].to_pylist()
    assert texts == ["It â€™ s", "They do not!", "Café?", "Thé’"]
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert report["encodings"] == {"ascii": 3, "utf-8": 2, "windows-1252": 1}
    assert report["suspected_mojibake"] == 1


def test_a_repeated_line_is_one_line_and_another_text_under_its_id_is_a_reject(raw):
    turns, rejects = turns_of(raw(LINES + LINES))
    assert len(turns) == 4
    assert not rejects.rows
    _, rejects = turns_of(raw(LINES + LINES.replace("She okay?", "She is not.")))
    assert rejects.by_cause == {"this line id is already used by another line": 1}


def test_rejects_are_stored_up_to_a_limit_and_reading_ends_when_they_are_too_many(raw, tmp_path, monkeypatch):
    monkeypatch.setattr(stored, "REJECTS_STORED", 10)
    (tmp_path / "out").mkdir()
    folder = raw(LINES + "bad\n" * 1000)
    with pytest.raises(InputError, match=r"11 of the first 15 lines cannot be used"):
        parse_corpus(tmp_path / "out", ParseConfig(), folder)
    assert parse_corpus(tmp_path / "out", ParseConfig(max_reject_share=0.999), folder) == 4
    assert pq.read_table(tmp_path / "out" / "rejects.parquet").num_rows == 10
    assert json.loads((tmp_path / "out" / "report.json").read_text())["rejected"] == {"1 fields, not 5": 1000}


def test_the_remedy_for_rejects_is_one_that_works(raw, tmp_path):
    (tmp_path / "out").mkdir()
    folder = raw(LINES + "bad\n")
    with pytest.raises(InputError, match=r"--set parse.max_reject_share=0.15$"):
        parse_corpus(tmp_path / "out", ParseConfig(), folder)
    assert parse_corpus(tmp_path / "out", ParseConfig(max_reject_share=0.15), folder) == 4
    with pytest.raises(
        InputError, match=r"a line of movie_lines.txt must look like `L1 \+\+\+\$\+\+\+ u0.*in this layout$"
    ):
        parse_corpus(tmp_path / "out", ParseConfig(), raw("bad\n" * 20))


@pytest.mark.parametrize("are_all_stored", [True, False])
def test_the_share_that_the_remedy_names_is_never_too_small_by_rounding(
    raw, tmp_path, monkeypatch, are_all_stored
):
    """In floating-point arithmetic, 0.29 times 100 is less than 29, so 29 rejects would be too many."""
    if not are_all_stored:
        monkeypatch.setattr(stored, "REJECTS_STORED", 10)
    line, conversation = LINES.splitlines()[0], CONVERSATIONS.splitlines()[0]
    lines = [f"L{i}{line[5:]}" for i in range(70)] + ["bad"] * 29
    folder = raw("\n".join(lines), conversation.replace("L1044", "L1").replace("L1045", "L2"))
    (tmp_path / "out").mkdir()
    assert parse_corpus(tmp_path / "out", ParseConfig(max_reject_share=0.29), folder) == 2
