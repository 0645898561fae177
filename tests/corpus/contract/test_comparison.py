import random

import numpy as np
import pytest

from corpus.cleaning.config import CleanConfig
from corpus.contract.comparison import compare, too_large
from corpus.contract.divergence import Words, coverage_loss, divergence, word_divergence
from corpus.contract.figures import measure

VOCABULARY = [f"word{i}" for i in range(300)]


def conversations(seed, number=400, words=VOCABULARY, replies=(4, 12)):
    rng = random.Random(seed)

    def text(lengths):
        return " ".join(rng.choices(words, k=rng.randint(*lengths)))

    return [(f"g{i}", [text((4, 12)), text(rng.choice([(4, 12), replies]))]) for i in range(number)]


@pytest.fixture
def figures(tmp_path, written):
    return lambda data, **counts: measure(written(tmp_path, data, counts), CleanConfig())


def names(accepted, new):
    return [each.figure for each in too_large(compare(accepted, new))]


def test_other_conversations_of_the_same_kind_are_accepted(figures):
    accepted = figures(conversations(1))
    assert [names(accepted, figures(conversations(seed))) for seed in range(2, 8)] == [[]] * 6


def test_growth_and_a_loss_of_a_third_are_accepted(figures):
    accepted = figures(conversations(1))
    assert names(accepted, figures(conversations(2, number=2000))) == []
    assert names(accepted, figures(conversations(2, number=267))) == []


def test_the_loss_of_half_of_the_conversations_is_named(figures):
    assert names(figures(conversations(1)), figures(conversations(2, number=200))) == ["conversations"]


def test_half_of_the_replies_shortened_is_named_and_shown(figures):
    accepted, new = figures(conversations(1)), figures(conversations(2, replies=(1, 2)))
    (found,) = too_large(compare(accepted, new))
    assert found.figure == "characters per turn"
    before, now = (float(text.split()[0]) for text in (found.accepted, found.new))
    assert now < before and f"{before} on average before, {now} on average now" in found.text()


def test_a_tenth_in_another_language_is_named_with_its_words(figures):
    other = conversations(3, number=40, words=[f"mot{i}" for i in range(300)])
    found = too_large(compare(figures(conversations(1)), figures(conversations(2, number=360) + other)))
    by_name = {each.figure: each for each in found}
    assert set(by_name) == {"words that are among the 1,000 commonest of the accepted data"} | (
        set(by_name) & {"the 1,000 commonest words"}
    )
    words = {each.figure: each for each in compare(figures(conversations(1)), figures(other))}
    assert "mot" in words["the 1,000 commonest words"].new


def test_a_conversation_that_repeats_and_a_turn_that_is_empty_count_only_if_they_become_more(figures):
    repeated = "conversations that repeat another one of the same split"
    empty = {"turns read": 1000, "turns empty, or empty once cleaned": 100}
    few, many = figures(conversations(1)), figures(conversations(1), **{repeated: 100}, **empty)
    assert set(names(few, many)) == {"repeated conversations", "turns that are empty once cleaned"}
    assert names(many, few) == []


def test_data_of_a_few_conversations_are_not_rejected_for_their_lengths_and_words(figures):
    for seed in range(20):
        accepted, new = figures(conversations(seed, number=6)), figures(conversations(seed + 50, number=7))
        assert names(accepted, new) == []


def test_a_few_conversations_may_have_a_length_that_none_had_before(figures):
    """Lengths that are all equal leave no divergence between the halves of the accepted data."""
    equal = [(f"g{i}", ["One two."] * 4) for i in range(15)]
    some_longer = [(f"g{i}", ["One two."] * (5 if i < 2 else 4)) for i in range(15)]
    assert names(figures(equal), figures(some_longer)) == []
    assert names(figures(equal * 40), figures(some_longer * 40)) == ["turns per conversation"]


def test_the_divergence_is_zero_for_proportional_histograms_and_one_for_disjoint_ones():
    assert divergence(np.array([2, 4, 0]), np.array([1, 2, 0])) == 0
    assert divergence(np.array([3, 0]), np.array([0, 9])) == 1
    assert divergence(np.array([1, 1]), np.array([1, 0])) == pytest.approx(0.3113, abs=1e-4)
    assert divergence(np.array([1, 1]), np.array([0, 0])) == 1


def test_words_that_are_not_on_the_list_count_as_one_word():
    first, second = Words(np.array([5, 5]), 10), Words(np.array([5, 5]), 20)
    assert word_divergence(first, second) == divergence(np.array([5, 5, 0]), np.array([5, 5, 10]))
    assert coverage_loss(first, second) == 0.5
