import gzip
import json
import re
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from corpora_examples import EXAMPLES, EXPECTED
from hypothesis import given, settings
from hypothesis import strategies as st
from parsed import download_of, is_balanced, parsed, texts

from corpus.layout import FILES
from models.errors import InputError

TURNS = ["Do you have bread?", "Yes."]
MESSAGES = [{"role": "user", "content": TURNS[0]}, {"role": "assistant", "content": TURNS[1]}]


def refusal(read, name, content, **given):
    with pytest.raises(InputError) as error:
        read(name, content, **given)
    assert "\n" not in str(error.value)
    return str(error.value)


mutations = st.lists(
    st.tuples(
        st.floats(0, 1), st.sampled_from(["delete", "insert", "cut"]), st.binary(min_size=1, max_size=6)
    ),
    min_size=1,
    max_size=3,
)


@pytest.mark.parametrize("name", EXPECTED)
@settings(max_examples=25, deadline=None)
@given(changes=mutations)
def test_a_damaged_file_is_read_in_part_or_refused_in_one_line(name, changes, tmp_path_factory):
    content = EXAMPLES[name].encode()
    for position, kind, inserted in changes:
        at = int(position * len(content))
        if kind == "cut":
            content = content[:at]
        elif kind == "delete":
            content = content[:at] + content[at + len(inserted) :]
        else:
            content = content[:at] + inserted + content[at:]
    folder = download_of(tmp_path_factory.mktemp("damaged") / "raw", **{name: content})
    try:
        _, report = parsed(folder, max_reject_share=1)
    except InputError as error:
        assert "\n" not in str(error)
    else:
        assert is_balanced(report)


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("empty.jsonl", "", "empty.jsonl is empty"),
        ("strings.jsonl", '"Hello."\n"Yes."\n', "strings.jsonl line 1: a JSON string"),
        ("other.jsonl", '{"a": 1, "b": 2}\n' * 3, "other.jsonl has the keys a, b; none of them is messages"),
        ("other.csv", "a,b\n1,2\n", "other.csv looks like a table with the columns a, b"),
        ("prose.txt", "Once upon a time.\nThere was a king.\n" * 5, "do not begin with speakers"),
        ("lfs.parquet", "version https://git-lfs.github.com/spec/v1\noid x\n", "a placeholder of Git LFS"),
        ("broken.parquet", b"PAR1 and no more", "broken.parquet is damaged or cut off"),
        (
            "broken.jsonl.gz",
            gzip.compress(b'{"messages": []}\n' * 9000, mtime=0)[:90],
            "is damaged or cut off",
        ),
        ("ontology.json", {"coffee": [{"prefix": "order", "annotations": ["size"]}]}, "ontology.json"),
    ],
)
def test_a_file_without_conversations_is_refused_with_what_it_holds(read, name, content, words):
    assert words in refusal(read, name, content)


def test_a_parquet_file_with_unknown_columns_is_refused_with_their_names(tmp_path):
    folder = download_of(tmp_path / "raw")
    pq.write_table(pa.table({"a": [1], "b": ["x"]}), folder / FILES / "train.parquet")
    with pytest.raises(InputError, match=r"train\.parquet has the keys a, b"):
        parsed(folder)


def test_a_cut_line_is_rejected_and_the_other_lines_are_read(read):
    lines = [json.dumps({"messages": MESSAGES})] * 200
    found, report = read("chat.jsonl", "\n".join([*lines, lines[0][:40]]))
    assert (len(found), report["rejected"].keys()) == (200, report["rejected"].keys())
    assert sum(report["rejected"].values()) == 1


def test_a_cut_array_is_refused_unless_the_user_allows_it(read):
    cut = json.dumps([{"messages": MESSAGES}] * 200)[:-20]
    message = refusal(read, "chat.json", cut)
    assert "chat.json:1 (not complete JSON (the file ends inside a value))" in message
    allowed = float(re.search(r"parse\.max_reject_share=([\d.]+)", message)[1])
    found, _ = read("chat.json", cut, max_reject_share=allowed)
    assert len(found) == 199


@pytest.mark.parametrize("compress", [gzip.compress, lambda data: pa.compress(data, "zstd", asbytes=True)])
def test_a_compressed_file_is_read(read, compress):
    content = (json.dumps({"messages": MESSAGES}) + "\n").encode() * 3
    found, _ = read("chat.jsonl.x", compress(content))
    assert texts(found) == [TURNS] * 3


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-le", "utf-32", "cp1252"])
@pytest.mark.parametrize("form", ["lines", "array"])
def test_json_in_any_common_encoding_is_read(read, encoding, form):
    records = [{"messages": [{"role": "user", "content": "Un café?"}, MESSAGES[1]]}] * 9
    text = "\n".join(json.dumps(each, ensure_ascii=False) for each in records)
    if form == "array":
        text = json.dumps(records, ensure_ascii=False, indent=1)
    found, _ = read("chat.json", text.encode(encoding))
    assert texts(found) == [["Un café?", "Yes."]] * 9


@pytest.mark.parametrize(
    "content",
    [
        "Yes.",
        [{"type": "text", "text": "Yes."}],
        ["Yes."],
        {"parts": ["Yes."]},
        [{"type": "image"}, {"type": "text", "text": "Yes."}],
        {"content_type": "text", "parts": ["Yes."]},
    ],
)
def test_the_text_of_a_message_may_have_any_common_form(read, content):
    found, _ = read("chat.jsonl", [{"messages": [MESSAGES[0], {"role": "assistant", "content": content}]}])
    assert texts(found) == [TURNS]


def test_a_number_is_a_text(read):
    numbers = [{"role": "user", "content": 42}, {"role": "assistant", "content": True}]
    found, _ = read("chat.jsonl", [{"messages": numbers}])
    assert texts(found) == [["42", "true"]]


def test_the_turns_around_a_tool_call_stay_together(read):
    call = {"role": "assistant", "content": None, "tool_calls": [{"id": "1"}]}
    result = {"role": "tool", "content": '{"found": true}'}
    found, report = read("chat.jsonl", [{"messages": [MESSAGES[0], call, result, MESSAGES[1]]}])
    assert texts(found) == [TURNS]
    assert report["turns_by_role"]["tool"]["read"] == 2
    assert is_balanced(report)


def test_turns_of_one_speaker_in_a_row_are_joined(read):
    found, report = read("chat.jsonl", [{"messages": [MESSAGES[0], MESSAGES[0], MESSAGES[1]]}])
    assert texts(found) == [[f"{TURNS[0]} {TURNS[0]}", TURNS[1]]]
    assert report["turns_by_role"]["user"]["joined"] == 1


@pytest.mark.parametrize(
    ("message", "cause"),
    [
        ({"role": "hummany", "content": "Hi."}, "the role 'hummany' is not known"),
        ({"role": "user", "content": {}}, "the text of a message is a JSON object"),
        ({"role": None, "content": "Hi."}, "a message has no role"),
    ],
)
def test_a_message_that_cannot_be_read_rejects_its_conversation_and_counts_its_turns(read, message, cause):
    good = [{"messages": MESSAGES}] * 200
    found, report = read("chat.jsonl", [*good, {"messages": [message, *MESSAGES]}])
    assert (len(found), report["rejected"]) == (200, {cause: 1})
    assert sum(counts["read"] for counts in report["turns_by_role"].values()) == 403
    assert is_balanced(report)


def test_conversations_without_turns_are_counted_and_cost_no_rejects(read):
    empty = [{"messages": []}, {"messages": None}, {"messages": [{"role": "system", "content": "Be brief."}]}]
    found, report = read("chat.jsonl", [*empty, {"messages": MESSAGES}])
    assert (texts(found), report["conversations_without_turns"], report["rejected"]) == ([TURNS], 3, {})


def test_a_data_set_of_copies_has_its_copies_in_one_group_and_others_apart(tmp_path):
    other = [{"role": "user", "content": "When?"}, {"role": "assistant", "content": "At six."}]
    lines = [json.dumps({"messages": each}) for each in (MESSAGES, other, MESSAGES)]
    folder = download_of(tmp_path / "raw", **{"a.jsonl": "\n".join(lines), "b.jsonl": lines[0]})
    parsed(folder)
    rows = pq.read_table(tmp_path / "raw-parsed" / "turns.parquet").to_pylist()
    groups = {}
    for row in rows:
        groups.setdefault(row["group"], set()).add(row["conversation_id"])
    assert sorted(map(len, groups.values())) == [1, 3]


def test_files_that_hold_no_conversations_are_skipped_and_named(tmp_path):
    folder = download_of(
        tmp_path / "raw",
        **{
            "data.jsonl": json.dumps({"messages": MESSAGES}),
            "speakers.json": '{"u0": {"meta": {}}}',
            "LICENSE": "Some rights.\n" * 9,
            "index.json": '{"version": 1}',
        },
    )
    found, report = parsed(folder)
    assert texts(found) == [TURNS]
    assert set(report["skipped_files"]) == {"speakers.json", "LICENSE", "index.json"}


def test_a_table_of_turns_by_pandas_is_read_in_any_order_and_with_empty_rows(tmp_path):
    rows = [("a", 1, "baker", "Yes."), (None, None, None, None), ("a", 0, "ann", "Do you have bread?")]
    names = ["conversation_id", "turn", "speaker", "text"]
    folder = download_of(tmp_path / "raw")
    pq.write_table(
        pa.Table.from_pylist([dict(zip(names, row, strict=True)) for row in rows]),
        folder / FILES / "t.parquet",
    )
    found, _ = parsed(folder)
    assert texts(found) == [TURNS]


def test_the_table_that_parse_writes_is_read_again_as_the_same_turns(tmp_path):
    folder = download_of(
        tmp_path / "raw", **{name: EXAMPLES[name] for name in ("messages.jsonl", "turns.csv")}
    )
    found, _ = parsed(folder)
    again = download_of(tmp_path / "again")
    (again / FILES / "turns.parquet").write_bytes((tmp_path / "raw-parsed" / "turns.parquet").read_bytes())
    assert parsed(again)[0] == found


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_a_table_may_have_any_line_ends_and_line_breaks_in_quotes(read, end):
    lines = ["Question;Answer", '"Do you have', 'bread?";Yes.', "When?;At six."]
    found, report = read("pairs.csv", end.join(lines))
    assert texts(found) == [["Do you have\nbread?", "Yes."], ["When?", "At six."]]
    assert report["rejected"] == {}


def test_a_circle_of_replies_is_rejected_and_named(read):
    rows = [
        {"id": f"u{i}", "conversation_id": "c", "speaker": "a", "text": "x", "reply-to": f"u{1 - i}"}
        for i in (0, 1)
    ]
    good = [
        {
            "id": f"g{i}",
            "conversation_id": f"d{i // 2}",
            "speaker": f"s{i % 2}",
            "text": "x",
            "reply-to": f"g{i - 1}" if i % 2 else None,
        }
        for i in range(400)
    ]
    found, report = read("utterances.jsonl", [*good, *rows])
    assert (len(found), report["rejected"]) == (200, {"its chain of replies is a circle": 2})
    assert is_balanced(report)


def test_replies_find_their_conversation_without_its_id(read):
    rows = [
        {"id": "u2", "conversation_id": None, "speaker": "b", "text": "Yes.", "reply-to": "u1"},
        {"id": "u1", "conversation_id": "u1", "speaker": "a", "text": "Do you have bread?", "reply-to": None},
    ]
    found, _ = read("utterances.jsonl", rows)
    assert found == {"u1": [("a", "Do you have bread?", 1), ("b", "Yes.", 1)]}


def test_a_real_data_set_has_the_counts_of_an_independent_script(tmp_path):
    source = Path(__file__).parents[4] / "shared" / "data" / "topical-chat" / "conversations"
    if not source.exists():
        pytest.skip(f"{source} does not exist")
    folder = download_of(tmp_path / "raw")
    conversations, messages = 0, 0
    for path in source.glob("*.json"):
        (folder / FILES / path.name).symlink_to(path)
        data = json.loads(path.read_bytes())
        if all(isinstance(each, dict) and "content" in each for each in data.values()):
            conversations += len(data)
            messages += sum(len(each["content"]) for each in data.values())
    found, report = parsed(folder)
    assert len(found) == conversations
    assert sum(counts["read"] for counts in report["turns_by_role"].values()) == messages
    assert is_balanced(report)


def test_a_list_of_conversations_under_one_key_loses_only_its_bad_ones(read):
    bad = {"messages": [{"role": "user", "content": {}}]}
    data = {"version": 1, "data": [{"messages": MESSAGES}, bad, {"messages": MESSAGES}] * 3}
    found, report = read("all.json", data, max_reject_share=0.5)
    assert texts(found) == [TURNS] * 6
    assert (report["lines_read"], sum(report["rejected"].values())) == (9, 3)


def test_the_rows_of_a_file_do_not_depend_on_the_other_files(tmp_path):
    names = [name for name in EXPECTED if name != "other_names.csv"]
    whole, _ = parsed(download_of(tmp_path / "all", **{name: EXAMPLES[name] for name in names}))
    for name in names:
        alone, _ = parsed(download_of(tmp_path / name, **{name: EXAMPLES[name]}))
        assert [turns for turns in whole.values() if turns in alone.values()]
        if name in ("messages.jsonl", "lists.json", "script.txt", "alpaca.json"):  # no ids of their own
            assert {key: whole[key] for key in alone} == alone
