"""Options that several verbs share."""

from typing import Annotated, Any

import typer
from typer.core import TyperGroup

Corpus = Annotated[
    str | None,
    typer.Option(
        help="The corpus to read: cornell, sample, the path of a zip or a folder, an http(s) address, or "
        "env:REPARTEE_CORPUS_NAME, an environment variable that holds the address. The query string of an "
        "address is not stored anywhere; put a login in ~/.netrc. The default is the recipe's corpus, or for "
        "`evaluate` the corpus that the model was trained on.",
        metavar="SOURCE",
        show_default=False,
    ),
]
Recipe = Annotated[
    str,
    typer.Option(
        help="The configuration to start from: quick, tutorial, small, base or finetune.", metavar="NAME"
    ),
]
Changes = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        help="Change one setting of the recipe, for example train.max_minutes=5. The option can be "
        "repeated; docs/settings.md lists the settings.",
        metavar="KEY.PATH=VALUE",
    ),
]
Json = Annotated[
    bool, typer.Option("--json", help="Print one JSON object on standard output, and nothing else.")
]
Init = Annotated[
    str | None,
    typer.Option(
        help="The model whose weights the training starts from: scratch (random weights), champion, a "
        "version number, a model folder, a .gguf file or ORG/NAME on the Hugging Face hub. The default is "
        "the recipe's choice.",
        metavar="REF",
    ),
]
REF_HELP = "The model: champion, challenger, a version number, or the path of a model folder."
Temperature = Annotated[
    float | None,
    typer.Option(help="The randomness of the replies; 0 always takes the most probable token."),
]
TopP = Annotated[
    float | None,
    typer.Option(help="Nucleus sampling: keep the most likely tokens up to this cumulative probability."),
]
ReplySeed = Annotated[int | None, typer.Option(help="The random seed; the same seed gives the same replies.")]


Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Print warnings and the result only.")]


def print_help_without_a_verb(context: typer.Context) -> None:
    """The callback of a command group: print the group's help if no verb is given."""
    if context.invoked_subcommand is None:
        print(context.get_help())


def print_version(is_asked: bool) -> None:
    """The callback of `--version`."""
    if is_asked:
        from importlib.metadata import version

        print(f"repartee {version('repartee')}")
        raise typer.Exit


def root_options(
    context: typer.Context,
    show_version: Annotated[
        bool,
        typer.Option("--version", help="Print the version and exit.", callback=print_version, is_eager=True),
    ] = False,
) -> None:
    """The callback of the whole command: print its help if no verb is given."""
    print_help_without_a_verb(context)


class HelpByGroups(TyperGroup):
    """Lists the verbs in groups, each with the whole first sentence of its help."""

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        groups: dict[str, list[tuple[str, str]]] = {}
        for name in self.list_commands(ctx):
            command = self.get_command(ctx, name)
            if command is not None and not command.hidden:
                group = str(getattr(command, "rich_help_panel", "Commands"))
                summary = " ".join((command.help or "").split("\n\n")[0].split())
                groups.setdefault(group, []).append((name, summary))
        for group, verbs in groups.items():
            with formatter.section(group):
                formatter.write_dl(verbs)
