"""Recipes: named configurations, and how their values are changed."""

import shlex
from collections.abc import Iterator, Sequence
from typing import Any

from pydantic import BaseModel, ValidationError

from corpus.cleaning.config import CleanConfig
from corpus.download import DownloadConfig
from flows.config import RetrainConfig
from flows.notation import Change, read_change, show_value
from models.addresses import redact_addresses
from models.errors import InputError, did_you_mean, validation_problem
from models.evaluation.report import EvaluateConfig
from models.network.config import NetworkConfig
from models.text.config import MarkupConfig
from models.text.vocabulary import VocabularyConfig
from models.training.config import TrainConfig

OPTION = "--set "
INTRODUCTION = """\
This page is made by `make docs`. On the command line, `--set KEY=VALUE` changes one setting and may be given
several times. In the dashboard's form, the field `settings` takes several, separated by commas or line
breaks: `train.learning_rate=0.01, train.max_epochs=4`. The same sentence says what is wrong with a setting in
either place.

A value is a number, `true`, `false`, `null`, a list or a text. A list is written in JSON:
`generation.stop=["Bye.", "Good night, then."]`. A text is written as it is, blanks included:
`start.init=/models/my model`. In the form it ends at the next comma or line break. A text is written in
double quotes, as in JSON, if it holds a comma or a line break, begins or ends with a blank, begins with a
bracket or a double quote, or would be read as something else: `start.init="/models/one, two"`.
"""

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
    """The recipe with what the options `--corpus`, `--init` and `--set` of the command change.

    Raises:
        InputError: there is no such recipe or key (the line names the nearest one), or the value is wrong.
    """
    options = {"download.corpus": corpus, "start.init": init}
    given = [Change(key, value, "") for key, value in options.items() if value is not None]
    return change_recipe(recipe, [*given, *(read_change(text, OPTION) for text in changes)], OPTION)


def change_recipe(recipe: str, changes: Sequence[Change], origin: str) -> RetrainConfig:
    """The recipe with these changes, of which a later one replaces an earlier one of the same key.

    Args:
        origin: what stands before a setting in a message: `--set ` or the name of the form's field.

    Raises:
        InputError: there is no such recipe or key (the line names the nearest one), or the value is wrong.
    """
    _check_recipe(recipe)
    values = RECIPES[recipe].model_dump()
    for change in changes:
        _assign(values, change, origin)
    try:
        config = RetrainConfig.model_validate(values)
    except ValidationError as error:
        raise InputError(_describe(error, origin)) from None
    _check_recipe(config.recipe)
    return config


def changes_of(config: RetrainConfig) -> dict[str, Any]:
    """The value of each setting that differs from the recipe's, by its key."""
    base = dict(_walk(RECIPES[config.recipe]))
    return {key: value for key, value in _walk(config) if base[key] != value}


def run_command(config: RetrainConfig) -> str:
    """The command for this configuration: `repartee run` with what differs from its recipe."""
    words = ["repartee", "run", "--recipe", config.recipe]
    for key, value in changes_of(config).items():
        words += ["--set", f"{key}={show_value(value)}"]
    return redact_addresses(shlex.join(words))


def _check_recipe(recipe: str) -> None:
    if recipe not in RECIPES:
        raise InputError(
            f"no recipe {recipe!r}{_did_you_mean(recipe, RECIPES)}; there are {', '.join(RECIPES)}"
        )


def _describe(error: ValidationError, origin: str) -> str:
    first = error.errors()[0]
    key, reason = validation_problem(error, depth=2)
    if first["type"] == "value_error":  # without a key it is about settings of several groups
        return f"{origin}{key}: {reason}" if key else f"{origin.rstrip(': ')}: {reason}"
    return f"{origin}{key}: {reason}, got {first['input']!r} (docs/settings.md lists the settings)"


def settings_page() -> str:
    """The text of docs/settings.md: every setting with its help and its value in each recipe."""
    values = {name: dict(_walk(recipe)) for name, recipe in RECIPES.items()}
    lines = [
        "# Settings",
        "",
        INTRODUCTION,
        f"| key | {' | '.join(RECIPES)} | what it is |",
        f"| --- | {' | '.join('---' for _ in RECIPES)} | --- |",
    ]
    for key in values["small"]:
        row = " | ".join(show_value(values[name][key]) for name in RECIPES)
        lines.append(f"| `{key}` | {row} | {_help(key)} |")
    return "\n".join(lines) + "\n"


def _walk(config: BaseModel, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """The key and the value of every setting."""
    for name, value in config:
        if isinstance(value, BaseModel):
            yield from _walk(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def _help(key: str) -> str:
    model: Any = RetrainConfig
    *groups, last = key.split(".")
    for group in groups:
        model = model.model_fields[group].annotation
    return (model.model_fields[last].description or "").replace("|", "\\|").replace("\n", " ")


def _assign(values: dict[str, Any], change: Change, origin: str) -> None:
    known = dict(_walk(RECIPES["small"]))
    if change.key not in known:
        hint = _did_you_mean(change.key, known)
        if not hint:
            group = ", ".join(name for name in known if name.startswith(f"{change.key.split('.')[0]}."))
            hint = f"; keys: {group}" if group else f"; groups: {', '.join(RetrainConfig.model_fields)}"
        raise InputError(f"{origin}{redact_addresses(change.text)}: no key {change.key!r}{hint}")
    *groups, last = change.key.split(".")
    for group in groups:
        values = values[group]
    values[last] = change.value


def _did_you_mean(word: str, known: Any) -> str:
    question = did_you_mean(word, known)
    return f", {question}" if question else ""
