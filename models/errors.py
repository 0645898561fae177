"""The kinds of failure that are the user's to mend."""

import errno


class InputError(Exception):
    """What the user gave is wrong. The message is one line: what, where, and the remedy.

    The command line prints it alone and ends with status 2; anything else is our fault.
    """


class TrackingUnavailable(InputError):
    """MLflow does not answer. What needs it waits; a training does not need it."""


class DataRejected(InputError):
    """The corpus itself is at fault: it is not what a model can be trained on."""


def is_out_of_space(error: OSError) -> bool:
    """Whether the disk, a quota or the limit of a file's size was reached."""
    return error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
