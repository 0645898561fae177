"""`repartee corpus inspect`: reads a corpus and prints what is in it, the first facts at once."""

import shlex
from collections.abc import Sequence
from contextlib import ExitStack, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

from cli.terminal.display import progress
from cli.terminal.inspection import opening_text, report_text
from cli.terminal.output import print_json
from corpus.download import DownloadConfig
from corpus.inspection.files import FileFacts, examine_files, open_corpus
from corpus.mix import weights_of
from corpus.readers.columns import Columns
from corpus.source import is_path
from models.addresses import redact_addresses
from models.errors import InputError

if TYPE_CHECKING:
    from corpus.inspection.report import Inspection
    from flows.config import RetrainConfig

DEFAULT_RECIPE = "small"


def inspect_corpus(corpus: str, recipe: str, changes: Sequence[str], *, as_json: bool) -> None:
    """Print what is in a corpus, and the command that trains on it.

    Raises:
        InputError: a setting is wrong, or the corpus cannot be read.
    """
    if weights_of(corpus):
        raise InputError(
            f"corpus {redact_addresses(corpus)}: `repartee corpus inspect` reads one source, without a "
            "weight: inspect each source on its own"
        )
    # The default settings need no check. They are loaded after the first facts have been printed, because
    # this takes most of a second.
    is_default = recipe == DEFAULT_RECIPE and not changes
    config = None if is_default else _configure(corpus, recipe, changes)
    download = config.download if config else DownloadConfig(corpus=corpus)
    with ExitStack() as stack:
        with nullcontext() if is_path(corpus) else progress():  # of the download
            source, files = stack.enter_context(open_corpus(download))
        facts = examine_files(files, config.parse.columns if config else Columns())
        if not as_json:
            print(opening_text(facts), flush=True)
        with progress():
            config = config or _configure(corpus, recipe, changes)
            found = _inspect(source.name, files, facts, config)
    command = _run_command(corpus, recipe, changes, found.suggested)
    if as_json:
        print_json({"corpus": redact_addresses(corpus), **found.model_dump(), "command": command})
    else:
        print(report_text(found, config, command))


def _inspect(
    name: str, files: dict[str, Path], facts: list[FileFacts], config: "RetrainConfig"
) -> "Inspection":
    from corpus.inspection.figures import collect
    from corpus.inspection.report import report

    parsing, figures = collect(files, config.parse, config.cleaning)
    return report(name, facts, parsing, figures, config.markup)


def _configure(corpus: str, recipe: str, changes: Sequence[str]) -> "RetrainConfig":
    from flows.recipes import configure

    return configure(recipe, corpus, list(changes))


def _run_command(corpus: str, recipe: str, changes: Sequence[str], suggested: dict[str, float]) -> str:
    """The command that trains on the corpus; the suggested settings come last, so that they count."""
    words = ["repartee", "run", "--corpus", corpus]
    words += [] if recipe == DEFAULT_RECIPE else ["--recipe", recipe]
    for change in [*changes, *(f"{key}={value:g}" for key, value in suggested.items())]:
        words += ["--set", change]
    return redact_addresses(shlex.join(words))
