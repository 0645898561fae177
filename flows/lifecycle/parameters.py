"""Parameters: the fields of the dashboard's form, and how their values result in a configuration.

The form has fields for the recipe, the corpus, the minutes, the seed and the promotion. Its field `settings`
takes any other setting, in the notation of `--set`. An older form had a field `changes` instead, with one
group of fields for each group of settings. The values of `changes` are still accepted, but not shown.
"""

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field
from pydantic.json_schema import SkipJsonSchema

from corpus.mix import read_mix
from corpus.transfer.addresses import BY_VARIABLE, FORM_PATTERN, holds_query
from flows import notation
from flows.config import RetrainConfig, flatten
from flows.notation import Change, join_settings, read_change, split_settings
from flows.recipes import change_recipe, changes_of
from models.addresses import redact_addresses, redact_corpus
from models.errors import InputError
from models.text.encoding import read_model_info

# Prefect takes the description of each parameter from the docstrings of the flows.
Recipe = Literal["quick", "tutorial", "small", "base", "finetune"]
CorpusName = Annotated[
    str | None,
    # The server checks this pattern before it stores or starts a run, and so refuses `file:` and secrets. The
    # command line does not check the pattern, because a path may contain a colon.
    Field(json_schema_extra={"pattern": rf"{FORM_PATTERN}|^$", "maxLength": 2000}),
]
MAX_MINUTES, MAX_SEED = 10_080, 2**53 - 1  # a week; the largest integer that a browser stores exactly
Minutes = Annotated[float | None, Field(gt=0, le=MAX_MINUTES)]
Seed = Annotated[int | None, Field(ge=0, le=MAX_SEED)]
Promote = Literal["auto", "never", "always"]
# With this pattern, the server refuses addresses and any text that does not begin with a setting.
SettingsText = (
    Annotated[str, Field(json_schema_extra={"pattern": notation.FORM_PATTERN, "maxLength": 10_000})] | None
)
OlderChanges = Annotated[dict[str, Any] | None, SkipJsonSchema()]
NONE = "none"  # stands for null; the older form sent an actual null for every empty field
ORIGIN = "settings: "


def to_config(
    recipe: str,
    corpus: str | None = None,
    minutes: float | None = None,
    seed: int | None = None,
    promote: str = "auto",
    settings: str | None = None,
    changes: dict[str, Any] | None = None,
) -> RetrainConfig:
    """The configuration that results from the parameters of a flow. The other fields take precedence over
    `settings` and `changes`.

    Raises:
        InputError: a setting is unknown or its value is wrong, the values do not fit together, or the address
            of the corpus has a query, which Prefect would store.
    """
    texts = [*split_settings(settings_of(changes)), *split_settings(settings or "")]
    fields = {
        "download.corpus": corpus or None,
        "train.max_minutes": minutes,
        "train.seed": seed,
        "gate.promote": None if promote == "auto" else promote,
    }
    given = [read_change(text, ORIGIN) for text in texts]
    given += [Change(key, value, "") for key, value in fields.items() if value is not None]
    for key, value, _ in given:
        if key == "download.corpus" and isinstance(value, str):
            _check_storable(value)
    return change_recipe(recipe, given, ORIGIN)


def _check_storable(corpus: str) -> None:
    for source, _ in read_mix(corpus):
        if holds_query(source):
            raise InputError(
                f"corpus {redact_corpus(source)}: Prefect stores a run's parameters, and "
                f"the query of an address may contain a token: {BY_VARIABLE}"
            )


def as_trained(config: RetrainConfig, folder: Path) -> RetrainConfig:
    """The configuration, changed to prepare the text as the model in `folder` was trained on it.

    Raises:
        InputError: the folder is not a model that Repartee has trained.
    """
    info = read_model_info(folder)
    prepared = {"normalisation": info.normalisation, "redact": info.redaction}
    return config.model_copy(update={"clean": config.clean.model_copy(update=prepared)})


def of_config(config: RetrainConfig) -> dict[str, Any]:
    """The parameters that result in this configuration: its recipe, and the differences from that recipe."""
    others = changes_of(config)
    fields: dict[str, Any] = {"corpus": others.pop("download.corpus", None)}
    minutes, seed = others.get("train.max_minutes"), others.get("train.seed")
    if minutes is not None and minutes <= MAX_MINUTES:  # otherwise it goes into `settings`
        fields["minutes"] = others.pop("train.max_minutes")
    if seed is not None and 0 <= seed <= MAX_SEED:
        fields["seed"] = others.pop("train.seed")
    if others.get("gate.promote", "auto") != "auto":
        fields["promote"] = others.pop("gate.promote")
    fields["settings"] = join_settings(others.items()) or None
    return {"recipe": config.recipe, **{key: value for key, value in fields.items() if value is not None}}


def line_of(parameters: dict[str, Any]) -> str | None:
    """The model line that these parameters of a flow name; None if they name no line or are wrong."""
    try:
        return to_config(**{"recipe": "small", **parameters}).line
    except (InputError, TypeError):  # the run itself reports the error
        return None


def parameters_text(parameters: dict[str, Any]) -> str:
    """The recipe, the corpus and all other parameters, as text. The corpus is named even if it is the one of
    the recipe, which the parameters do not contain."""
    given = {"recipe": "small", **parameters}
    try:
        corpus = to_config(**given).download.corpus
    except (InputError, TypeError):  # the run itself reports the error
        corpus = str(given.get("corpus") or "")
    first = {"recipe": given["recipe"], "corpus": redact_addresses(corpus)}
    others = {key: value for key, value in given.items() if key not in first and value is not None}
    return ", ".join(f"{key} {value}" for key, value in {**first, **others}.items() if value)


def settings_of(changes: dict[str, Any] | None) -> str:
    """Convert the parameter `changes`, stored by an older form, to a text for the field `settings`."""
    values = flatten(changes or {})
    return join_settings(
        (key, None if value == NONE else value) for key, value in values.items() if value is not None
    )


def without_changes(parameters: dict[str, Any]) -> dict[str, Any]:
    """Convert stored parameters to those of the present form, with `settings` instead of `changes`."""
    others = {key: value for key, value in parameters.items() if key != "changes"}
    texts = [settings_of(parameters.get("changes")), parameters.get("settings") or ""]
    settings = ", ".join(text for text in texts if text)
    return others | ({"settings": settings} if settings else {})
