"""A case fails only if the new model certainly passes less often than a champion that passes reliably."""

import random
from pathlib import Path

from chat_models import model_folder

from models.evaluation.checks.cases import Case
from models.evaluation.checks.results import Result, compare_results, failure, passed_share, run_cases
from models.evaluation.scorecard import ScoreRecord
from models.evaluation.verdict import GateConfig, judge


def results(*passed: int) -> list[Result]:
    return [
        Result(name=f"case {number}", reply="Yes.", passed=each, replies=11)
        for number, each in enumerate(passed)
    ]


def failed(new: tuple[int, ...], old: tuple[int, ...]) -> list[str]:
    return [change.name for change in compare_results(results(*new), results(*old)) if not change.holds]


def test_a_case_that_is_certainly_lost_is_named_with_its_figures() -> None:
    changes = compare_results(results(11, 3), results(11, 11))
    assert failure(changes) == "'case 1' passes in 3 of 11 replies instead of 11"
    assert failed((11, 11), (11, 11)) == []


def test_a_difference_that_may_be_chance_is_no_failure() -> None:
    assert failed((9,), (11,)) == []
    assert failed((7,), (11,)) == ["case 0"]
    assert failed((7, *[11] * 19), (11, *[11] * 19)) == [], "twenty cases are corrected for their number"


def test_a_case_in_which_the_champion_is_unreliable_is_set_aside() -> None:
    assert failed((0, 0), (8, 3)) == []
    assert [change.is_unreliable for change in compare_results(results(0, 0), results(8, 9))] == [True, False]


def test_equal_models_fail_in_at_most_five_percent_of_the_draws() -> None:
    draw = random.Random(1)

    def model() -> tuple[int, ...]:
        return tuple(sum(draw.random() < 0.9 for _ in range(11)) for _ in range(20))

    assert sum(bool(failed(model(), model())) for _ in range(400)) <= 20


def test_cases_that_only_one_model_has_answered_are_not_compared() -> None:
    assert compare_results(results(0, 0), results(11)) == compare_results(results(0), results(11))
    assert compare_results(results(0), []) == []


def test_a_model_with_a_better_score_that_fails_a_check_is_refused() -> None:
    groups = {f"g{i}": [1.0 + i / 1000, 1.0] for i in range(10)}
    worse = {name: [nats + 0.2, size] for name, (nats, size) in groups.items()}
    common = {"normalisation": "plain", "test_set": "today", "replies": 500}
    old = ScoreRecord(bpb=1.7, groups=worse, checks=results(11), **common)
    verdict = judge(ScoreRecord(bpb=1.4, groups=groups, checks=results(1), **common), old, 3, GateConfig())
    assert not verdict.promote
    assert verdict.reason.startswith("failed checks: 'case 0' passes in 1 of 11 replies instead of 11")
    assert "`--set gate.promote=always` promotes the model anyway" in verdict.reason
    assert judge(
        ScoreRecord(bpb=1.4, groups=groups, checks=results(11), **common), old, 3, GateConfig()
    ).promote


def test_a_model_answers_each_case_greedily_and_with_ten_seeds_and_always_in_the_same_way(
    tmp_path: Path,
) -> None:
    folder = model_folder(tmp_path / "model")
    cases = [
        Case(say="hello there .", regex="."),
        Case(say="hello there .", name="impossible", contains="xyzzy"),
        Case(
            say=("hello there .", "how are you ?"), name="itself", same_as=("hello there .", "how are you ?")
        ),
        Case(say="how are you ?", name="another", differs_from="how are you ?"),
    ]
    found = run_cases(folder, cases)
    assert [(each.passed, each.replies) for each in found] == [(11, 11), (0, 11), (11, 11), (0, 11)]
    assert [each.fault for each in found] == ["", "contains", "", "differs_from"]
    assert passed_share(found) == 0.5
    assert run_cases(folder, cases) == found
    assert run_cases(folder, []) == []
