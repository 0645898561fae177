"""Terminal: the conversation of `repartee chat`, for a person at a screen or for a pipe.

At a screen there are a prompt, colours and notes. Through a pipe each line in is answered by one
line out, and nothing else is written there.
"""

import os
import re
import sys
from collections.abc import Callable, Generator
from contextlib import closing
from difflib import get_close_matches
from typing import TYPE_CHECKING, TextIO

from models.errors import InputError
from models.files import path_of

if TYPE_CHECKING:
    from chat.session import Session  # imports torch

Pieces = Generator[str, None, None]

PROMPT = "you> "
REPLY = "bot> "
HELP = """\
/new                      forget the conversation and begin another
/retry                    answer the last thing you said again
/undo                     forget the last exchange
/set                      show how replies are made
/set temperature 0.9      change it: temperature, top_p, top_k, max_tokens, seed,
                          repetition_penalty, no_repeat_ngram or stop (a text, or none)
/save FILE                write the conversation to FILE, as JSON lines
/help                     show this
/quit                     end (or Ctrl-D); Ctrl-C stops a reply"""
ALONE = ("/new", "/retry", "/undo", "/help", "/quit")


def run(session: "Session", *, title: str, stdin: TextIO, stdout: TextIO) -> int:
    """Talk until the input ends; returns 0, or 2 when a line of a pipe was wrong."""
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
            done = _obey(session, line.strip(), answer, _note_aside)
        except InputError as error:
            _note_aside(f"repartee chat: {error}")
            status = 2
        else:
            if done:
                break
    return status


def _note_aside(text: str) -> None:
    _line(sys.stderr, text)


class _Screen:
    def __init__(self, session: "Session", stdin: TextIO, stdout: TextIO) -> None:
        self.session, self.stdin, self.stdout = session, stdin, stdout
        self.colours = not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"

    def talk(self, title: str) -> int:
        self.note(f"{title}\n/help lists the commands, /quit or Ctrl-D ends.")
        while True:
            try:
                line = self.ask()
                if line and _obey(self.session, line, self.reply, self.note):
                    return 0
            except InputError as error:
                self.note(str(error))
            except KeyboardInterrupt:
                self.note("\n/quit or Ctrl-D ends.")
            except EOFError:
                _line(self.stdout, "")
                return 0

    def ask(self) -> str:
        """The next line; at the process's own terminal, the arrow keys edit and recall."""
        if self.stdin is sys.stdin and self.stdout is sys.stdout:
            try:
                import readline  # noqa: F401  # `input` uses it once imported; not everywhere
            except ImportError:
                return input(PROMPT).strip()
            return input(self.painted(PROMPT, "1;36", hidden=True)).strip()
        _write(self.stdout, self.painted(PROMPT, "1;36"))
        line = self.stdin.readline()
        if not line:
            raise EOFError
        return line.strip()

    def reply(self, pieces: Pieces) -> None:
        """Show the pieces as they come; Ctrl-C stops them, and what was shown stays said."""
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
        if hidden:  # readline must not count them as columns
            on, off = f"\001{on}\002", f"\001{off}\002"
        return f"{on}{text}{off}"


def _obey(
    session: "Session", line: str, reply: Callable[[Pieces], None], note: Callable[[str], None]
) -> bool:
    """Do what one line asks for; true when it ends the conversation."""
    if not line.startswith("/"):
        reply(session.say(line))
        return False
    command, _, rest = line.partition(" ")
    rest = rest.strip()
    if rest and command in ALONE:
        raise InputError(f"{command} takes nothing after it; give {command} alone")
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
        near = get_close_matches(command, [*commands, "/quit", "/retry"], n=1)
        hint = f"did you mean {near[0]}?" if near else "/help lists the commands"
        raise InputError(f"there is no command {command}; {hint}")
    note(commands[command]())
    return False


def _new(session: "Session") -> str:
    session.new()
    return "a new conversation"


def _set(session: "Session", rest: str) -> str:
    key, value = [*re.split(r"\s*=\s*|\s+", rest, maxsplit=1), ""][:2]
    # Only a text that stops a reply may have blanks in it.
    if rest and (not value or (key != "stop" and len(value.split()) > 1)):
        raise InputError(f"/set {rest}: give one setting and its value, like /set temperature 0.9")
    if rest:
        session.set(key, value)
    return ", ".join(f"{name} {_told(knob)}" for name, knob in session.generation)


def _told(knob: object) -> str:
    if isinstance(knob, tuple):
        return " ".join(map(repr, knob)) or "none"
    return "none" if knob is None else str(knob)


def _save(session: "Session", rest: str) -> str:
    if not rest:
        raise InputError("/save where? For example: /save talk.jsonl")
    path = path_of(rest)
    session.save(path)
    return f"saved to {path}"


def _line(stream: TextIO, text: str) -> None:
    _write(stream, text + "\n")


def _write(stream: TextIO, text: str) -> None:
    """Now, and with ? for what the terminal has no character for."""
    encoding = stream.encoding or "utf-8"
    stream.write(text.encode(encoding, "replace").decode(encoding))
    stream.flush()
