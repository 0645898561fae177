"""Disk: the size of a folder, and sizes as readable text."""

import os
from contextlib import suppress
from pathlib import Path


def nearest_folder(path: Path) -> Path:
    """The folder itself if it exists, otherwise its nearest parent that exists."""
    return next(folder for folder in (path, *path.parents) if folder.is_dir())


def used_bytes(folder: Path) -> int:
    """The total size of all files in a folder, except those that disappear during the count."""
    used = 0
    for inner, _, names in os.walk(folder):
        for name in names:
            with suppress(FileNotFoundError):
                used += Path(inner, name).lstat().st_size
    return used


def size_text(size_bytes: int) -> str:
    """A size in kB, MB or GB (powers of 1,000)."""
    for unit, factor in (("GB", 1e9), ("MB", 1e6)):
        if size_bytes >= factor:
            return f"{size_bytes / factor:,.1f} {unit}"
    return f"{size_bytes / 1e3:,.0f} kB"
