"""Options that several verbs share."""

from typing import Annotated

import typer

Corpus = Annotated[
    list[str] | None,
    typer.Option(
        help="The corpus to read: cornell, sample, the path of a file or folder, an http(s) address, "
        "hf:ORG/NAME, a data set of the Hugging Face hub (hf:ORG/NAME/FOLDER@COMMIT for a part or a commit "
        "of it), s3://BUCKET/PATH or gs://BUCKET/PATH, or env:VARIABLE, which reads the address from an "
        "environment variable whose name begins with REPARTEE_CORPUS_. The query string of an address is "
        "never stored. If a server requires a username and password, put them in ~/.netrc. The option can be "
        "repeated to mix several sources. SOURCE=0.5 uses half of the source; SOURCE=3 trains on it three "
        "times. The default is the recipe's corpus; for `evaluate` it is the corpus on which the model was "
        "trained.",
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
        help="The model whose weights training starts from: scratch (random weights), trunk (the undecayed "
        "checkpoint that the last run with --init trunk left), champion, a version number, a model folder, a "
        ".gguf file or ORG/NAME on the Hugging Face hub. The default is the recipe's setting start.init; for "
        "`schedule add` it is trunk.",
        metavar="REF",
    ),
]
Line = Annotated[
    str | None,
    typer.Option(
        help="The model line: a registered model with its own versions, champion and history. The default is "
        "the value of REPARTEE_MODEL_NAME, or `repartee` if that variable is not set.",
        metavar="NAME",
        show_default=False,
    ),
]
REF_HELP = (
    "The model: champion, challenger, a version number, or the path of a model folder. A version of "
    "another model line is written LINE@VERSION, for example support-bot@champion."
)
VERSION_HELP = (
    "A version number or an alias. A version of another model line is written LINE@VERSION, for example "
    "support-bot@3."
)
Temperature = Annotated[
    float | None,
    typer.Option(help="The randomness of the replies; with 0, the most probable token is always chosen."),
]
TopP = Annotated[
    float | None,
    typer.Option(
        help="Nucleus sampling: sample from the most probable tokens, up to this cumulative probability."
    ),
]
ReplySeed = Annotated[int | None, typer.Option(help="The random seed; the same seed gives the same replies.")]


Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Print only warnings and the result.")]
