"""Errors: the failures that the user can mend, and how they are put into one line."""

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
    """An error that the user can correct. The message is one line: what is wrong, where, and the remedy.

    The command line prints it alone and ends with status 2; anything else is our fault.
    """


class TrackingUnavailable(InputError):
    """MLflow does not answer. What needs it waits; a training does not need it."""


class DataRejected(InputError):
    """The corpus cannot be used for training."""


def is_out_of_space(error: BaseException | None) -> bool:
    """Whether the disk, a quota or the limit of a file's size was reached, whatever a library made of it."""
    while error is not None:
        if isinstance(error, OSError) and error.errno in OUT_OF_SPACE:
            return True
        # Of Rust's (safetensors, tokenizers), SQLite's and shutil.copytree's only the text is left.
        if FULL.search(str(error)):
            return True
        error = error.__cause__ or error.__context__
    return False


def did_you_mean(word: str, known: Iterable[str]) -> str | None:
    """A question with the known word that is most similar to a mistyped one; None: no word is similar."""
    similar = get_close_matches(word, list(known), n=1)
    return f"did you mean {similar[0]!r}?" if similar else None


def validation_problem(error: "ValidationError", depth: int) -> tuple[str, str]:
    """(the key, what is wrong with its value) of the first problem that pydantic found.

    The message of a validator of ours is returned as it is. A value that may be of several types has a
    message for each of them, and these are joined.

    Args:
        depth: how many parts of an error's location are the key; after them comes the type in question.
    """
    first = error.errors()[0]
    location = first["loc"][:depth]
    key = ".".join(map(str, location))
    if first["type"] == "value_error":
        return key, str(first["ctx"]["error"])
    messages = [each["msg"] for each in error.errors() if each["loc"][:depth] == location]
    return key, " or ".join(dict.fromkeys(text[0].lower() + text[1:] for text in messages))
