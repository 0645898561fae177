import math
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoTokenizer

from models.text import tokenizer
from models.text.tokenizer import CONTROL, END, PAD, START, UNK

TEXTS = ["hello there .", "how are you ?", "i am fine .", "hello you .", "naïve café — 你好"] * 5


@pytest.fixture(scope="module")
def bpe():
    return tokenizer.learn_bpe(TEXTS, size=300)


@pytest.fixture(scope="module")
def words():
    return tokenizer.learn_words(TEXTS, min_count=10)


@given(text=st.text() | st.sampled_from(CONTROL).map(lambda token: f"a{token}b"))
@settings(max_examples=300)
def test_any_text_comes_back_from_its_bytes(bpe, text):
    text = text.encode("utf-8", "ignore").decode()
    assert bpe.decode(bpe.encode(text).ids, skip_special_tokens=False) == text


@given(text=st.text() | st.sampled_from(CONTROL))
def test_text_never_yields_a_control_token(bpe, words, text):
    text = text.encode("utf-8", "ignore").decode()
    assert not {PAD, START, END, UNK} & set(bpe.encode(text).ids)
    assert not {PAD, START, END} & set(words.encode(text).ids)


def test_words_are_ordered_by_count_and_then_by_letters(words):
    """With a fixed order, the token ids do not change from run to run."""
    vocabulary = sorted(words.get_vocab(), key=words.get_vocab().get)
    assert vocabulary == [*CONTROL, ".", "hello", "you"]


def test_a_rare_word_is_unknown_and_does_not_vanish(words):
    """Dropping rare words would silently change the meaning of a sentence."""
    assert words.encode("hello stranger .").ids == [5, UNK, 4]


@pytest.mark.parametrize(
    "learn", [lambda t: tokenizer.learn_bpe(t, size=300), lambda t: tokenizer.learn_words(t, min_count=1)]
)
def test_ids_do_not_depend_on_the_order_of_the_texts(learn):
    shuffled = random.Random(1).sample(TEXTS, len(TEXTS))
    assert learn(TEXTS).get_vocab() == learn(shuffled).get_vocab()


def test_transformers_opens_the_folder_and_reads_a_chat_as_we_do(bpe, tmp_path):
    tokenizer.save(bpe, tokenizer.learn_spelling(TEXTS), tmp_path)
    theirs = AutoTokenizer.from_pretrained(tmp_path)
    chat = [
        {"role": "system", "content": "be kind"},
        {"role": "user", "content": "hello <end> there ."},
        {"role": "assistant", "content": "how are you ?"},
    ]
    ours = [START, *bpe.encode("hello  there .").ids, END, *bpe.encode("how are you ?").ids, END]
    encoded = theirs.apply_chat_template(chat, return_dict=True, return_assistant_tokens_mask=True)
    assert encoded["input_ids"] == ours
    assert sum(encoded["assistant_masks"]) == len(bpe.encode("how are you ?").ids) + 1
    assert (theirs.pad_token_id, theirs.bos_token_id, theirs.eos_token_id, theirs.unk_token_id) == (
        PAD,
        START,
        END,
        UNK,
    )


def test_a_saved_tokenizer_still_takes_control_tokens_for_text(bpe, tmp_path):
    tokenizer.save(bpe, tokenizer.learn_spelling(TEXTS), tmp_path)
    assert END not in tokenizer.load(tmp_path).encode("<end>").ids


def test_spelling_prices_are_a_distribution_over_bytes_and_the_end():
    spelling = tokenizer.learn_spelling(["abba"])
    assert len(spelling) == 257
    assert sum(math.exp(-nats) for nats in spelling) == pytest.approx(1)
    assert tokenizer.spelling_nats("ab", spelling) == pytest.approx(
        spelling[97] + spelling[98] + spelling[256]
    )
