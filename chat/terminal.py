"""Terminal: the conversation of `repartee chat`, held at an interactive terminal or through a pipe.

A terminal shows a prompt, colours and notes. Through a pipe, each message is answered by exactly one line on
standard output, and everything else goes to standard error.
"""

import os
import re
import sys
from collections.abc import Callable, Generator
from contextlib import closing
from typing import TYPE_CHECKING, TextIO

from models.errors import InputError, did_you_mean
from models.files import path_of

if TYPE_CHECKING:
    from chat.session import Session  # imports torch

Pieces = Generator[str, None, None]

PROMPT = "you> "
REPLY = "bot> "
HELP = """\
/new                      forget the conversation and start a new one
/retry                    answer your last message again
/undo                     forget your last message and its reply
/set                      show the generation settings
/set temperature 0.9      change a setting: temperature, top_p, top_k, max_tokens, seed,
                          repetition_penalty, no_repeat_ngram or stop (a text, or none)
/save FILE                write the conversation to FILE, as JSON lines
/help                     show this help
/quit                     end the conversation (or Ctrl-D); Ctrl-C stops a reply"""
WITHOUT_ARGUMENT = ("/new", "/retry", "/undo", "/help", "/quit")


def run(session: "Session", *, title: str, stdin: TextIO, stdout: TextIO) -> int:
    """Converse until the input ends; returns the exit status: 0, or 2 if a line from a pipe was invalid."""
    if stdin.isatty() and stdout.isatty():
        return _Screen(session, stdin, stdout).talk(title)
    return _pipe(session, stdin, stdout)


def _pipe(session: "Session", stdin: TextIO, stdout: TextIO) -> int:
    def answer(pieces: Pieces) -> None:
        _line(stdout, "".join(pieces))

    status = 0
    for line in stdin:
        if not line.strip():
            continue
        try:
            is_last = _obey(session, line.strip(), answer, _note_aside)
        except InputError as error:
            _note_aside(f"repartee chat: {error}")
            status = 2
        else:
            if is_last:
                break
    return status


def _note_aside(text: str) -> None:
    _line(sys.stderr, text)


class _Screen:
    def __init__(self, session: "Session", stdin: TextIO, stdout: TextIO) -> None:
        self.session, self.stdin, self.stdout = session, stdin, stdout
        self.colours = not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"

    def talk(self, title: str) -> int:
        self.note(f"{title}\n/help lists the commands; /quit or Ctrl-D ends the conversation.")
        while True:
            try:
                line = self.ask()
                if line and _obey(self.session, line, self.reply, self.note):
                    return 0
            except InputError as error:
                self.note(str(error))
            except KeyboardInterrupt:
                self.note("\n/quit or Ctrl-D ends the conversation.")
            except EOFError:
                _line(self.stdout, "")
                return 0

    def ask(self) -> str:
        """The next input line. In the process's own terminal, readline edits it and recalls earlier lines."""
        if self.stdin is sys.stdin and self.stdout is sys.stdout:
            try:
                import readline  # noqa: F401  # its import enables line editing; some Pythons lack it
            except ImportError:
                return input(PROMPT).strip()
            return input(self.painted(PROMPT, "1;36", hidden=True)).strip()
        _write(self.stdout, self.painted(PROMPT, "1;36"))
        line = self.stdin.readline()
        if not line:
            raise EOFError
        return line.strip()

    def reply(self, pieces: Pieces) -> None:
        """Show the pieces as they arrive. Ctrl-C stops the reply; the pieces shown stay in the history."""
        _write(self.stdout, self.painted(REPLY, "1;35"))
        try:
            with closing(pieces):
                for piece in pieces:
                    _write(self.stdout, piece)
        except KeyboardInterrupt:
            _write(self.stdout, self.painted(" (stopped)", "2"))
        finally:
            _line(self.stdout, "")

    def note(self, text: str) -> None:
        _line(self.stdout, self.painted(text, "2"))

    def painted(self, text: str, code: str, *, hidden: bool = False) -> str:
        if not self.colours:
            return text
        on, off = f"\033[{code}m", "\033[0m"
        if hidden:  # so that readline does not count the colour codes as columns
            on, off = f"\001{on}\002", f"\001{off}\002"
        return f"{on}{text}{off}"


def _obey(
    session: "Session", line: str, reply: Callable[[Pieces], None], note: Callable[[str], None]
) -> bool:
    """Handle one line of input; returns whether it ends the conversation."""
    if not line.startswith("/"):
        reply(session.say(line))
        return False
    command, _, rest = line.partition(" ")
    rest = rest.strip()
    if rest and command in WITHOUT_ARGUMENT:
        raise InputError(f"{command} takes no argument; type {command} alone")
    if command == "/quit":
        return True
    if command == "/retry":
        reply(session.retry())
        return False
    commands: dict[str, Callable[[], str]] = {
        "/new": lambda: _new(session),
        "/undo": lambda: f"forgotten: {session.undo()}",
        "/set": lambda: _set(session, rest),
        "/save": lambda: _save(session, rest),
        "/help": lambda: HELP,
    }
    if command not in commands:
        hint = did_you_mean(command, [*commands, "/quit", "/retry"]) or "/help lists the commands"
        raise InputError(f"there is no command {command}; {hint}")
    note(commands[command]())
    return False


def _new(session: "Session") -> str:
    session.new()
    return "a new conversation"


def _set(session: "Session", rest: str) -> str:
    key, value = [*re.split(r"\s*=\s*|\s+", rest, maxsplit=1), ""][:2]
    # Only a stop text may contain spaces.
    if rest and (not value or (key != "stop" and len(value.split()) > 1)):
        raise InputError(f"/set {rest}: give one setting and its value, for example /set temperature 0.9")
    if rest:
        session.set(key, value)
    return ", ".join(f"{name} {_value_text(value)}" for name, value in session.generation)


def _value_text(value: object) -> str:
    if isinstance(value, tuple):
        return " ".join(map(repr, value)) or "none"
    return "none" if value is None else str(value)


def _save(session: "Session", rest: str) -> str:
    if not rest:
        raise InputError("/save needs a file name, for example /save talk.jsonl")
    path = path_of(rest)
    session.save(path)
    return f"saved to {path}"


def _line(stream: TextIO, text: str) -> None:
    _write(stream, text + "\n")


def _write(stream: TextIO, text: str) -> None:
    """Write the text and flush, with ? for each character that the stream's encoding lacks."""
    encoding = stream.encoding or "utf-8"
    stream.write(text.encode(encoding, "replace").decode(encoding))
    stream.flush()
