"""Tiny chat models with random weights, and with every file that the trainer writes."""

import json
from pathlib import Path
from typing import Any

import torch

from models.generation.config import GenerationConfig
from models.generation.generation_config import to_transformers
from models.network import networks
from models.network.config import NetworkConfig
from models.text import tokenizer
from models.text.normalisation import Style

TEXTS = [
    "hello there .",
    "how are you ?",
    "i am fine , thank you .",
    "we ll see .",
    "what s your name ?",
] * 3
LONG = 128


def model_folder(
    folder: Path,
    *,
    family: Any = "llama",
    style: Style = "plain",
    unit: str = "conversation",
    words: bool = False,
) -> Path:
    """A tiny model with random weights and all the files that the trainer writes."""
    folder.mkdir()
    learnt = tokenizer.learn_words(TEXTS, min_count=1) if words else tokenizer.learn_bpe(TEXTS, size=300)
    tokenizer.save(learnt, tokenizer.learn_spelling(TEXTS), folder)
    torch.manual_seed(3)
    network = NetworkConfig(family=family, n_layer=1, n_head=2, width=16)
    model = networks.build(network, learnt.get_vocab_size(), LONG)
    with torch.no_grad():
        for weights in model.parameters():
            weights.mul_(15 if weights.ndim > 1 else 1)  # makes the model's predictions far from uniform
    networks.save(model, folder)
    dialogue = {"family": family, "normalisation": style, "markup": {"unit": unit, "max_tokens": LONG}}
    (folder / "repartee.json").write_text(json.dumps(dialogue))
    return folder


def set_generation(folder: Path, **values: Any) -> Path:
    """Write generation settings into a model folder, as happens when a model is registered."""
    path = folder / "generation_config.json"
    chosen = to_transformers(GenerationConfig(**values))
    path.write_text(json.dumps(json.loads(path.read_text()) | chosen))
    return folder
