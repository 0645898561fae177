"""A model whose replies have clearly become worse than the champion's fails the guard that names the reason."""

import random

import pytest

from models.evaluation.guards import ERROR, compare_replies, failure, holm


def replies(count=200, *, seed=0, unended=0.1, looping=0.05, common=0.1, several=0.1):
    """Replies that each have these properties with these probabilities."""
    rng = random.Random(seed)
    found = []
    for number in range(count):
        text = f"reply {number}"
        if rng.random() < several:
            text = f"one of ten: {rng.randrange(10)}"
        if rng.random() < common:
            text = "I do not know."
        found.append((rng.random() >= unended, rng.random() < looping, text))
    return found


CHAMPION = replies()


def names(new):
    return [guard.name for guard in compare_replies(new, CHAMPION) if not guard.holds]


@pytest.mark.parametrize(
    ("damage", "guard"),
    [
        ({"unended": 0.9}, "were not ended by the model itself"),
        ({"unended": 1.0}, "were not ended by the model itself"),
        ({"looping": 0.5}, "repeat themselves"),
        ({"several": 0.8}, "were given to several contexts"),
    ],
)
def test_a_damage_fails_the_guard_that_names_it_and_no_other(damage, guard):
    assert names(replies(seed=1, **damage)) == [guard]


def test_a_model_with_one_reply_to_every_context_fails_by_its_commonest_reply():
    assert "equal the commonest reply" in names(replies(seed=1, common=1.0))


@pytest.mark.parametrize("share", [0.1, 0.5])
@pytest.mark.parametrize("count", [20, 200])
def test_a_model_of_the_same_quality_fails_in_at_most_one_draw_of_twenty(share, count):
    shares = {"unended": share, "looping": share, "common": share, "several": share}
    draws = [(replies(count, seed=i, **shares), replies(count, seed=i + 1000, **shares)) for i in range(400)]
    failed = [new for new, old in draws if failure(compare_replies(new, old))]
    assert len(failed) / 400 <= ERROR


def test_a_quarter_more_replies_without_an_end_is_found_in_nearly_every_draw():
    draws = [(replies(seed=i, unended=0.1 + 0.25), replies(seed=i + 1000)) for i in range(200)]
    found = [new for new, old in draws if failure(compare_replies(new, old))]
    assert len(found) / 200 > 0.95


def test_replies_that_are_better_in_everything_pass():
    perfect = [(True, False, f"reply {i}") for i in range(200)]
    assert compare_replies(perfect, CHAMPION) and names(perfect) == []


def test_equal_replies_pass_even_if_all_of_them_have_the_property():
    same = [(False, True, "no")] * 200
    assert failure(compare_replies(same, same)) == ""


@pytest.mark.parametrize("count", [0, 1, 19])
def test_too_few_replies_are_not_compared(count):
    assert compare_replies(replies(count), replies(count)) == []


def test_other_contexts_are_not_compared():
    assert compare_replies(replies(200), replies(199)) == []


def test_a_failure_gives_both_shares():
    new, old = [(False, False, f"{i}") for i in range(100)], [(True, False, f"{i}") for i in range(100)]
    assert (
        failure(compare_replies(new, old)) == "100% of them instead of 0% were not ended by the model itself"
    )


def test_holm_compares_the_smallest_probability_with_the_smallest_limit_and_stops_at_the_first_failure():
    assert holm([0.04, 0.01, 0.02]) == [True, True, True]
    assert holm([0.04, 0.02, 0.02]) == [False, False, False]
    assert holm([0.06, 0.01, 0.02]) == [False, True, True]
