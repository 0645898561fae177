"""The initial weights of a training run: random, or copied from an earlier model (a warm start).

The suffix of a tensor's name gives its shape: B batch, T tokens, V vocabulary.
"""

import logging
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, cast

import torch
import torch.nn.functional as F
from tokenizers import Tokenizer
from torch import Tensor, nn
from transformers import PreTrainedModel

from models.data.batches import Batch
from models.errors import InputError
from models.network import lora, networks
from models.text import tokenizer
from models.training.run_folder import Run

log = logging.getLogger(__name__)

SPACE = "Ġ"  # how a byte-level vocabulary writes the space before a word
END_OF_TEXT = "<|endoftext|>"  # the only special token of GPT-2
OWN_FAMILIES = {"llama", "gpt2"}  # decoder-only families that Repartee builds itself

# The settings that determine a network's shapes, and their names in the configs of transformers.
SHAPES = {"n_layer": "num_hidden_layers", "n_head": "num_attention_heads", "width": "hidden_size"}


def load_initial_weights(run: Run) -> tuple[PreTrainedModel, dict[str, int]]:
    """Return the run's network in training mode, and the token counts of a warm start.

    The keys of the counts are "kept", "new" and "lost"; without a warm start, there are no counts.

    Raises:
        InputError: the initial model cannot be read, its shapes are not those of the run's network, or
            adapters are configured for a network that is not pretrained.
    """
    vocabulary = tokenizer.load(run.tokenizer)
    if run.network.family == "pretrained":
        model = _pretrained(run)
        if run.train.lora_rank:
            lora.add_adapters(model, run.train.lora_rank)
        return model, {}
    if run.train.lora_rank:
        both = f"train.lora_rank is {run.train.lora_rank} and network.family is {run.network.family}"
        raise InputError(
            f"{both}, but adapters need a pretrained network; "
            "give --set train.lora_rank=0, or --recipe finetune"
        )
    model = networks.build(run.network, vocabulary.get_vocab_size(), run.positions())
    if run.start is None:
        return model, {}
    start = networks.load(run.start)
    _check_shapes(start, model)
    counts = carry_over(start, tokenizer.load(run.start), model, vocabulary)
    log.info("start: %s", ", ".join(f"{count:,} tokens {name}" for name, count in counts.items()))
    return model, counts


def carry_over(
    start: PreTrainedModel, start_tokenizer: Tokenizer, model: PreTrainedModel, vocabulary: Tokenizer
) -> dict[str, int]:
    """Copy the weights of `start` to `model`; embedding rows are matched by their tokens' strings.

    If the vocabulary of `start` lacks a token, the token's text is split into tokens of that vocabulary, and
    the mean of their embeddings becomes the token's initial embedding. Returns the counts of kept, new and
    lost tokens.
    """
    pieces_of, counts = _pieces(start_tokenizer, vocabulary)
    tables = {id(table) for table in _token_tables(model)}
    # A tied table is listed under both names, because `model` may have two tables where `start` has one.
    weights = dict(start.named_parameters(remove_duplicate=False))
    names = _counterparts(start, model)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name not in names:
                continue  # weights that `start` lacks stay random
            weight = weights[names[name]]
            if id(parameter) in tables:
                parameter.copy_(mean_rows(weight, pieces_of))
            else:
                parameter.copy_(weight[: len(parameter)])  # `start` may have more positions than `model`
    return counts


def mean_rows(table: Tensor, pieces_of: dict[int, list[int]]) -> Tensor:
    """A table with a row for each id: the mean of the rows of the id's pieces in `table`."""
    return torch.stack([table[pieces_of[row]].mean(dim=0) for row in range(len(pieces_of))])


def token_rows(run: Run, model: PreTrainedModel) -> tuple[dict[int, list[int]], set[str]]:
    """The pieces of each id in the vocabulary of the initial model, and the names of the token tables."""
    assert run.start is not None
    pieces_of, _ = _pieces(tokenizer.load(run.start), tokenizer.load(run.tokenizer))
    tables = {id(table) for table in _token_tables(model)}
    return pieces_of, {name for name, parameter in model.named_parameters() if id(parameter) in tables}


def _counterparts(start: PreTrainedModel, model: PreTrainedModel) -> dict[str, str]:
    """Map the names of the weights of `model` to those of `start`; weights that `start` lacks are left out.

    A GPT-2 `start` has all weights of an encoder-decoder's decoder except those of the cross-attention.
    """
    names = [name for name, _ in model.named_parameters()]
    if networks.is_encoder_decoder(start) == networks.is_encoder_decoder(model):
        return {name: name for name in names}
    own = [name for name in names if name.startswith("decoder.") and "cross" not in name]
    return {name: name.removeprefix("decoder.") for name in own}


def _pieces(start_tokenizer: Tokenizer, vocabulary: Tokenizer) -> tuple[dict[int, list[int]], dict[str, int]]:
    """Return the pieces of each id, and the counts of kept, new and lost tokens.

    The pieces of an id are ids in the initial model's vocabulary; their mean embedding initialises the id's.
    """
    ids, vocab = start_tokenizer.get_vocab(), vocabulary.get_vocab()
    unknown = ids.get(tokenizer.CONTROL[tokenizer.UNK], ids.get(END_OF_TEXT, 0))
    # A word in a word-level vocabulary corresponds to the same word with a leading space in byte-level BPE.
    before = SPACE if _has_spaces(ids) and not _has_spaces(vocab) else ""
    pieces_of: dict[int, list[int]] = {}
    num_shared = 0
    for token, row in vocab.items():
        is_control = token in tokenizer.CONTROL
        spelled = token if is_control else before + token
        if spelled in ids:
            pieces_of[row] = [ids[spelled]]
            num_shared += 1
            continue
        text = (" " if before else "") + vocabulary.decode([row], skip_special_tokens=False)
        pieces = [] if is_control else start_tokenizer.encode(text, add_special_tokens=False).ids
        # A token whose text yields no pieces is initialised like the initial model's unknown token.
        pieces_of[row] = [piece for piece in pieces if piece != unknown] or [unknown]
    return pieces_of, {"kept": num_shared, "new": len(pieces_of) - num_shared, "lost": len(ids) - num_shared}


def _has_spaces(tokens: Iterable[str]) -> bool:
    return any(len(token) > 1 and token.startswith(SPACE) for token in tokens)


def _token_tables(model: PreTrainedModel) -> Iterator[Tensor]:
    network: Any = model
    parts = (network.encoder, network.decoder) if networks.is_encoder_decoder(model) else (network,)
    for part in parts:
        yield part.get_input_embeddings().weight
    yield networks.lm_head(model).weight


def _check_shapes(start: PreTrainedModel, model: PreTrainedModel) -> None:
    had, wanted = (_settings(each) for each in (start, model))
    lends = networks.is_encoder_decoder(model) and start.config.model_type == "gpt2"
    if lends:  # GPT-2's first blocks initialise the decoder's blocks
        had["network.family"] = wanted["network.family"]
        had["network.n_layer"] = min(had["network.n_layer"], wanted["network.n_layer"])
    differ = [name for name in wanted if had[name] != wanted[name]]
    if differ:
        message = " and ".join(
            f"{name} is {wanted[name]}, but the initial model has {had[name]}" for name in differ
        )
        advice = " ".join(f"--set {name}={had[name]}" for name in differ)
        if had["network.family"] not in {wanted["network.family"], *OWN_FAMILIES}:
            advice = "--recipe finetune, which trains any network"
        raise InputError(f"{message}: a warm start needs the same network; give {advice}, or --init scratch")
    tables = {id(table) for table in _token_tables(model)}
    shapes = {name: weight.shape for name, weight in start.named_parameters()}
    names = _counterparts(start, model)
    for name, parameter in model.named_parameters():
        if id(parameter) in tables or name not in names:
            continue
        is_positional = "position" in name or "wpe" in name
        shape = shapes.get(names[name])
        if is_positional and shape and shape[0] >= len(parameter):
            shape = parameter.shape
        if shape != parameter.shape:
            setting = "markup.max_tokens differs" if is_positional else "no setting makes it fit"
            remedy = "--init scratch, or --recipe finetune for a pretrained model"
            raise InputError(f"the initial model's {name} has a different shape ({setting}); give {remedy}")


def _settings(model: PreTrainedModel) -> dict[str, Any]:
    config: Any = model.config.decoder if networks.is_encoder_decoder(model) else model.config
    shapes = {f"network.{name}": getattr(config, theirs) for name, theirs in SHAPES.items()}
    return {"network.family": model.config.model_type, **shapes}


def _pretrained(run: Run) -> PreTrainedModel:
    """The initial model's network, unchanged except for the run's dropout."""
    if run.start is None:
        raise InputError("network.family is pretrained, but there is no initial model; give one with --init")
    model = networks.load(run.start)
    config: Any = model.config
    positions = getattr(config, "max_position_embeddings", run.positions())
    if positions < run.positions():
        raise InputError(
            f"markup.max_tokens needs {run.positions()} positions, but the initial model has {positions}: "
            "lower markup.max_tokens"
        )
    _check_head(model, run.start)
    _set_dropout(model, run.network.dropout)
    special_tokens = tokenizer.load_special_tokens(run.tokenizer)
    generation: Any = model.generation_config
    generation.update(eos_token_id=special_tokens.end, pad_token_id=special_tokens.end)
    return cast(PreTrainedModel, model.train())


@torch.no_grad()
def _check_head(model: PreTrainedModel, folder: Path) -> None:
    """Refuse a network whose logits are not the product of its hidden states and its output embedding."""
    network: Any = model
    ids_BT = torch.arange(min(8, networks.lm_head(model).out_features))[None]
    batch = Batch(ids_BT, ids_BT, torch.tensor([ids_BT.shape[1]]))
    ours_BTV = F.linear(networks.hidden_states(model, batch), networks.lm_head(model).weight)
    if not torch.allclose(network(input_ids=ids_BT).logits, ours_BTV, atol=1e-2, rtol=1e-2):
        raise InputError(
            f"{folder}: a {model.config.model_type} scales or shifts its logits, which is not supported; "
            "give another model with --init"
        )


def _set_dropout(model: PreTrainedModel, share: float) -> None:
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = share
        for name in ("attention_dropout", "dropout"):
            if isinstance(getattr(module, name, None), float):
                setattr(module, name, share)
    for name in ("attention_dropout", "attn_pdrop", "embd_pdrop", "resid_pdrop"):
        if hasattr(model.config, name):
            setattr(model.config, name, share)
