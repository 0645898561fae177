"""`repartee corpus`: the verb that generates a corpus."""

from pathlib import Path
from typing import Annotated

import typer

from cli.help import print_help_without_a_verb
from models.errors import InputError

app = typer.Typer(help="Generate a corpus.", rich_markup_mode=None)
app.callback(invoke_without_command=True)(print_help_without_a_verb)


@app.command()
def make(
    path: Annotated[Path, typer.Argument(help="The folder to write to. It must be new or empty.")],
    turns: Annotated[int, typer.Option(help="The approximate number of turns.", min=100)] = 24_000,
    seed: Annotated[int, typer.Option(help="The random seed; the same seed generates the same corpus.")] = 0,
) -> None:
    """Generate a corpus and write it to a folder.

    The files have the layout of the Cornell Movie-Dialogs Corpus.
    """
    from corpus.sample.generator import write_corpus

    if path.exists() and any(path.iterdir() if path.is_dir() else [path]):
        raise InputError(f"{path} exists and is not empty; choose a new folder")
    path.mkdir(parents=True, exist_ok=True)
    print(f"{path}: {write_corpus(path, turns=turns, seed=seed):,} turns written")
