"""The `repartee` command: one function for each verb, which calls the modules that do the work.

Each function imports heavy packages only when its verb runs, so `repartee --help` answers at once. The work
is done by the other modules of this package and by deployments/; cli/terminal/tables.py formats the output.
"""

import sys
from typing import Annotated

import typer

from cli import corpus, registered, schedule, services
from cli.errors import exit_with, print_error, user_error
from cli.help import SERVICES, TALK, TRAIN, HelpByGroups, root_options
from cli.options import (
    REF_HELP,
    Changes,
    Corpus,
    Init,
    Json,
    Line,
    Quiet,
    Recipe,
    ReplySeed,
    Temperature,
    TopP,
)
from cli.terminal import encoding
from cli.terminal.display import progress
from cli.terminal.loading import loading
from cli.terminal.output import print_json, print_result
from console import show_progress
from environment import quiet_environment

app = typer.Typer(
    cls=HelpByGroups,
    help="Train a chat model on conversations, register it, and talk with it.",
    epilog="All outputs are written to the folder REPARTEE_HOME (by default ./var). docs/settings.md lists "
    "the settings that --set can change.",
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.callback(invoke_without_command=True)(root_options)

app.add_typer(registered.app)
app.add_typer(services.app)
app.add_typer(schedule.app, name="schedule", rich_help_panel=SERVICES)
app.add_typer(corpus.app, name="corpus", rich_help_panel=SERVICES)

INTERRUPTED = 130  # the exit status: 128 + SIGINT


@app.command(rich_help_panel=TRAIN)
def run(
    recipe: Recipe = "small",
    corpus: Corpus = None,
    init: Init = None,
    line: Line = None,
    changes: Changes = None,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Run the full pipeline: prepare the data, train, evaluate, and register the model if it is better.

    All stages run once on this machine, from the download of the corpus to the promotion of the model. The
    output of a stage is reused if the inputs, settings, code and libraries of the stage have not changed. To
    resume an interrupted run, run the same command again. The gate compares the new model with the champion
    (the model in service) on the same test split, and promotes the new model if it is better.
    """
    with progress(quiet=quiet):
        from flows.recipes import configure

        config = configure(recipe, corpus, changes or [], init, line)  # checked before the slow imports
        from cli.run import retrain_locally
        from cli.terminal import summary

        outcome = retrain_locally(config)
    if as_json:
        print_json(outcome.to_json())
    else:
        summary.print_summary(outcome)


@app.command(rich_help_panel=TRAIN)
def prepare(
    recipe: Recipe = "small",
    corpus: Corpus = None,
    init: Init = None,
    changes: Changes = None,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Prepare the training data without training a model.

    Only the stages download, parse, clean, vocabulary and export are run. If the services are running
    (`repartee up`) and the data are new, the services then start a training run on them.
    """
    with progress(quiet=quiet):
        from flows.recipes import configure

        config = configure(recipe, corpus, changes or [], init)  # checked before the slow imports
        from cli.run import prepare_locally
        from cli.terminal import tables

        stages = prepare_locally(config)
    print_result({"stages": stages}, tables.stage_table(stages), as_json)


@app.command(rich_help_panel=TRAIN)
def plan(
    recipe: Recipe = "small",
    corpus: Corpus = None,
    init: Init = None,
    line: Line = None,
    changes: Changes = None,
    as_json: Json = False,
) -> None:
    """Show what `run` would do with each stage, and why.

    No stage is run, and nothing is changed.
    """
    from flows.recipes import configure

    config = configure(recipe, corpus, changes or [], init, line)  # checked before the slow imports
    from cli.run import plan_stages
    from cli.terminal import tables

    stages = plan_stages(config)
    print_result({"stages": [vars(stage) for stage in stages]}, tables.plan_table(stages), as_json)


@app.command(rich_help_panel=TRAIN)
def data(
    fingerprint: Annotated[
        str | None,
        typer.Argument(
            help="The fingerprint of the data, or the first characters of it.", show_default="the newest"
        ),
    ] = None,
    conversation: Annotated[
        str | None,
        typer.Option(
            help="Show what has become of this conversation: its turns, its split, and what was removed from "
            "it and why.",
            metavar="ID",
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Show the prepared data: counts, rejected lines, example lengths, and ten conversations.

    By default, the most recently prepared data are shown. The fingerprint of the data is that of the stage
    `export`, which `repartee prepare --json` prints.
    """
    from cli import data
    from cli.terminal import tables
    from cli.terminal.conversation import conversation_text

    if conversation is not None:
        export, fate = data.find_in_data(fingerprint, conversation)
        result = {"fingerprint": export.fingerprint, "conversation": fate.model_dump()}
        print_result(result, conversation_text(fate), as_json)
        return
    export, found = data.describe_data(fingerprint)
    print_result(data.to_json(export, found), tables.data_text(export.fingerprint, found), as_json)


@app.command(rich_help_panel=TRAIN)
def noise(
    recipe: Recipe = "small",
    corpus: Corpus = None,
    init: Init = None,
    changes: Changes = None,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Measure how much the scores of a recipe depend on the seed.

    Eight models that differ only in the seed are trained for a tenth of the recipe's time, epochs or steps,
    and scored on the test split. From then on, the gate promotes a model of this recipe and corpus that was
    trained on this kind of machine (processor, precision, threads) only if its gain exceeds such differences.
    Nothing is registered. To continue an interrupted measurement, run the same command again.
    """
    with progress(quiet=quiet):
        from cli.run import measure_noise_locally
        from cli.terminal import summary
        from flows.recipes import configure

        measured = measure_noise_locally(configure(recipe, corpus, changes or [], init))
    figures = {"deviation": measured.deviation, "margin": measured.margin}
    print_result({**measured.model_dump(), **figures}, summary.noise_text(measured), as_json)


@app.command(rich_help_panel=TALK)
def chat(
    model: Annotated[str, typer.Option(help=REF_HELP, metavar="REF")] = "champion",
    line: Line = None,
    once: Annotated[
        str | None, typer.Option(help="Print the reply to this text and exit.", metavar="TEXT")
    ] = None,
    temperature: Temperature = None,
    top_p: TopP = None,
    seed: ReplySeed = None,
    as_json: Json = False,
) -> None:
    """Talk with a model in the terminal.

    During the conversation, /help lists the chat commands. If standard input is not a terminal, each input
    line is answered with one line of output. --json has an effect only with --once.
    """
    with loading(model):
        from cli.chat import converse, open_session

        session, found = open_session(model, line)
    for key, value in {"temperature": temperature, "top_p": top_p, "seed": seed}.items():
        if value is not None:
            session.set(key, str(value))
    if once is None:
        raise typer.Exit(converse(session, found, line))
    reply = session.reply_once(once)
    result = {"reply": reply.text, "version": found.version, "tokens": reply.tokens}
    print_result(result, reply.text, as_json)


@app.command(rich_help_panel=TALK)
def evaluate(
    ref: Annotated[str, typer.Argument(help=REF_HELP, metavar="REF")],
    corpus: Corpus = None,
    changes: Changes = None,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Evaluate a model on the test split of a corpus.

    The default corpus is the one on which the model was trained, or cornell if REF is a model folder.
    """
    with progress(quiet=quiet):
        from cli import versions
        from cli.run import score_model
        from cli.terminal import tables
        from flows.recipes import configure

        found = versions.find_model(ref)
        figures = score_model(found, configure(found.recipe, corpus or found.source, changes or []))
    print_result({"version": found.version, "metrics": figures}, tables.figure_lines(figures), as_json)


def main() -> None:
    """Run the command. The exit status is 0 for success, 2 for bad input, 130 for Ctrl-C, else 1."""
    quiet_environment()
    encoding.use_utf8_mode()
    show_progress()  # before Prefect is imported, because Prefect sets up its own logging
    encoding.accept_any_character()
    try:
        encoding.check_arguments()
        status = app(standalone_mode=False)
        if status == INTERRUPTED:  # Typer returns this status after Ctrl-C
            raise KeyboardInterrupt
    except (KeyboardInterrupt, typer.Abort):
        print_error("interrupted; run the same command again to continue")
        status = INTERRUPTED
    except Exception as error:
        message = user_error(error)
        if message is None:
            raise
        print_error(message)
        status = 2
    sys.stdout.flush()
    exit_with(status if isinstance(status, int) else 0)
