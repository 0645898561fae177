import math

import pytest

from models.evaluation import verdict as verdict_module
from models.evaluation.noise import Machine, Noise
from models.evaluation.scorecard import ScoreRecord
from models.evaluation.verdict import GateConfig, judge, split_overlap

NOISE = [0.004, -0.003, 0.002, -0.004, 0.001, 0.003, -0.002, -0.001, 0.003, -0.003]


def record(bpb: float, *, differences=NOISE, groups: int = 10, **fields) -> ScoreRecord:
    """The score of a model whose bits per byte differ a little between groups of 1,000 bytes."""
    bits = [bpb + differences[i % len(differences)] for i in range(groups)]
    by_group = {f"g{i}": [each * math.log(2) * 1000, 1000.0] for i, each in enumerate(bits)}
    given = {"normalisation": "plain", "test_set": "today", "replies": 500, **fields}
    return ScoreRecord(bpb=sum(bits) / groups, groups=by_group, **given)


def quiet(bpb: float, **fields) -> ScoreRecord:
    return record(bpb, differences=[0.0], **fields)


GOOD, BAD = record(1.5), quiet(1.6)


def test_the_first_model_is_promoted():
    assert judge(BAD, None, 0, GateConfig()).promote


def test_a_model_that_is_certainly_better_is_promoted_and_the_reason_gives_the_figures():
    verdict = judge(GOOD, BAD, 3, GateConfig())
    assert verdict.promote
    assert verdict.reason == (
        "1.5000 bits per byte against champion v3's 1.6000 on the same test bytes: 0.1000 fewer, and the lower "
        "limit of the 97.0% interval is 0.0980; the default margin (`repartee noise` measures one for this recipe) "
        "requires more than 0.02"
    )


def test_a_verdict_on_a_part_of_the_test_split_says_how_many_replies_that_was():
    new, old = record(1.5, max_replies=2000, replies=1998), quiet(1.6, max_replies=2000, replies=1998)
    assert (
        "on the same test bytes (1,998 replies of the test split)" in judge(new, old, 3, GateConfig()).reason
    )


def test_an_equal_or_worse_model_is_refused_and_the_champion_stays():
    assert not judge(GOOD, GOOD, 3, GateConfig()).promote
    worse = judge(BAD, GOOD, 3, GateConfig())
    assert not worse.promote and worse.reason.startswith("not better: 1.6000 bits per byte")
    assert (worse.champion, worse.champion_bpb) == (3, pytest.approx(1.5))


def test_a_gain_that_may_be_chance_is_refused_with_its_interval():
    verdict = judge(record(1.575), BAD, 3, GateConfig(min_gain=0.024))
    assert not verdict.promote
    assert verdict.reason == (
        "not certainly better: 1.5750 bits per byte against champion v3's 1.6000 on the same test bytes, 0.0250 "
        "fewer; but the lower limit of the 97.0% interval is 0.0230, and gate.min_gain requires more than 0.024"
    )
    assert judge(record(1.575), BAD, 3, GateConfig(min_gain=0.022)).promote


def test_a_later_decision_on_the_same_test_data_needs_more_evidence_and_says_so():
    config = GateConfig(min_gain=0.0215)
    assert judge(record(1.575), BAD, 3, config, number=1).promote
    later = judge(record(1.575), BAD, 3, config, number=20)
    assert not later.promote
    assert "the 99.9924% interval (decision 20 on these test data)" in later.reason


def test_fewer_than_eight_groups_decide_nothing_however_large_the_gain_is():
    few = judge(record(1.0, groups=7), quiet(1.6, groups=7), 3, GateConfig())
    assert not few.promote
    assert "only 7 groups, and the gate needs 8" in few.reason and "gate.promote=always" in few.reason
    assert judge(record(1.0, groups=8), quiet(1.6, groups=8), 3, GateConfig()).promote
    assert "not better" in judge(record(1.7, groups=2), quiet(1.6, groups=2), 3, GateConfig()).reason


def test_scores_on_other_test_replies_are_not_compared():
    verdict = judge(GOOD, quiet(1.6, test_set="last week", replies=480), 3, GateConfig())
    assert not verdict.promote
    assert "500 test replies and champion v3 on 480 others" in verdict.reason


CASES = {
    "certainly better": (record(1.5), BAD, 0.02, 1),
    "worse": (record(1.7), BAD, 0.02, 1),
    "equal": (BAD, BAD, 0.0, 1),
    "below the margin": (record(1.57), BAD, 0.05, 1),
    "not certain": (record(1.595), quiet(1.6), 0.004, 1),
    "certain only as a pair": (
        record(1.57, differences=[0.5, -0.5]),
        record(1.6, differences=[0.5, -0.5]),
        0.02,
        1,
    ),
    "better in one group only": (record(1.6, differences=[-1.0] + [0.0] * 9), BAD, 0.02, 1),
    "late": (record(1.575), BAD, 0.0215, 20),
    "scored last week": (GOOD, quiet(1.6, test_set="last week"), 0.02, 1),
}
PROMOTED = {"certainly better", "certain only as a pair"}


def verdicts(change=lambda new, old, margin, number: (new, old, margin, number)):
    return {
        name
        for name, case in CASES.items()
        for new, old, margin, number in [change(*case)]
        if judge(new, old, 3, GateConfig(min_gain=margin), number=number).promote
    }


def test_the_cases_have_these_verdicts():
    assert verdicts() == PROMOTED


def shuffled(scores):
    """The groups' scores under the names of other groups, as if the two models were not compared in pairs."""
    names = sorted(scores)
    return {name: scores[other] for name, other in zip(names, names[1:] + names[:1], strict=True)}


MEASURE = verdict_module.measure_gain
MUTANTS = {
    "the candidate is scored as the champion": lambda new, old, error: MEASURE(new, new, error),
    "the models are exchanged": lambda new, old, error: MEASURE(old, new, error),
    "the models are compared unpaired": lambda new, old, error: MEASURE(shuffled(new), old, error),
    "the interval is ignored": lambda new, old, error: (g := MEASURE(new, old, error))._replace(lower=g.bits),
    "all groups but one are dropped": lambda new, old, error: MEASURE(
        {"g0": new["g0"]}, {"g0": old["g0"]}, error
    )._replace(groups=10, lower=MEASURE({"g0": new["g0"]}, {"g0": old["g0"]}, error).bits),
}


@pytest.mark.parametrize("mutant", MUTANTS)
def test_a_faulty_measurement_of_the_gain_changes_a_verdict(mutant, monkeypatch):
    monkeypatch.setattr(verdict_module, "measure_gain", MUTANTS[mutant])
    assert verdicts() != PROMOTED


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda new, old, margin, number: (new, old, 0.0, number), id="the margin is ignored"),
        pytest.param(lambda new, old, margin, number: (new, old, margin, 1), id="decisions are not counted"),
        pytest.param(
            lambda new, old, margin, number: (
                new,
                old.model_copy(update={"test_set": "today"}),
                margin,
                number,
            ),
            id="a score of other test data is used",
        ),
    ],
)
def test_a_faulty_use_of_the_figures_changes_a_verdict(change):
    assert verdicts(change) != PROMOTED


def test_bits_of_two_normalisations_are_not_compared():
    verdict = judge(record(0.5, normalisation="article"), BAD, 3, GateConfig())
    assert not verdict.promote
    assert "comparable only within one" in verdict.reason


def test_never_only_measures_and_always_promotes_and_both_say_so():
    never = judge(GOOD, BAD, 3, GateConfig(promote="never"))
    assert not never.promote and "scored but not promoted" in never.reason and never.champion == 3
    assert not judge(GOOD, None, 0, GateConfig(promote="never")).promote
    always = judge(BAD, GOOD, 3, GateConfig(promote="always"))
    assert always.promote and "1.6000" in always.reason and "1.5000" in always.reason


@pytest.mark.parametrize(
    ("trained", "today", "compares"),
    [
        (("group", 0.05), ("group", 0.05), True),
        (("group", 0.10), ("group", 0.05), True),  # today's test split is a part of the old test split
        (("group", 0.05), ("group", 0.10), False),
        (("conversation", 0.05), ("group", 0.05), False),
    ],
)
def test_a_champion_that_may_have_trained_on_todays_test_split_is_not_compared(trained, today, compares):
    params = {"clean.split_by": trained[0], "clean.test_share": str(trained[1])}
    overlap = split_overlap(params, {"split_by": today[0], "test_share": today[1]}, 3)
    verdict = judge(GOOD, BAD, 3, GateConfig(), overlap)
    assert verdict.promote == compares
    assert compares or ("may have trained on today's test split" in verdict.reason and verdict.champion == 3)
    assert judge(GOOD, BAD, 3, GateConfig(promote="always"), overlap).promote


def test_a_champion_of_which_no_settings_are_known_is_compared():
    assert split_overlap({}, {"split_by": "group", "test_share": 0.05}, 3) == ""


def test_a_better_score_with_worse_replies_is_refused_and_a_user_can_overrule_it():
    greedy = [(True, False, f"reply {i}") for i in range(200)]
    endless = [(False, *rest) for _, *rest in greedy]
    new = record(1.5, greedy=endless)
    refused = judge(new, quiet(1.6, greedy=greedy), 3, GateConfig())
    assert not refused.promote and refused.gain is not None
    assert refused.reason.startswith(
        "worse replies: of 200 greedy replies to the same contexts, 100% of them instead of 0% were not ended by "
        "the model itself, which is certainly more; the score would be sufficient (1.5000 bits per byte against"
    )
    assert judge(new, quiet(1.6, greedy=greedy), 3, GateConfig(promote="always")).promote
    assert judge(record(1.5, greedy=greedy), quiet(1.6, greedy=greedy), 3, GateConfig()).promote
    assert judge(new, quiet(1.6), 3, GateConfig()).promote, "without replies of the champion"


MEASURED = Noise(
    at="", key="k", recipe="small", corpus="cornell", machine=Machine("cpu", "", "fp32", 1, 2), share=0.1,
    bpb=[1.50, 1.51, 1.52, 1.50, 1.51, 1.52, 1.50, 1.52],
)  # fmt: skip


def test_the_margin_is_the_set_one_else_the_measured_one_else_the_default_and_the_reason_says_which():
    gained = record(1.575), BAD, 3
    by_default = judge(*gained, GateConfig())
    assert by_default.promote and "the default margin (`repartee noise` measures one" in by_default.reason
    assert by_default.margin is not None and by_default.margin.bits == 0.02
    measured = judge(*gained, GateConfig(), noise=MEASURED)
    assert not measured.promote
    assert measured.reason.endswith(
        "and the noise between seeds that `repartee noise` measured (standard deviation 0.0093) requires more "
        "than 0.02619"
    )
    by_setting = judge(*gained, GateConfig(min_gain=0.022), noise=MEASURED)
    assert by_setting.promote and by_setting.reason.endswith("gate.min_gain requires more than 0.022")


def test_a_measured_margin_may_be_smaller_than_the_default():
    small = MEASURED.model_copy(update={"bpb": [1.5000, 1.5004, 1.5008] * 3})
    slightly = record(1.595, differences=[0.0]), quiet(1.6), 3
    assert not judge(*slightly, GateConfig()).promote
    assert judge(*slightly, GateConfig(), noise=small).promote
