"""The kinds of failure that are the user's to mend."""

import errno
import re

OUT_OF_SPACE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
FULL = re.compile(rf"(os error |\[Errno )({'|'.join(map(str, OUT_OF_SPACE))})\b|database or disk is full")


class InputError(Exception):
    """What the user gave is wrong. The message is one line: what, where, and the remedy.

    The command line prints it alone and ends with status 2; anything else is our fault.
    """


class TrackingUnavailable(InputError):
    """MLflow does not answer. What needs it waits; a training does not need it."""


class DataRejected(InputError):
    """The corpus itself is at fault: it is not what a model can be trained on."""


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
