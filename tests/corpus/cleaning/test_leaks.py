"""What the training split shares with scored replies leaves it, and each removal names its twin."""

import json
import random
from collections import Counter, defaultdict
from itertools import pairwise

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from corpus.cleaning.clean import clean_turns
from corpus.cleaning.config import CleanConfig, MixConfig
from corpus.cleaning.removals import COMMON
from corpus.cleaning.split import split_of
from models.data.schemas import LEAKS, TURNS
from models.errors import DataRejected

PLAIN = CleanConfig()
SPLITS = ("train", "validation", "test")
GROUPS = {split: [f"m{i}" for i in range(400) if split_of(f"m{i}", PLAIN) == split][:15] for split in SPLITS}
LONG = "I never saw the man before that night."
CHANGED = "I never saw that man before that night."
TWICE_CHANGED = "I never saw that man before last night."


def conversation(name, group, *texts, weights=None):
    return [
        {
            "conversation_id": name,
            "turn": i,
            "speaker": f"u{i % 2}",
            "text": text,
            "group": group,
            "role": "",
            "weight": 1.0 if weights is None else weights[i],
        }
        for i, text in enumerate(texts)
    ]


def in_split(split, *texts, number=0, name="", weights=None):
    return conversation(name or f"{split}{number}", GROUPS[split][number], *texts, weights=weights)


FILLING = [
    row
    for split in SPLITS
    for row in in_split(split, f"Is it {split}?", f"Yes, {split}.", number=14, name=f"filling-{split}")
]
"""A conversation for each split, because none may be empty."""


class Result:
    """What the stage has written."""

    def __init__(self, folder, turns, config=PLAIN, filling=FILLING):
        out = folder / "out"
        out.mkdir(exist_ok=True)
        pq.write_table(pa.Table.from_pylist([*turns, *filling], TURNS), folder / "turns.parquet")
        clean_turns(out, config, folder)
        self.leaks = pq.read_table(out / "leaks.parquet", schema=LEAKS).to_pylist()
        self.report = json.loads((out / "report.json").read_text())
        self.counts = self.report["counts"]
        self.turns = pq.read_table(out / "turns.parquet").to_pylist()
        self.conversations = {split: defaultdict(list) for split in SPLITS}
        for turn in self.turns:
            if not turn["conversation_id"].startswith("filling"):
                self.conversations[turn["split"]][turn["conversation_id"]].append(turn["text"])


def test_a_planted_near_copy_leaves_the_training_split_and_names_its_twin(tmp_path):
    found = Result(
        tmp_path,
        [
            *in_split("train", "Who?", "Him.", CHANGED, "Go on.", "No."),
            *in_split("test", "Did you know him?", LONG),
        ],
    )
    assert found.conversations["train"] == {"train0": ["Who?", "Him."], "train0~2": ["Go on.", "No."]}
    assert found.conversations["test"] == {"test0": ["Did you know him?", LONG]}
    assert found.leaks == [
        {
            "conversation_id": "train0",
            "turn": 2,
            "split": "train",
            "text": CHANGED,
            "cause": "near copy",
            "similarity": pytest.approx(5 / 9),
            "twin_conversation_id": "test0",
            "twin_turn": 1,
            "twin_split": "test",
            "twin_text": LONG,
        }
    ]
    assert found.counts["training turns removed as near copies of scored replies"] == 1
    assert found.report["conversations"] == {"train": 3, "validation": 1, "test": 2}
    assert [row["turn"] for row in found.turns if row["conversation_id"] == "train0~2"] == [0, 1]


def test_of_an_exchange_with_a_short_reply_both_turns_stay_apart(tmp_path):
    found = Result(
        tmp_path,
        [
            *in_split("train", "Hello.", "Where to?", "The station.", "Fine.", "Bye."),
            *in_split("test", "Where to?", "The station."),
        ],
    )
    assert found.conversations["train"] == {
        "train0": ["Hello.", "Where to?"],
        "train0~2": ["The station.", "Fine.", "Bye."],
    }
    (leak,) = found.leaks
    assert (leak["cause"], leak["similarity"], leak["twin_text"]) == ("exact exchange", 1.0, "The station.")
    assert found.counts["training exchanges divided because the same exchange is scored"] == 1


def test_a_short_reply_alone_is_never_a_leak(tmp_path):
    turns = [
        *in_split("train", "Why did he go?", "I don't know."),
        *in_split("validation", "Who is that?", "I don't know."),
        *in_split("test", "Where is she?", "I don't know."),
    ]
    found = Result(tmp_path, turns)
    assert found.leaks == []
    assert len(found.turns) == 12


def test_ten_thousand_different_replies_of_one_to_four_words_all_stay(tmp_path):
    rng = random.Random(1)
    words = [f"{a}{b}" for a in "bdfgklmnprst" for b in ("a", "e", "i", "o", "u", "an", "el")]
    replies = set()
    while len(replies) < 10_000:
        replies.add(" ".join(rng.choices(words, k=rng.randint(1, 4))))
    turns = [
        row
        for i, reply in enumerate(sorted(replies))
        for row in conversation(f"c{i}", f"m{i % 200}", f"Question {i}?", reply)
    ]
    found = Result(tmp_path, turns)
    assert found.leaks == []
    assert len(found.turns) == len(turns) + 6


def test_a_context_turn_of_the_test_split_is_not_scored_and_so_no_twin(tmp_path):
    found = Result(
        tmp_path,
        [
            *in_split("train", "Who?", LONG),
            *in_split("test", LONG, "Really?"),
            *in_split("test", "And?", CHANGED, "Right.", number=1, weights=[0.0, 0.0, 1.0]),
        ],
    )
    assert found.leaks == []


def test_the_first_turn_of_a_training_conversation_may_be_a_leak(tmp_path):
    """With `train.context_loss`, the trainer learns every turn."""
    found = Result(
        tmp_path, [*in_split("train", LONG, "Really?", "Yes."), *in_split("test", "And?", CHANGED)]
    )
    assert found.conversations["train"] == {"train0": ["Really?", "Yes."]}


def test_a_validation_reply_in_the_test_split_is_context_only(tmp_path):
    found = Result(
        tmp_path,
        [
            *in_split("validation", "Who?", LONG, "Where to?", "The station.", "Fine."),
            *in_split("test", "And?", CHANGED),
            *in_split("test", "Where to?", "The station.", number=1),
        ],
    )
    own = [row for row in found.turns if row["conversation_id"] == "validation0"]
    assert [row["weight"] for row in own] == [1.0, 0.0, 1.0, 0.0, 1.0]
    assert [row["text"] for row in own] == ["Who?", LONG, "Where to?", "The station.", "Fine."]
    assert {leak["cause"] for leak in found.leaks} == {"near copy", "exact exchange"}
    assert found.counts["validation replies not scored because the test set holds them"] == 2


def test_a_copy_of_a_copy_stays_if_it_does_not_resemble_the_original(tmp_path):
    """The validation reply leaves, so the training turn that resembles only this reply leaks nothing."""
    first = "one two three four five six seven eight nine ten"
    second = "one two three four five six seven red blue green"
    third = "black white grey four five six seven red blue green"
    turns = [
        *in_split("test", "Count.", first),
        *in_split("validation", "Count!", second),
        *in_split("train", "Count?", third),
    ]
    found = Result(tmp_path, turns)
    assert [(leak["conversation_id"], leak["twin_conversation_id"]) for leak in found.leaks] == [
        ("validation0", "test0")
    ]
    without_test = Result(tmp_path, turns[2:])
    assert [(leak["conversation_id"], leak["twin_conversation_id"]) for leak in without_test.leaks] == [
        ("train0", "validation0")
    ]


def test_a_formula_that_recurs_in_three_other_conversations_stays(tmp_path):
    greeting = ("Hello.", "Hello! What can I do for you on this fine day?")
    test_turns = in_split("test", *greeting, "Bread.")
    for conversations, number_of_leaks in ((2, 2), (3, 0)):
        train = [
            row
            for number in range(conversations)
            for row in in_split("train", *greeting, f"Item {number}.", name=f"t{number}")
        ]
        found = Result(tmp_path, [*train, *test_turns])
        assert len(found.leaks) == number_of_leaks, conversations
        assert found.counts.get(COMMON, 0) == (1 if conversations == 3 else 0)


def test_a_template_whose_words_change_from_conversation_to_conversation_stays(tmp_path):
    def said(item, room):
        return "Where is it?", f"I left the {item} in the {room}, behind the door."

    turns = in_split("test", *said("hammer", "barn"))
    for number, words in enumerate([("violin", "barn"), ("hammer", "attic"), ("ladder", "barn")]):
        turns += in_split("train", *said(*words), name=f"t{number}", number=number)
    assert Result(tmp_path, turns).leaks == []


def test_the_most_similar_twin_is_named_and_of_equal_ones_that_of_the_test_split(tmp_path):
    train = in_split("train", "Who?", LONG)
    turns = train + in_split("validation", "And?", LONG.upper()) + in_split("test", "So?", CHANGED)
    assert [leak["twin_split"] for leak in Result(tmp_path, turns).leaks if leak["split"] == "train"] == [
        "test"
    ]
    turns = train + in_split("test", "So?", CHANGED) + in_split("test", "Well?", LONG + "..", number=1)
    assert [leak["twin_conversation_id"] for leak in Result(tmp_path, turns).leaks] == ["test1"]


def test_copies_of_a_conversation_for_the_weight_of_its_source_lose_the_same_turns(tmp_path):
    turns = [*in_split("train", "Who?", "Him.", CHANGED, "Go on.", "No."), *in_split("test", "And?", LONG)]
    found = Result(tmp_path, turns, MixConfig(weights={"a": 2}))
    assert set(found.conversations["train"]) == {"train0", "train0~2", "train0#2", "train0~2#2"}
    assert len(found.leaks) == 1
    assert found.counts["turns with no neighbour left"] == 0


def test_a_validation_split_of_nothing_but_leaks_is_refused(tmp_path):
    filling = [row for row in FILLING if row["group"] not in GROUPS["validation"]]
    turns = [
        *in_split("validation", "Go.", "Where to?", "Home."),
        *in_split("test", "Go.", "Where to?", "Home.", "Now?"),
    ]
    with pytest.raises(DataRejected, match="the validation split has no reply left"):
        Result(tmp_path, turns, filling=filling)


def test_a_training_split_of_nothing_but_leaks_is_refused(tmp_path):
    filling = [row for row in FILLING if row["group"] not in GROUPS["train"]]
    turns = [*in_split("train", "Who?", CHANGED), *in_split("test", "And?", LONG)]
    with pytest.raises(DataRejected, match="the train split has no reply left"):
        Result(tmp_path, turns, filling=filling)


# Few texts, so that many of them are equal or similar: a chain in which each resembles its neighbours.
CHAIN = [" ".join(f"{'new' if i < start else 'old'}{i}" for i in range(9)) for start in range(0, 9, 2)]
texts = st.sampled_from(["go on", "no", "我", "go on no x y go on no x", *CHAIN])
conversations = st.lists(
    st.tuples(
        st.sampled_from((*SPLITS, "train", "train")),
        st.integers(0, 3),
        st.lists(texts, min_size=2, max_size=4),
    ),
    max_size=25,
)


def corpus_of(said):
    return [
        in_split(split, *turns, number=group, name=f"c{i}") for i, (split, group, turns) in enumerate(said)
    ]


def outcome(folder, corpus):
    """All that the stage decides, or the error; the turns in an order that does not depend on the input."""
    try:
        found = Result(folder, [row for rows in corpus for row in rows])
    except DataRejected as error:
        return str(error)
    turns = sorted(found.turns, key=lambda row: (row["conversation_id"], row["turn"]))
    return turns, found.leaks, found.report


@settings(max_examples=60)
@given(conversations, st.randoms(use_true_random=False))
def test_the_order_in_which_conversations_arrive_does_not_matter(tmp_path_factory, said, rng):
    folder, corpus = tmp_path_factory.mktemp("order"), corpus_of(said)
    first = outcome(folder, corpus)
    rng.shuffle(corpus)
    assert outcome(folder, corpus) == first


@settings(max_examples=60)
@given(conversations, conversations)
def test_new_conversations_move_nothing_to_another_split(tmp_path_factory, old, new):
    folder, splits = tmp_path_factory.mktemp("grown"), []
    for corpus in (corpus_of(old), corpus_of([*old, *new])):
        result = outcome(folder, corpus)
        turns = result[0] if isinstance(result, tuple) else []
        splits.append({row["conversation_id"].partition("~")[0]: row["split"] for row in turns})
    before, after = splits
    assert all(before[name] == after[name] for name in before.keys() & after.keys())


@settings(max_examples=100)
@given(conversations)
def test_a_comparison_of_all_turns_gives_the_same_leaks(tmp_path_factory, said):
    corpus = corpus_of({tuple(each[2]): each for each in said}.values())
    result = outcome(tmp_path_factory.mktemp("all"), corpus)
    if isinstance(result, str):
        return
    leaks = {(leak["conversation_id"], leak["turn"]): leak for leak in result[1]}
    assert set(leaks) == leaks_by_brute_force(corpus)
    for leak in leaks.values():
        if leak["cause"] == "near copy":
            assert leak["similarity"] == pytest.approx(similarity(leak["text"], leak["twin_text"]))
            assert leak["similarity"] >= 0.5
        else:
            assert (leak["text"], leak["similarity"]) == (leak["twin_text"], 1)
    scored = {(row["conversation_id"], row["turn"]) for row in result[0] if row["weight"]}
    assert {(leak["twin_conversation_id"], leak["twin_turn"]) for leak in leaks.values()} <= scored


def similarity(one, other):
    """The Jaccard similarity of the word pairs; 0 if one of the texts has fewer than eight words."""
    if min(len(one.split()), len(other.split())) < 8:
        return 0
    first, second = (Counter(pairwise(text.split())) for text in (one, other))
    return (first & second).total() / (first | second).total()


def leaks_by_brute_force(corpus):
    """The conversation and turn of each leak, by comparing each turn with each scored reply."""
    turns = [
        (row, (rows[i - 1]["text"] if i else None, row["text"]), split_of(row["group"], PLAIN))
        for rows in corpus
        for i, row in enumerate(rows)
    ]
    scored = [(each, exchange, split) for each, exchange, split in turns if split != "train" and each["turn"]]

    def copies(exchange, scored_exchange):
        """Whether an exchange is equal to another one, and whether its reply is a near copy."""
        yield exchange == scored_exchange
        yield similarity(exchange[1], scored_exchange[1]) >= 0.5

    def is_leak(exchange, scored_exchange):
        kinds = zip(copies(exchange, scored_exchange), is_common[scored_exchange], strict=True)
        return any(is_copy and not common for is_copy, common in kinds)

    searched_turns = [each for each in turns if each[2] == "train"] + scored
    is_common = {}
    for row, own, _ in scored:
        found = [{row["conversation_id"]}, {row["conversation_id"]}]
        for other, exchange, _ in searched_turns:
            for kind, is_copy in zip(found, copies(exchange, own), strict=True):
                kind.update([other["conversation_id"]] if is_copy else [])
        is_common[own] = [len(each) > 3 for each in found]
    leaks = set()
    for searched, twin_splits in (("validation", ["test"]), ("train", ["test", "validation"])):
        twins = {
            exchange
            for row, exchange, split in scored
            if split in twin_splits and (row["conversation_id"], row["turn"]) not in leaks
        }
        leaks |= {
            (row["conversation_id"], row["turn"])
            for row, exchange, split in (scored if searched == "validation" else turns)
            if split == searched and any(is_leak(exchange, twin) for twin in twins)
        }
    return leaks
