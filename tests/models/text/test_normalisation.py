import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.text.normalisation import display, normalise


@given(st.text(), st.sampled_from(["plain", "article"]))
def test_what_is_normalised_does_not_change_again(text, form):
    once = normalise(text, form)
    assert normalise(once, form) == once


@given(st.text())
def test_the_article_keeps_lower_case_letters_and_four_marks_alone(text):
    assert set(normalise(text, "article")) <= set("abcdefghijklmnopqrstuvwxyz.,!? ")


@given(st.text(st.characters(max_codepoint=127)), st.sampled_from(["plain", "article"]))
def test_ascii_is_normalised_as_beside_a_letter_that_is_not_ascii(text, form):
    beside = normalise(f"{text} ñ", form)
    assert beside.removesuffix("ñ" if form == "plain" else "n").rstrip() == normalise(text, form)


@pytest.mark.parametrize(
    ("torn", "word"),
    [("we'll", "well"), ("i'll", "ill"), ("we're", "were"), ("she'll", "shell"), ("i'd", "id")],
)
def test_a_contraction_never_becomes_another_word(torn, word):
    """If apostrophes were simply removed, `we'll` would become `well`."""
    assert normalise(torn, "article") != normalise(word, "article")
    assert display(normalise(torn, "article"), "article") == torn


def test_a_word_torn_at_its_apostrophe_is_mended():
    assert normalise("I can ' t go.", "plain") == "I can't go."
    assert normalise("We ' ll see.", "plain") == "We'll see."


def test_plain_keeps_case_and_marks_and_takes_markup_out():
    assert (
        normalise("  <u>Really</u>?  I said  &quot;NO&quot; &emdash; twice. ", "plain")
        == 'Really ? I said "NO" -- twice.'
    )


def test_angle_brackets_that_are_text_stay():
    assert normalise("<breathing> <me>?", "plain") == "<breathing> <me>?"


def test_windows_punctuation_and_control_characters_are_tidied():
    assert normalise("It\u2019s\x85fine\u2026", "plain") == "It's fine..."


def test_accents_go_before_the_letters_do():
    assert normalise("Café, Noël!", "article") == "cafe , noel !"


def test_display_puts_marks_back_to_their_words():
    assert display("hello , how are you ? i m fine .", "article") == "hello, how are you? i'm fine."
