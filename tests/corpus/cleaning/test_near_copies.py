"""Near copies are found by the similarity of their word pairs, exactly as a search through all pairs of texts."""

from collections import Counter
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from corpus.arrays import text_array
from corpus.cleaning.near_copies import ELEMENTS_AT_ONCE, FEWEST_WORDS, THRESHOLD, NearCopyIndex
from corpus.cleaning.word_pairs import text_keys, word_pairs


def words_of(text):
    """The words of a text, without the code under test."""
    words, word = [], ""
    for character in text.lower():
        is_chinese = "぀" <= character <= "ヿ" or "㐀" <= character <= "鿿"
        if not is_chinese and (character.isalnum() or character == "'"):
            word += character
            continue
        words += [word, character] if is_chinese else [word]
        word = ""
    return [each for each in [*words, word] if each]


def pairs_of(text):
    words = words_of(text)
    return Counter(pairwise(words))


def similarity(one, other):
    first, second = pairs_of(one), pairs_of(other)
    return (first & second).total() / (first | second).total()


def all_pairs(queries, texts):
    """The matches by brute force."""
    long = [[text for text in each if len(words_of(text)) >= FEWEST_WORDS] for each in (queries, texts)]
    found = {(one, other): similarity(one, other) for one in long[0] for other in long[1]}
    return {pair: value for pair, value in found.items() if value >= THRESHOLD}


def found_pairs(queries, texts, elements_at_once=ELEMENTS_AT_ONCE):
    """The matches of the index."""
    searched, indexed = (word_pairs(text_array(each), FEWEST_WORDS) for each in (queries, texts))
    matches = NearCopyIndex(indexed, elements_at_once=elements_at_once).find(searched)
    return {
        (queries[searched.rows[query]], texts[indexed.rows[twin]]): value
        for query, twin, value in zip(*matches, strict=True)
    }


def test_words_are_runs_of_letters_and_single_chinese_or_japanese_characters():
    texts = [
        "Don't go -- it's 5 o'clock!",
        "Не знаю, что и сказать.",
        "我不知道 OK 吗？",
        "これはペンです",
        "สวัสดีครับ คุณสบายดีไหม",
        "né é́t",
        "",
        "?!",
        "𠀀😀 a",
    ]
    expected = [5, 5, 6, 7, 2, 2, 0, 0, 1]
    for text, number in zip(texts, expected, strict=True):
        found = word_pairs(text_array([text]), 2)
        assert (found.sizes.tolist() == [number - 1]) if number > 1 else not len(found.rows), text


def test_the_words_of_one_text_form_no_pair_with_those_of_the_next():
    both = word_pairs(text_array(["a b", "c d"]).slice(0), 2)
    single = [word_pairs(text_array([text]), 2).hashes for text in ("a b", "c d")]
    assert both.hashes.tolist() == np.concatenate(single).tolist()
    assert word_pairs(text_array(["x y", "a b"]).slice(1), 2).hashes.tolist() == single[0].tolist()


def test_a_key_depends_on_the_text_alone():
    names = ["", "L1", "L2", "1L", "L1/2", "Ф"]
    keys = text_keys(text_array(names))
    assert len(set(keys.tolist())) == len(names)
    assert text_keys(text_array(names).slice(2)).tolist() == keys[2:].tolist()
    assert text_keys(text_array([])).tolist() == []


@pytest.mark.parametrize(
    ("text", "copy"),
    [
        ("I never saw the man before that night.", "I never saw that man before that night."),
        ("Я никогда не видел этого человека до ночи", "Я никогда не видел того человека до ночи"),
        ("我从来没有见过这个人", "我从来没有看过这个人"),
        ("no no no no no no no no", "no no no yes no no no no"),
        ("One, two, three, four; five six seven EIGHT", "one two three four five six seven eight?"),
    ],
)
def test_a_copy_with_one_word_changed_has_a_similarity_of_five_ninths_or_more(text, copy):
    (value,) = found_pairs([copy], [text]).values()
    assert value == pytest.approx(similarity(text, copy))
    assert value >= 5 / 9 - 1e-12


def test_seven_words_are_too_few_to_be_a_near_copy():
    text = "I do not know what you mean."
    assert found_pairs([text], [text]) == {}
    assert len(found_pairs([text + " Really."], [text + " Really."])) == 1


def test_a_text_without_spaces_is_a_few_long_words_in_thai():
    """Eight letters of Thai are two words, so that many replies would share them."""
    assert found_pairs(["สวัสดีครับคุณ"], ["สวัสดีครับคุณ"]) == {}


few_words = st.lists(st.sampled_from(["a", "b", "c", "d", "e", "f", "不", "知"]), max_size=14).map(" ".join)
many_words = st.lists(st.sampled_from([f"w{i}" for i in range(40)]), max_size=40).map(" ".join)
texts = st.lists(few_words | many_words, max_size=12, unique=True)


@given(texts, texts, st.sampled_from([1, 40, ELEMENTS_AT_ONCE]))
def test_the_index_finds_what_a_comparison_of_all_texts_finds(queries, indexed, elements_at_once):
    found = found_pairs(queries, indexed, elements_at_once)
    assert found == pytest.approx(all_pairs(queries, indexed))


@given(st.data())
def test_texts_with_changed_words_are_found_as_by_a_comparison_of_all_texts(data):
    base = data.draw(st.lists(st.sampled_from("abcdefghijklmnop"), min_size=8, max_size=30))
    changed = []
    for _ in range(4):
        words = list(base)
        for _ in range(data.draw(st.integers(0, 5))):
            words[data.draw(st.integers(0, len(words) - 1))] = data.draw(st.sampled_from("abcxyz"))
        changed.append(" ".join(words))
    queries, indexed = list(dict.fromkeys(changed)), [" ".join(base)]
    assert found_pairs(queries, indexed) == pytest.approx(all_pairs(queries, indexed))


def test_what_is_forgotten_is_not_found():
    names = [f"{name} went to the old house by the sea" for name in ("ann", "bob", "eve")]
    texts = word_pairs(text_array(names), FEWEST_WORDS)
    index = NearCopyIndex(texts)
    index.forget(np.array([0, 2]))
    assert index.find(texts).twins.tolist() == [1, 1, 1]
    index.forget(np.array([1]))
    assert index.find(texts).twins.tolist() == []
