"""Loading: in a terminal, a line in place shows at once that the chat is loading a model."""

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from console import signs_of_life

log = logging.getLogger("progress")


@contextmanager
def loading(ref: str) -> Iterator[None]:
    """Show until the end of the `with` block which model is being loaded. Through a pipe, show nothing."""
    if not all(stream.isatty() for stream in (sys.stdin, sys.stdout, sys.stderr)):
        yield
        return
    log.info("loading the model %s", ref)
    with signs_of_life():
        yield
