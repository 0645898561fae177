import ast
import random
import re
from itertools import islice

import pytest

from corpus.sample import generator
from corpus.sample.topics import SCRIPTS

CONVERSATIONS = list(islice(generator.conversations(turns=10**9, seed=7), 3000))


@pytest.mark.parametrize("seed", range(3))
def test_every_reply_that_the_grammar_generates_it_also_accepts(seed):
    for conversation in islice(generator.conversations(turns=10**9, seed=seed), 200):
        for i in range(1, len(conversation.lines)):
            assert generator.is_valid_reply(conversation.lines[:i], conversation.lines[i]), (
                conversation.lines[: i + 1]
            )


def test_a_reply_from_another_conversation_is_almost_always_refused():
    rng = random.Random(0)
    accepted = 0
    for conversation in CONVERSATIONS[:500]:
        other = rng.choice(CONVERSATIONS).lines
        accepted += generator.is_valid_reply(conversation.lines[:1], other[rng.randrange(1, len(other), 2)])
    assert accepted <= 25


@pytest.mark.parametrize(
    ("context", "good", "bad"),
    [
        (["My name is Anna."], "Nice to meet you, Anna.", "Nice to meet you, Ben."),
        (["What is two plus three?"], "Two plus three is five.", "Two plus three is six."),
        (["I live in Rome.", "Is it nice in Rome?", "Yes, it is lovely.", "I would like to see Rome.", "Where do I live?"], "You live in Rome.", "You live in Paris."),
        (["Do you like beer?", "No, I do not like beer.", "Really?"], "Yes, really. I never eat beer.", "Yes, really. I love beer."),
        (["What is the capital of Peru?"], "The capital of Peru is Lima.", "The capital of Peru is Rome."),
        (["What day comes after Sunday?"], "After Sunday comes Monday.", ""),
    ],
)  # fmt: skip
def test_wrong_names_sums_and_forgotten_facts_are_refused(context, good, bad):
    assert generator.is_valid_reply(context, good)
    assert not generator.is_valid_reply(context, bad)


def test_case_and_blanks_do_not_matter():
    assert generator.is_valid_reply(["my name is anna ."], " nice to meet you , anna . ")


def test_the_sample_has_enough_topics_conversations_and_turns():
    assert len({script.topic for script in SCRIPTS}) >= 25
    assert len({conversation.lines for conversation in CONVERSATIONS}) >= 1500
    assert max(len(conversation.lines) for conversation in CONVERSATIONS) == 8


def test_the_files_are_in_the_raw_cornell_layout_and_the_same_each_time(tmp_path):
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        written = generator.write_corpus(tmp_path / name, turns=1000, seed=5)
        assert 1000 <= written < 1008
    for file in ("movie_lines.txt", "movie_conversations.txt"):
        assert (tmp_path / "one" / file).read_bytes() == (tmp_path / "two" / file).read_bytes()
    lines = (tmp_path / "one" / "movie_lines.txt").read_text().splitlines()
    assert len(lines) == written
    assert all(
        re.fullmatch(
            r"L\d+ \+\+\+\$\+\+\+ u\d+ \+\+\+\$\+\+\+ m\d+ \+\+\+\$\+\+\+ U\d+ \+\+\+\$\+\+\+ .+", line
        )
        for line in lines
    )
    order = (tmp_path / "one" / "movie_conversations.txt").read_text().splitlines()
    conversations = [ast.literal_eval(line.split(" +++$+++ ")[3]) for line in order]
    assert sorted(i for ids in conversations for i in ids) == sorted(line.split(" ")[0] for line in lines)
