"""Layout: the two files of the Cornell Movie-Dialogs Corpus, and their fields."""

SEPARATOR = " +++$+++ "
MEMBERS = LINES, CONVERSATIONS = ("movie_lines.txt", "movie_conversations.txt")
LAYOUT = {
    LINES: SEPARATOR.join(("L1", "u0", "m0", "NAME", "text")),
    CONVERSATIONS: SEPARATOR.join(("u0", "u1", "m0", "['L1', 'L2']")),
}
"""A line of each file, for error messages."""
