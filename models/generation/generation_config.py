"""The generation settings that a model folder stores, under the names that transformers uses for them."""

import json
import logging
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from models.errors import InputError, validation_problem
from models.generation.config import GenerationConfig

log = logging.getLogger(__name__)

FILE = "generation_config.json"
NAMES = {
    "temperature": "temperature",
    "top_p": "top_p",
    "top_k": "top_k",  # written even if 0, because the default of transformers is 50
    "repetition_penalty": "repetition_penalty",
    "no_repeat_ngram": "no_repeat_ngram_size",
    "max_tokens": "max_new_tokens",
    "stop": "stop_strings",  # with stop strings, `generate` needs the tokenizer as an argument
    "seed": "seed",  # used by Repartee only: transformers ignores it
}
SAMPLING = ("temperature", "top_p", "top_k")


def to_transformers(config: GenerationConfig) -> dict[str, Any]:
    """The content of generation_config.json, in which a temperature of 0 becomes `do_sample: false`."""
    chosen: dict[str, Any] = {"do_sample": config.temperature > 0}
    for ours, theirs in NAMES.items():
        value = getattr(config, ours)
        if value in (None, ()) or (config.temperature == 0 and ours in SAMPLING):
            continue
        chosen[theirs] = list(value) if isinstance(value, tuple) else value
    return chosen


def read_generation(folder: Path) -> GenerationConfig:
    """The generation settings of a model folder; missing or invalid values are replaced by the defaults.

    Raises:
        InputError: generation_config.json is damaged.
    """
    path = folder / FILE
    try:
        content: dict[str, Any] = dict(json.loads(path.read_text()))
    except FileNotFoundError:
        return GenerationConfig()
    except (ValueError, TypeError):
        raise InputError(
            f"{path} is damaged: it is not a JSON object; copy or download the model again"
        ) from None
    values = {ours: content[theirs] for ours, theirs in NAMES.items() if content.get(theirs) is not None}
    if content.get("do_sample") is False:
        values["temperature"] = 0
    return GenerationConfig(**{key: value for key, value in values.items() if _is_valid(path, key, value)})


def _is_valid(path: Path, key: str, value: Any) -> bool:
    try:
        GenerationConfig(**{key: value})
    except ValidationError as error:
        _, reason = validation_problem(error, depth=1)
        log.warning("%s: %s is ignored: %s", path, NAMES[key], reason)
        return False
    return True
