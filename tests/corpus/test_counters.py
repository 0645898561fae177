"""Counters whose memory is bounded: exact for little data, honest estimates for much."""

from corpus.cleaning.split import position_of
from corpus.counters import FrequentTexts, HashSample, Lengths


def test_counts_are_exact_while_there_are_few_different_keys():
    sample = HashSample(int.__add__, limit=100)
    for number in range(90):
        sample.add(position_of(f"{number % 30}"), 1)
    assert sample.one_in == 1
    assert set(sample.values.values()) == {3}


def test_with_more_keys_than_fit_the_sample_stays_small_and_the_estimate_near_the_truth():
    sample = HashSample(int.__add__, limit=1000)
    for number in range(60_000):
        sample.add(position_of(f"{number % 20_000}"), 1)
    assert len(sample.values) <= 1000
    assert set(sample.values.values()) == {3}  # a key that is in the sample has been counted from the start
    assert 17_000 < len(sample.values) * sample.one_in < 23_000


def test_a_text_that_is_common_is_found_among_more_different_texts_than_fit():
    texts = FrequentTexts(limit=50)
    for number in range(5000):
        texts.add([f"Unique text {number}."])
        if number % 10 == 0:
            texts.add(["Yes."])
    text, count = texts.most_common(1)[0]
    assert (text, texts.total) == ("Yes.", 5500)
    assert 500 - texts.missed <= count <= 500


def test_a_reply_that_occurs_once_is_not_common():
    texts = FrequentTexts()
    texts.add(["Yes.", "Yes.", "No."])
    assert texts.most_common(10) == [("Yes.", 2)]


def test_quantiles_are_lengths_that_occur_and_the_longest_one_is_exact():
    lengths = Lengths()
    lengths.add(list(range(1, 101)))
    assert (lengths.quantile(0.5), lengths.quantile(0.9), lengths.longest) == (50, 90, 100)
    assert Lengths().quantile(0.5) == 0


def test_many_different_lengths_are_rounded_to_three_digits():
    lengths = Lengths(limit=100)
    lengths.add([5, *range(10_000, 20_001)])
    assert lengths.total == 10_002
    assert (lengths.quantile(0.0), lengths.quantile(0.5), lengths.longest) == (5, 14_900, 20_000)
