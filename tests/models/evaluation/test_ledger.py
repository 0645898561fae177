"""The ledger of decisions: what it counts, what is new in a test set, and what a killed writer leaves."""

import pytest

from models.evaluation.ledger import Comparison, Decision, Ledger


@pytest.fixture
def ledger(tmp_path):
    return Ledger(tmp_path, "support bot")


def decide(ledger, model, groups, champion="old", test_set=""):
    comparison = Comparison(model, champion, test_set or "-".join(groups))
    number, fresh = ledger.standing(comparison, groups)
    decision = Decision(
        **comparison._asdict(), at="2026-11-29T03:00:00+00:00", champion_version=1, number=number, gain=0.1,
        lower=0.05, confidence=0.97, groups=len(groups), fresh_groups=len(fresh),
        fresh_gain=None, min_gain=0.02, promote=True, reason="better",
    )  # fmt: skip
    ledger.append(decision, groups)
    return number


def test_each_further_decision_that_uses_a_group_again_has_the_next_number(ledger):
    assert [decide(ledger, model, ["a", "b"]) for model in ("m1", "m2", "m3")] == [1, 2, 3]
    assert decide(ledger, "m4", ["b", "c"]) == 4, "a test set that has grown is not a new one"
    assert decide(ledger, "m5", ["x", "y"]) == 1, "another corpus has a test set of its own"


def test_the_same_comparison_spends_no_second_decision(ledger):
    assert decide(ledger, "m1", ["a"]) == decide(ledger, "m1", ["a"]) == 1
    assert decide(ledger, "m1", ["a"], champion="newer") == 2
    assert decide(ledger, "m1", ["a"]) == 1


def test_groups_are_fresh_until_another_decision_has_used_them(ledger):
    comparison = Comparison("m2", "old", "later")
    assert ledger.standing(comparison, ["a", "b"]).fresh_groups == ["a", "b"]
    decide(ledger, "m1", ["a"])
    assert ledger.standing(comparison, ["a", "b"]).fresh_groups == ["b"]
    decide(ledger, "m2", ["a", "b"], test_set="later")
    assert ledger.standing(comparison, ["a", "b"]).fresh_groups == ["b"], "its own decision does not count"


def test_two_model_lines_have_two_ledgers_even_if_their_names_are_alike(tmp_path):
    decide(Ledger(tmp_path, "a b"), "m1", ["a"])
    assert Ledger(tmp_path, "a-b").decisions() == []
    assert len(Ledger(tmp_path, "a b").decisions()) == 1


@pytest.mark.parametrize("rest", [b'{"model": "m', b"\xff\xfe", b"[]"])
def test_a_line_that_a_killed_process_left_unfinished_spoils_no_other_line(ledger, rest):
    decide(ledger, "m1", ["a"])
    with ledger.path.open("ab") as file:
        file.write(rest)
    assert decide(ledger, "m2", ["a"]) == 2
    assert [each.model for each in ledger.decisions()] == ["m1", "m2"]


@pytest.mark.parametrize("content", [None, '["a'])
def test_a_decision_counts_if_the_groups_of_its_test_set_are_not_known_any_more(ledger, content):
    decide(ledger, "m1", ["a"], test_set="lost")
    file = ledger.path.parent / "test-sets" / "lost.json"
    file.unlink() if content is None else file.write_text(content)
    assert decide(ledger, "m2", ["x"]) == 2


def test_names_of_groups_are_not_stored(ledger, tmp_path):
    decide(ledger, "m1", ["customer 4711"], test_set="today")
    stored = b"".join(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
    assert stored and b"4711" not in stored
