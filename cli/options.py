"""The options that several verbs share."""

from typing import Annotated

import typer

Corpus = Annotated[
    str | None,
    typer.Option(
        help="The corpus to read: cornell, sample, the path of a zip or a folder, an http(s) address, or "
        "env:REPARTEE_CORPUS_NAME, an environment variable that holds the address. The query of an address "
        "is not stored anywhere; a login belongs in ~/.netrc. By default the recipe's corpus, for `evaluate` "
        "the model's.",
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
        help="Change one setting of the recipe, for example train.max_minutes=5. May be given several times; "
        "docs/settings.md lists the settings.",
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
        "version number, a model folder, a .gguf file or ORG/NAME on the Hugging Face hub. By default the "
        "recipe's.",
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
    typer.Option(
        help="Sample from the most probable tokens whose probabilities add up to this (top-p sampling)."
    ),
]
ReplySeed = Annotated[
    int | None, typer.Option(help="The seed of the random numbers; the same seed gives the same replies.")
]


def print_help_without_a_verb(context: typer.Context) -> None:
    """The callback of a group of verbs: `repartee` alone prints what `repartee --help` does."""
    if context.invoked_subcommand is None:
        print(context.get_help())
