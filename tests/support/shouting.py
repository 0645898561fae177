"""A stage that writes a word several times, for the tests of the store."""

import os
import sys

from models.config import Config


class Knobs(Config):
    times: int = 2
    word: str = "a"


def shout(out, config, quiet=None, fail=False, held=False):
    """Write the word; if `held` is set, also print a line and wait for a line on standard input."""
    (out / "logs").mkdir()
    (out / "logs" / "when.txt").write_text(os.urandom(8).hex())
    text = quiet.joinpath("text.txt").read_text() if quiet else config.word
    (out / "text.txt").write_text(text * config.times)
    if held:
        sys.stdout.write("building\n")
        sys.stdout.flush()
        sys.stdin.readline()
    if fail:
        raise RuntimeError("in the middle")
    return config.times
