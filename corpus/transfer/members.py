"""Members: the wanted files, which are opened in the same way in an archive and in a folder."""

import os
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from models.errors import InputError


@dataclass(frozen=True)
class Member:
    """A file to read, in an archive or in a folder."""

    source: Path
    name: str
    size_bytes: int
    packed_bytes: int
    info: zipfile.ZipInfo | None = None
    archive: zipfile.ZipFile | None = None

    def __str__(self) -> str:
        return f"{self.source.name}: {self.name}" if self.archive else str(self.source)

    def open(self) -> IO[bytes]:
        """Open the file for reading; a damaged archive raises one of `DAMAGE_ERRORS` (archive.py)."""
        if self.archive is not None and self.info is not None:
            return self.archive.open(self.info)
        return self.source.open("rb")


def members_in_folder(folder: Path, members: tuple[str, ...]) -> dict[str, Member]:
    """The members by name. Each is searched for in the folder and in the folders directly inside it.

    Raises:
        InputError: one of the members is missing or not unique, or the folder cannot be read.
    """
    files = _files(folder)
    found = {}
    for name in members:
        paths = [path for path in files if path.name.lower() == name]
        # A file in the folder itself takes precedence over one in a folder inside it.
        paths = [path for path in paths if path.parent == folder] or paths
        if len(paths) > 1:
            folders = list_names([path.parent.name for path in paths])
            raise InputError(f"{folder} holds {name} in {folders}: give one of these folders")
        if not paths:
            raise missing_error(folder, name, members, [path.name for path in files])
        size_bytes = paths[0].stat().st_size
        found[name] = Member(paths[0], name, size_bytes, size_bytes)
    return found


def all_in_folder(folder: Path) -> list[Member]:
    """All files of a folder and of the folders directly inside it, without hidden ones.

    Raises:
        InputError: the folder cannot be read.
    """
    paths = [path for path in _files(folder) if not path.relative_to(folder).as_posix().startswith(".")]
    paths = [path for path in paths if not path.name.startswith(".")]
    sizes = [path.stat().st_size for path in paths]
    return [
        Member(path, path.relative_to(folder).as_posix(), size, size)
        for path, size in zip(paths, sizes, strict=True)
    ]


def _files(folder: Path) -> list[Path]:
    """The files in the folder and one level below it. A deeper search could take long in a home directory."""
    try:
        inner = [path for path in folder.iterdir() if path.is_dir() and path.name != "__MACOSX"]
        folders = [folder, *(path for path in inner if os.access(path, os.R_OK | os.X_OK))]
        return sorted(path for each in folders for path in each.iterdir() if path.is_file())
    except OSError as error:
        raise InputError(f"{folder} cannot be read ({error.strerror}): check its permissions") from None


def missing_error(source: Path, name: str, members: tuple[str, ...], names: list[str]) -> InputError:
    """The error for a source that contains the files `names`, but not the member `name`."""
    visible = [other for other in names if not other.startswith(".")]
    return InputError(
        f"{source.name} holds {f'{list_names(visible)}, but no {name}' if visible else 'no files'}: "
        f"give a zip or folder with {' and '.join(members)}"
    )


def list_names(names: list[str]) -> str:
    """At most three of the names as text, escaped for the terminal because the archive is not trusted."""
    shown = [ascii(name[:60])[1:-1] for name in sorted(set(names))]
    more = f" and {len(shown) - 3} more" if len(shown) > 3 else ""
    return ", ".join(shown[:3]) + more
