"""`repartee chat`: open a session with a model, and chat with the model in the terminal."""

import sys
from typing import TYPE_CHECKING

from cli.terminal.loading import loading
from cli.versions import find_model
from models.generation.generation_config import read_generation
from models.registry.reference import Model
from settings import Settings

if TYPE_CHECKING:
    from chat.session import Session

INPUT_HISTORY = "chat_history"  # a file in the home with earlier messages, which the arrow keys recall


def open_session(ref: str, line: str | None = None) -> "tuple[Session, Model]":
    """Open a session with the model that `ref` names.

    The session uses the generation settings that were registered with the model. If `ref` names a version
    without its model line, the version is looked up in the model line `line`.

    Raises:
        InputError: there is no such model, or its files are damaged.
        TrackingUnavailable: MLflow does not answer.
    """
    found = find_model(ref, line)  # before the import of torch, which takes seconds
    from chat.session import Session

    return Session(found.folder, read_generation(found.folder)), found


def converse(session: "Session", model: Model, line: str | None = None) -> int:
    """Hold a conversation over standard input and output, and return the exit status."""
    from chat import terminal

    def open_model(ref: str) -> "tuple[Session, str]":
        with loading(ref):
            opened, found = open_session(ref, line)
        return opened, found.title

    home = Settings().root
    return terminal.run(
        session,
        title=model.title,
        stdin=sys.stdin,
        stdout=sys.stdout,
        open_model=open_model,
        input_history=home / INPUT_HISTORY if home.is_dir() else None,
    )
