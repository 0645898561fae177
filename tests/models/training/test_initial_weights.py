import json
import threading
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from transformers import GraniteConfig, GraniteForCausalLM

from models.data.batches import Batch
from models.data.schemas import EXAMPLES
from models.errors import InputError
from models.network import networks
from models.network.config import NetworkConfig
from models.text import tokenizer
from models.text.config import MarkupConfig
from models.text.encoding import encode_conversations
from models.training import initial_weights, trainer
from models.training.config import TrainConfig
from models.training.run_folder import Run

OLD_WORDS = "abcdefghijklmnop"
SHAPE = {"family": "gpt2", "n_layer": 1, "n_head": 2, "width": 32}


def learn(folder, words):
    folder.mkdir(parents=True)
    learnt = tokenizer.learn_words([" ".join(words)], min_count=1)
    tokenizer.save(learnt, [1.0] * 257, folder)
    return learnt


def export(folder, learnt, letters, rows, split):
    """Write exchanges whose reply repeats the context, so that there is something to learn."""
    rng = np.random.default_rng(len(split))
    said = [" ".join(rng.choice(list(letters), rng.integers(1, 5))) for _ in range(rows)]
    markup = MarkupConfig(unit="pair", max_tokens=16)
    encoded = encode_conversations([[text, text] for text in said], learnt, markup, [1.0] * 257)
    rest = {"conversation_id": "c", "group": "g", "split": split}
    table = pa.Table.from_pylist([{**vars(example), **rest} for (example,) in encoded], EXAMPLES)
    folder.mkdir(exist_ok=True)
    pq.write_table(table, folder / f"{split}.parquet")


def train(folder, words, letters, *, start=None, network=None, max_tokens=16, steps=40):
    learnt = learn(folder / "tokenizer", words)
    for split, rows in (("train", 200), ("validation", 40)):
        export(folder / "examples", learnt, letters, rows, split)
    config = {
        "network": {**SHAPE, **(network or {})},
        "train": {"batch_tokens": 256, "max_steps": steps, "log_every": 5, "learning_rate": 1e-2},
        "markup": {"unit": "pair", "max_tokens": max_tokens},
        "normalisation": "plain",
        "tokenizer": str(folder / "tokenizer"),
        "examples": str(folder / "examples"),
        "start": start and str(start),
    }
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "preflight.json").write_text("{}")  # skips preflight, which has its own tests
    (folder / "precision.json").write_text(json.dumps({"precision": "fp32"}))
    assert trainer.train(folder, threading.Event())
    return folder


def losses(folder):
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [line["loss"] for line in lines if line["kind"] == "step"]


@pytest.fixture(scope="module")
def first(tmp_path_factory):
    torch.set_num_threads(1)
    return train(tmp_path_factory.mktemp("first") / "run", OLD_WORDS, OLD_WORDS, steps=150)


def test_a_warm_start_begins_below_scratch_and_stays_below_over_another_vocabulary(first, tmp_path):
    words, letters = [*OLD_WORDS[2:], "qq", "rr"], OLD_WORDS[2:]
    scratch = losses(train(tmp_path / "scratch", words, letters))
    warm = losses(train(tmp_path / "warm", words, letters, start=first / "model"))
    assert len(warm) == len(scratch) == 8
    assert warm[0] < scratch[0] - 0.5
    assert all(ours < theirs for ours, theirs in zip(warm, scratch, strict=True))


def test_the_summary_tells_the_tokens_kept_new_and_lost(first, tmp_path):
    folder = train(tmp_path / "warm", [*OLD_WORDS[2:], "q"], "abc", start=first / "model", steps=1)
    summary = json.loads((folder / "summary.json").read_text())
    counts = {name: summary[f"start_tokens_{name}"] for name in ("kept", "new", "lost")}
    assert counts == {"kept": 18, "new": 1, "lost": 2}  # four of the kept tokens are control tokens


@pytest.mark.parametrize("family", ["llama", "gpt2", "encoder-decoder"])
def test_rows_go_by_the_tokens_string_and_new_ones_are_means_of_their_pieces(family):
    old, new = (tokenizer.learn_bpe([text], size=270) for text in ("hello hello", "hello there " * 9))
    config = NetworkConfig(**{**SHAPE, "family": family})
    torch.manual_seed(1)
    start, model = (networks.build(config, each.get_vocab_size(), 16) for each in (old, new))
    counts = initial_weights.carry_over(start, old, model, new)
    assert counts["new"] > 0 and counts["kept"] > 256
    had, has = (list(initial_weights._token_tables(each)) for each in (start, model))
    known, now = old.get_vocab(), new.get_vocab()
    for before_VD, after_VD in zip(had, has, strict=True):
        for token, row in now.items():
            text = new.decode([row], skip_special_tokens=False)
            pieces = [known[token]] if token in known else old.encode(text).ids
            torch.testing.assert_close(after_VD[row], before_VD[pieces].mean(0))
    others = dict(start.named_parameters())
    tables = {id(table) for table in has}
    carried = [name for name, weight in model.named_parameters() if id(weight) not in tables]
    assert carried and all(torch.equal(model.get_parameter(name), others[name]) for name in carried)


def test_a_table_that_was_the_head_as_well_is_lent_to_both():
    vocabulary = tokenizer.learn_bpe(["hello there"], size=270)
    torch.manual_seed(1)
    config = NetworkConfig(**{**SHAPE, "family": "llama"})
    start, model = (networks.build(config, vocabulary.get_vocab_size(), 16) for _ in range(2))
    start.config.tie_word_embeddings = True
    start.tie_weights()
    initial_weights.carry_over(start, vocabulary, model, vocabulary)
    table = start.get_input_embeddings().weight
    assert networks.lm_head(start).weight is table
    assert torch.equal(model.get_input_embeddings().weight, table)
    assert torch.equal(networks.lm_head(model).weight, table)
    assert networks.lm_head(model).weight is not model.get_input_embeddings().weight


DECODER = {"family": "encoder-decoder", "n_layer": 1, "n_head": 2, "width": 16}


def test_the_tutorials_decoder_begins_with_the_blocks_of_a_gpt2(pretrained, tmp_path):
    theirs = pretrained(tmp_path / "theirs", family="gpt2", template=None)
    start, known = networks.load(theirs), tokenizer.load(theirs)
    learnt = learn(tmp_path / "words", ["hello", "there", "are", "zz"])
    torch.manual_seed(1)
    fresh, model = (networks.build(NetworkConfig(**DECODER), learnt.get_vocab_size(), 16) for _ in range(2))
    before = {name: weight.clone() for name, weight in model.named_parameters()}
    counts = initial_weights.carry_over(start, known, model, learnt)
    lent = dict(start.named_parameters())
    for name, weight in model.named_parameters():
        if name.startswith("encoder.") or "cross" in name:
            assert torch.equal(weight, before[name]), name
        elif "wte" not in name:
            theirs_ = lent[name.removeprefix("decoder.")]
            torch.testing.assert_close(weight, theirs_[: len(weight)], msg=name)
            assert "ln" in name or "bias" in name or not torch.equal(weight, fresh.get_parameter(name)), name
    table, rows = lent["transformer.wte.weight"], learnt.get_vocab()
    embedding = model.get_parameter("decoder.transformer.wte.weight")
    # To GPT-2 a word without a leading space is part of a longer word, so words are matched with a space.
    for word in ("there", "are", "zz"):
        pieces = known.encode(f" {word}", add_special_tokens=False).ids
        torch.testing.assert_close(embedding[rows[word]], table[pieces].mean(0))
    torch.testing.assert_close(embedding[tokenizer.END], table[known.token_to_id("<|endoftext|>")])
    assert counts["kept"] + counts["new"] == len(rows)


def test_a_training_of_the_tutorials_network_begins_with_a_gpt2_and_learns(pretrained, tmp_path):
    theirs = pretrained(tmp_path / "theirs", family="gpt2", template=None)
    folder = train(tmp_path / "run", OLD_WORDS, OLD_WORDS, start=theirs, network=DECODER, steps=150)
    course = losses(folder)
    assert course[-1] < course[0] - 0.3
    assert (folder / "model" / "model.safetensors").is_file()


def test_a_gpt2_with_more_positions_is_the_start_of_a_shorter_one(pretrained, tmp_path):
    theirs = pretrained(tmp_path / "theirs", family="gpt2", template=None)
    network = {"family": "gpt2", "n_layer": 2, "n_head": 2, "width": 16}
    folder = train(tmp_path / "run", OLD_WORDS, OLD_WORDS, start=theirs, network=network, steps=5)
    assert losses(folder)


@pytest.mark.parametrize(
    ("family", "network", "line"),
    [
        ("llama", {}, "network.family is encoder-decoder, but the initial model has llama"),
        ("gpt2", {"width": 32}, "network.width is 32, but the initial model has 16.* --set network.width=16"),
        ("gpt2", {"n_layer": 3}, "network.n_layer is 3, but the initial model has 2"),
    ],
)
def test_the_tutorials_decoder_takes_no_other_blocks(pretrained, tmp_path, family, network, line):
    template = {} if family == "llama" else {"template": None}
    theirs = pretrained(tmp_path / "theirs", family=family, **template)
    with pytest.raises(InputError, match=line) as message:
        train(tmp_path / "run", OLD_WORDS, "abc", start=theirs, network={**DECODER, **network})
    assert "\n" not in str(message.value)


@pytest.mark.parametrize(
    ("network", "max_tokens", "line"),
    [
        ({"width": 16}, 16, "network.width is 16, but the initial model has 32.* --set network.width=32"),
        (
            {"n_layer": 2, "n_head": 4},
            16,
            "n_layer is 2, but the initial model has 1 and network.n_head is 4",
        ),
        ({"family": "llama"}, 16, "network.family is llama, but the initial model has gpt2"),
        ({}, 32, "markup.max_tokens differs"),
    ],
)
def test_the_error_of_a_start_of_another_shape_names_the_setting_that_differs(
    first, tmp_path, network, max_tokens, line
):
    with pytest.raises(InputError, match=line) as message:
        train(
            tmp_path / "run", OLD_WORDS, "abc", start=first / "model", network=network, max_tokens=max_tokens
        )
    assert "\n" not in str(message.value)


def test_another_start_is_another_training(first, tmp_path):
    run = Run.read(train(tmp_path / "run", OLD_WORDS, "abc", start=first / "model", steps=1))
    other = tmp_path / "other"
    other.mkdir()
    (other / "model.safetensors").write_bytes(b"else")
    assert run.key() != replace(run, start=other).key()


def pretrained_run(folder, start, max_tokens):
    return Run(
        folder=folder,
        network=NetworkConfig(family="pretrained"),
        train=TrainConfig(),
        markup=MarkupConfig(max_tokens=max_tokens),
        normalisation="plain",
        tokenizer=start,
        examples=folder,
        start=start,
    )


def test_a_pretrained_start_is_the_network_to_the_last_weight_without_its_dropout(pretrained, tmp_path):
    start = pretrained(tmp_path / "theirs", family="gpt2")
    model, _ = initial_weights.load_initial_weights(pretrained_run(tmp_path, start, 200))
    given = dict(networks.load(start).named_parameters())
    assert model.training and all(
        torch.equal(weight, given[name]) for name, weight in model.named_parameters()
    )
    batch = Batch(torch.arange(9)[None], torch.arange(9)[None], torch.tensor([9]))
    assert torch.equal(networks.hidden_states(model, batch), networks.hidden_states(model, batch))


def test_a_start_with_too_few_positions_is_refused_with_the_setting(pretrained, tmp_path):
    run = pretrained_run(tmp_path, pretrained(tmp_path / "theirs"), 512)
    with pytest.raises(
        InputError, match=r"needs 512 positions, but the initial model has 256: lower markup.max_tokens"
    ):
        initial_weights.load_initial_weights(run)


def test_a_network_that_scales_its_logits_is_refused(pretrained, tmp_path):
    start = pretrained(tmp_path / "theirs")
    shape = {"num_hidden_layers": 1, "num_attention_heads": 2, "hidden_size": 16, "intermediate_size": 32}
    config = GraniteConfig(vocab_size=300, num_key_value_heads=2, logits_scaling=8.0, **shape)
    network = GraniteForCausalLM(config)
    with torch.no_grad():
        network.get_input_embeddings().weight.mul_(20)
    network.save_pretrained(start)
    with pytest.raises(InputError, match="a granite scales or shifts its logits"):
        initial_weights.load_initial_weights(pretrained_run(tmp_path, start, 200))
