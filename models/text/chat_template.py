"""Rendering: the ids that stand around the turns of a sequence, ours or a chat template's.

A text is encoded on its own and never through the template, so what a person types can yield no
control token, and training, scoring and chat see the same ids.
"""

import json
import re
from pathlib import Path
from typing import Any, cast

from tokenizers import Tokenizer

from models.errors import InputError
from models.text.tokenizer import END, OURS, START, Control, load, load_control

# Of a pretrained model that was never taught to chat: each turn with the token that ends a text.
PLAIN_TEMPLATE = "{%- for message in messages -%}{{- message['content'] + eos_token -}}{%- endfor -%}"
_FIRST = 0xE000  # private characters stand for the texts while a template is rendered
_PLACE = re.compile("[\ue000-\uf8ff]")
_MANY = 0xF8FF - _FIRST


class Rendering:
    """Ours: `<start> turn <end> turn <end> ...`, in which each turn is a reply to those before it."""

    control: Control = OURS
    stride: int = 1
    """Turns from one reply to the next: 2 where only the assistant's are replies."""
    head: int = 1
    """Ids before the first text, at most."""
    turn: int = 1
    """Ids from the end of a text to the next, at most."""
    may_open: bool = True
    """Whether a sequence may begin with a turn of the assistant."""

    def around(self, turns: int) -> list[list[int]]:
        """The ids before each of so many texts, of which the last is a reply, and its end."""
        return [[START], *([END] for _ in range(turns))]

    def upto_end(self, ids: list[int]) -> int:
        """How many of the ids after a reply's text belong to the reply: its end, and what comes before it."""
        return ids.index(self.control.end) + 1


class ChatTemplate(Rendering):
    """A pretrained tokenizer's own: user and assistant take turns, and the last is the assistant's."""

    stride = 2

    def __init__(self, folder: Path, control: Control) -> None:
        self.control = control
        self._encoder, self._renderer = _plain(folder), open_tokenizer(folder)
        self._known: dict[int, list[list[int]]] = {}
        from jinja2.exceptions import TemplateError

        self.may_open = True
        opened: list[list[int]] = [[]]
        try:
            opened = self.around(3)
        except TemplateError:
            self.may_open = False
        begun = self.around(4)
        self.head = max(len(opened[0]), len(begun[0]))
        self.turn = max(len(ids) for ids in (*opened[1:], *begun[1:]))

    def around(self, turns: int) -> list[list[int]]:
        """As for ours.

        Raises:
            TemplateError: the template does not allow a sequence that begins with the assistant.
        """
        if turns not in self._known:
            texts = render(self._renderer, min(turns, _MANY))
            ids = [self._encoder.encode(text, add_special_tokens=False).ids for text in texts]
            ids[-1] = ids[-1][: self.upto_end(ids[-1])]
            self._known[turns] = ids
        return self._known[turns]


def load_rendering(folder: Path) -> Rendering:
    """Of the tokenizer in a folder."""
    control = load_control(folder)
    return Rendering() if control is OURS else ChatTemplate(folder, control)


def open_tokenizer(folder: Path) -> Any:
    """The folder's tokenizer as transformers has it, for its template; no code of the folder is run.

    Raises:
        InputError: it holds none.
    """
    from transformers import AutoTokenizer  # which takes seconds, and not every run needs it

    try:
        return AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except (OSError, ValueError, TypeError, KeyError, ImportError) as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise InputError(f"{folder} holds no tokenizer ({reason}); give a whole model folder") from error


def render(renderer: Any, turns: int) -> list[str]:
    """What its template writes before, between and after so many texts; the last is the assistant's."""
    roles = ["user" if (turns - i) % 2 == 0 else "assistant" for i in range(turns)]
    messages = [{"role": role, "content": chr(_FIRST + i)} for i, role in enumerate(roles)]
    # Transformers renders in a sandbox: a template cannot reach anything but the messages.
    written = cast(str, renderer.apply_chat_template(messages, tokenize=False))
    if _PLACE.findall(written) != [message["content"] for message in messages]:
        raise InputError("the chat template does not write each turn once and in order; give another model")
    return _PLACE.split(written)


def read_control(folder: Path) -> Control:
    """The control ids of a pretrained tokenizer, as its template uses them.

    Raises:
        InputError: the template ends no turn with a token of its own.
    """
    encoder = _plain(folder)
    special = {i for i, token in encoder.get_added_tokens_decoder().items() if token.special}
    closing = encoder.encode(render(open_tokenizer(folder), 2)[-1], add_special_tokens=False).ids
    end = next((i for i in closing if i in special), None)
    if end is None:
        raise InputError(f"{folder}: its chat template ends a turn with no control token; give another model")
    unknown = json.loads((folder / "tokenizer.json").read_bytes())["model"].get("unk_token")
    known = None if unknown is None else encoder.token_to_id(unknown)
    return Control(end=end, unknown=known, banned=tuple(sorted(special - {end})))


def _plain(folder: Path) -> Tokenizer:
    """The tokenizer for what the template writes, where control tokens are meant as such."""
    encoder = load(folder)
    encoder.encode_special_tokens = False
    return encoder
