"""Recipes: named configurations, and how their values are changed."""

import json
import shlex
from collections.abc import Iterator
from typing import Any

from pydantic import BaseModel, ValidationError

from corpus.cleaning.config import CleanConfig
from corpus.download import DownloadConfig
from flows.config import RetrainConfig
from models.addresses import redact_addresses
from models.errors import InputError, did_you_mean, validation_problem
from models.evaluation.report import EvaluateConfig
from models.network.config import NetworkConfig
from models.text.config import MarkupConfig
from models.text.vocabulary import VocabularyConfig
from models.training.config import TrainConfig

RECIPES = {
    # A minute on two cores, and the model answers questions about its own topics sensibly.
    "quick": RetrainConfig(
        recipe="quick",
        download=DownloadConfig(corpus="sample"),
        vocabulary=VocabularyConfig(size=1024),
        network=NetworkConfig(n_layer=3, n_head=4, width=128),
        train=TrainConfig(max_epochs=6, max_minutes=1.5, learning_rate=1.5e-2, batch_tokens=768),
    ),
    # The model of a tutorial on training a chatbot, with its faults mended (README.md).
    "tutorial": RetrainConfig(
        recipe="tutorial",
        clean=CleanConfig(normalisation="article"),
        vocabulary=VocabularyConfig(kind="word", min_count=10),
        markup=MarkupConfig(unit="pair", max_tokens=20),
        network=NetworkConfig(family="encoder-decoder", n_layer=2, n_head=4, width=256, dropout=0.1),
        train=TrainConfig(optimizer="adamw", learning_rate=1e-3, batch_tokens=2048),
    ),
    # The default: the fewest bits per byte that a laptop reaches in ten minutes (docs/log.md).
    "small": RetrainConfig(
        recipe="small",
        vocabulary=VocabularyConfig(size=2048),
        network=NetworkConfig(n_layer=4, n_head=4, width=128),
        train=TrainConfig(
            max_minutes=10, max_epochs=20, learning_rate=1e-2, batch_tokens=3072, context_loss=1.0
        ),
    ),
    # For a GPU: 46 million parameters, in steps that are large enough to use it. Not tuned on one yet.
    "base": RetrainConfig(
        recipe="base",
        vocabulary=VocabularyConfig(size=8192),
        network=NetworkConfig(n_layer=12, n_head=8, width=512),
        train=TrainConfig(
            max_minutes=30, max_epochs=10, learning_rate=5e-3, batch_tokens=32_768, context_loss=1.0
        ),
    ),
    # A pretrained model with its own vocabulary and chat template; start.init says which.
    "finetune": RetrainConfig(
        recipe="finetune",
        vocabulary=VocabularyConfig(kind="pretrained"),
        network=NetworkConfig(family="pretrained"),
        train=TrainConfig(
            optimizer="adamw",
            learning_rate=1e-4,
            weight_decay=0.01,
            warmup_steps=20,
            batch_tokens=1024,
            max_epochs=3,
            max_minutes=60,
            log_every=5,
            checkpoint_seconds=300,
        ),
        evaluate=EvaluateConfig(max_replies=2000),  # on two cores the whole split would take an hour
    ),
}


def configure(recipe: str, corpus: str | None, changes: list[str], init: str | None = None) -> RetrainConfig:
    """The recipe, changed by texts of the form `key.path=value`.

    Raises:
        InputError: there is no such recipe or key (the line names the nearest one), or the value is wrong.
    """
    if recipe not in RECIPES:
        raise InputError(
            f"no recipe {recipe!r}{_did_you_mean(recipe, RECIPES)}; there are {', '.join(RECIPES)}"
        )
    values = RECIPES[recipe].model_dump()
    if corpus is not None:
        values["download"]["corpus"] = corpus
    if init is not None:
        values["start"]["init"] = init
    for change in changes:
        key, equals, text = change.partition("=")
        if not equals:
            raise InputError(f"--set {change}: give it as key.path=value, for instance train.max_minutes=5")
        _assign(values, key.strip(), _parse(text.strip()), change)
    try:
        return RetrainConfig.model_validate(values)
    except ValidationError as error:
        raise InputError(_describe(error)) from None


def run_command(config: RetrainConfig) -> str:
    """The command for this configuration: `repartee run` with what differs from its recipe."""
    base = dict(_walk(RECIPES[config.recipe]))
    words = ["repartee", "run", "--recipe", config.recipe]
    for key, value in _walk(config):
        if key in base and base[key] != value:
            words += ["--set", f"{key}={_shown(value)}"]
    return redact_addresses(shlex.join(words))


def _describe(error: ValidationError) -> str:
    first = error.errors()[0]
    key, reason = validation_problem(error, depth=2)
    if first["type"] == "value_error":  # without a key it is about settings of several groups
        return f"--set {key}: {reason}" if key else reason
    return f"--set {key}: {reason}, got {first['input']!r} (docs/settings.md lists the settings)"


def settings_page() -> str:
    """The text of docs/settings.md: every setting with its help and its value in each recipe."""
    values = {name: dict(_walk(recipe)) for name, recipe in RECIPES.items()}
    lines = [
        "# Settings",
        "",
        "Change one with `--set KEY=VALUE`, or in the dashboard's form. Made by `make docs`.",
        "",
        f"| key | {' | '.join(RECIPES)} | what it is |",
        f"| --- | {' | '.join('---' for _ in RECIPES)} | --- |",
    ]
    for key in values["small"]:
        row = " | ".join(_shown(values[name][key]) for name in RECIPES)
        lines.append(f"| `{key}` | {row} | {_help(key)} |")
    return "\n".join(lines) + "\n"


def _walk(config: BaseModel, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """The key and the value of every setting."""
    for name, value in config:
        if isinstance(value, BaseModel):
            yield from _walk(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def _shown(value: Any) -> str:
    """The value as `--set` takes it."""
    return value if isinstance(value, str) and _parse(value) == value else json.dumps(value)


def _help(key: str) -> str:
    model: Any = RetrainConfig
    *groups, last = key.split(".")
    for group in groups:
        model = model.model_fields[group].annotation
    return (model.model_fields[last].description or "").replace("|", "\\|").replace("\n", " ")


def _assign(values: dict[str, Any], key: str, value: Any, change: str) -> None:
    known = dict(_walk(RECIPES["small"]))
    if key not in known:
        hint = _did_you_mean(key, known)
        if not hint:
            group = ", ".join(name for name in known if name.startswith(f"{key.split('.')[0]}."))
            hint = f"; keys: {group}" if group else f"; groups: {', '.join(RetrainConfig.model_fields)}"
        raise InputError(f"--set {change}: no key {key!r}{hint}")
    *groups, last = key.split(".")
    for group in groups:
        values = values[group]
    values[last] = value


def _parse(text: str) -> Any:
    """A number, true, false or null as in JSON; anything else is text."""
    try:
        return json.loads(text)
    except ValueError:
        return text


def _did_you_mean(word: str, known: Any) -> str:
    question = did_you_mean(word, known)
    return f", {question}" if question else ""
