import random

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from parsed import download_of, is_balanced, parsed, texts

from corpus.layout import FILES
from corpus.readers.turn_order import in_order, order_values

BREAD = ["Do you have bread?", "Yes.", "How much?", "Two euros."]


def rows(column, values, said=BREAD, **more):
    return [
        {"conversation_id": "c", "speaker": f"s{i % 2}", "text": text, column: value, **more}
        for i, (text, value) in enumerate(zip(said, values, strict=True))
    ]


@pytest.mark.parametrize(
    ("column", "values"),
    [
        ("turn", [0, 1, 2, 10]),
        ("turn", ["0", "1", "2", "10"]),
        ("turn", ["t1", "t2", "t9", "t10"]),
        ("turn", [1, 2, 3, 10**400]),
        ("timestamp", ["2023-05-12 09:59", "2023-05-12 10:01", "2023-05-13 00:10", "2023-05-13 00:11"]),
        ("timestamp", ["2023-05-12T09:59:00Z", "2023-05-12T12:01:00+02:00", "2023-05-13", "2023-05-14"]),
        ("time", ["5/12 9:03", "5/12 9:58", "5/12 10:15", "5/12 11:00"]),
        ("time", ["9:03 AM", "11:58 AM", "12:15 PM", "1:00 PM"]),
        ("created_at", [1683900000.5, 1683900001.5, 1683900002, 1683900003]),
    ],
)
def test_turns_are_sorted_by_their_numbers_and_times_and_not_as_text(read, column, values):
    shuffled = rows(column, values)
    random.Random(3).shuffle(shuffled)
    assert texts(read("turns.jsonl", shuffled)[0]) == [BREAD]


@pytest.mark.parametrize(
    ("column", "values"),
    [
        ("time", ["13/05 8:00", "12/05 9:00", "11/05 7:00", "10/05 9:00"]),
        ("time", ["a", "c", "b", "d"]),
        ("turn", [3, None, 1, 2]),
        ("turn", [float("nan"), 2, 1, 0]),
    ],
)
def test_turns_whose_order_is_uncertain_stay_in_the_order_of_the_file(read, column, values):
    assert texts(read("turns.jsonl", rows(column, values))[0]) == [BREAD]


def test_a_date_and_a_time_in_two_columns_are_one_moment(read):
    moments = [
        ("2023-05-12", "9:05"),
        ("2023-05-12", "22:10"),
        ("2023-05-13", "0:01"),
        ("2023-05-13", "9:00"),
    ]
    dates, times = zip(*moments, strict=True)
    given = [row | {"date": date} for row, date in zip(rows("time", times), dates, strict=True)]
    assert texts(read("turns.jsonl", given[::-1])[0]) == [BREAD]


@given(st.lists(st.integers() | st.floats(allow_nan=False), min_size=1, max_size=9))
def test_every_number_has_its_rank(numbers):
    order = in_order([order_values({"turn": number}) for number in numbers])
    assert [numbers[i] for i in order] == sorted(numbers)


@given(
    st.lists(st.dictionaries(st.sampled_from(["turn", "time", "date"]), st.text() | st.none()), max_size=5)
)
def test_any_values_have_an_order_or_none(values):
    order = in_order([order_values(value) for value in values])
    assert order is None or sorted(order) == list(range(len(values)))


def test_a_reply_is_looked_up_within_its_conversation(read):
    given = [
        {
            "id": i,
            "conversation_id": name,
            "speaker": f"s{i}",
            "text": f"{name} {i}",
            "reply_to": i - 1 or None,
        }
        for name in ("a", "b")
        for i in (1, 2)
    ]
    assert texts(read("utterances.jsonl", given)[0]) == [["a 1", "a 2"], ["b 1", "b 2"]]


def test_a_root_whose_conversation_is_null_is_found_by_the_replies_to_it(read):
    given = [
        {"id": "u1", "conversation_id": None, "speaker": "a", "text": BREAD[0], "reply-to": None},
        {"id": "u2", "conversation_id": "u1", "speaker": "b", "text": "Yes.", "reply-to": "u1"},
    ]
    found, report = read("utterances.jsonl", given)
    assert found == {"u1": [("a", BREAD[0], 1), ("b", "Yes.", 1)]}
    assert report["rejected"] == {}


def test_a_whole_number_is_the_same_id_as_the_float_that_pandas_makes_of_it(tmp_path):
    folder = download_of(tmp_path / "raw")
    table = pa.table(
        {"id": [1, 2], "parent_id": [float("nan"), 1.0], "speaker": ["ann", "baker"], "text": BREAD[:2]}
    )
    pq.write_table(table, folder / FILES / "turns.parquet")
    assert parsed(folder)[0] == {"1": [("ann", BREAD[0], 1), ("baker", "Yes.", 1)]}


def test_rows_without_a_speaker_are_those_of_two_speakers_in_turn(read):
    given = [{key: row[key] for key in ("conversation_id", "text")} for row in rows("turn", [0, 1, 2, 3])]
    found, report = read("turns.jsonl", given)
    assert [speaker for speaker, _, _ in found["c"]] == ["speaker 1", "speaker 2"] * 2
    assert report["turns_by_role"]["speaker"]["joined"] == 0


@pytest.mark.parametrize("partner", ["SYSTEM", "agent", "gpt-4o", "Support"])
def test_the_only_partner_of_a_user_is_the_assistant(read, partner):
    given = [
        row | {"speaker": "USER" if row["speaker"] == "s0" else partner} for row in rows("turn", range(4))
    ]
    found, _ = read("turns.jsonl", given)
    assert [role for role, _, _ in found["c"]] == ["user", "assistant"] * 2
    assert [weight for _, _, weight in found["c"]] == [0, 1] * 2
    assert texts(found) == [BREAD]


def test_the_rows_of_open_assistant_are_a_tree_of_prompters_and_assistants(read):
    given = [
        {
            "message_id": "m1",
            "parent_id": None,
            "message_tree_id": "m1",
            "role": "prompter",
            "text": "Bread?",
        },
        {"message_id": "m2", "parent_id": "m1", "message_tree_id": "m1", "role": "assistant", "text": "Yes."},
        {"message_id": "m3", "parent_id": "m1", "message_tree_id": "m1", "role": "assistant", "text": "No."},
    ]
    found, _ = read("oasst.jsonl", given)
    assert found == {
        "m1": [("user", "Bread?", 0), ("assistant", "Yes.", 1)],
        "m1/path 2": [("user", "Bread?", 0), ("assistant", "No.", 1)],
    }


def test_a_path_of_a_deep_tree_repeats_only_the_nearest_turns_as_context(read):
    given = [
        {
            "id": f"u{i}",
            "conversation_id": "c",
            "speaker": f"s{i % 2}",
            "text": f"{i}",
            "reply-to": f"u{i - 1}",
        }
        for i in range(100)
    ]
    given.append(given[99] | {"id": "other", "text": "another end"})
    found, report = read("utterances.jsonl", given)
    assert [len(turns) for turns in found.values()] == [100, 33]
    assert [weight for _, _, weight in found["c/path 2"]] == [0] * 32 + [1]
    assert is_balanced(report)


def test_the_content_of_a_row_may_be_a_list_of_parts_or_a_tool_call(read):
    given = rows("turn", range(4))
    given[0]["text"] = [{"type": "text", "text": BREAD[0]}]
    given.insert(1, {"conversation_id": "c", "speaker": "s1", "text": None, "turn": 0.5, "tool_calls": [{}]})
    found, report = read("turns.jsonl", given)
    assert texts(found) == [BREAD]
    assert report["turns_by_role"]["tool"]["read"] == 1


def test_a_set_column_goes_before_a_column_with_a_known_name(read):
    given = [row | {"body": row["text"], "text": "0"} for row in rows("turn", range(4))]
    found, _ = read("turns.jsonl", given, columns={"text": "body"})
    assert texts(found) == [BREAD]


def test_a_set_column_of_order_goes_before_a_column_with_a_known_name(read):
    given = rows("turn", [3, 2, 1, 0], mine=0)
    for position, row in enumerate(given):
        row["mine"] = position
    assert texts(read("turns.jsonl", given[::-1], columns={"turn": "mine"})[0]) == [BREAD]
