"""Errors that the user can correct, each with a message of one line."""

import errno
import re
from collections.abc import Iterable
from difflib import get_close_matches
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pydantic import ValidationError

OUT_OF_SPACE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
FULL = re.compile(rf"(os error |\[Errno )({'|'.join(map(str, OUT_OF_SPACE))})\b|database or disk is full")


class InputError(Exception):
    """An error that the user can correct. Its message of one line says what is wrong, where, and the remedy.

    The command line prints the message without a traceback and exits with status 2. Any other exception is a
    bug of Repartee.
    """


class TrackingUnavailable(InputError):
    """MLflow does not answer. Training continues without MLflow; operations that need MLflow wait."""


class DataRejected(InputError):
    """The corpus cannot be used for training."""


def is_out_of_space(error: BaseException | None) -> bool:
    """Whether a full disk, a quota or a file size limit caused the error, even if a library wrapped it."""
    while error is not None:
        if isinstance(error, OSError) and error.errno in OUT_OF_SPACE:
            return True
        # Rust libraries (safetensors, tokenizers), SQLite and shutil.copytree pass on only the error's text.
        if FULL.search(str(error)):
            return True
        error = error.__cause__ or error.__context__
    return False


def did_you_mean(word: str, known: Iterable[str]) -> str | None:
    """Return a question that suggests the known word most similar to `word`, or None if none is similar."""
    similar = get_close_matches(word, list(known), n=1)
    return f"did you mean {similar[0]!r}?" if similar else None


def validation_problem(error: "ValidationError", depth: int) -> tuple[str, str]:
    """Return the key of the first problem that pydantic found, and what is wrong with the key's value.

    The message of one of Repartee's own validators is returned unchanged. If a value may have several types,
    pydantic reports an error for each type, and their messages are joined.

    Args:
        depth: the number of parts of an error's location that form the key; any later parts name the type.
    """
    first = error.errors()[0]
    location = first["loc"][:depth]
    key = ".".join(map(str, location))
    if first["type"] == "value_error":
        return key, str(first["ctx"]["error"])
    messages = [each["msg"] for each in error.errors() if each["loc"][:depth] == location]
    return key, " or ".join(dict.fromkeys(text[0].lower() + text[1:] for text in messages))
