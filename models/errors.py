"""The one kind of failure that is the user's to mend."""


class InputError(Exception):
    """What the user gave is wrong. The message is one line: what, where, and the remedy.

    The command line prints it alone and ends with status 2; anything else is our fault.
    """
