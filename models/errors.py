"""Errors that the user can correct, each with a one-line message."""

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
    """An error that the user can correct. Its one-line message says what is wrong, where, and what to do.

    The command line prints the message without a traceback and exits with status 2. Any other exception is a
    bug in Repartee.
    """


class TrackingUnavailable(InputError):
    """MLflow does not answer. Training continues, because it does not need MLflow; other operations fail."""


class DataRejected(InputError):
    """The corpus cannot be used for training."""


def is_out_of_space(error: BaseException | None) -> bool:
    """Whether a full disk, a quota or a file-size limit caused this error, or one of the errors it wraps."""
    while error is not None:
        if isinstance(error, OSError) and error.errno in OUT_OF_SPACE:
            return True
        # Errors from Rust (safetensors, tokenizers), SQLite and shutil.copytree have no errno, only a text.
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

    A message from one of Repartee's own validators is returned unchanged. If a value may have several types,
    pydantic reports an error for each type, and the messages of these errors are joined with "or".

    Args:
        depth: the number of parts of an error's location that form the key; later parts name the type.
    """
    first = error.errors()[0]
    location = first["loc"][:depth]
    key = ".".join(map(str, location))
    if first["type"] == "value_error":
        return key, str(first["ctx"]["error"])
    messages = [each["msg"] for each in error.errors() if each["loc"][:depth] == location]
    return key, " or ".join(dict.fromkeys(text[0].lower() + text[1:] for text in messages))
