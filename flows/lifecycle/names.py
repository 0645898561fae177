"""The names of runs in Prefect and MLflow, such as `small-cornell #12 seed=1`.

A name contains the recipe, the corpus, the number of the run in its home, the schedule that started the run,
and the settings whose values differ from the recipe's. If a user has typed a name into the form, that name is
used instead.
"""

import logging
import re
from contextlib import suppress
from pathlib import Path
from typing import cast, get_args

from coolname.data import config as coolname_lists
from prefect.client.schemas.schedules import SCHEDULE_TYPES
from prefect.context import FlowRunContext
from prefect.runtime import flow_run as current_run

from corpus.mix import name_of_mix
from flows.config import RetrainConfig
from flows.lifecycle.locks import stay_alive
from flows.lifecycle.outcome import without_outcome
from flows.lifecycle.parameters import to_config
from flows.notation import show_value
from flows.recipes import RECIPES, changes_of
from models.errors import InputError
from models.locks import lock
from settings import Settings

log = logging.getLogger(__name__)

SCHEDULE_TAG = "schedule:"  # the beginning of the tag, in Prefect, of a run that a schedule has started
NUMBER = "run_number"  # the file in the home that contains the number of the last run
MAX_CHANGES_CHARACTERS = 60
PROPOSED_BY_THE_FORM = re.compile(
    r"(alpha|beta|gamma|delta|epsilon|zeta|eta|theta|iota|kappa|lambda|mu|nu|xi|omicron|pi|rho|sigma|tau|upsilon"
    r"|phi|chi|psi|omega)[0-9]*(-[a-z]+)+$"
)
NOT_SHOWN = ("recipe", "download.corpus")  # not listed as changes, because every name contains them


def begin_run() -> str:
    """Mark the current run as alive, and return its name.

    Prefect calls this function for the name, before it records that the run is running. If the run were
    marked later, one that was killed in between would seem to run for ever.
    """
    with suppress(OSError):  # if the home cannot be written, the run soon ends with an error about the home
        stay_alive(Settings().root, current_run.id)
    return run_name()


def run_name() -> str:
    """The name of the current run: the name that a user gave it, or otherwise a descriptive name."""
    if name := given_name():
        return name
    config = _config_of_current_run()
    number = next_number(Settings().root)
    schedule = schedule_of(FlowRunContext.get())
    words = (
        base_name(config),
        f"#{number}" if number else "",
        f"schedule={show_value(schedule)}" if schedule else "",
        changes_text(config),
    )
    return " ".join(word for word in words if word)


def evaluation_name() -> str:
    return given_name() or f"evaluate-{current_run.parameters['model']}"


def schedule_of(context: FlowRunContext | None) -> str:
    """The name of the schedule that started the run; empty if no schedule did, or if it has no name."""
    run = context.flow_run if context else None
    if run is None:
        return ""
    by_hand = [tag.removeprefix(SCHEDULE_TAG) for tag in run.tags if tag.startswith(SCHEDULE_TAG)]
    creator = run.created_by
    if by_hand or creator is None or creator.type != "SCHEDULE":
        return next(iter(by_hand), "")
    # Prefect gives the kind of a schedule, such as CronSchedule, in place of a name that it does not have.
    name = creator.display_value or ""
    return "" if name in {kind.__name__ for kind in get_args(SCHEDULE_TYPES)} else name


def base_name(config: RetrainConfig) -> str:
    """The recipe and the corpus, such as `small-cornell`."""
    return f"{config.recipe}-{name_of_mix(config.download.corpus)}"


def changes_text(config: RetrainConfig) -> str:
    """The changes to the recipe, shortened: the `+2` in `seed=1 max_minutes=5 +2` means two more changes."""
    changes = {key: value for key, value in changes_of(config).items() if key not in NOT_SHOWN}
    words: list[str] = []
    for key, value in changes.items():
        word = f"{key.rpartition('.')[2]}={show_value(value)}"
        if len(" ".join([*words, word])) > MAX_CHANGES_CHARACTERS:
            return " ".join([*words, f"+{len(changes) - len(words)}"])
        words.append(word)
    return " ".join(words)


def next_number(home: Path) -> int | None:
    """The number of the run that starts now: one more than the number of the last run in this home.

    None if the home cannot be written; in this case the run soon ends with an error about the home.
    """
    path = home / NUMBER
    try:
        home.mkdir(parents=True, exist_ok=True)
        with lock(home / f".{NUMBER}.lock"):
            last = 0
            with suppress(FileNotFoundError, ValueError):
                last = int(path.read_text())
            partial = path.with_suffix(".tmp")
            partial.write_text(f"{last + 1}\n")
            partial.replace(path)
            return last + 1
    except OSError as error:
        log.debug("the run has no number: %s", error)
        return None


def given_name() -> str | None:
    """The name that a user gave to the current run, without an earlier attempt's outcome; otherwise None."""
    name = current_run.name or ""
    return None if is_generated(name) else without_outcome(name) or None


def is_generated(name: str) -> bool:
    """Whether Prefect, and not a user, chose this name for a run.

    The server combines an adjective and an animal from coolname's word lists. The dashboard's form proposes
    names that begin with a Greek letter, such as `nu21-selye`.
    """
    if PROPOSED_BY_THE_FORM.match(name):
        return True
    words = name.split("-")
    return len(words) == 2 and words[0] in _coolname_words("adj_any") and words[1] in _coolname_words("subj")


def _coolname_words(key: str) -> set[str]:
    entry = cast(dict[str, dict[str, list[str]]], coolname_lists)[key]
    if "words" in entry:
        return set(entry["words"])
    return {word for part in entry["lists"] for word in _coolname_words(part)}


def _config_of_current_run() -> RetrainConfig:
    """The configuration of the current run, or the unchanged recipe if the settings are wrong."""
    parameters = dict(current_run.parameters)
    try:
        return to_config(**parameters)
    except InputError:  # the same error soon ends the run
        return RECIPES.get(parameters.get("recipe", "small"), RECIPES["small"])
