import fcntl
import io
import os
import pty
import struct
import subprocess
import sys
import termios
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest

from chat import terminal
from chat.session import Stats, Turn
from models.errors import InputError
from models.generation.config import GenerationConfig


class Parrot:
    """A fake session that answers each text in upper case and records the calls it receives."""

    def __init__(self) -> None:
        self.done: list[tuple[Any, ...]] = []
        self.heard = ""
        self.closed = False
        self.interrupted_after: int | None = None
        self.generation = GenerationConfig()
        self.turns: list[Turn] = []
        self.system = ""

    def say(self, text: str) -> Generator[str, None, None]:
        if not text.strip():
            raise InputError("say something")
        self.heard = text
        return self._pieces()

    def _pieces(self) -> Generator[str, None, None]:
        try:
            for i, letter in enumerate(self.heard.upper()):
                if i == self.interrupted_after:
                    raise KeyboardInterrupt
                yield letter
        finally:
            self.closed = True

    def retry(self) -> Generator[str, None, None]:
        if not self.heard:
            raise InputError("there is no reply to retry")
        self.done.append(("retry",))
        return self._pieces()

    def undo(self) -> str:
        self.done.append(("undo",))
        return self.heard

    def new(self) -> None:
        self.done.append(("new",))

    def set(self, key: str, value: str) -> None:
        self.done.append(("set", key, value))
        self.generation = GenerationConfig(**{**self.generation.model_dump(), key: value})

    def save(self, path: Path) -> None:
        self.done.append(("save", path))

    def load(self, path: Path) -> None:
        self.done.append(("load", path))
        self.turns = [Turn("user", "hi", "hi"), Turn("assistant", "hello", "hello")]

    def messages(self) -> list[dict[str, str]]:
        return [{"role": turn.role, "content": turn.content} for turn in self.turns]

    def restore(self, messages: list[dict[str, str]]) -> None:
        self.done.append(("restore", len(messages)))

    def stats(self) -> Stats:
        return Stats(len(self.turns), 12, 30, 2.0)


def run(session: Any, **given: Any) -> int:
    """Hold a conversation in which `/model` can open one other model, number 2."""

    def open_model(ref: str) -> tuple[Any, str]:
        if ref != "2":
            raise InputError(f"there is no version {ref}")
        other = Parrot()
        other.done = session.done
        return other, "repartee v2"

    return terminal.run(session, open_model=open_model, **given)


class Screen(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture(autouse=True)
def _dumb_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")


def at_screen(session: Any, *lines: str) -> str:
    out = Screen()
    title = "repartee v3, 1.93 bits per byte"
    assert run(session, title=title, stdin=Screen("".join(lines)), stdout=out) == 0
    return out.getvalue()


def through_pipe(session: Any, text: str) -> tuple[int, str]:
    out = io.StringIO()
    return run(session, title="repartee v3", stdin=io.StringIO(text), stdout=out), out.getvalue()


def test_a_screen_shows_the_model_the_help_and_the_reply() -> None:
    shown = at_screen(Parrot(), "hello\n")
    assert shown.splitlines() == [
        "repartee v3, 1.93 bits per byte",
        "/help lists the commands; /quit or Ctrl-D ends the conversation.",
        "you> bot> HELLO",
        "you> ",
    ]


def test_a_reply_is_shown_while_it_is_generated() -> None:
    parrot = Parrot()
    outputs: list[str] = []

    class Watched(Screen):
        def flush(self) -> None:
            outputs.append(self.getvalue())

    run(parrot, title="t", stdin=Screen("abc\n"), stdout=Watched())  # type: ignore[arg-type]
    assert [text[-1] for text in outputs if "bot> " in text][1:4] == ["A", "B", "C"]


def test_the_help_names_every_command() -> None:
    shown = at_screen(Parrot(), "/help\n")
    for command in (
        "/new",
        "/set temperature 0.9",
        "/retry",
        "/undo",
        "/history",
        "/model REF",
        "/stats",
        "/save FILE",
        "/load FILE",
        "/help",
        "/quit",
    ):
        assert command in shown


def test_the_commands_reach_the_session() -> None:
    parrot = Parrot()
    shown = at_screen(
        parrot,
        "hello\n",
        "/retry\n",
        "/undo\n",
        "/new\n",
        "/set temperature 0.9\n",
        "/set seed=5\n",
        "/save my talk.jsonl\n",
    )
    assert parrot.done == [
        ("retry",),
        ("undo",),
        ("new",),
        ("set", "temperature", "0.9"),
        ("set", "seed", "5"),
        ("save", Path("my talk.jsonl")),
    ]
    assert shown.count("bot> HELLO") == 2
    assert "forgotten: hello" in shown
    assert "saved to my talk.jsonl" in shown


def test_a_loaded_conversation_is_shown_and_goes_on_with_another_model() -> None:
    parrot = Parrot()
    shown = at_screen(
        parrot, "/history\n", "/load talk.jsonl\n", "/history\n", "/stats\n", "/model 2\n", "ab\n"
    )
    assert "the conversation has no messages yet" in shown
    assert "loaded 2 messages from talk.jsonl" in shown
    assert "you> hi\nbot> hello\n" in shown
    assert "2 messages, 12 tokens of context, the last reply: 30 tokens in 2.0 s (15 tokens/s)" in shown
    assert "repartee v2" in shown and "bot> AB" in shown
    assert parrot.done == [("load", Path("talk.jsonl")), ("restore", 2)]


def test_set_alone_shows_the_settings() -> None:
    assert "temperature 0.7, top_p 0.9, max_tokens 60, seed none" in at_screen(Parrot(), "/set\n")


def test_a_stop_text_may_have_blanks_in_it() -> None:
    parrot = Parrot()
    at_screen(parrot, "/set stop the end\n/set stop=a = b\n/set top_k 40\n")
    assert parrot.done == [("set", "stop", "the end"), ("set", "stop", "a = b"), ("set", "top_k", "40")]
    parrot.generation = GenerationConfig(stop=("the end", "|"))
    assert "no_repeat_ngram 0, stop 'the end' '|'" in at_screen(parrot, "/set\n")
    parrot.generation = GenerationConfig()
    assert "stop none" in at_screen(parrot, "/set\n")


@pytest.mark.parametrize(
    ("line", "hint"),
    [
        ("/retri", "did you mean '/retry'?"),
        ("/what is this", "no command /what; /help lists the commands"),
        ("/set temperature", "for example /set temperature 0.9"),
        ("/set temperature 0.9 0.8", "for example /set temperature 0.9"),
        ("/save", "for example /save talk.jsonl"),
        ("/retry", "no reply to retry"),
        ("/undo 3", "/undo takes no argument"),
        ("/quit now", "/quit takes no argument"),
        ("/load", "/load talk.jsonl"),
        ("/model", "for example /model champion"),
        ("/model 7", "there is no version 7"),
        ("/stats all", "/stats takes no argument"),
        ("/save ~nosuchuser/talk.jsonl", "no user 'nosuchuser'"),
        (f"/save {'x' * 300}", "cannot be used as a path (File name too long)"),
        ("/save talk\0.jsonl", "cannot be used as a path (it contains a null character)"),
    ],
)
def test_a_wrong_command_is_met_with_the_remedy_and_the_talk_goes_on(line: str, hint: str) -> None:
    shown = at_screen(Parrot(), f"{line}\n", "hello\n")
    assert hint in shown
    assert "HELLO" in shown


def test_quit_ends_and_nothing_after_it_is_read() -> None:
    assert "HELLO" not in at_screen(Parrot(), "/quit\n", "hello\n")


def test_an_empty_line_only_brings_the_prompt_back() -> None:
    assert at_screen(Parrot(), "\n", "  \n").count("you> ") == 3


def test_ctrl_c_stops_a_reply_and_the_talk_goes_on() -> None:
    parrot = Parrot()
    parrot.interrupted_after = 2
    shown = at_screen(parrot, "hello\n", "ab\n")
    assert "bot> HE (stopped)\n" in shown
    assert "bot> AB\n" in shown
    assert parrot.closed


def test_ctrl_c_at_the_prompt_says_how_to_end() -> None:
    class Interrupted(Screen):
        def readline(self, *_: Any) -> str:  # type: ignore[override]
            if self.tell() == 0:
                self.seek(1)
                raise KeyboardInterrupt
            return ""

    out = Screen()
    assert run(Parrot(), title="t", stdin=Interrupted(" "), stdout=out) == 0  # type: ignore[arg-type]
    assert out.getvalue().count("/quit or Ctrl-D ends the conversation.") == 2


def test_no_color_is_honoured_and_colours_are_there_without_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert "\033[" not in at_screen(Parrot(), "hello\n", "/help\n")
    monkeypatch.delenv("NO_COLOR")
    monkeypatch.setenv("TERM", "xterm")
    assert "\033[" in at_screen(Parrot(), "hello\n")
    monkeypatch.setenv("TERM", "dumb")
    assert "\033[" not in at_screen(Parrot(), "hello\n")


def test_through_a_pipe_each_line_is_answered_by_one_line_and_nothing_else() -> None:
    assert through_pipe(Parrot(), "hello\n\nhow are you\n") == (0, "HELLO\nHOW ARE YOU\n")


def test_a_pipe_obeys_commands_and_their_notes_stand_aside(
    capsys: pytest.CaptureFixture[str],
) -> None:
    parrot = Parrot()
    assert through_pipe(parrot, "/set seed 1\nhello\n/retry\n/quit\nlost\n") == (
        0,
        "HELLO\nHELLO\n",
    )
    assert parrot.done == [("set", "seed", "1"), ("retry",)]
    assert "seed 1" in capsys.readouterr().err


def test_a_wrong_line_of_a_pipe_is_an_error_on_standard_error_and_in_the_exit_status(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert through_pipe(Parrot(), "/oops\nhello") == (2, "HELLO\n")
    assert "no command /oops" in capsys.readouterr().err


def test_ctrl_c_ends_a_pipe() -> None:
    parrot = Parrot()
    parrot.interrupted_after = 1
    with pytest.raises(KeyboardInterrupt):
        through_pipe(parrot, "hello\n")


def test_what_a_terminal_has_no_character_for_is_a_question_mark() -> None:
    raw = io.BytesIO()
    out = io.TextIOWrapper(raw, encoding="ascii")
    run(Parrot(), title="t", stdin=io.StringIO("caf\u00e9\n"), stdout=out)  # type: ignore[arg-type]
    assert raw.getvalue() == b"CAF?\n"


PASTING = """
import sys
from pathlib import Path
from chat import terminal
class Echo:
    def say(self, text):
        yield repr(text)
terminal.run(Echo(), title="t", stdin=sys.stdin, stdout=sys.stdout, open_model=None,
             input_history=Path(sys.argv[1]))
"""


def test_lines_that_are_pasted_at_once_are_one_message_and_the_arrow_keys_know_the_last_conversation(
    tmp_path: Path,
) -> None:
    history = tmp_path / "chat_history"
    shown = in_a_terminal(history, "\x1b[200~one\ntwo\x1b[201~\r", "/quit\r")
    assert "'one\\ntwo'" in shown
    shown = in_a_terminal(history, "first\r", "/quit\r")
    assert "'first'" in shown
    up = "\x1b[A"
    shown = in_a_terminal(history, f"{up}{up}\r", "/quit\r")
    assert "bot> 'first'" in shown
    assert history.stat().st_mode & 0o777 == 0o600


def in_a_terminal(history: Path, *inputs: str) -> str:
    """The text that a terminal shows in a conversation in which a user types one of these texts at each
    prompt."""
    pid, terminal_fd = pty.fork()
    if pid == 0:
        os.environ["TERM"] = "xterm"
        os.execv(sys.executable, [sys.executable, "-c", PASTING, str(history)])
    shown = ""
    waiting = list(inputs)
    while True:
        try:
            shown += os.read(terminal_fd, 10_000).decode()
        except OSError:  # the program has ended
            break
        if waiting and shown.count("you> ") > len(inputs) - len(waiting):
            os.write(terminal_fd, waiting.pop(0).encode())
    os.waitpid(pid, 0)
    os.close(terminal_fd)
    return shown


def test_the_terminal_imports_no_torch() -> None:
    code = "import sys, chat.terminal; print('torch' in sys.modules or 'transformers' in sys.modules)"
    root = Path(terminal.__file__).parent.parent
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


@pytest.mark.parametrize("columns", [60, 80, 100])
def test_a_note_in_a_terminal_is_wrapped_between_words(columns: int) -> None:
    reading, writing = pty.openpty()
    fcntl.ioctl(writing, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    with os.fdopen(reading, "rb"), os.fdopen(writing, "w") as stdout:
        stdin = Screen("/set\n/help\n/quit\n")
        run(Parrot(), title="a parrot", stdin=stdin, stdout=stdout)
        shown = os.read(reading, 10_000).decode()
        lines = [line.removeprefix("you> ") for line in shown.splitlines()]
    assert all(len(line) <= columns for line in lines)
    words = " ".join(lines).split()
    settings = ("temperature", "max_tokens", "repetition_penalty", "no_repeat_ngram", "conversation")
    assert set(settings) <= {word.strip(",") for word in words}


def test_the_command_system_sets_shows_and_removes_the_system_text() -> None:
    session = Parrot()
    session.set_system = lambda text: setattr(session, "system", text)  # type: ignore[attr-defined]
    lines = ["/system Be brief.\n", "/history\n", "/system none\n", "/system\n", "/quit\n"]
    screen = at_screen(session, *lines)
    assert "system text: Be brief." in screen and "system> Be brief." in screen
    assert screen.count("system text: none") == 2
