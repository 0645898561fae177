import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from corpus.readers import json_values
from corpus.readers.encodings import LineReader
from corpus.readers.json_values import Malformed, Record, has_a_value_per_line, read_json

SCALARS = st.none() | st.booleans() | st.integers() | st.text()
OBJECTS = st.dictionaries(st.text(min_size=1), SCALARS, max_size=3).map(lambda value: {"m": [], **value})


def is_record(value: object) -> bool:
    return isinstance(value, dict) and "m" in value


def records_of(path: Path) -> Iterator[Record | Malformed]:
    by_line = has_a_value_per_line(path, LineReader())
    return read_json(path, LineReader(), is_record, by_line=by_line)


def values_of(path: Path, text: str) -> list[object]:
    path.write_text(text)
    return [
        record
        if isinstance(record, Malformed)
        else (record.key, record.value)
        if record.key
        else record.value
        for record in records_of(path)
    ]


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("json") / "data.json"


@given(records=st.lists(OBJECTS, max_size=5), indent=st.sampled_from([None, 1]))
def test_the_same_records_are_read_from_every_outer_form(
    path: Path, records: list[dict[str, object]], indent: int | None
) -> None:
    assert values_of(path, json.dumps(records, indent=indent)) == records
    assert values_of(path, "\n".join(json.dumps(each) for each in records)) == records
    assert values_of(path, "\n".join(json.dumps(each, indent=2) for each in records)) == records
    named = {f"key {i}": each for i, each in enumerate(records)}
    if named:
        assert values_of(path, json.dumps(named, indent=indent)) == list(named.items())


@given(records=st.lists(OBJECTS, min_size=1, max_size=5))
def test_a_small_piece_of_the_file_at_a_time_is_enough(path: Path, records: list[dict[str, object]]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("corpus.readers.encodings.PIECE_BYTES", 3)
        assert values_of(path, json.dumps(records, ensure_ascii=False)) == records


def test_the_line_of_each_record_is_known(path: Path) -> None:
    path.write_text('[\n{"m": [],\n"a": 1},\n\n{"m": []}]')
    lines = [record.line for record in records_of(path)]
    assert lines == [2, 5]


def test_what_follows_a_fault_in_an_array_cannot_be_read(path: Path) -> None:
    (first, fault) = values_of(path, '[{"m": []}, oops, {"m": []}, {"m": []}, {"m": []}]')
    assert first == {"m": []}
    assert isinstance(fault, Malformed)
    assert (fault.ends_file, fault.cause) == (True, "not complete JSON (Expecting value at character 13)")


def test_a_fault_in_one_line_costs_that_line_alone(path: Path) -> None:
    first, fault, last = values_of(path, '{"m": [1]}\n{"m": oops}\n{"m": [2]}')
    assert (first, last) == ({"m": [1]}, {"m": [2]})
    assert isinstance(fault, Malformed)
    assert (fault.line, fault.ends_file) == (2, False)


def test_nan_and_infinity_are_read_and_of_a_repeated_key_the_last_value_counts(path: Path) -> None:
    (value,) = values_of(path, '{"m": [], "a": NaN, "b": -Infinity, "c": 1, "c": 2}')
    assert isinstance(value, dict)
    assert (value["a"] != value["a"], value["b"], value["c"]) == (True, float("-inf"), 2)


@pytest.mark.parametrize("text", ["[" * 9000 + "]" * 9000, '{"m": [' * 9000])
def test_a_value_that_is_nested_too_deeply_is_named(path: Path, text: str) -> None:
    (fault,) = values_of(path, text)
    assert isinstance(fault, Malformed)
    assert fault.cause == "nested too deeply"


def test_a_record_that_is_too_long_is_rejected_and_the_next_lines_are_read(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(json_values, "RECORD_BYTES", 1000)
    fault, *others = values_of(path, "\n".join(['{"m": ["%s"]}' % ("x" * 5000), '{"m": []}', '{"m": []}']))
    assert isinstance(fault, Malformed)
    assert (fault.line, fault.cause, others) == (1, "longer than 1,000 bytes", [{"m": []}, {"m": []}])
