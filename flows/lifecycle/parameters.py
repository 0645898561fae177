"""Parameters: what the form of the dashboard asks for, and the configuration that it gives.

The form asks for a recipe, a corpus, the minutes and whether to promote; `changes` holds any other value of
the recipe.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, Union, cast, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationError, create_model

from corpus.transfer.addresses import BY_VARIABLE, FORM_PATTERN, holds_query
from flows.config import RetrainConfig
from flows.recipes import RECIPES
from models.addresses import redact_corpus
from models.errors import InputError, validation_problem
from models.text.encoding import read_model_info

# Prefect takes the description of each parameter from the docstrings of the flows.
Recipe = Literal["quick", "tutorial", "small", "base", "finetune"]
CorpusName = Annotated[
    str | None,
    # The server checks it, and refuses `file:` and secrets before anything is stored or started. It is not
    # checked on the command line, where a path may contain a colon.
    Field(json_schema_extra={"pattern": FORM_PATTERN, "maxLength": 2000}),
]
Minutes = Annotated[float | None, Field(gt=0, le=10_080)]
Promote = Literal["auto", "never", "always"]
NONE = "none"  # the form sends null for a field that was left empty, so null cannot be a value


def _all_optional(model: type[BaseModel], name: str, *, but: tuple[str, ...] = ()) -> type[BaseModel]:
    """The same groups and settings, each of which may be left empty; `none` stands for the value None."""
    fields: dict[str, Any] = {}
    for key, setting in model.model_fields.items():
        if key in but:
            continue
        inner: Any = setting.annotation
        if isinstance(inner, type) and issubclass(inner, BaseModel):
            inner = _all_optional(inner, inner.__name__)
        described = setting.description
        may_be_none = type(None) in get_args(inner)
        if may_be_none:
            inner = Union[tuple(arg for arg in get_args(inner) if arg is not type(None))]  # noqa: UP007
            described = f"{described or ''} `{NONE}`: without."
        if setting.metadata:
            inner = Annotated[(inner, *setting.metadata)]
        if may_be_none:
            inner |= Literal["none"]
        extra = setting.json_schema_extra
        fields[key] = (
            inner | None,
            Field(default=None, title=key, description=described, json_schema_extra=extra),
        )
    return create_model(name, __config__=ConfigDict(extra="forbid"), **fields)


if TYPE_CHECKING:
    Changes = BaseModel
else:
    Changes = _all_optional(RetrainConfig, "Changes", but=("recipe",))


def to_config(
    recipe: Recipe,
    corpus: str | None = None,
    minutes: float | None = None,
    promote: str = "auto",
    changes: BaseModel | None = None,
) -> RetrainConfig:
    """
    Raises:
        InputError: the values do not fit together, or Prefect would store a secret of the corpus's address.
    """
    values = RECIPES[recipe].model_dump()
    if changes is not None:
        _merge(values, changes.model_dump(exclude_none=True))
    if corpus is not None:
        values["download"]["corpus"] = corpus
    if minutes is not None:
        values["train"]["max_minutes"] = minutes
    if promote != "auto":
        values["gate"]["promote"] = promote
    if holds_query(values["download"]["corpus"]):
        raise InputError(
            f"corpus {redact_corpus(values['download']['corpus'])}: Prefect stores a run's parameters, and "
            f"the query of an address may hold a token: {BY_VARIABLE}"
        )
    try:
        return RetrainConfig.model_validate(values)
    except ValidationError as error:
        key, reason = validation_problem(error, depth=2)
        raise InputError(": ".join(filter(None, ("changes", key, reason)))) from None


def as_trained(config: RetrainConfig, folder: Path) -> RetrainConfig:
    """The configuration that normalises a corpus as the training text of this model was normalised.

    Raises:
        InputError: the folder is no model of ours.
    """
    normalisation = read_model_info(folder).normalisation
    return config.model_copy(
        update={"clean": config.clean.model_copy(update={"normalisation": normalisation})}
    )


def of_config(config: RetrainConfig) -> dict[str, Any]:
    """The parameters that give this configuration: only what differs from its recipe."""
    recipe = cast(Recipe, config.recipe)
    changes = _difference(config.model_dump(), RECIPES[recipe].model_dump())
    corpus = changes.get("download", {}).pop("corpus", None)
    promote = changes.get("gate", {}).pop("promote", "auto")
    minutes = changes.get("train", {}).get("max_minutes")
    if minutes == NONE:
        minutes = None  # and stays among the changes
    elif minutes is not None:
        changes["train"].pop("max_minutes")
    others = {name: group for name, group in changes.items() if group}
    given = {"corpus": corpus, "minutes": minutes, "changes": others}
    return {
        "recipe": recipe,
        "promote": promote,
        **{key: value for key, value in given.items() if value},
    }


def _merge(values: dict[str, Any], changes: dict[str, Any]) -> None:
    for key, value in changes.items():
        if isinstance(value, dict):
            _merge(values[key], value)
        else:
            values[key] = None if value == NONE else value


def _difference(values: dict[str, Any], base: dict[str, Any]) -> dict[str, Any]:
    changed: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, dict):
            if inner := _difference(value, base[key]):
                changed[key] = inner
        elif value != base[key]:
            changed[key] = NONE if value is None else value
    return changed
