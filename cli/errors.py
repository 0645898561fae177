"""How the command ends: the exit status, and a one-line message on standard error if the user can fix the
error."""

import os
import sys
from typing import NoReturn

from models.errors import InputError, is_out_of_space


def user_error(error: Exception) -> str | None:
    """The message for an error that the user can fix; None for any other error."""
    if isinstance(error, InputError):
        return str(error)
    if is_out_of_space(error):
        path = getattr(error, "filename", None) or os.environ.get("REPARTEE_HOME", "var")
        return f"the disk is full ({path}); free some space and run the same command again"
    # Typer bundles its own copy of click, whose exception classes have no public names.
    format_message = getattr(error, "format_message", None)
    return f"{format_message().rstrip('.')}; see `repartee --help`" if format_message else None


def print_error(message: str) -> None:
    """Print a message as one line on standard error."""
    print(f"repartee: {' '.join(message.split())}", file=sys.stderr)


def exit_with(status: int) -> NoReturn:
    """End the process; if a Prefect server that hangs would delay a normal exit, end the process at once."""
    recorded = sys.modules.get("deployments.local.recorded")  # loaded only by the verbs that run a flow
    if recorded and recorded.is_waiting_for_prefect():
        sys.stderr.flush()
        os._exit(status)
    sys.exit(status)
