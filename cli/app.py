"""The `repartee` command: one function a verb, no logic.

Nothing heavy is imported before a verb needs it, so that `repartee --help` answers at once.
"""

import codecs
import io
import json
import locale
import os
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from console import show_progress
from environment import quiet_environment
from models.errors import InputError, is_out_of_space
from models.files import is_utf8

app = typer.Typer(
    help="Turn conversations into a chat model, again and again.",
    epilog="Everything lives under REPARTEE_HOME (./var). Settings for --set: docs/settings.md",
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)
corpus_app = typer.Typer(help="The generated corpus.", rich_markup_mode=None)
app.add_typer(corpus_app, name="corpus")


@app.callback(invoke_without_command=True)
@corpus_app.callback(invoke_without_command=True)
def _help_without_a_command(context: typer.Context) -> None:
    if context.invoked_subcommand is None:
        print(context.get_help())


Corpus = Annotated[
    str | None,
    typer.Option(
        help="cornell, sample, the path of a zip or folder, an address (its query is stored nowhere; a login "
        "belongs in ~/.netrc), or env:REPARTEE_CORPUS_NAME, a variable with the address.",
        metavar="SOURCE",
    ),
]
Recipe = Annotated[str, typer.Option(help="quick, tutorial, small, base or finetune.", metavar="NAME")]
Changes = Annotated[
    list[str] | None,
    typer.Option(
        "--set", help="Change one value of the recipe (docs/settings.md).", metavar="KEY.PATH=VALUE"
    ),
]
Json = Annotated[bool, typer.Option("--json", help="One JSON object on standard output, nothing else.")]
Init = Annotated[
    str | None,
    typer.Option(
        help="What to begin with: scratch, champion, a version, a folder, a .gguf or a hub's ORG/NAME.",
        metavar="REF",
    ),
]
INTERRUPTED = 130  # the exit status: 128 + SIGINT
REF_HELP = "champion, challenger, a version number, or a model folder."


@app.command()
def run(
    recipe: Recipe = "small",
    corpus: Corpus = None,
    init: Init = None,
    changes: Changes = None,
    as_json: Json = False,
) -> None:
    """The whole chain once, here: from the corpus to a registered model, or the reason why not."""
    from cli.run import retrain_here, summary
    from flows.recipes import configure

    outcome = retrain_here(configure(recipe, corpus, changes or [], init))
    _tell(outcome.to_json(), summary(outcome), as_json)


@app.command()
def prepare(
    recipe: Recipe = "small",
    corpus: Corpus = None,
    init: Init = None,
    changes: Changes = None,
    as_json: Json = False,
) -> None:
    """The data half: download, parse, clean, vocabulary, export."""
    from cli.run import prepare_here, stage_table
    from flows.recipes import configure

    stages = prepare_here(configure(recipe, corpus, changes or [], init))
    _tell({"stages": stages}, stage_table(stages), as_json)


@app.command()
def plan(
    recipe: Recipe = "small",
    corpus: Corpus = None,
    init: Init = None,
    changes: Changes = None,
    as_json: Json = False,
) -> None:
    """What a run would do, and why; runs nothing."""
    from cli.run import plan_here, plan_table
    from flows.recipes import configure

    steps = plan_here(configure(recipe, corpus, changes or [], init))
    _tell({"stages": [vars(step) for step in steps]}, plan_table(steps), as_json)


@app.command()
def chat(
    model: Annotated[str, typer.Option(help=REF_HELP, metavar="REF")] = "champion",
    once: Annotated[str | None, typer.Option(help="Answer this and end.", metavar="TEXT")] = None,
    temperature: Annotated[float | None, typer.Option(help="0 takes the likeliest word each time.")] = None,
    top_p: Annotated[
        float | None, typer.Option(help="Sample from the likeliest words of this share.")
    ] = None,
    seed: Annotated[int | None, typer.Option(help="The same seed gives the same replies.")] = None,
    as_json: Json = False,
) -> None:
    """Talk with a model in the terminal."""
    from chat import terminal
    from chat.session import Session
    from cli.versions import find_model
    from models.generation.generation_config import read_generation

    found = find_model(model)
    session = Session(found.folder, read_generation(found.folder))
    for key, value in {"temperature": temperature, "top_p": top_p, "seed": seed}.items():
        if value is not None:
            session.set(key, str(value))
    if once is None:
        raise typer.Exit(terminal.run(session, title=found.title, stdin=sys.stdin, stdout=sys.stdout))
    reply = session.reply_once(once)
    _tell({"reply": reply.text, "version": found.version, "tokens": reply.tokens}, reply.text, as_json)


@app.command()
def models(as_json: Json = False) -> None:
    """The registered versions with their aliases and figures."""
    from cli.tables import version_table
    from cli.versions import list_versions

    versions = list_versions()
    _tell({"models": versions}, version_table(versions), as_json)


@app.command()
def promote(
    ref: Annotated[str, typer.Argument(help="A version number or an alias.", metavar="VERSION")],
    why: Annotated[str | None, typer.Option(help="For the history.", metavar="TEXT")] = None,
    as_json: Json = False,
) -> None:
    """Put a version into service, whatever the gate said of it."""
    from cli.champion import promote as put
    from cli.champion import promoted_text

    told = put(ref, why)
    _tell(told, promoted_text(told), as_json)


@app.command()
def rollback(as_json: Json = False) -> None:
    """Put the champion's predecessor into service again; no training."""
    from cli.champion import promoted_text
    from cli.champion import rollback as put_back

    told = put_back()
    _tell(told, promoted_text(told), as_json)


@app.command()
def history(as_json: Json = False) -> None:
    """Who was champion since when, and why."""
    from cli.champion import history as entries
    from cli.champion import history_text

    told = entries()
    _tell({"history": told}, history_text(told), as_json)


@app.command()
def evaluate(
    ref: Annotated[str, typer.Argument(help=REF_HELP, metavar="REF")],
    corpus: Corpus = None,
    changes: Changes = None,
    as_json: Json = False,
) -> None:
    """Score a model again, on a test split: of its own corpus, unless one is given; for a folder Cornell."""
    from cli.run import evaluate_here
    from cli.versions import find_model
    from flows.recipes import configure

    found = find_model(ref)
    figures = evaluate_here(found.folder, configure(found.recipe, corpus or found.source, changes or []))
    text = "\n".join(f"{key:<24}{value:.4f}" for key, value in figures.items())
    _tell({"version": found.version, "metrics": figures}, text, as_json)


@app.command()
def up() -> None:
    """Prefect, MLflow, a worker and the deployments, here, until Ctrl-C or `repartee down`."""
    from deployments.local.up import up as run_up

    run_up(lambda text: print(text, flush=True))


@app.command()
def status(as_json: Json = False) -> None:
    """Champion, runs, services and disk, in ten lines."""
    from deployments.status import status as look
    from deployments.status import status_text

    found = look()
    _tell(found, status_text(found), as_json)


@app.command()
def down() -> None:
    """End everything that `up` started."""
    from deployments.local.up import down as end

    print(end())


@app.command()
def doctor(
    fix: Annotated[bool, typer.Option("--fix", help="Mend what is safe to mend.")] = False,
    as_json: Json = False,
) -> None:
    """What is wrong with this installation, and the remedy; ends with 1 where something is."""
    from deployments.doctor.examination import doctor as examine
    from deployments.doctor.examination import summary

    told = examine(fix, lambda text: None if as_json else print(text, flush=True))
    _tell(told, summary(told), as_json)
    raise typer.Exit(0 if told["healthy"] else 1)


@corpus_app.command("make")
def corpus_make(
    path: Annotated[Path, typer.Argument(help="The folder to write.")],
    turns: Annotated[int, typer.Option(help="How many turns, about.", min=100)] = 24_000,
    seed: Annotated[int, typer.Option(help="The same seed makes the same corpus.")] = 0,
) -> None:
    """Write the generated corpus, in the layout of the Cornell Movie-Dialogs Corpus."""
    from corpus.sample.generator import write_corpus

    if path.exists() and any(path.iterdir() if path.is_dir() else [path]):
        raise InputError(f"{path} is there already and not empty; give a new folder")
    path.mkdir(parents=True, exist_ok=True)
    print(f"{path}: {write_corpus(path, turns=turns, seed=seed):,} turns")


def _tell(result: dict[str, Any], text: str, as_json: bool) -> None:
    print(json.dumps(result, default=str) if as_json else text)


def main() -> None:
    """Run the command; its end is 0 done, 2 the user's input is wrong, 130 interrupted, 1 anything else."""
    quiet_environment()
    _speak_utf8()
    show_progress()  # before Prefect is imported, which looks at once for where to log
    _read_and_write_any_character()
    try:
        _check_arguments()
        status = app(standalone_mode=False)
        if status == INTERRUPTED:  # what Typer makes of Ctrl-C
            raise KeyboardInterrupt
    except (KeyboardInterrupt, typer.Abort):
        status = _complain("interrupted; the same command goes on where it was", INTERRUPTED)
    except Exception as error:
        message = _users_fault(error)
        if message is None:
            raise
        status = _complain(message, 2)
    sys.stdout.flush()
    sys.exit(status if isinstance(status, int) else 0)


def _speak_utf8() -> None:
    """Start over in Python's UTF-8 mode where the locale has another encoding.

    The files of a home are UTF-8, and so are the names that Prefect and MLflow record.
    """
    if (
        codecs.lookup(locale.getpreferredencoding(False)).name == "utf-8"
        or os.environ.get("PYTHONUTF8") == "1"
    ):
        return
    environment = {**os.environ, "PYTHONUTF8": "1"}
    if codecs.lookup(sys.stdout.encoding).name != "ascii":  # the terminal keeps its own encoding
        environment.setdefault("PYTHONIOENCODING", sys.stdout.encoding)
    os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], environment)


def _check_arguments() -> None:
    for text in (
        *sys.argv[1:],
        *(value for name, value in os.environ.items() if name.startswith("REPARTEE_")),
    ):
        if not is_utf8(text):
            raise InputError(
                f"{text!r} is not valid UTF-8, so neither Prefect nor MLflow can record it; rename it"
            )


def _read_and_write_any_character() -> None:
    """A terminal that is declared to be ASCII is sent `?` for other characters; what it sends is UTF-8."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")
    if isinstance(sys.stdin, io.TextIOWrapper):
        is_ascii = codecs.lookup(sys.stdin.encoding).name == "ascii"
        sys.stdin.reconfigure(encoding="utf-8" if is_ascii else None, errors="replace")


def _users_fault(error: Exception) -> str | None:
    """The line for what the user can mend; None for what only we can."""
    if isinstance(error, InputError):
        return str(error)
    if is_out_of_space(error):
        where = getattr(error, "filename", None) or os.environ.get("REPARTEE_HOME", "var")
        return f"the disk is full ({where}); free some space and give the same command again"
    # Typer carries its own click, whose exceptions have no public name.
    told = getattr(error, "format_message", None)
    return f"{told().rstrip('.')}; see `repartee --help`" if told else None


def _complain(message: str, status: int) -> int:
    print(f"repartee: {' '.join(message.split())}", file=sys.stderr)
    return status
