"""Calls a function before each change of a file, for tests in which a process dies at any change."""

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

CHANGES = {"os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.truncate"}


def watch(folder: Path, see: Callable[[], None]) -> None:
    """Make this process call `see` before each change of a file in the folder and before each fsync."""

    def hook(event: str, args: tuple[Any, ...]) -> None:
        writes = event == "open" and isinstance(args[1], str) and args[1][:1] in "wax"
        if (event in CHANGES or writes) and str(args[0]).startswith(str(folder)):
            see()

    original = os.fsync

    def fsync(handle: int) -> None:
        see()
        original(handle)

    os.fsync = fsync
    sys.addaudithook(hook)
