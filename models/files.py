"""Files: what is written is on the disk."""

import os
from pathlib import Path


def sync(path: Path) -> None:
    """What is written of a file, or the names in a folder, are on the disk when this returns."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
