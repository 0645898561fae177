"""`repartee chat`: a session with a model, and the conversation at the terminal."""

import sys

from chat import terminal
from chat.session import Session
from cli.versions import find_model
from models.generation.generation_config import read_generation
from models.registry.reference import Model
from settings import Settings

INPUT_HISTORY = "chat_history"  # the file of a home with the messages for the arrow keys


def open_session(ref: str, line: str | None = None) -> tuple[Session, Model]:
    """A session with the model that this reference names, with the settings that it was registered with.

    A reference without the name of a line means a version of `line`.

    Raises:
        InputError: there is no such model, or its files are damaged.
        TrackingUnavailable: MLflow does not answer.
    """
    found = find_model(ref, line)
    return Session(found.folder, read_generation(found.folder)), found


def converse(session: Session, model: Model, line: str | None = None) -> int:
    """Hold a conversation on standard input and output; returns the exit status."""

    def open_model(ref: str) -> tuple[Session, str]:
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
