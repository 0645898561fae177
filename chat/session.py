"""Session: a conversation with a model, with the turns so far and the generation settings."""

import collections.abc
import time
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path

import torch
from pydantic import ValidationError

from chat.stop_texts import before_stop, partial_stop
from chat.transcript import free_name, read_messages, write_messages
from chat.turns import Answer, Stats, Turn
from models.errors import InputError, did_you_mean, validation_problem
from models.generation.config import GenerationConfig
from models.generation.generator import Generator, reply_rng
from models.network import networks
from models.text import tokenizer
from models.text.chat_template import load_chat_format
from models.text.encoding import encode_context, read_model_info
from models.text.normalisation import display
from models.text.redaction import prepare
from models.text.system_text import fit_system

Pieces = collections.abc.Generator[str, None, None]

# A reply is one line of text. Control characters could move the cursor, so they are shown as spaces.
_CONTROL = dict.fromkeys([*range(32), *range(127, 160)], " ")
_REPLACEMENT = "\ufffd"  # the character that decoding puts in place of an incomplete UTF-8 sequence


class Session:
    """A conversation with the model in a folder. The user and the model take turns; the user speaks first."""

    def __init__(self, model_folder: Path, generation: GenerationConfig) -> None:
        """
        Raises:
            InputError: the folder does not contain a model trained by Repartee, or its files are damaged.
        """
        self._info = info = read_model_info(model_folder)
        self._style = info.normalisation
        self._prepare = partial(prepare, style=info.normalisation, redaction=info.redaction)
        self._tokenizer = tokenizer.load(model_folder)
        self._chat_format = load_chat_format(model_folder)
        self._generator = Generator(networks.load(model_folder), self._chat_format.special_tokens)
        self._rng: torch.Generator | None = None
        self._saved: set[Path] = set()
        self._forget_reply()
        self.turns: list[Turn] = []
        self.system, self._system = "", ""  # as it is shown, and as the model reads it
        self.generation = generation
        self._seed()

    def say(self, text: str) -> Pieces:
        """Answer `text` piece by piece; the pieces joined together are the reply.

        When the iteration ends, the user's turn and the reply are added to the history. If the caller stops
        the iteration early, the pieces yielded so far are the reply; if no piece was yielded, the history
        does not change.

        Raises:
            InputError: the text is empty after normalisation (raised at once), or too long for the model
                (raised when the first piece is requested).
        """
        # `say` is not itself a generator function. An empty text therefore raises an error when `say` is
        # called, and not only when the first piece is requested.
        return self._answer(self._user_turn(text))

    def retry(self) -> Pieces:
        """Answer the user's last turn again. Unless the new reply is empty, it replaces the old one.

        Raises:
            InputError: the conversation has no turns yet.
        """
        if not self.turns:
            raise InputError("there is no reply to retry; say something first")
        return self._answer(self.turns[-2], replaced=2)

    def undo(self) -> str:
        """Remove the user's last turn and the reply to it, and return the text of the removed turn.

        Raises:
            InputError: the conversation has no turns yet.
        """
        if not self.turns:
            raise InputError("there is nothing to undo")
        text = self.turns[-2].content
        del self.turns[-2:]
        self._forget_reply()
        return text

    def set_system(self, text: str) -> None:
        """Set the system text, which the model reads before all turns; "" removes it.

        Raises:
            InputError: the model was trained without system texts, or the text is too long for it. Then the
                system text does not change.
        """
        text = _encodable(text)
        if text and not self._info.has_system:
            raise InputError(
                "this model was trained without system texts, so it cannot read one; /system none removes "
                "it, and a corpus with messages of the role system trains a model that reads them"
            )
        own = self._prepare(text)[0] if text else ""
        markup = self._info.markup
        if own and not fit_system(own, self._tokenizer, markup, self._chat_format).ids:
            raise InputError(
                f"the system text is longer than {markup.system_tokens} tokens (with those around it), which "
                "is the most that this model reads; write a shorter one"
            )
        self.system, self._system = text if own else "", own

    def new(self) -> None:
        """Start an empty conversation; if a seed is set, the random number generator is reset as well.

        The system text stays.
        """
        self.turns.clear()
        self._forget_reply()
        self._seed()

    def set(self, key: str, value: str | float | None) -> None:
        """Change one of the generation settings.

        Args:
            key: a field of GenerationConfig.
            value: the new value; for `stop`, a single stop text. "none" removes the seed or the stop texts.

        Raises:
            InputError: there is no such setting, or the value is invalid. In both cases, no setting
                changes.
        """
        knobs = GenerationConfig.model_fields
        if key not in knobs:
            hint = did_you_mean(key, knobs) or f"the settings are {', '.join(knobs)}"
            raise InputError(f"no setting is called {key!r}; {hint}")
        if key == "seed" and isinstance(value, str) and value.lower() in ("none", ""):
            value = None
        knob = () if key == "stop" and value == "none" else value
        try:
            self.generation = GenerationConfig(**{**self.generation.model_dump(), key: knob})
        except ValidationError as error:
            _, problem = validation_problem(error, depth=1)
            current = getattr(self.generation, key)
            raise InputError(f"{key} {value!r}: {problem}; the setting stays {current}") from None
        if key == "seed":
            self._seed()

    def messages(self) -> list[dict[str, str]]:
        """The messages of the conversation in chat JSONL, `{"role": ..., "content": ...}`: the turns, after
        the system text if there is one."""
        system = [{"role": "system", "content": self.system}] if self.system else []
        return [*system, *({"role": turn.role, "content": turn.content} for turn in self.turns)]

    def save(self, path: Path) -> None:
        """Write the conversation as one line of chat JSONL.

        Raises:
            InputError: the conversation is empty, the file exists and was not written by this session, or the
                file cannot be written.
        """
        if not self.turns:
            raise InputError("there is nothing to save; say something first")
        if path.exists() and path.resolve() not in self._saved:
            raise InputError(f"{path} exists already; save to another file: /save {free_name(path)}")
        write_messages(path, self.messages())
        self._saved.add(path.resolve())

    def load(self, path: Path) -> None:
        """Replace the conversation with the one in a file that `save` has written.

        Raises:
            InputError: the file cannot be read or does not contain a conversation. In both cases, the
                present conversation does not change.
        """
        self.restore(read_messages(path))
        self._saved.add(path.resolve())

    def restore(self, messages: Sequence[Mapping[str, str]]) -> None:
        """Replace the conversation with these messages, in which user and assistant take turns, and replace
        the system text with the one before them.

        Raises:
            InputError: a user message or the system text cannot be read by this model. In this case, the
                present conversation does not change.
        """
        turns = [
            self._user_turn(message["content"])
            if message["role"] == "user"
            else self._assistant_turn(message["content"])
            for message in messages
            if message["role"] != "system"
        ]
        self.set_system(next((each["content"] for each in messages if each["role"] == "system"), ""))
        self.turns = turns
        self._forget_reply()

    def stats(self) -> Stats:
        """The size of the conversation, and the length and duration of the last reply."""
        context_tokens = len(self._context(self.turns)) if self.turns else 0
        return Stats(len(self.turns), context_tokens, self._reply_tokens, self._reply_seconds)

    def reply_once(self, text: str) -> Answer:
        """Generate the reply to `text`, and return the whole reply instead of pieces.

        The user's turn and the reply are added to the history, unless the reply is empty.

        Raises:
            InputError: the text is empty after normalisation, or too long for the model.
        """
        turn = self._user_turn(text)
        context_ids = self._context([*self.turns, turn])
        ids: list[int] = []
        shown = "".join(self._pieces(context_ids, ids))
        if shown:  # empty if the reply starts with a stop text
            self.turns += [turn, self._assistant_turn(shown)]
        max_tokens = self._generator.limit(context_ids, self.generation)
        stopped = shown != self._shown(self._tokenizer.decode(ids))
        return Answer(shown, len(ids), stopped or len(ids) < max_tokens)

    def _forget_reply(self) -> None:
        """Forget the length and the duration of the last reply, which is no longer in the conversation."""
        self._reply_tokens, self._reply_seconds = 0, 0.0

    def _user_turn(self, text: str) -> Turn:
        content = _encodable(text)
        model_text = self._prepare(content)[0]
        if not model_text:
            if content and self._style == "article":
                raise InputError(
                    "the model reads only the letters a to z and .,!?; write a message with some of them"
                )
            raise InputError("say something")
        return Turn("user", content, model_text)

    def _assistant_turn(self, shown: str) -> Turn:
        return Turn("assistant", shown, self._prepare(shown)[0])

    def _context(self, turns: list[Turn]) -> list[int]:
        texts = [turn.text for turn in turns]
        return encode_context(texts, self._tokenizer, self._info.markup, self._chat_format, self._system)

    def _answer(self, turn: Turn, *, replaced: int = 0) -> Pieces:
        before = self.turns[: len(self.turns) - replaced]
        reply = ""
        try:
            for piece in self._pieces(self._context([*before, turn])):
                reply += piece
                yield piece
        finally:
            if reply:
                self.turns = [*before, turn, self._assistant_turn(reply)]

    def _pieces(self, context_ids: list[int], ids: list[int] | None = None) -> Iterator[str]:
        """After each token, yield the new characters of the reply that later tokens can no longer change.

        The generated tokens, including those of a stop text, are appended to `ids`.
        """
        ids = [] if ids is None else ids
        end, stops = 0, self.generation.stop
        started_s = time.monotonic()
        for token in self._generator.stream(context_ids, self.generation, self._rng):
            ids.append(token)
            self._reply_tokens, self._reply_seconds = len(ids), time.monotonic() - started_s
            shown = self._shown(self._settled(self._tokenizer.decode(ids)))
            if before_stop(shown, stops) < len(shown):
                break
            upto = len(shown) - partial_stop(shown, stops)
            if upto > end:
                yield shown[end:upto]
                end = upto
        shown = self._shown(self._tokenizer.decode(ids))
        if rest := shown[end : before_stop(shown, stops)]:
            yield rest

    def _settled(self, text: str) -> str:
        """The text without an incomplete character or word at its end, which the next token may complete."""
        if self._style == "article":
            return text.rpartition(" ")[0]
        return text.rstrip(_REPLACEMENT)

    def _shown(self, text: str) -> str:
        return display(text.translate(_CONTROL), self._style)

    def _seed(self) -> None:
        seed = self.generation.seed
        self._rng = None if seed is None else reply_rng(seed)


def _encodable(text: str) -> str:
    return text.strip().encode("utf-8", "replace").decode()  # UTF-8 cannot encode a lone surrogate
