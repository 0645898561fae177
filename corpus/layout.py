"""Layout: the files of the Cornell Movie-Dialogs Corpus, their fields, and the record of a download."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from models.errors import InputError
from models.record import Record

CORNELL = "Cornell"  # the name of this format, for people
SOURCE = "logs/source.json"
FILES = "files"
"""The folder for files of any names, which could otherwise be those of the store's own files."""
SOURCES = "sources"
"""The folder with a folder for each source, if a corpus has several sources."""
SEPARATOR = " +++$+++ "
MEMBERS = LINES, CONVERSATIONS = ("movie_lines.txt", "movie_conversations.txt")
TABLES = ("movie_lines.tsv", "movie_conversations.tsv")
"""The same two files in a copy that separates the fields with tabs, as Kaggle distributes it."""
LAYOUT = {
    LINES: SEPARATOR.join(("L1", "u0", "m0", "NAME", "text")),
    CONVERSATIONS: SEPARATOR.join(("u0", "u1", "m0", "['L1', 'L2']")),
}
"""An example line for each raw file, for use in error messages."""


class Origin(Record):
    """The content of logs/source.json, which records where a downloaded corpus came from."""

    name: str
    corpus: str = ""
    """The corpus as the user specified it, without any part that may be secret."""
    members: dict[str, str] = {}
    """The SHA-256 of each file that was unpacked, by file name."""


def stored_files(download: Path) -> dict[str, Path]:
    """The raw files of a corpus, by the names under which the stage `download` has stored them."""
    for names in (MEMBERS, TABLES):
        if (download / names[0]).exists():
            return {name: download / name for name in names}
    return {path.name: path for path in sorted((download / FILES).iterdir())}


def stored_sources(download: Path) -> dict[str, dict[str, Path]]:
    """The raw files of each source of a corpus, by the name of the source."""
    if not (download / SOURCES).exists():
        return {Origin.read(download / SOURCE).name: stored_files(download)}
    return {path.name: stored_files(path) for path in sorted((download / SOURCES).iterdir())}


@contextmanager
def source_named(name: str) -> Iterator[None]:
    """Put the name of a source before an error message that does not begin with it; "" changes nothing.

    Raises:
        InputError: the error, of the same class, with another message.
    """
    try:
        yield
    except InputError as error:
        if not name or str(error).startswith((f"{name}:", "corpus ")):
            raise
        raise type(error)(f"{name}: {error}") from error
