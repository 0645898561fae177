import math
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from models.errors import InputError
from models.generation.config import GenerationConfig
from models.generation.generator import NUM_CANDIDATES, Generator, Reply, _pick, evaluating
from models.network import networks
from models.network.config import NetworkConfig
from models.text.tokenizer import END, PAD, START, UNK, SpecialTokens

VOCABULARY, POSITIONS = 40, 24
CONTEXTS = [[1, 5, 2], [1, 6, 7, 8, 2], [1, 9, 2, 10, 11, 2], [1, *range(4, 18), 2], [1, 12, 13, 2]]
NO_REPETITION_RULES = {"repetition_penalty": 1.0, "no_repeat_ngram": 0}
GREEDY = GenerationConfig(temperature=0, max_tokens=12)


def tiny_model(family: Any, vocabulary: int = VOCABULARY) -> Any:
    torch.manual_seed(7)
    model = networks.build(NetworkConfig(family=family, n_layer=2, n_head=2, width=16), vocabulary, POSITIONS)
    with torch.no_grad():
        for weights in model.parameters():
            weights.mul_(20 if weights.ndim > 1 else 1)  # far from uniform, so that the greedy ids vary
    return model.train(False)


FAMILIES = ("llama", "gpt2", "encoder-decoder")


@pytest.fixture(scope="module", params=FAMILIES)
def model(request: pytest.FixtureRequest) -> Any:
    return tiny_model(request.param)


@pytest.fixture
def llama() -> Any:
    return tiny_model("llama")


def greedy_by_transformers(model: Any, context: list[int], **knobs: Any) -> list[int]:
    generated: list[int] = model.generate(
        torch.tensor([context]),
        attention_mask=torch.ones(1, len(context), dtype=torch.long),
        do_sample=False,
        max_new_tokens=8,
        min_new_tokens=1,
        suppress_tokens=[PAD, START, UNK],
        bos_token_id=START,
        eos_token_id=END,
        pad_token_id=PAD,
        decoder_start_token_id=START,
        **knobs,
    )[0].tolist()
    return generated[1:] if model.config.is_encoder_decoder else generated[len(context) :]


def test_greedy_ids_are_those_of_transformers_generate_with_the_same_bans(model: Any) -> None:
    generator = Generator(model)
    for context in CONTEXTS:
        expected = greedy_by_transformers(model, context)
        reply = generator.reply(context, GenerationConfig(temperature=0, max_tokens=8))
        assert reply.ids == [i for i in expected if i != END]
        assert reply.finished == (END in expected)


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        ({"repetition_penalty": 1.8}, {"repetition_penalty": 1.8}),
        ({"repetition_penalty": 0.4}, {"repetition_penalty": 0.4}),
        ({"no_repeat_ngram": 1}, {"no_repeat_ngram_size": 1}),
        ({"no_repeat_ngram": 2}, {"no_repeat_ngram_size": 2}),
        (
            {"repetition_penalty": 1.3, "no_repeat_ngram": 3},
            {"repetition_penalty": 1.3, "no_repeat_ngram_size": 3},
        ),
    ],
)
def test_greedy_ids_with_repetition_held_down_are_those_of_transformers(
    model: Any, ours: dict[str, Any], theirs: dict[str, Any]
) -> None:
    contexts = [*CONTEXTS, [1, 7, 8, 7, 8, 7, 8, 2, 7, 2]]
    config = GenerationConfig(temperature=0, max_tokens=8, **ours)
    expected = [greedy_by_transformers(model, context, **theirs) for context in contexts]
    replies = Generator(model).replies(contexts, config)
    assert [reply.ids for reply in replies] == [[i for i in ids if i not in (END, PAD)] for ids in expected]
    without_rules = Generator(model).replies(contexts, config.model_copy(update=NO_REPETITION_RULES))
    assert replies != without_rules or "no_repeat_ngram" in ours


def test_a_reply_repeats_no_pair_of_tokens_where_that_is_forbidden(model: Any) -> None:
    config = GenerationConfig(temperature=0.5, max_tokens=16, seed=0, no_repeat_ngram=2)
    reply = Generator(model).reply(CONTEXTS[0], config)
    pairs = list(zip(reply.ids, reply.ids[1:], strict=False))
    assert len(pairs) == len(set(pairs)) > 1


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_where_every_token_would_be_a_repetition_the_reply_is_still_not_empty(temperature: float) -> None:
    small = POSITIONS - 4
    config = GenerationConfig(temperature=temperature, max_tokens=4, no_repeat_ngram=1, seed=0)
    reply = Generator(tiny_model("llama", small)).reply([1, 2, *range(4, small)], config)
    assert reply.ids
    assert not {PAD, START, END, UNK} & set(reply.ids)


def test_top_k_keeps_so_many_of_the_likeliest_tokens() -> None:
    logits = torch.log(torch.tensor([[0.3, 0.15, 0.5, 0.05]]))
    rngs = [torch.Generator().manual_seed(0)]

    def drawn(**knobs: Any) -> list[int]:
        config = GenerationConfig(temperature=1.0, **knobs)
        return [_pick(logits, config, rngs)[0] for _ in range(600)]

    assert set(drawn(top_k=1, top_p=1.0)) == {2}
    two = drawn(top_k=2, top_p=1.0)
    assert set(two) == {0, 2}
    assert two.count(2) / 600 == pytest.approx(0.625, abs=0.07)
    assert set(drawn(top_k=9, top_p=1.0)) == {0, 1, 2, 3}
    # As in transformers, top_p applies to the probabilities of the tokens that top_k has kept.
    assert set(drawn(top_k=2, top_p=0.6)) == {2}


def test_of_many_tokens_the_same_are_drawn_whether_a_few_or_all_are_sorted() -> None:
    logits = 3 * torch.randn(1, 3000, generator=torch.Generator().manual_seed(0))
    config = GenerationConfig(temperature=0.7, top_p=0.9)
    shares = (logits / 0.7).softmax(-1)[0]
    assert shares.topk(NUM_CANDIDATES).values.sum() > 0.9  # otherwise all tokens are sorted
    allowed, order = 0.0, []
    for token in shares.argsort(descending=True).tolist():
        if allowed >= 0.9:
            break
        allowed += float(shares[token])
        order.append(token)
    drawn = [_pick(logits, config, [torch.Generator().manual_seed(i)])[0] for i in range(300)]
    upto = shares[order].cumsum(0)
    for i, token in enumerate(drawn):
        chance = float(torch.rand(1, generator=torch.Generator().manual_seed(i)))
        assert token == order[int(torch.searchsorted(upto, chance * float(upto[-1]), right=True))]


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_a_batch_gives_the_same_replies_as_one_by_one(model: Any, temperature: float) -> None:
    generator = Generator(model)
    config = GenerationConfig(temperature=temperature, top_p=0.95, max_tokens=16, seed=3)
    one_by_one = [
        generator.reply(context, config.model_copy(update={"seed": 3 + i}))
        for i, context in enumerate(CONTEXTS)
    ]
    assert generator.replies(CONTEXTS, config) == one_by_one


def test_a_batch_gives_the_same_replies_with_every_knob_turned(model: Any) -> None:
    knobs = {"top_k": 5, "repetition_penalty": 1.4, "no_repeat_ngram": 2}
    config = GenerationConfig(temperature=1.5, max_tokens=16, seed=3, **knobs)
    one_by_one = [
        Generator(model).reply(context, config.model_copy(update={"seed": 3 + i}))
        for i, context in enumerate(CONTEXTS)
    ]
    assert Generator(model).replies(CONTEXTS, config) == one_by_one
    assert list(Generator(model).stream(CONTEXTS[0], config)) == one_by_one[0].ids


def test_a_stream_yields_the_ids_of_the_reply_without_its_end(model: Any) -> None:
    generator = Generator(model)
    config = GenerationConfig(temperature=1.0, max_tokens=16, seed=1)
    assert list(generator.stream(CONTEXTS[1], config)) == generator.reply(CONTEXTS[1], config).ids


def test_the_encoder_runs_once_per_reply_and_not_per_token() -> None:
    model = tiny_model("encoder-decoder")
    calls: list[int] = []
    model.encoder.register_forward_hook(lambda *_: calls.append(1))
    reply = Generator(model).reply(CONTEXTS[0], GREEDY)
    assert len(reply.ids) > 1
    assert len(calls) == 1


def test_a_decoder_reads_the_context_once_and_then_one_token_a_step(llama: Any) -> None:
    widths: list[int] = []
    llama.model.embed_tokens.register_forward_hook(lambda _m, inputs, _out: widths.append(inputs[0].shape[1]))
    reply = Generator(llama).reply(CONTEXTS[1], GREEDY)
    assert widths[0] == len(CONTEXTS[1])
    assert set(widths[1:]) == {1}
    assert len(widths) == len(reply.ids) + reply.finished


def test_the_same_seed_gives_the_same_reply_and_no_seed_a_new_one(model: Any) -> None:
    generator = Generator(model)
    seeded = GenerationConfig(temperature=1.5, top_p=1.0, max_tokens=12, seed=11)
    assert generator.reply(CONTEXTS[0], seeded) == generator.reply(CONTEXTS[0], seeded)
    unseeded = seeded.model_copy(update={"seed": None})
    assert len({tuple(generator.reply(CONTEXTS[0], unseeded).ids) for _ in range(6)}) > 1


def test_a_generator_that_is_handed_in_goes_on_from_reply_to_reply(llama: Any) -> None:
    config = GenerationConfig(temperature=1.5, top_p=1.0, max_tokens=12, seed=0)
    rngs = torch.Generator().manual_seed(5)
    first, second = (Generator(llama).reply(CONTEXTS[0], config, rngs) for _ in range(2))
    again = torch.Generator().manual_seed(5)
    assert [Generator(llama).reply(CONTEXTS[0], config, again) for _ in range(2)] == [first, second]
    assert first != second


@pytest.mark.parametrize("temperature", [-0.1, math.nan, math.inf])
def test_a_temperature_that_means_nothing_is_refused(llama: Any, temperature: float) -> None:
    config = GenerationConfig.model_construct(temperature=temperature, top_p=0.9, max_tokens=5, seed=0)
    with pytest.raises(InputError, match="temperature"):
        Generator(llama).reply(CONTEXTS[0], config)


@pytest.mark.parametrize("temperature", [1e-300, 1e-6, 1e-3])
def test_a_temperature_near_zero_takes_the_likeliest_tokens(llama: Any, temperature: float) -> None:
    cold = GenerationConfig(temperature=temperature, max_tokens=12, seed=0)
    assert Generator(llama).reply(CONTEXTS[0], cold) == Generator(llama).reply(CONTEXTS[0], GREEDY)


@settings(max_examples=25)
@given(seed=st.integers(0, 2**32), temperature=st.floats(0, 50), top_p=st.floats(0.01, 1))
def test_no_reply_is_empty_or_holds_a_control_token(seed: int, temperature: float, top_p: float) -> None:
    config = GenerationConfig(temperature=temperature, top_p=top_p, max_tokens=6, seed=seed)
    reply = Generator(eager_to_end()).reply(CONTEXTS[0], config)
    assert reply.ids
    assert not {PAD, START, END, UNK} & set(reply.ids)


def eager_to_end() -> Any:
    """A model whose most likely tokens are by far the control tokens, whatever the context."""
    model = tiny_model("llama")
    bias = torch.zeros(VOCABULARY)
    bias[[PAD, START, UNK]], bias[END] = 30.0, 20.0
    with torch.no_grad():
        for name, weights in model.named_parameters():
            weights.fill_(1.0 if weights.ndim == 1 or "embed" in name else 0.0)
    model.lm_head.weight = torch.nn.Parameter((bias[:, None] / 16).repeat(1, 16))
    return model


def test_a_reply_ends_at_the_end_token_which_is_not_part_of_it() -> None:
    assert Generator(eager_to_end()).reply(CONTEXTS[0], GREEDY) == Reply([4], True)


def test_a_reply_that_reaches_the_limit_says_that_it_did_not_end(model: Any) -> None:
    reply = Generator(model).reply(CONTEXTS[0], GenerationConfig(temperature=0, max_tokens=1))
    assert len(reply.ids) == 1
    assert not reply.finished


def test_a_reply_never_outgrows_the_positions(model: Any) -> None:
    model_without_end = Generator(model)
    full = [1, *[5] * (POSITIONS - 2), 2]
    long = GenerationConfig(temperature=1.0, top_p=1.0, max_tokens=500, seed=0)
    reply, short = model_without_end.replies([full, CONTEXTS[0]], long)
    available = POSITIONS if model_without_end.has_encoder else 1
    assert len(reply.ids) <= available
    assert len(short.ids) <= POSITIONS
    assert reply.finished or len(reply.ids) == available


def test_a_context_longer_than_the_positions_is_refused(model: Any) -> None:
    with pytest.raises(InputError, match="24 at most"):
        Generator(model).reply([5] * (POSITIONS + 1), GREEDY)


def test_logits_that_are_not_numbers_are_an_error_that_says_so(llama: Any) -> None:
    with torch.no_grad():
        llama.lm_head.weight[9] = math.nan
    with pytest.raises(FloatingPointError, match="not finite"):
        Generator(llama).reply(CONTEXTS[0], GREEDY)


def test_dropout_is_off_in_a_reply_and_the_mode_restored_after_it() -> None:
    torch.manual_seed(0)
    config = NetworkConfig(family="gpt2", n_layer=1, n_head=2, width=16, dropout=0.5)
    model: Any = networks.build(config, VOCABULARY, POSITIONS)
    generator = Generator(model)
    calls: list[bool] = []
    model.transformer.register_forward_hook(lambda module, *_: calls.append(module.training))
    assert generator.reply(CONTEXTS[0], GREEDY) == generator.reply(CONTEXTS[0], GREEDY)
    stream: Any = generator.stream(CONTEXTS[0], GREEDY)
    next(stream)
    stream.close()  # as when the user presses Ctrl-C
    assert model.training
    assert not any(calls)
    model.eval()
    with evaluating(model):
        pass
    assert not model.training


def test_no_gradient_is_kept(llama: Any) -> None:
    calls: list[bool] = []
    llama.model.embed_tokens.register_forward_hook(lambda _m, _i, out: calls.append(out.requires_grad))
    Generator(llama).reply(CONTEXTS[0], GREEDY)
    assert not any(calls)
    assert torch.is_grad_enabled()


def test_top_p_keeps_the_likeliest_tokens_that_hold_it_together() -> None:
    logits = torch.log(torch.tensor([[0.5, 0.3, 0.15, 0.05]]))
    rngs = [torch.Generator().manual_seed(0)]

    def drawn(top_p: float) -> set[int]:
        config = GenerationConfig(temperature=1.0, top_p=top_p)
        return {_pick(logits, config, rngs)[0] for _ in range(300)}

    assert drawn(0.4) == {0}
    assert drawn(0.6) == {0, 1}
    assert drawn(0.9) == {0, 1, 2}
    assert drawn(1.0) == {0, 1, 2, 3}


def test_tokens_are_drawn_as_often_as_they_are_likely() -> None:
    shares = [0.6, 0.3, 0.1]
    rngs = [torch.Generator().manual_seed(i) for i in range(4000)]
    logits = torch.log(torch.tensor([shares])).expand(4000, -1)
    drawn = _pick(logits, GenerationConfig(temperature=1.0, top_p=1.0), rngs)
    for token, share in enumerate(shares):
        assert drawn.count(token) / 4000 == pytest.approx(share, abs=0.03)


def test_no_context_gives_no_reply(llama: Any) -> None:
    assert Generator(llama).replies([], GREEDY) == []


def test_id_zero_is_text_and_two_may_be_an_end_where_the_vocabulary_says_so() -> None:
    """Any id may be an ordinary token, so a finished row must not be recognised by the id that fills it."""
    free = SpecialTokens(end=END, unknown=None, banned=(START, UNK))
    config = GenerationConfig(temperature=0, max_tokens=4)
    contexts = [[5, 0], [5] * (POSITIONS - 1), [0]]
    replies = Generator(eager_to_end(), free).replies(contexts, config)
    assert replies == [Reply([PAD] * 4, False), Reply([PAD] * 2, False), Reply([PAD] * 4, False)]
