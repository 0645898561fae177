"""Layout: the two files of the Cornell corpus, and a line of each as it should be."""

SEPARATOR = " +++$+++ "
MEMBERS = LINES, CONVERSATIONS = ("movie_lines.txt", "movie_conversations.txt")
LAYOUT = {
    LINES: SEPARATOR.join(("L1", "u0", "m0", "NAME", "text")),
    CONVERSATIONS: SEPARATOR.join(("u0", "u1", "m0", "['L1', 'L2']")),
}
