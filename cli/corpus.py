"""`repartee corpus`: the verbs that generate a corpus, show what is in one, and forget a part of it."""

from pathlib import Path
from typing import Annotated

import typer

from cli.help import print_help_without_a_verb
from cli.options import Changes, Json, Recipe
from models.errors import InputError

app = typer.Typer(
    help="Generate a corpus, show what is in one, or forget a part of it.", rich_markup_mode=None
)
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


@app.command()
def inspect(
    source: Annotated[
        str,
        typer.Argument(
            help="The corpus: cornell, sample, the path of a file or folder, an http(s) address, "
            "hf:ORG/NAME, s3://BUCKET/PATH, gs://BUCKET/PATH, or env:VARIABLE, as for `repartee run "
            "--corpus`.",
            metavar="SOURCE",
        ),
    ],
    recipe: Recipe = "small",
    changes: Changes = None,
    as_json: Json = False,
) -> None:
    """Show what is in a corpus before anything is trained.

    Shows the format and encoding of each file, the conversations, turns, roles, groups and lengths, the
    commonest replies, what occurs more than once, the lines that cannot be used, the sizes of the splits,
    five conversations, and the command that trains on the corpus. Nothing is stored: a zip is unpacked, and
    an address or a data set of the hub is downloaded, to a temporary folder, which is removed. The counts of
    repetitions and groups are estimates if a corpus has more than 262,144 different ones.

    One conversation is also shown as the model reads it: as text with the boundaries of the turns, <start>
    and <end>, because no vocabulary has been learnt yet. The replies, whose tokens carry loss, are marked
    with >.
    """
    from cli.inspection import inspect_corpus

    inspect_corpus(source, recipe, changes or [], as_json=as_json)


@app.command()
def forget(
    conversation: Annotated[
        list[str] | None,
        typer.Option(help="The id of a conversation. The option can be repeated.", metavar="ID"),
    ] = None,
    speaker: Annotated[
        list[str] | None,
        typer.Option(
            help="The id of a speaker, all of whose conversations are forgotten. The option can be repeated.",
            metavar="ID",
        ),
    ] = None,
    reason: Annotated[str, typer.Option(help="Why, for the list.", metavar="TEXT", show_default=False)] = "",
    undo: Annotated[bool, typer.Option("--undo", help="Take the ids off the list.")] = False,
    anyway: Annotated[
        bool,
        typer.Option(
            "--anyway",
            help="Accept an id that no stored corpus contains, for a corpus that comes later, an id that "
            "leaves nothing of a corpus, and a line number on the list that names another conversation now.",
        ),
    ] = False,
    as_json: Json = False,
) -> None:
    """Leave conversations out of every later run, and show which versions had read them.

    Without an id, the list of what is forgotten in this home is shown. The stage `clean` leaves out what is
    on the list, whatever the corpus: an id counts in every source, and SOURCE/ID only in the source of this
    name, whether it is alone or part of a mix. A conversation is forgotten as a whole, because its other
    turns answer the speaker or quote them. The command prints which versions were trained, chosen or scored
    with the conversations, how to replace the champion, and which folders still contain the text: nothing is
    removed from the disk, and a version does not lose what it has learnt. `repartee corpus inspect` is not
    affected. docs/data.md explains what this does and what it does not.
    """
    from cli.terminal.forgotten import print_result_of

    ids = {"conversation": conversation or [], "speaker": speaker or []}
    print_result_of(ids, reason=reason, is_undone=undo, anyway=anyway, as_json=as_json)
