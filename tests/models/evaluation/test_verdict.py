import pytest

from models.evaluation.scorecard import ScoreRecord
from models.evaluation.verdict import GateConfig, judge, split_overlap

GOOD = ScoreRecord(bpb=1.5, normalisation="plain")
BAD = ScoreRecord(bpb=1.6, normalisation="plain")


def test_the_first_model_is_promoted():
    assert judge(BAD, None, 0, GateConfig()).promote


def test_fewer_bits_on_the_same_bytes_win_and_the_reason_gives_both_figures():
    verdict = judge(GOOD, BAD, 3, GateConfig())
    assert verdict.promote
    assert verdict.reason == "1.5000 bits per byte against champion v3's 1.6000 on the same test bytes"


def test_a_verdict_on_a_part_of_the_test_split_says_how_many_replies_that_was():
    verdict = judge(GOOD.model_copy(update={"max_replies": 2000, "replies": 1998}), BAD, 3, GateConfig())
    assert verdict.reason.endswith("on the same test bytes (1,998 replies of the test split)")


def test_an_equal_or_worse_model_is_refused_and_the_champion_stays():
    assert not judge(GOOD, GOOD, 3, GateConfig()).promote
    worse = judge(BAD, GOOD, 3, GateConfig())
    assert not worse.promote
    assert (worse.champion, worse.champion_bpb) == (3, 1.5)


def test_a_gain_below_the_margin_is_refused():
    verdict = judge(GOOD, BAD, 3, GateConfig(min_gain=0.2))
    assert not verdict.promote
    assert "gate.min_gain requires 0.2 fewer" in verdict.reason


def test_bits_of_two_normalisations_are_not_compared():
    verdict = judge(ScoreRecord(bpb=0.5, normalisation="article"), BAD, 3, GateConfig())
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
