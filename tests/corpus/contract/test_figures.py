import json

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from corpus.cleaning.config import CleanConfig
from corpus.contract import figures as module
from corpus.contract.figures import FIGURES, PARTS, measure, read_figures, write_figures
from corpus.contract.words import count_words, words_of
from corpus.counters import FrequentTexts

CONVERSATIONS = [(f"g{i % 20}", ["Hello there.", "Hi!"] + ["How are you?"] * (i % 3)) for i in range(60)]


def test_conversations_turns_characters_and_words_are_counted(tmp_path, written):
    found = measure(
        written(tmp_path, [("a", ["Hello there.", "Hi!"]), ("b", ["Hi.", "Oh, hi.", "Bye."])]), CleanConfig()
    )
    assert (sum(found.conversations), sum(found.turns), sum(found.words)) == (2, 5, 7)
    assert sum(found.characters) == sum(map(len, ("Hello there.", "Hi!", "Hi.", "Oh, hi.", "Bye.")))
    assert {word: sum(counts) for word, counts in found.word_counts.items()} == {
        "hi": 3,
        "bye": 1,
        "hello": 1,
        "oh": 1,
        "there": 1,
    }
    each = np.array(found.turns_per_conversation).sum(axis=0)
    # 2 = 2 ** (4 / 4), and 2 ** (6 / 4) < 3 < 2 ** (7 / 4)
    assert (each[4], each[6], each.sum()) == (1, 1, 2)


def test_the_figures_do_not_depend_on_how_many_turns_are_read_at_once(tmp_path, monkeypatch, written):
    folder = written(tmp_path, CONVERSATIONS)
    whole = measure(folder, CleanConfig())
    monkeypatch.setattr(module, "BATCH_ROWS", 7)
    assert measure(folder, CleanConfig()) == whole


def test_a_group_is_never_divided_between_parts(tmp_path, written):
    one = [("g", texts) for _, texts in CONVERSATIONS]
    found = measure(written(tmp_path, one), CleanConfig())
    assert sum(n > 0 for n in found.conversations) == 1
    split = measure(written(tmp_path, one), CleanConfig(split_by="conversation"))
    assert sum(n > 0 for n in split.conversations) == PARTS


def test_shares_come_from_the_reports_of_clean_and_parse(tmp_path, written):
    counts = {
        "turns read": 10,
        "turns empty, or empty once cleaned": 2,
        "conversations that repeat another one of the same split": 1,
        "conversations that the test or validation set holds": 1,
    }
    folder = written(tmp_path / "clean", [("a", ["A", "B"]), ("b", ["C", "D"])], counts)
    write_figures(folder, CleanConfig())
    (tmp_path / "parse").mkdir()
    report = {"lines_read": 40, "rejected": {"3 fields, not 4": 3, "not JSON": 1}}
    (tmp_path / "parse" / "report.json").write_text(json.dumps(report))
    found = read_figures(folder, tmp_path / "parse")
    assert (found.empty_turns, found.repeated_conversations, found.rejected_lines) == (0.2, 0.5, 0.1)
    assert FIGURES.startswith("logs/"), "the digest of the output would include the figures"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("Don't STOP, Ann: 3 more!", ["don't", "stop", "ann", "3", "more"]),
        ("Où est l'été?", ["où", "est", "l'été"]),
        ("你好吗 ok", ["你", "好", "吗", "ok"]),
        ("... !", []),
    ],
)
def test_words_are_runs_of_letters_and_digits_and_single_characters_without_spaces(text, words):
    assert [word for word in words_of(pa.array([text]))[0].as_py() if word] == words


@given(st.lists(st.text(st.characters(max_codepoint=127)), min_size=1))
def test_ascii_has_the_words_that_it_has_beside_a_word_that_is_not_ascii(texts):
    found = words_of(pa.array([*texts, *(f"{text} été" for text in texts)])).to_pylist()
    words = [[word for word in each if word] for each in found]
    assert [[*each, "été"] for each in words[: len(texts)]] == words[len(texts) :]


def test_too_many_different_words_cost_the_rarest_and_never_the_total():
    counts = FrequentTexts(limit=10)
    for number in range(100):
        counts.add_counts(count_words(pa.array(["often", "often", f"rare{number}"])))
    assert counts.counts["often"] == 200 and len(counts.counts) <= 20 and counts.total == 300
