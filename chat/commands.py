"""The commands of a conversation: input lines that begin with a slash, typed or read from a pipe."""

import re
from collections.abc import Callable, Generator
from typing import TYPE_CHECKING

from models.errors import InputError, did_you_mean
from models.files import path_of
from models.quantities import count_text, duration_text

if TYPE_CHECKING:
    from chat.session import Session  # imports torch

Pieces = Generator[str, None, None]
OpenModel = Callable[[str], tuple["Session", str]]
"""Opens the model that a reference names, and returns a session with the model and the model's title."""

HELP = """\
/new                      forget the conversation and start a new one
/retry                    answer your last message again
/undo                     forget your last message and its reply
/history                  show the conversation
/system TEXT              what the model reads before all messages; /system alone shows it, and
                          /system none removes it
/set                      show the generation settings
/set temperature 0.9      change a setting: temperature, top_p, top_k, max_tokens, seed,
                          repetition_penalty, no_repeat_ngram or stop (a text, or none)
/model REF                continue with another model: champion, a version number or a folder
/stats                    show the size of the conversation and the speed of the last reply
/save FILE                write the conversation to FILE, as JSON lines
/load FILE                continue the conversation in a file written by /save
/help                     show this help
/quit                     end the conversation (or Ctrl-D); Ctrl-C stops a reply"""
WITHOUT_ARGUMENT = ("/new", "/retry", "/undo", "/history", "/stats", "/help", "/quit")


class Conversation:
    """A session and its commands. The command `/model` opens a session with another model instead."""

    def __init__(self, session: "Session", open_model: OpenModel) -> None:
        self.session = session
        self.open_model = open_model

    def obey(self, line: str, reply: Callable[[Pieces], None], note: Callable[[str], None]) -> bool:
        """Handle one message or command, and return whether it ends the conversation.

        Raises:
            InputError: the message or the command is invalid.
        """
        if not line.startswith("/"):
            reply(self.session.say(line))
            return False
        command, _, rest = line.partition(" ")
        rest = rest.strip()
        if rest and command in WITHOUT_ARGUMENT:
            raise InputError(f"{command} takes no argument; type {command} alone")
        if command == "/quit":
            return True
        if command == "/retry":
            reply(self.session.retry())
            return False
        commands: dict[str, Callable[[str], str]] = {
            "/new": self._new,
            "/undo": lambda _: f"forgotten: {self.session.undo()}",
            "/history": self._history,
            "/system": self._system,
            "/set": self._set,
            "/model": self._model,
            "/stats": self._stats,
            "/save": self._save,
            "/load": self._load,
            "/help": lambda _: HELP,
        }
        if command not in commands:
            hint = did_you_mean(command, [*commands, "/quit", "/retry"]) or "/help lists the commands"
            raise InputError(f"there is no command {command}; {hint}")
        note(commands[command](rest))
        return False

    def _new(self, _: str) -> str:
        self.session.new()
        return "a new conversation"

    def _history(self, _: str) -> str:
        names = {"user": "you", "assistant": "bot"}
        lines = [f"system> {self.session.system}"] if self.session.system else []
        lines += [f"{names[turn.role]}> {turn.content}" for turn in self.session.turns]
        return "\n".join(lines) or "the conversation has no messages yet"

    def _system(self, rest: str) -> str:
        if rest:
            self.session.set_system("" if rest == "none" else rest)
        return f"system text: {self.session.system or 'none'}"

    def _set(self, rest: str) -> str:
        key, value = [*re.split(r"\s*=\s*|\s+", rest, maxsplit=1), ""][:2]
        # Only a stop text may contain spaces.
        if rest and (not value or (key != "stop" and len(value.split()) > 1)):
            raise InputError(f"/set {rest}: give one setting and its value, for example /set temperature 0.9")
        if rest:
            self.session.set(key, value)
        return ", ".join(f"{name} {_value_text(value)}" for name, value in self.session.generation)

    def _model(self, rest: str) -> str:
        if not rest:
            raise InputError("/model needs a model, for example /model champion or /model 2")
        session, title = self.open_model(rest)
        session.restore(self.session.messages())
        self.session = session
        return title

    def _stats(self, _: str) -> str:
        stats = self.session.stats()
        words = [
            count_text(stats.turns, "messages"),
            f"{count_text(stats.context_tokens, 'tokens')} of context",
        ]
        if stats.reply_tokens:
            speed = stats.reply_tokens / max(stats.reply_seconds, 1e-9)
            words.append(
                f"the last reply: {count_text(stats.reply_tokens, 'tokens')} in "
                f"{duration_text(stats.reply_seconds)} ({speed:,.0f} tokens/s)"
            )
        return ", ".join(words)

    def _save(self, rest: str) -> str:
        if not rest:
            raise InputError("/save needs a file name, for example /save talk.jsonl")
        path = path_of(rest)
        self.session.save(path)
        return f"saved to {path}"

    def _load(self, rest: str) -> str:
        if not rest:
            raise InputError(
                "/load needs the name of a file that /save has written, for example /load talk.jsonl"
            )
        path = path_of(rest)
        self.session.load(path)
        return f"loaded {count_text(len(self.session.turns), 'messages')} from {path}"


def _value_text(value: object) -> str:
    if isinstance(value, tuple):
        return " ".join(map(repr, value)) or "none"
    return "none" if value is None else str(value)
