"""Layout: the files of the Cornell Movie-Dialogs Corpus, their fields, and the record of a download."""

from models.record import Record

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
