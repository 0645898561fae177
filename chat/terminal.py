"""Terminal: the conversation of `repartee chat`, in an interactive terminal or through a pipe.

A terminal shows a prompt, colours and notes. Through a pipe, each message is answered by exactly one line on
standard output, and everything else goes to standard error.
"""

import os
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from chat.commands import Conversation, OpenModel, Pieces
from models.errors import InputError
from models.wrapping import wrapped

if TYPE_CHECKING:
    from chat.session import Session  # imports torch

PROMPT = "you> "
REPLY = "bot> "
DEFAULT_COLUMNS = 80  # of a terminal that does not know its width
MAX_HISTORY = 1000  # lines


def run(
    session: "Session",
    *,
    title: str,
    stdin: TextIO,
    stdout: TextIO,
    open_model: OpenModel,
    input_history: Path | None = None,
) -> int:
    """Converse until the user quits or the input ends, and return the exit status.

    The exit status is 0, or 2 if a line from a pipe was invalid.

    Args:
        input_history: the file that stores the input lines of all conversations at a terminal, so that the
            arrow keys can recall them.
    """
    conversation = Conversation(session, open_model)
    if stdin.isatty() and stdout.isatty():
        with _line_editing(input_history if stdin is sys.stdin else None):
            return _Screen(conversation, stdin, stdout).talk(title)
    return _pipe(conversation, stdin, stdout)


@contextmanager
def _line_editing(history: Path | None) -> Iterator[None]:
    """Use readline, if Python has it, for editing the input lines and for storing those of all conversations.

    Bracketed paste, which Python turns off by default, is turned on, so that several lines pasted at once are
    one message.
    """
    try:
        import readline
    except ImportError:  # some builds of Python lack readline
        yield
        return
    readline.parse_and_bind("set enable-bracketed-paste on")
    readline.set_history_length(MAX_HISTORY)
    if history is not None:
        with suppress(OSError):  # the history file does not exist yet, or cannot be read
            readline.read_history_file(history)
    try:
        yield
    finally:
        if history is not None:
            with suppress(OSError):  # if the home is not writable, no history is stored
                readline.write_history_file(history)
                history.chmod(0o600)


def _pipe(conversation: Conversation, stdin: TextIO, stdout: TextIO) -> int:
    def answer(pieces: Pieces) -> None:
        _line(stdout, "".join(pieces))

    status = 0
    for line in stdin:
        if not line.strip():
            continue
        try:
            is_last = conversation.obey(line.strip(), answer, _note_aside)
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
    def __init__(self, conversation: Conversation, stdin: TextIO, stdout: TextIO) -> None:
        self.conversation, self.stdin, self.stdout = conversation, stdin, stdout
        self.colours = not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"

    def talk(self, title: str) -> int:
        self.note(f"{title}\n/help lists the commands; /quit or Ctrl-D ends the conversation.")
        while True:
            try:
                line = self.ask()
                if line and self.conversation.obey(line, self.reply, self.note):
                    return 0
            except InputError as error:
                self.note(str(error))
            except KeyboardInterrupt:
                self.note("\n/quit or Ctrl-D ends the conversation.")
            except EOFError:
                _line(self.stdout, "")
                return 0

    def ask(self) -> str:
        """The next input line. If it comes from this process's own terminal, readline can edit the line."""
        if self.stdin is sys.stdin and self.stdout is sys.stdout:
            has_readline = "readline" in sys.modules
            return input(self.painted(PROMPT, "1;36", hidden=True) if has_readline else PROMPT).strip()
        _write(self.stdout, self.painted(PROMPT, "1;36"))
        line = self.stdin.readline()
        if not line:
            raise EOFError
        return line.strip()

    def reply(self, pieces: Pieces) -> None:
        """Show the pieces as they arrive. Ctrl-C stops the reply; the part shown so far is kept."""
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
        """Show a text with lines that the terminal does not break inside a word."""
        with suppress(OSError, ValueError):  # the stream has no terminal, whose width could be read
            text = wrapped(text, os.get_terminal_size(self.stdout.fileno()).columns or DEFAULT_COLUMNS)
        _line(self.stdout, self.painted(text, "2"))

    def painted(self, text: str, code: str, *, hidden: bool = False) -> str:
        if not self.colours:
            return text
        on, off = f"\033[{code}m", "\033[0m"
        if hidden:  # so that readline does not count the colour codes as columns
            on, off = f"\001{on}\002", f"\001{off}\002"
        return f"{on}{text}{off}"


def _line(stream: TextIO, text: str) -> None:
    _write(stream, text + "\n")


def _write(stream: TextIO, text: str) -> None:
    """Write the text, with ? for each character that the stream's encoding lacks, and flush the stream."""
    encoding = stream.encoding or "utf-8"
    stream.write(text.encode(encoding, "replace").decode(encoding))
    stream.flush()
