"""Session: one conversation with one model, its history and how the replies are made."""

import collections.abc
import json
import os
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from difflib import get_close_matches
from itertools import count
from pathlib import Path
from typing import Literal

import torch
from pydantic import ValidationError

from models.errors import InputError
from models.generation.config import GenerationConfig
from models.generation.generator import Generator, chances
from models.network import networks
from models.text import tokenizer
from models.text.chat_template import load_rendering
from models.text.config import MarkupConfig
from models.text.encoding import encode_context, read_dialogue
from models.text.normalisation import Form, display, normalise

Pieces = collections.abc.Generator[str, None, None]

# A reply is one line of text: what would move the cursor or end the line is a blank.
_CONTROL = dict.fromkeys([*range(32), *range(127, 160)], " ")
_HALF_CHARACTER = "\ufffd"  # what the bytes of one that is not whole decode to


@dataclass(frozen=True)
class Turn:
    role: Literal["user", "assistant"]
    content: str
    """As a person reads it."""
    text: str
    """As the model reads it."""


@dataclass(frozen=True)
class Answer:
    """One reply of `reply_once`."""

    text: str
    tokens: int
    finished: bool
    """The model, or a text that stops it, ended it; it was not cut at the limit."""


class Session:
    """A conversation with the model in a folder; turns alternate, the user's first."""

    def __init__(self, model_folder: Path, generation: GenerationConfig) -> None:
        made = read_dialogue(model_folder)
        self._form: Form = made["normalisation"]
        self._markup = MarkupConfig(**made["markup"])
        self._tokenizer = tokenizer.load(model_folder)
        self._rendering = load_rendering(model_folder)
        self._generator = Generator(networks.load(model_folder), self._rendering.control)
        self._chances: torch.Generator | None = None
        self._saved: set[Path] = set()
        self.turns: list[Turn] = []
        self.generation = generation
        self._seed()

    def say(self, text: str) -> Pieces:
        """Answer `text`, piece by piece; the pieces joined are the reply.

        The history has both turns once the pieces end. Stopped between two pieces, it has what was
        given until then; without a piece, or on an error, it is as it was before.
        """
        # Not a generator itself, so that what is wrong with the text is said at once.
        return self._answer(self._user_turn(text))

    def retry(self) -> Pieces:
        """Answer the last turn anew; the old reply is forgotten once the new one has begun."""
        if not self.turns:
            raise InputError("there is no reply to try again; say something first")
        return self._answer(self.turns[-2], replaced=2)

    def undo(self) -> str:
        """Forget the last exchange; returns what the user had said in it."""
        if not self.turns:
            raise InputError("there is nothing to undo")
        said = self.turns[-2].content
        del self.turns[-2:]
        return said

    def new(self) -> None:
        """Forget the conversation; with a seed, the next one goes as the first one went."""
        self.turns.clear()
        self._seed()

    def set(self, key: str, value: str | float | None) -> None:
        """Change a knob of the generation.

        A seed of "none" means a new reply each time; `stop` takes one text, or "none".
        """
        knobs = GenerationConfig.model_fields
        if key not in knobs:
            near = get_close_matches(key, knobs, n=1)
            hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(knobs)}"
            raise InputError(f"no setting is called {key!r}; {hint}")
        if key == "seed" and isinstance(value, str) and value.lower() in ("none", ""):
            value = None
        knob = () if key == "stop" and value == "none" else value
        try:
            self.generation = GenerationConfig(**{**self.generation.model_dump(), key: knob})
        except ValidationError as error:
            problem = error.errors()[0]["msg"]
            kept = getattr(self.generation, key)
            problem = problem[0].lower() + problem[1:]
            raise InputError(f"{key} {value!r}: {problem}; it stays {kept}") from None
        if key == "seed":
            self._seed()

    def messages(self) -> list[dict[str, str]]:
        return [{"role": turn.role, "content": turn.content} for turn in self.turns]

    def save(self, path: Path) -> None:
        """Write the conversation as chat JSONL, one line."""
        if not self.turns:
            raise InputError("there is nothing to save; say something first")
        if path.exists() and path.resolve() not in self._saved:
            raise InputError(f"{path} exists already; save to another file: /save {_free_name(path)}")
        line = json.dumps({"messages": self.messages()}, ensure_ascii=False)
        partial = path.parent / f".repartee-{os.getpid()}.partial"
        try:
            partial.write_text(line + "\n", encoding="utf-8")
            partial.replace(path)
        except OSError as error:
            with suppress(OSError):
                partial.unlink()
            raise InputError(f"cannot write {path}: {error.strerror}; save to another file") from None
        self._saved.add(path.resolve())

    def reply_once(self, text: str) -> Answer:
        """The whole reply to `text`, which joins the history like any other."""
        turn = self._user_turn(text)
        context_ids = self._context([*self.turns, turn])
        ids: list[int] = []
        shown = "".join(self._pieces(context_ids, ids))
        if shown:  # not if it was a stop text from the start
            self.turns += [turn, self._assistant_turn(shown)]
        room = self._generator.limit(context_ids, self.generation)
        stopped = shown != self._shown(self._tokenizer.decode(ids))
        return Answer(shown, len(ids), stopped or len(ids) < room)

    def _user_turn(self, text: str) -> Turn:
        content = text.strip().encode("utf-8", "replace").decode()  # a lone surrogate cannot be saved
        read = normalise(content, self._form)
        if not read:
            if content and self._form == "article":
                raise InputError("the model reads only letters a to z and .,!?; say something in them")
            raise InputError("say something")
        return Turn("user", content, read)

    def _assistant_turn(self, shown: str) -> Turn:
        return Turn("assistant", shown, normalise(shown, self._form))

    def _context(self, turns: list[Turn]) -> list[int]:
        return encode_context([turn.text for turn in turns], self._tokenizer, self._markup, self._rendering)

    def _answer(self, turn: Turn, *, replaced: int = 0) -> Pieces:
        before = self.turns[: len(self.turns) - replaced]
        told = ""
        try:
            for piece in self._pieces(self._context([*before, turn])):
                told += piece
                yield piece
        finally:
            if told:
                self.turns = [*before, turn, self._assistant_turn(told)]

    def _pieces(self, context_ids: list[int], ids: list[int] | None = None) -> Iterator[str]:
        """What can be shown of the reply after each token, and cannot change any more.

        The tokens made, a text that stopped the reply among them, are added to `ids`.
        """
        ids = [] if ids is None else ids
        told, stops = 0, self.generation.stop
        for token in self._generator.stream(context_ids, self.generation, self._chances):
            ids.append(token)
            shown = self._shown(self._settled(self._tokenizer.decode(ids)))
            if _before_stop(shown, stops) < len(shown):
                break
            upto = len(shown) - _begun(shown, stops)
            if upto > told:
                yield shown[told:upto]
                told = upto
        shown = self._shown(self._tokenizer.decode(ids))
        if rest := shown[told : _before_stop(shown, stops)]:
            yield rest

    def _settled(self, text: str) -> str:
        """Less the half of a character, or the last word: the next one may yet join it."""
        if self._form == "article":
            return text.rpartition(" ")[0]
        return text.rstrip(_HALF_CHARACTER)

    def _shown(self, text: str) -> str:
        return display(text.translate(_CONTROL), self._form)

    def _seed(self) -> None:
        seed = self.generation.seed
        self._chances = None if seed is None else chances(seed)


def _free_name(path: Path) -> Path:
    """The first of NAME-2, NAME-3, ... that is not there."""
    names = (path.with_name(f"{path.stem}-{number}{path.suffix}") for number in count(2))
    return next(name for name in names if not name.exists())


def _before_stop(text: str, stops: tuple[str, ...]) -> int:
    """How much of the text comes before the first of the stop texts."""
    return min((place for stop in stops if (place := text.find(stop)) >= 0), default=len(text))


def _begun(text: str, stops: tuple[str, ...]) -> int:
    """How much of the text's end may yet become a stop text."""
    starts = (stop[:size] for stop in stops for size in range(1, len(stop)))
    return max((len(start) for start in starts if text.endswith(start)), default=0)
