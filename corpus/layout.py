"""Layout: the files of the Cornell Movie-Dialogs Corpus, their fields, and the record of a download."""

from pathlib import Path

from models.record import Record

CORNELL = "Cornell"  # the name of this format, for people
SOURCE = "logs/source.json"
FILES = "files"
"""The folder for files of any names, which could otherwise be those of the store's own files."""
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
