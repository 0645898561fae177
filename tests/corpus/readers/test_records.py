import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from parsed import download_of, is_balanced, parsed, texts

from corpus.layout import FILES

TURNS = ["Do you have bread?", "Yes."]
MESSAGES = [{"role": "user", "content": TURNS[0]}, {"role": "assistant", "content": TURNS[1]}]


def groups_of(tmp_path, *files):
    """The number of groups of the conversations of some files."""
    parsed(download_of(tmp_path / "raw", **dict(files)))
    rows = pq.read_table(tmp_path / "raw-parsed" / "turns.parquet").to_pylist()
    return {row["group"] for row in rows}


@pytest.mark.parametrize(
    "history",
    [
        [["Hello.", "Good day."]],
        [{"role": "user", "content": "Hello."}, {"role": "assistant", "content": "Good day."}],
        ["Hello.", "Good day."],
        json.dumps([["Hello.", "Good day."]]),
        [{"question": "Hello.", "answer": "Good day."}],
    ],
)
def test_the_history_of_an_exchange_may_have_any_form(read, history):
    found, report = read("pairs.jsonl", [{"question": TURNS[0], "answer": TURNS[1], "history": history}])
    assert texts(found) == [["Hello.", "Good day.", *TURNS]]
    assert is_balanced(report)


@pytest.mark.parametrize(
    ("history", "cause"),
    [
        (5, "the history is a JSON number"),
        ([[1, 2, 3]], "the history is no list of pairs, messages or texts"),
        ("[oops", "the history is a text that is not JSON"),
    ],
)
def test_another_history_rejects_its_exchange_with_the_cause(read, history, cause):
    good = {"question": TURNS[0], "answer": TURNS[1]}
    found, report = read("pairs.jsonl", [good] * 200 + [good | {"history": history}])
    assert (len(found), report["rejected"]) == (200, {cause: 1})


def test_an_answer_that_repeats_the_question_has_its_turns_once(read):
    found, _ = read("preferences.jsonl", [{"prompt": TURNS[0], "chosen": MESSAGES, "rejected": []}])
    assert texts(found) == [TURNS]


def test_the_exchanges_of_one_conversation_are_in_one_group(tmp_path):
    pairs = [{"conversation_id": "c", "question": f"{i}?", "answer": f"{i}."} for i in range(9)]
    content = "".join(json.dumps(pair) + "\n" for pair in pairs)
    assert groups_of(tmp_path, ("pairs.jsonl", content)) == {"c"}


def test_a_system_that_replies_to_the_user_is_the_assistant(read):
    turns = [{"speaker": "USER", "utterance": TURNS[0]}, {"speaker": "SYSTEM", "utterance": TURNS[1]}]
    found, _ = read("dialogues.json", [{"dialogue_id": "d", "turns": turns}])
    assert found == {"d": [("user", TURNS[0], 0), ("assistant", TURNS[1], 1)]}


def test_a_system_text_before_the_user_stays_a_system_text(read):
    given = [{"role": "system", "content": "Be brief."}, MESSAGES[0]]
    _, report = read("chat.jsonl", [{"messages": given}, {"messages": MESSAGES}])
    assert report["turns_by_role"]["system"]["read"] == 1


def test_a_call_of_a_tool_without_content_is_no_turn(read):
    call = {"role": "assistant", "tool_calls": [{"id": "1"}]}
    found, report = read("chat.jsonl", [{"messages": [MESSAGES[0], call, MESSAGES[1]]}])
    assert texts(found) == [TURNS]
    assert report["turns_by_role"]["tool"]["read"] == 1


def test_messages_may_be_a_list_for_each_key(read):
    columns = {"from": ["human", "gpt"], "value": TURNS}
    assert texts(read("chat.jsonl", [{"conversations": columns}])[0]) == [TURNS]


def test_turns_of_one_speaker_with_different_weights_stay_apart(read):
    first = MESSAGES[1] | {"weight": 0, "content": "Well."}
    found, _ = read("chat.jsonl", [{"messages": [MESSAGES[0], first, MESSAGES[1]]}])
    assert [weight for _, _, weight in next(iter(found.values()))] == [0, 0, 1]


@pytest.mark.parametrize(
    "message",
    [
        {"role": "user", "content": 10**400, "weight": 10**400},
        {"role": "user", "content": TURNS[0], "weight": "heavy"},
    ],
)
def test_huge_numbers_and_strange_weights_are_read(read, message):
    found, _ = read("chat.jsonl", [{"messages": [message, MESSAGES[1]]}])
    assert len(next(iter(found.values()))) == 2


def test_a_number_that_python_cannot_print_rejects_its_line_alone(read):
    bad = '{"messages": [{"role": "user", "content": ' + "9" * 5000 + "}]}"
    lines = [json.dumps({"messages": MESSAGES})] * 200
    found, report = read("chat.jsonl", "\n".join([*lines, bad]))
    assert (len(found), sum(report["rejected"].values())) == (200, 1)


def test_a_line_separator_of_unicode_in_a_text_ends_no_line(read):
    given = [{"messages": [MESSAGES[0], {"role": "assistant", "content": "Yes.\u2028Two.\x85"}]}] * 9
    content = "".join(json.dumps(each, ensure_ascii=False) + "\n" for each in given)
    found, report = read("chat.jsonl", content)
    assert (len(found), report["formats"]) == (9, {"chat.jsonl": "JSON Lines, one conversation per record"})


@pytest.mark.parametrize("indent", [1, 2, 4])
def test_indented_records_of_many_keys_are_json_and_no_lines_of_speakers(read, indent):
    given = [
        {"id": i, "source": "web", "title": "Bread", "tags": "x", "messages": MESSAGES} for i in range(5)
    ]
    for content in (json.dumps(given, indent=indent), "\n".join(json.dumps(g, indent=indent) for g in given)):
        assert texts(read("chat.json", content)[0]) == [TURNS] * 5


def test_text_in_parquet_that_is_not_valid_utf_8_is_read(tmp_path):
    folder = download_of(tmp_path / "raw")
    answers = pa.array([b"Yes.", b"Caf\xe9."], pa.binary()).view(pa.string())
    pq.write_table(
        pa.table({"question": ["Bread?", "Where?"], "answer": answers}), folder / FILES / "p.parquet"
    )
    assert texts(parsed(folder)[0]) == [["Bread?", "Yes."], ["Where?", "Caf\ufffd."]]


def test_a_quotation_mark_that_is_never_closed_counts_all_of_its_lines(read):
    lines = ["question,answer", *["Bread?,Yes."] * 50, '"Where?,There.', *["Bread?,Yes."] * 49]
    found, report = read("pairs.csv", "\n".join(lines), max_reject_share=0.9)
    assert (len(found), report["rejected"]) == (50, {"a quotation mark is never closed": 50})
    assert report["lines_read"] == 100


@pytest.mark.parametrize("before", ["sep=;\n", "\n\n", '"sep=;"\r\n'])
def test_lines_before_the_header_of_a_table_are_passed_over(read, before):
    found, _ = read("pairs.csv", f"{before}question;answer\n{TURNS[0]};{TURNS[1]}\n")
    assert texts(found) == [TURNS]


def test_a_table_of_one_column_may_hold_conversations(read):
    quoted = json.dumps(MESSAGES).replace('"', '""')
    assert texts(read("chat.csv", f'messages\n"{quoted}"\n')[0]) == [TURNS]


def test_a_column_whose_name_occurs_twice_is_read_once(read):
    found, _ = read("pairs.csv", f"question,answer,answer\n{TURNS[0]},{TURNS[1]},other\n")
    assert texts(found) == [TURNS]


def test_set_columns_of_an_exchange_go_before_columns_with_known_names(read):
    row = {"prompt": "0", "completion": "1", "mine": TURNS[0], "yours": TURNS[1]}
    found, _ = read("pairs.jsonl", [row], columns={"question": "mine", "answer": "yours"})
    assert texts(found) == [TURNS]
