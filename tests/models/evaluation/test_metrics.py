import math
from typing import Any

import pyarrow as pa
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from models.data.schemas import EXAMPLES
from models.evaluation import metrics
from models.evaluation.metrics import Score
from models.network import networks
from models.network.config import NetworkConfig
from models.text import encoding, tokenizer
from models.text.config import MarkupConfig
from models.text.tokenizer import END, PAD, START, UNK


def network(family: Any, vocabulary: int = 30) -> Any:
    torch.manual_seed(1)
    model = networks.build(NetworkConfig(family=family, n_layer=1, n_head=2, width=16), vocabulary, 64)
    with torch.no_grad():
        for weights in model.parameters():
            weights.mul_(8 if weights.ndim > 1 else 1)  # so that the predictions are far from uniform
    return model


def decoder_only(vocabulary: int = 30) -> Any:
    return network("gpt2", vocabulary)


def encoder_decoder(vocabulary: int = 30) -> Any:
    return network("encoder-decoder", vocabulary)


class Uniform(torch.nn.Module):
    """An output layer that makes all tokens except PAD, START and UNK equally likely."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.bias = torch.zeros(model.config.vocab_size)
        self.bias[[PAD, START, UNK]] = -math.inf

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        return self.bias.expand(*hidden.shape[:-1], -1)


def uniform(vocabulary: int) -> Any:
    model = decoder_only(vocabulary)
    model.set_output_embeddings(Uniform(model))
    return model


def row(ids: list[int], is_reply: list[bool], group: str = "g", **more: Any) -> dict[str, Any]:
    ends = sum(flag and i == END for i, flag in zip(ids, is_reply, strict=True))
    return {
        "ids": ids,
        "is_reply": is_reply,
        "conversation_id": "c",
        "turn": 1,
        "group": group,
        "split": "test",
        "replies": ends,
        "reply_bytes": sum(is_reply) - ends,
        "spelled_nats": 0.0,
        **more,
    }


def table(*rows: dict[str, Any]) -> pa.Table:
    return pa.Table.from_pylist(list(rows), EXAMPLES)


def pair(context: list[int], reply: list[int], group: str = "g") -> dict[str, Any]:
    ids = [START, *context, END, *reply, END]
    return row(ids, [i >= len(context) + 2 for i in range(len(ids))], group)


ROWS = (
    pair([5], [6, 7], "a"),
    pair([8, 9, 10, 11], [12], "b"),
    pair([4, 4], list(range(10, 29)), "a"),
    pair([20, 21, 22], [23, 24], "c"),
)
CONVERSATION = row(
    [START, 5, END, 6, 7, END, 8, END], [False, False, False, True, True, True, True, True], "c"
)


def encoded(conversations: list[list[str]], learnt: Any, spelling: list[float]) -> pa.Table:
    markup = MarkupConfig(max_tokens=64)
    examples = encoding.encode_conversations(conversations, learnt, markup, spelling)
    rows = [{**row([], []), **vars(example)} for each in examples for example in each]
    return pa.Table.from_pylist(rows, EXAMPLES)


def byte_tokenizer() -> Any:
    learnt = tokenizer.learn_bpe([], size=260)
    assert learnt.get_vocab_size() == 260
    return learnt


def test_a_uniform_model_over_bytes_and_end_has_exactly_the_bits_of_hand_counting() -> None:
    examples = encoded([["hi", "caf\u00e9", "no"]], byte_tokenizer(), [1.0] * 257)
    score = metrics.score(uniform(260), examples)
    assert (score.bytes, score.replies, score.tokens) == (5 + 2, 2, 9)
    assert score.nats == pytest.approx(9 * math.log(257), rel=1e-6)
    assert score.bpb == pytest.approx(math.log2(257), rel=1e-6)  # each token is a byte or <end>
    assert score.perplexity == pytest.approx(257, rel=1e-5)


def test_an_unknown_word_is_charged_its_spelling() -> None:
    learnt = tokenizer.learn_words(["yes no yes no"], min_count=1)
    spelling = [2.0] * 256 + [3.0]
    model = uniform(6)
    model.get_output_embeddings().bias[UNK] = 0.0  # with a word vocabulary, a model learns to predict <unk>
    known = metrics.score(model, encoded([["yes", "no"]], learnt, spelling))
    unknown = metrics.score(model, encoded([["yes", "xy"]], learnt, spelling))
    assert unknown.nats == pytest.approx(known.nats)
    assert known.spelled_nats == 0
    assert unknown.spelled_nats == 2 * 2.0 + 3.0
    assert unknown.bpb == pytest.approx((2 * math.log(4 - 1 + 1) + 7) / math.log(2) / 3, rel=1e-6)
    assert unknown.by_group["g"].nats == pytest.approx(unknown.nats + 7)


def test_nats_and_accuracy_are_those_of_the_reply_tokens_alone() -> None:
    """If the score also counted padding or context tokens, it would overstate the model's quality."""
    model = decoder_only().eval()
    nats, correct, tokens = 0.0, 0, 0
    for example in (*ROWS, CONVERSATION):
        with torch.no_grad():
            logits = model(torch.tensor([example["ids"]])).logits[0]
        for i, flag in enumerate(example["is_reply"]):
            if flag:
                nats -= float(F.log_softmax(logits[i - 1], -1)[example["ids"][i]])
                correct += int(logits[i - 1].argmax()) == example["ids"][i]
                tokens += 1
    score = metrics.score(model, table(*ROWS, CONVERSATION))
    assert (score.correct, score.tokens) == (correct, tokens)
    assert score.nats == pytest.approx(nats, rel=1e-5)
    assert score.accuracy == correct / tokens


def test_a_model_that_guesses_pads_right_gains_nothing() -> None:
    """Padding must not count towards the accuracy."""
    model = uniform(30)
    model.get_output_embeddings().bias[PAD] = 50.0
    assert metrics.score(model, table(*ROWS)).accuracy == 0


def test_an_encoder_decoder_is_scored_as_its_own_loss_says() -> None:
    model = encoder_decoder().eval()
    nats = 0.0
    for example in ROWS:
        at = example["is_reply"].index(True)
        reply = torch.tensor([example["ids"][at:]])
        with torch.no_grad():
            out = model(
                input_ids=torch.tensor([example["ids"][:at]]),
                decoder_input_ids=torch.cat([torch.tensor([[START]]), reply[:, :-1]], 1),
            )
        nats += float(F.cross_entropy(out.logits[0], reply[0], reduction="sum"))
    score = metrics.score(model, table(*ROWS))
    assert score.nats == pytest.approx(nats, rel=1e-5)
    assert score.tokens == sum(sum(example["is_reply"]) for example in ROWS)


def test_what_the_encoder_reads_changes_the_score() -> None:
    model = encoder_decoder()
    first = metrics.score(model, table(pair([5, 6, 7], [8])))
    assert metrics.score(model, table(pair([7, 5, 6], [8]))).nats != pytest.approx(first.nats, rel=1e-4)


@pytest.mark.parametrize("family", ["llama", "gpt2", "encoder-decoder"])
@pytest.mark.parametrize("batch_tokens", [1, 12, 50, 4096])
def test_figures_are_sums_over_tokens_whatever_the_batches(family: str, batch_tokens: int) -> None:
    """A mean of the batches' means would give too much weight to batches with few tokens."""
    model = network(family)
    whole = metrics.score(model, table(*ROWS))
    split = metrics.score(model, table(*ROWS), batch_tokens=batch_tokens)
    assert split.nats == pytest.approx(whole.nats, rel=1e-6)
    assert (split.correct, split.tokens) == (whole.correct, whole.tokens)
    alone = [metrics.score(model, table(example)) for example in ROWS]
    assert sum(each.nats for each in alone) == pytest.approx(whole.nats, rel=1e-6)
    mean_of_means = sum(each.nats / each.tokens for each in alone) / len(alone)
    assert math.log(whole.perplexity) != pytest.approx(mean_of_means, rel=1e-4)


def test_the_groups_add_up_to_the_whole() -> None:
    spelled = {**ROWS[1], "spelled_nats": 2.5}
    model = decoder_only()
    score = metrics.score(model, table(ROWS[0], spelled, *ROWS[2:]))
    assert set(score.by_group) == {"a", "b", "c"}
    nats = sum(group.nats for group in score.by_group.values())
    size = sum(group.bytes for group in score.by_group.values())
    assert size == score.bytes + score.replies
    assert nats / math.log(2) / size == pytest.approx(score.bpb)
    alone = metrics.score(model, table(spelled))
    assert score.by_group["b"] == pytest.approx((alone.nats + 2.5, 2), rel=1e-5)


def test_a_sliced_or_chunked_table_is_scored_by_its_own_rows() -> None:
    model = decoder_only()
    chunked = pa.concat_tables([table(*ROWS[:2]), table(*ROWS[2:])])
    assert metrics.score(model, chunked) == metrics.score(model, table(*ROWS))
    assert metrics.score(model, chunked.slice(1, 2)).nats == pytest.approx(
        metrics.score(model, table(*ROWS[1:3])).nats
    )


def test_dropout_is_off_while_scoring_and_the_mode_restored() -> None:
    """With dropout, the score would be random, and worse than the model's true score."""
    config = NetworkConfig(family="gpt2", n_layer=1, n_head=2, width=16, dropout=0.5)
    model: Any = networks.build(config, 30, 64)
    model.train()
    assert metrics.score(model, table(*ROWS)) == metrics.score(model, table(*ROWS))
    assert model.training


def test_nothing_to_score_is_an_error_that_says_so() -> None:
    for examples in (table(), table(row([START, 5, END], [False] * 3))):
        with pytest.raises(ValueError, match="no example contains a reply"):
            metrics.score(decoder_only(), examples)


def test_the_figures_of_a_score_are_quotients_of_its_sums() -> None:
    score = Score(
        nats=8 * math.log(2),
        correct=3,
        tokens=4,
        bytes=7,
        replies=1,
        spelled_nats=8 * math.log(2),
        by_group={},
    )
    assert score.bpb == pytest.approx(2)
    assert score.perplexity == pytest.approx(4)
    assert score.accuracy == 0.75


def test_the_majority_guess_is_learnt_on_train_and_judged_on_test() -> None:
    assert metrics.majority_accuracy({END: 5, 7: 9}, {END: 6, 7: 2}) == 0.25
    assert (
        metrics.majority_accuracy({END: 5, 7: 5}, {7: 2}) == 0
    )  # if two ids are equally common, the lower one is guessed
    assert metrics.majority_accuracy({9: 5}, {7: 2}) == 0


def test_distinct_n_counts_each_n_gram_once() -> None:
    assert metrics.distinct_n([[1, 2, 1, 2]], 1) == 0.5
    assert metrics.distinct_n([[1, 2, 1, 2], [1, 2]], 2) == 0.5
    assert metrics.distinct_n([[1]], 2) == 0


@pytest.mark.parametrize(
    ("reply", "loops"),
    [
        ([5, 6, 7, 8], False),
        ([5, 5, 6, 6], False),
        ([5, 5, 5], True),
        ([9, 5, 6, 7, 8, 5, 6, 7], False),
        ([5, 6, 7, 8, 9, 5, 6, 7, 8], True),
        ([5, 6, 5, 6, 5, 6], True),
        ([], False),
    ],
)
def test_a_reply_loops_when_it_says_four_tokens_twice_or_one_thrice_in_a_row(
    reply: list[int], loops: bool
) -> None:
    assert metrics.repetition([reply]) == loops


def test_shares_of_replies() -> None:
    assert metrics.repetition([[5, 5, 5], [5], [6], [7]]) == 0.25
    assert metrics.stopped_share([True, False]) == 0.5
    assert metrics.commonest_reply_share(["yes", "no", "yes", "hm"]) == 0.5
    assert metrics.repetition([]) == metrics.stopped_share([]) == metrics.commonest_reply_share([]) == 0


@settings(max_examples=50)
@given(st.lists(st.lists(st.integers(4, 9), max_size=12), max_size=6), st.integers(1, 4))
def test_shares_are_shares(replies: list[list[int]], n: int) -> None:
    assert 0 <= metrics.distinct_n(replies, n) <= 1
    assert 0 <= metrics.repetition(replies) <= 1
