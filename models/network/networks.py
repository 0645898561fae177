"""Builds, loads and saves networks, which are instances of transformers classes, and runs their forward pass.

The suffix of a tensor's name gives its shape: B batch, T tokens, S tokens of the context, D width, V
vocabulary.
"""

import json
import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import torch
import torch.nn.functional as F
from safetensors import SafetensorError
from torch import Tensor, nn
from transformers import (
    AutoModelForCausalLM,
    BertConfig,
    EncoderDecoderConfig,
    EncoderDecoderModel,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedModel,
)
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES
from transformers.utils import SAFE_WEIGHTS_INDEX_NAME, SAFE_WEIGHTS_NAME
from transformers.utils import logging as hf_logging

from models.data.batches import Batch
from models.errors import InputError
from models.network import lora
from models.network.config import NetworkConfig
from models.network.llama import cpu_block
from models.text.tokenizer import END, PAD, START

CLASSES: dict[str, type[PreTrainedModel]] = {
    "llama": LlamaForCausalLM,
    "gpt2": GPT2LMHeadModel,
    "encoder-decoder": EncoderDecoderModel,
}
CONTROL_IDS: dict[str, Any] = {"bos_token_id": START, "eos_token_id": END, "pad_token_id": PAD}


def build(config: NetworkConfig, vocab_size: int, max_positions: int) -> PreTrainedModel:
    """Build a network in training mode, with random weights from torch's default generator."""
    if config.family == "llama":
        model: PreTrainedModel = LlamaForCausalLM(_llama(config, vocab_size, max_positions))
    elif config.family == "gpt2":
        model = GPT2LMHeadModel(_gpt2(config, vocab_size, max_positions))
    else:
        model = _encoder_decoder(config, vocab_size, max_positions)
    _scale_residuals(model, config.n_layer)
    cast(Any, model).generation_config.update(**CONTROL_IDS)
    model.train()
    return model


def _llama(config: NetworkConfig, vocab_size: int, max_positions: int) -> LlamaConfig:
    return LlamaConfig(
        vocab_size=vocab_size,
        hidden_size=config.width,
        # SwiGLU's three matrices of this width cost as much as two matrices of 4 times the network's width
        # (https://arxiv.org/abs/2002.05202).
        intermediate_size=32 * math.ceil(config.width * 8 / 3 / 32),
        num_hidden_layers=config.n_layer,
        num_attention_heads=config.n_head,
        max_position_embeddings=max_positions,
        # An untied output embedding costs no extra operations and makes the loss fall faster (docs/log.md).
        tie_word_embeddings=False,
        attention_dropout=config.dropout,
        **CONTROL_IDS,
    )


def _gpt2(config: NetworkConfig, vocab_size: int, max_positions: int, **extra: Any) -> GPT2Config:
    return GPT2Config(
        vocab_size=vocab_size,
        n_positions=max_positions,
        n_embd=config.width,
        n_layer=config.n_layer,
        n_head=config.n_head,
        resid_pdrop=config.dropout,
        embd_pdrop=config.dropout,
        attn_pdrop=config.dropout,
        **CONTROL_IDS,
        **extra,
    )


def _encoder_decoder(config: NetworkConfig, vocab_size: int, max_positions: int) -> PreTrainedModel:
    """Build a BERT encoder that reads the whole context, and GPT-2 blocks that attend to the encoder."""
    encoder = BertConfig(
        vocab_size=vocab_size,
        hidden_size=config.width,
        num_hidden_layers=config.n_layer,
        num_attention_heads=config.n_head,
        intermediate_size=4 * config.width,
        max_position_embeddings=max_positions,
        hidden_dropout_prob=config.dropout,
        attention_probs_dropout_prob=config.dropout,
        pad_token_id=PAD,
    )
    decoder = _gpt2(config, vocab_size, max_positions, add_cross_attention=True, is_decoder=True)
    both = EncoderDecoderConfig.from_encoder_decoder_configs(encoder, decoder)
    # The encoder and the decoder share no embedding. The decoder's input and output embeddings are tied.
    cast(Any, both).update({"decoder_start_token_id": START, "tie_word_embeddings": False, **CONTROL_IDS})
    model = EncoderDecoderModel(config=both)
    cast(Any, model).generation_config.update(decoder_start_token_id=START)
    return _without_pooler(model)


def _without_pooler(model: PreTrainedModel) -> PreTrainedModel:
    """Remove the encoder's pooler, which is only needed for classification."""
    cast(Any, model).encoder.pooler = None
    return model


def _scale_residuals(model: PreTrainedModel, n_layer: int) -> None:
    """Scale the projections into the residual stream, two per block, by 1 / sqrt(2 n_layer).

    The scale is from section 2.3 of the GPT-2 paper, "Language Models are Unsupervised Multitask Learners":
    https://cdn.openai.com/better-language-models/language_models_are_unsupervised_multitask_learners.pdf
    """
    for name, parameter in model.named_parameters():
        if name.endswith(("o_proj.weight", "down_proj.weight")):
            nn.init.normal_(parameter, std=0.02 / math.sqrt(2 * n_layer))


def hidden_states(model: PreTrainedModel, batch: Batch) -> Tensor:
    """hidden_BTD, the output of the decoder's last norm, for each position of the batch's inputs.

    The decoder needs no padding mask, because a causal network does not attend to the padding on the right.
    """
    network: Any = model
    if cpu_block.supports_cpu_path(model):
        return cpu_block.hidden_states(network, batch.inputs_BT, matmul_dtype(model))
    if batch.context_BS is None:
        base = network.base_model
        return cast(Tensor, base(**_inputs(base, batch)).last_hidden_state)
    encoded = network.encoder(input_ids=batch.context_BS, attention_mask=batch.context_mask_BS)
    decoded = network.decoder.transformer(
        **_inputs(network.decoder.transformer, batch),
        encoder_hidden_states=encoded.last_hidden_state,
        encoder_attention_mask=batch.context_mask_BS,
    )
    return cast(Tensor, decoded.last_hidden_state)


def matmul_dtype(model: PreTrainedModel) -> torch.dtype:
    """The type in which matmuls are computed: autocast's type if autocast is on, otherwise the model's."""
    kind = model.device.type
    return torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else model.dtype


def _inputs(base: Any, batch: Batch) -> dict[str, Any]:
    # Pass embeddings, not ids: given ids without a mask, transformers looks for padding and logs a warning.
    return {"inputs_embeds": base.get_input_embeddings()(batch.inputs_BT), "use_cache": False}


def lm_head(model: PreTrainedModel) -> nn.Linear:
    """The output embedding, mapping hidden states to logits; in `llama` the input embedding is separate."""
    network: Any = model
    return cast(
        nn.Linear, (network.decoder if is_encoder_decoder(model) else network).get_output_embeddings()
    )


def is_encoder_decoder(model: PreTrainedModel) -> bool:
    return bool(model.config.is_encoder_decoder)


def next_ids(batch: Batch) -> Tensor:
    """ids_BT: for each decoder input, in a context or a reply, the id that follows it; NO_LOSS at padding."""
    following_BT = F.pad(batch.inputs_BT[:, 1:], (0, 1))
    positions_T = torch.arange(1, batch.inputs_BT.shape[1] + 1, device=batch.inputs_BT.device)
    has_input_BT = positions_T < batch.lengths_B[:, None]
    return torch.where((batch.targets_BT < 0) & has_input_BT, following_BT, batch.targets_BT)


def save(model: PreTrainedModel, folder: Path) -> None:
    """Write config.json, generation_config.json and model.safetensors, with any adapters merged."""
    with silence_transformers():
        (lora.merge(model) if lora.has_adapters(model) else model).save_pretrained(folder)


def load(folder: Path, device: str | torch.device = "cpu") -> PreTrainedModel:
    """The network in a model folder, in evaluation mode; code and pickles in the folder are never loaded.

    Raises:
        InputError: the folder does not contain a complete network of a supported family.
    """
    if not (folder / "config.json").is_file():
        raise InputError(f"{folder} has no config.json; give the folder of a trained model")
    if not any((folder / name).is_file() for name in (SAFE_WEIGHTS_NAME, SAFE_WEIGHTS_INDEX_NAME)):
        raise InputError(f"{folder} has no {SAFE_WEIGHTS_NAME}; give the folder of a trained model")
    network = _network_class(folder / "config.json")
    try:
        with silence_transformers():
            loaded = network.from_pretrained(
                folder,
                local_files_only=True,
                use_safetensors=True,
                trust_remote_code=False,
                attn_implementation="sdpa",  # never config.json's choice, which may be a kernel from the Hub
                dtype=torch.float32,
            )
    except (OSError, ValueError, TypeError, RuntimeError, SafetensorError) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise InputError(f"{folder} has no complete network ({reason}); train the model again") from error
    if is_encoder_decoder(loaded):
        _without_pooler(loaded)
    return cast(PreTrainedModel, loaded.to(device).eval())


def _network_class(path: Path) -> Any:
    """The class for the `model_type` of config.json; any class names in the file are ignored."""
    try:
        config = json.loads(path.read_bytes())
    except ValueError as error:
        raise InputError(f"{path} is not valid JSON ({error}); give the folder of a trained model") from None
    kind = config.get("model_type") if isinstance(config, dict) else None
    if isinstance(kind, str) and kind in CLASSES:
        return CLASSES[kind]
    if isinstance(kind, str) and kind in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES:
        return AutoModelForCausalLM
    known = f"{', '.join(CLASSES)} and the causal language models of transformers"
    raise InputError(f"{path}: the model_type {kind!r} is not supported; the supported types are {known}")


@contextmanager
def silence_transformers() -> Iterator[None]:
    """A context without transformers' progress bars and warnings (for example about the removed pooler)."""
    settings: Any = hf_logging  # its functions have no type hints
    level, bars = settings.get_verbosity(), settings.is_progress_bar_enabled()
    settings.set_verbosity_error()
    settings.disable_progress_bar()
    try:
        yield
    finally:
        settings.set_verbosity(level)
        if bars:
            settings.enable_progress_bar()
