"""Cases of checks are read from a file, and each of their conditions can fail."""

from pathlib import Path
from typing import Any

import pytest

from flows.config import SAMPLE_CHECKS
from models.errors import InputError
from models.evaluation.checks.cases import MAX_CASES, Case, read_cases


def fault(reply: str, others: tuple[str, ...] = (), **conditions: Any) -> str:
    return Case(say="Hello.", **conditions).fault(reply, list(others))


@pytest.mark.parametrize(
    ("conditions", "right", "wrong"),
    [
        ({"contains": "lima"}, "It is LIMA.", "It is Quito."),
        ({"contains": ["Lima", "Peru"]}, "Lima is in Peru.", "Lima."),
        ({"not_contains": ["fool", "idiot"]}, "No.", "You fool."),
        ({"regex": "^no|never$"}, "No way.", "Say no more."),
        ({"equals": ["Yes.", "No."]}, "no.", "No, never."),
        ({"contains": "größe"}, "GRÖSSE und GRÖßE", "gross"),
    ],
)
def test_a_condition_holds_for_one_reply_and_not_for_another(
    conditions: dict[str, Any], right: str, wrong: str
) -> None:
    assert fault(right, **conditions) == ""
    assert fault(wrong, **conditions) == next(iter(conditions))


def test_the_reply_to_another_conversation_is_compared() -> None:
    assert fault("Yes.", ("Yes.",), same_as="Hi.") == ""
    assert fault("Yes.", ("No.",), same_as="Hi.") == "same_as"
    assert fault("Yes.", ("Yes.",), differs_from="Hi.") == "differs_from"
    both = {"same_as": "Hi.", "differs_from": ["Who?", "Me.", "Hi."]}
    assert fault("Yes.", ("Yes.", "No."), **both) == ""
    assert fault("Yes.", ("No.", "No."), **both) == "same_as"


@pytest.mark.parametrize(
    "written", ["- {say: Hello., contains: hi}", '[{"say": "Hello.", "contains": ["hi"]}]']
)
def test_a_file_is_in_yaml_or_json(tmp_path: Path, written: str) -> None:
    path = tmp_path / "checks.yaml"
    path.write_text("\ufeff" + written)
    assert read_cases(path) == (Case(say=("Hello.",), contains=("hi",)),)


@pytest.mark.parametrize(
    ("written", "message"),
    [
        ("", "is not a list of cases"),
        ("say: Hello.", "is not a list of cases"),
        ("[", "is not a file in YAML or JSON"),
        ("!!python/object/apply:os.getcwd []", "is not a file in YAML or JSON"),
        ("- Hello.", "case 1"),
        ("- {say: Hello., contains: hi}\n- {say: Hello.}", "case 2: has no condition"),
        ("- {contains: hi}", "case 1: say"),
        ("- {say: [], contains: hi}", "case 1: say"),
        ("- {say: Hello., contain: hi}", "case 1: contain"),
        ("- {say: Hello., regex: '('}", "case 1: regex: is not a regular expression"),
        ("- {say: 5, contains: hi}", "case 1: say"),
        ("- {say: Hello., contains: hi}\n- {say: Hello., contains: ho}", "two cases are called 'Hello.'"),
        ("- {say: a, contains: b, name: x}\n" * (MAX_CASES + 1), f"at most {MAX_CASES}"),
    ],
)
def test_a_file_that_cannot_be_used_is_one_line_that_names_it(
    tmp_path: Path, written: str, message: str
) -> None:
    path = tmp_path / "checks.yaml"
    path.write_text(written)
    with pytest.raises(InputError) as error:
        read_cases(path)
    assert message in str(error.value) and "checks.yaml" in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("content", [None, b"\xff\xfe- {say: a, contains: b}"])
def test_a_missing_file_and_one_in_another_encoding_are_refused(
    tmp_path: Path, content: bytes | None
) -> None:
    path = tmp_path / "checks.yaml"
    if content:
        path.write_bytes(content)
    with pytest.raises(InputError, match=r"checks\.yaml"):
        read_cases(path)


def test_the_checks_of_the_sample_corpus_can_be_read() -> None:
    assert "What is the capital of Peru?" in [case.title for case in read_cases(SAMPLE_CHECKS)]
