"""Wrapping: the output of the verbs fits the width of the terminal."""

import sys

from console import columns_of
from models.wrapping import wrapped


def fit(text: str) -> str:
    """The text for standard output: wrapped to the width of a terminal, or unchanged for a pipe or a file."""
    return wrapped(text, columns_of(sys.stdout)) if sys.stdout.isatty() else text


def fits(text: str) -> bool:
    """Whether standard output can show the text without wrapping it."""
    return not sys.stdout.isatty() or max(map(len, text.split("\n"))) <= columns_of(sys.stdout)
