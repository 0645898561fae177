"""What an inspection finds in small corpora, read from real files."""

import json
import zipfile

import pytest
from corpora_examples import EXAMPLES, FORMATS

from corpus.cleaning.config import CleanConfig
from corpus.download import DownloadConfig
from corpus.inspection.figures import collect
from corpus.inspection.files import examine_files, open_corpus
from corpus.inspection.report import report
from corpus.readers.columns import Columns
from corpus.readers.parsing import ParseConfig
from models.errors import InputError
from models.text.config import MarkupConfig

CHAT = "Ann: Good day.\nBob: Hello.\nAnn: Bread?\nBob: Yes.\n"


def inspect(path, columns=None, markup=None, **clean):
    parse = ParseConfig(columns=columns or {})
    with open_corpus(DownloadConfig(corpus=str(path))) as (source, files):
        facts = examine_files(files, parse.columns)
        parsing, figures = collect(files, parse, CleanConfig(**clean))
        return report(source.name, facts, parsing, figures, markup or MarkupConfig())


def write(path, conversations, roles=("user", "assistant")):
    """Conversations as JSON Lines with messages, whose roles alternate."""
    rows = [
        {"messages": [{"role": roles[i % len(roles)], "content": text} for i, text in enumerate(texts)]}
        for texts in conversations
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.mark.parametrize("name", FORMATS)
def test_the_format_of_each_example_of_the_page_is_named(name, tmp_path):
    (tmp_path / name).write_text(EXAMPLES[name])
    (facts,) = examine_files({name: tmp_path / name}, Columns())
    assert (facts.format, facts.problem) == (FORMATS[name], "")


@pytest.mark.parametrize(
    ("content", "encoding", "evidence"),
    [
        (CHAT, "ascii", "the first 49 bytes are ASCII"),
        (CHAT.replace("day", "däy"), "utf-8", "valid UTF-8, and not only ASCII"),
        (CHAT.replace("day", "d\xe4y").encode("cp1252"), "windows-1252", "byte 12 (0xe4) is not valid UTF-8"),
        (CHAT.encode("utf-16-le"), "utf-16-le", "every other byte is zero"),
        (CHAT.encode("utf-8-sig"), "utf-8", "byte order mark"),
    ],
)
def test_an_encoding_is_named_with_what_speaks_for_it(content, encoding, evidence, tmp_path):
    path = tmp_path / "chat.txt"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    (facts,) = examine_files({"chat.txt": path}, Columns())
    assert facts.encoding == encoding
    assert evidence in facts.evidence


def test_turns_roles_lengths_and_replies_are_counted(tmp_path):
    path = write(tmp_path / "c.jsonl", [["Hi.", "Yes."], ["How are you?", "Yes.", "Good to know.", "Bye."]])
    found = inspect(path)
    assert (found.conversations, found.turns, found.replies) == (2, 6, 3)
    assert {role: counts["read"] for role, counts in found.roles.items()} == {"user": 3, "assistant": 3}
    characters = found.lengths["characters per turn"]
    assert (characters.median, characters.longest) == (4, 13)
    assert found.lengths["words per turn"].longest == 3
    assert found.lengths["turns per conversation"].longest == 4
    assert [(reply.text, reply.count) for reply in found.commonest_replies] == [("Yes.", 2)]


def test_copies_of_conversations_and_of_exchanges_are_counted_and_the_splits_count_them_once(tmp_path):
    conversations = [["Hi.", "Yes."]] * 3 + [["Hi.", "Yes.", "Why?", "So."], ["Who?", "Me."]]
    found = inspect(write(tmp_path / "c.jsonl", conversations))
    assert (found.repeated_conversations.repeated, found.repeated_conversations.copies) == (1, 2)
    assert (found.repeated_exchanges.repeated, found.repeated_exchanges.copies) == (1, 3)
    assert sum(split.conversations for split in found.splits.values()) == 3
    assert (found.groups, found.largest_group) == (2, 4)


def test_the_turns_that_carry_loss_are_marked_between_the_boundaries_of_the_model(tmp_path):
    path = tmp_path / "messages.jsonl"
    path.write_text(EXAMPLES["messages.jsonl"].splitlines()[1])
    (sequence,) = inspect(path).as_the_model_reads_it
    assert [(turn.text, turn.carries_loss) for turn in sequence] == [
        ("<start> When do you close? <end>", False),
        ("At six. <end>", False),
        ("Today? <end>", False),
        ("Today at eight. <end>", True),
    ]


def test_the_system_text_stands_before_the_turns_and_carries_no_loss_unless_it_is_dropped(tmp_path):
    path = tmp_path / "messages.jsonl"
    path.write_text(EXAMPLES["messages.jsonl"].splitlines()[0])
    turns = [("Do you have bread? <end>", False), ("Yes. <end>", True)]
    (sequence,) = inspect(path).as_the_model_reads_it
    shown = [(turn.text, turn.carries_loss) for turn in sequence]
    assert shown == [("<start> Be brief. <end>", False), *turns]
    (dropped,) = inspect(path, markup=MarkupConfig(system="drop")).as_the_model_reads_it
    assert [turn.text for turn in dropped] == ["<start> Do you have bread? <end>", "Yes. <end>"]


def test_with_pairs_the_model_reads_each_exchange_by_itself(tmp_path):
    path = write(tmp_path / "c.jsonl", [["a?", "b.", "c?", "d."]])
    sequences = inspect(path, markup=MarkupConfig(unit="pair")).as_the_model_reads_it
    assert [[turn.text for turn in sequence] for sequence in sequences] == [
        ["<start> a? <end>", "b. <end>"],
        ["<start> c? <end>", "d. <end>"],
    ]


def test_with_the_shares_that_are_suggested_no_split_is_empty(tmp_path):
    path = write(tmp_path / "c.jsonl", [[f"Question {i}?", f"Answer {i}."] for i in range(8)])
    found = inspect(path)
    assert any("empty" in warning for warning in found.warnings)
    assert found.suggested
    better = inspect(path, **{key.removeprefix("clean."): value for key, value in found.suggested.items()})
    assert all(split.conversations for split in better.splits.values())
    assert (better.suggested, better.warnings) == ({}, [])


def test_a_single_group_is_warned_of_without_shares_that_would_not_help(tmp_path):
    found = inspect(write(tmp_path / "c.jsonl", [["Hi.", "Yes."]]))
    assert found.suggested == {}
    assert "use a corpus with more groups" in found.warnings[0]


def test_lines_that_cannot_be_used_are_listed_with_their_files_and_lines(tmp_path):
    rows = [f"{i},ann,Hello {i}.\n{i},bob" for i in range(20)]
    (tmp_path / "t.csv").write_text("conversation,speaker,text\n" + "\n".join(rows) + "\n")
    found = inspect(tmp_path / "t.csv")
    (problem,) = found.problems
    assert (problem.cause, problem.count) == ("2 fields, not 3", 20)
    assert problem.first == ["t.csv:3", "t.csv:5", "t.csv:7"]
    assert any("a run would stop" in warning for warning in found.warnings)


def test_files_of_one_name_in_two_folders_are_told_apart_and_a_licence_is_not_read(tmp_path):
    for name in ("a", "b"):
        (tmp_path / "d" / name).mkdir(parents=True)
        write(tmp_path / "d" / name / "c.jsonl", [["Hi.", name], ["Who?", "Me."]])
    (tmp_path / "d" / "LICENSE").write_text("You may copy this. " * 20)
    found = inspect(tmp_path / "d")
    names = {file.name: file.format for file in found.files}
    assert names == {"LICENSE": "", **dict.fromkeys(("a-c.jsonl", "b-c.jsonl"), FORMATS["messages.jsonl"])}
    assert any("LICENSE is not read" in warning for warning in found.warnings)


def test_the_figures_of_a_zip_and_of_the_folder_in_it_are_the_same(tmp_path):
    (tmp_path / "d").mkdir()
    write(tmp_path / "d" / "c.jsonl", [["Hi.", "Yes."], ["Who?", "Me."]])
    with zipfile.ZipFile(tmp_path / "d.zip", "w") as archive:
        archive.write(tmp_path / "d" / "c.jsonl", "inner/c.jsonl")
    assert inspect(tmp_path / "d.zip") == inspect(tmp_path / "d")


def test_the_cornell_layout_is_read_where_it_is(tmp_path):
    for name in ("movie_lines.txt", "movie_conversations.txt"):
        (tmp_path / name).write_text(EXAMPLES[name])
    before = sorted(tmp_path.iterdir())
    found = inspect(tmp_path)
    assert {file.format for file in found.files} == {"Cornell"}
    assert (found.conversations, found.turns) == (1, 2)
    assert sorted(tmp_path.iterdir()) == before


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.txt", "Some prose. " * 30, "its lines do not begin with speakers"),
        ("a.csv", "one,two\n1,2\n", "looks like a table with the columns one, two"),
        ("a.parquet", "PAR1 and no more", "a.parquet is damaged or cut off"),
    ],
)
def test_a_file_that_cannot_be_read_is_refused_as_by_a_run(name, content, message, tmp_path):
    (tmp_path / name).write_text(content)
    with pytest.raises(InputError, match=message):
        inspect(tmp_path / name)


def test_a_sample_of_the_generated_corpus_is_inspected_without_a_home():
    found = inspect("sample")
    assert found.turns > 1000
    assert len(found.samples) == 5
    assert found.splits["train"].conversations > found.splits["test"].conversations > 0
