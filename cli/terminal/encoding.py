"""Encoding: names and text files are UTF-8, even if the locale or the terminal uses another encoding."""

import codecs
import io
import locale
import os
import sys

from models.errors import InputError
from models.files import is_utf8


def use_utf8_mode() -> None:
    """Restart this process in Python's UTF-8 mode if the locale's encoding is not UTF-8.

    UTF-8 mode is needed because the text files in a home are UTF-8, and so are the names that Prefect and
    MLflow record.
    """
    if (
        codecs.lookup(locale.getpreferredencoding(False)).name == "utf-8"
        or os.environ.get("PYTHONUTF8") == "1"
    ):
        return
    environment = {**os.environ, "PYTHONUTF8": "1"}
    if codecs.lookup(sys.stdout.encoding).name != "ascii":  # printed text keeps the terminal's encoding
        environment.setdefault("PYTHONIOENCODING", sys.stdout.encoding)
    os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], environment)


def check_arguments() -> None:
    """Check that Prefect and MLflow can record the arguments and the environment variables REPARTEE_*.

    Raises:
        InputError: an argument or one of these variables is not valid UTF-8.
    """
    variables = (value for name, value in os.environ.items() if name.startswith("REPARTEE_"))
    for text in (*sys.argv[1:], *variables):
        if not is_utf8(text):
            raise InputError(
                f"{text!r} is not valid UTF-8, so neither Prefect nor MLflow can record it; "
                "use a name in UTF-8"
            )


def accept_any_character() -> None:
    """Make the standard streams of this process accept any character.

    Characters that the terminal cannot show are printed as `?`. If the encoding of standard input is ASCII,
    UTF-8 is read instead.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")
    if isinstance(sys.stdin, io.TextIOWrapper):
        is_ascii = codecs.lookup(sys.stdin.encoding).name == "ascii"
        sys.stdin.reconfigure(encoding="utf-8" if is_ascii else None, errors="replace")
