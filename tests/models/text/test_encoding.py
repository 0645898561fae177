import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.text import tokenizer
from models.text.config import MarkupConfig
from models.text.encoding import encode_context, encode_conversations
from models.text.tokenizer import END, START, UNK, spelling_nats

TEXTS = ["hello there", "how are you", "fine and you", "i am well"]
WORDS = tokenizer.learn_words(TEXTS, min_count=1)
BPE = tokenizer.learn_bpe(TEXTS, size=280)
SPELLING = tokenizer.learn_spelling(TEXTS)
PAIRS = MarkupConfig(unit="pair", max_tokens=8)


def encode(turns, vocabulary, markup):
    return next(encode_conversations([turns], vocabulary, markup, SPELLING))


@given(turns=st.lists(st.text(min_size=1, max_size=40), min_size=2, max_size=12), limit=st.integers(8, 64))
def test_every_reply_is_scored_exactly_once_and_in_full(turns, limit):
    turns = [text.encode("utf-8", "ignore").decode() or "x" for text in turns]
    markup = MarkupConfig(max_tokens=limit)
    examples = encode(turns, BPE, markup)
    assert sum(example.replies for example in examples) == len(turns) - 1
    assert sum(example.reply_bytes for example in examples) == sum(len(text.encode()) for text in turns[1:])
    for example in examples:
        assert len(example.ids) == len(example.is_reply) <= limit
        ends = [flag for token, flag in zip(example.ids, example.is_reply, strict=True) if token == END]
        assert sum(ends) == example.replies
        assert example.ids[0] == START and not example.is_reply[0]


def test_a_pair_is_context_then_reply_and_only_the_reply_carries_loss():
    """The flags `is_reply` keep the tokens of the context out of the score."""
    first, second = encode(["hello there", "how are you", "i am well"], WORDS, PAIRS)
    text = [WORDS.id_to_token(i) for i in first.ids]
    assert text == ["<start>", "hello", "there", "<end>", "how", "are", "you", "<end>"]
    assert first.is_reply == [False] * 4 + [True] * 4
    assert second.turn == 2


def test_a_long_reply_keeps_its_end_and_a_long_context_its_last_words():
    """A reply must keep its end token when it is cut; a spelling charge covers the text that is cut off."""
    long = "how are you fine and you i am well"
    context_cut, reply_cut = encode([long, "hello", long], WORDS, PAIRS)
    assert WORDS.decode(context_cut.ids) == "fine and you i am well hello"
    assert [WORDS.id_to_token(i) for i in reply_cut.ids[-3:]] == ["and", "you", "<end>"]
    assert reply_cut.spelled_nats == pytest.approx(spelling_nats("i am well", SPELLING))
    assert context_cut.spelled_nats == 0


def test_a_conversation_goes_on_in_a_new_window_with_what_was_said_before_as_context():
    turns = ["how are you", "fine", "and you", "i am well", "hello there", "fine and you"]
    markup = MarkupConfig(max_tokens=16)
    whole, rest = encode(turns, WORDS, markup)
    assert [(whole.turn, whole.replies), (rest.turn, rest.replies)] == [(1, 4), (5, 1)]
    assert [WORDS.id_to_token(i) for i in rest.ids[:4]] == ["<start>", "hello", "there", "<end>"]


def test_a_reply_may_be_three_quarters_of_a_sequence():
    long = "how are you fine and you i am well hello there how are you"
    example = encode([long, long], WORDS, MarkupConfig(max_tokens=16))[0]
    assert len(example.ids) == 16
    assert sum(example.is_reply) == 12


def test_an_unknown_word_of_a_reply_is_charged_and_one_of_the_context_is_not():
    example = encode(["stranger", "hello stranger"], WORDS, PAIRS)[0]
    assert example.ids.count(UNK) == 2
    assert example.spelled_nats == pytest.approx(spelling_nats("stranger", SPELLING))


@given(st.lists(st.text(max_size=60), min_size=1, max_size=20), st.integers(8, 64))
def test_a_context_always_fits_and_ends_with_the_last_turn(turns, limit):
    turns = [text.encode("utf-8", "ignore").decode() for text in turns]
    ids = encode_context(turns, BPE, MarkupConfig(max_tokens=limit))
    assert ids[0] == START and ids[-1] == END
    assert len(ids) < limit


def test_chat_and_training_read_a_conversation_alike():
    """The chat and training use the same code, because a model fails on text encoded in another way."""
    turns = ["hello there", "how are you", "i am well"]
    markup = MarkupConfig(max_tokens=64)
    trained = encode(turns, BPE, markup)[0].ids
    context = encode_context(turns[:2], BPE, markup)
    assert trained[: len(context)] == context


def test_a_word_vocabulary_pays_for_the_blanks_that_it_forgets():
    """`you!` and `you !` have the same ids; without a charge the model would not pay for the difference."""
    texts = ["are you there?", "you , there", "hello!", "hello !", "hello!"]
    words = tokenizer.learn_words(texts, min_count=1)
    spelling = tokenizer.learn_spelling(texts) + tokenizer.learn_blanks(texts)

    def nats(reply, prices=spelling):
        return next(encode_conversations([["hello", reply]], words, PAIRS, prices))[0].spelled_nats

    # Three of the five marks after a word follow without a space; counts start at one, so 4/7 and 3/7.
    assert nats("hello!") == pytest.approx(math.log(7 / 4))
    assert nats("hello !") == pytest.approx(math.log(7 / 3))
    assert nats("are you there") == 0
    assert nats("hello!", spelling[:257]) == pytest.approx(
        math.log(2)
    )  # a vocabulary without prices for spaces


def test_blanks_that_are_always_there_cost_next_to_nothing():
    texts = ["hey , you !"] * 1000
    spelling = tokenizer.learn_spelling(texts) + tokenizer.learn_blanks(texts)
    words = tokenizer.learn_words(texts, min_count=1)
    example = next(encode_conversations([texts[:2]], words, PAIRS, spelling))[0]
    assert 0 < example.spelled_nats < 0.01


def words_of(example):
    return [WORDS.id_to_token(i) for i in example.ids]


def with_system(turns, system, markup, tokenizer=WORDS):
    return next(encode_conversations([turns], tokenizer, markup, SPELLING, systems=[system]))


def test_a_system_text_begins_each_example_and_carries_no_loss():
    turns = ["how are you", "fine", "and you", "i am well", "hello there", "fine and you", *["i am well"] * 4]
    markup = MarkupConfig(max_tokens=32)
    whole, rest = with_system(turns, "you there", markup)
    assert words_of(whole)[:8] == ["<start>", "you", "there", "<end>", "how", "are", "you", "<end>"]
    assert words_of(rest)[:4] == ["<start>", "you", "there", "<end>"]
    for example in (whole, rest):
        assert example.silent == 4 and not any(example.is_reply[:4])
        assert len(example.ids) == len(example.is_reply) <= markup.max_tokens
    assert whole.replies + rest.replies == 9


def test_a_system_text_that_takes_more_than_its_share_is_left_out():
    turns = ["how are you", "fine"]
    markup = MarkupConfig(max_tokens=32)
    assert markup.system_tokens == 4
    [fits] = with_system(turns, "you you you", markup)
    [long] = with_system(turns, "you you you you", markup)
    assert (fits.silent, long.silent) == (5, 0)
    assert long == encode(turns, WORDS, markup)[0] == with_system(turns, "", markup)[0]


def test_pairs_have_the_system_text_before_each_context():
    first, second = with_system(["hello there", "how are you", "i am well"], "fine", PAIRS)
    assert words_of(first)[:6] == ["<start>", "fine", "<end>", "hello", "there", "<end>"]
    assert words_of(second)[:7] == ["<start>", "fine", "<end>", "how", "are", "you", "<end>"]


@given(
    turns=st.lists(st.text(min_size=1, max_size=40), min_size=2, max_size=12),
    system=st.text(max_size=12),
    limit=st.integers(8, 64),
)
def test_with_a_system_text_every_reply_is_scored_once_and_the_chat_reads_the_same_beginning(
    turns, system, limit
):
    turns = [text.encode("utf-8", "ignore").decode() or "x" for text in turns]
    system = system.encode("utf-8", "ignore").decode()
    markup = MarkupConfig(max_tokens=limit)
    examples = with_system(turns, system, markup, BPE)
    assert sum(example.replies for example in examples) == len(turns) - 1
    assert all(len(example.ids) <= limit for example in examples)
    context = encode_context(turns[:1], BPE, markup, system_text=system)
    assert len(context) <= markup.context_tokens
    assert examples[0].ids[: len(context)] == context
