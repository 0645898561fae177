"""Chat formats: which ids surround the turns of a sequence, in Repartee's own format or a chat template.

The text of a turn is encoded on its own, never as part of the rendered template. The user's text therefore
cannot yield a special token, and a turn has the same ids in training, scoring and chat.
"""

import json
import re
from contextlib import suppress
from pathlib import Path
from typing import Any, cast

from tokenizers import Tokenizer

from models.errors import InputError
from models.text.tokenizer import DEFAULT_SPECIAL_TOKENS, END, START, SpecialTokens, load, load_special_tokens

# The template for a pretrained model that has none: each turn is followed by the end-of-text token.
FALLBACK_TEMPLATE = "{%- for message in messages -%}{{- message['content'] + eos_token -}}{%- endfor -%}"
_FIRST_PLACEHOLDER = 0xE000  # private-use characters replace the texts while a template is rendered
_PLACEHOLDER = re.compile("[\ue000-\uf8ff]")
_MAX_PLACEHOLDERS = 0xF8FF - _FIRST_PLACEHOLDER


class ChatFormat:
    """Repartee's format: `<start> turn <end> turn <end> ...`. Each turn is a reply to the turns before it."""

    special_tokens: SpecialTokens = DEFAULT_SPECIAL_TOKENS
    stride: int = 1
    """The number of turns from one reply to the next: 2 if only the assistant replies."""
    max_prefix: int = 1
    """The largest number of ids before the first text."""
    max_per_turn: int = 1
    """The largest number of ids between two texts or after the last text."""
    allows_assistant_first: bool = True
    """Whether a sequence may begin with a turn of the assistant."""
    max_system: int | None = 1
    """The largest number of ids that a system text adds to a sequence beside its own; None if the format has
    no system text."""

    def surrounding_ids(self, turns: int, *, has_system: bool = False) -> list[list[int]]:
        """Return `turns` + 1 lists: the ids before each text, then the ids after the last text (a reply).

        With a system text, which is the first text, there is one list more.
        """
        return [[START], *([END] for _ in range(turns + has_system))]

    def end_length(self, ids: list[int]) -> int:
        """How many ids after a reply's text belong to the reply: those up to and including the end token."""
        return ids.index(self.special_tokens.end) + 1


class ChatTemplate(ChatFormat):
    """A pretrained tokenizer's chat template. User and assistant alternate, and the assistant speaks last."""

    stride = 2

    def __init__(self, folder: Path, special_tokens: SpecialTokens) -> None:
        self.special_tokens = special_tokens
        self._encoder, self._hf_tokenizer = _raw_tokenizer(folder), open_tokenizer(folder)
        self._known: dict[tuple[int, bool], list[list[int]]] = {}
        from jinja2.exceptions import TemplateError

        self.allows_assistant_first = True
        odd_ids: list[list[int]] = [[]]
        try:
            odd_ids = self.surrounding_ids(3)
        except TemplateError:
            self.allows_assistant_first = False
        even_ids = self.surrounding_ids(4)
        self.max_prefix = max(len(odd_ids[0]), len(even_ids[0]))
        self.max_per_turn = max(len(ids) for ids in (*odd_ids[1:], *even_ids[1:]))
        self.max_system = None
        with suppress(TemplateError, InputError):  # the template has no system text
            odd = (3,) if self.allows_assistant_first else ()
            lists = [self.surrounding_ids(turns, has_system=True) for turns in (2, *odd, 4)]
            self.max_system = max(0, *(len(each[0]) + len(each[1]) - len(even_ids[0]) for each in lists))

    def surrounding_ids(self, turns: int, *, has_system: bool = False) -> list[list[int]]:
        """Return `turns` + 1 lists: the ids before each text, then the ids after the last text.

        With a system text, which is the first text, there is one list more.

        Raises:
            TemplateError: the template does not allow a sequence that begins with the assistant.
        """
        key = turns, has_system
        if key not in self._known:
            texts = render(
                self._hf_tokenizer, min(turns, _MAX_PLACEHOLDERS - has_system), has_system=has_system
            )
            ids = [self._encoder.encode(text, add_special_tokens=False).ids for text in texts]
            ids[-1] = ids[-1][: self.end_length(ids[-1])]
            self._known[key] = ids
        return self._known[key]


def load_chat_format(folder: Path) -> ChatFormat:
    """The chat format of the tokenizer in a folder.

    Raises:
        InputError: the tokenizer's chat template cannot be used.
    """
    special_tokens = load_special_tokens(folder)
    return ChatFormat() if special_tokens is DEFAULT_SPECIAL_TOKENS else ChatTemplate(folder, special_tokens)


def open_tokenizer(folder: Path) -> Any:
    """Open the folder's tokenizer with transformers, to use its chat template. No code in the folder is run.

    Raises:
        InputError: the folder contains no usable tokenizer.
    """
    from transformers import AutoTokenizer  # takes seconds to import, and not every run needs it

    try:
        return AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except (OSError, ValueError, TypeError, KeyError, ImportError) as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise InputError(
            f"{folder} has no usable tokenizer ({reason}); give a complete model folder"
        ) from error


def render(hf_tokenizer: Any, turns: int, *, has_system: bool = False) -> list[str]:
    """Return the strings that the template puts before, between and after the texts of a conversation.

    Args:
        turns: the number of turns in the conversation; the last turn is the assistant's.
        has_system: whether a system text precedes the turns.

    Raises:
        InputError: the template does not write each turn once and in order.
    """
    roles = ["system"] * has_system
    roles += ["user" if (turns - i) % 2 == 0 else "assistant" for i in range(turns)]
    messages = [{"role": role, "content": chr(_FIRST_PLACEHOLDER + i)} for i, role in enumerate(roles)]
    # Transformers renders templates in a sandbox, in which a template can access only the messages.
    rendered = cast(str, hf_tokenizer.apply_chat_template(messages, tokenize=False))
    if _PLACEHOLDER.findall(rendered) != [message["content"] for message in messages]:
        raise InputError("the chat template does not write each turn once and in order; give another model")
    return _PLACEHOLDER.split(rendered)


def read_special_tokens(folder: Path) -> SpecialTokens:
    """Read the special tokens of a pretrained tokenizer from its vocabulary and its chat template.

    Raises:
        InputError: the template does not end a turn with a special token.
    """
    encoder = _raw_tokenizer(folder)
    special = {i for i, token in encoder.get_added_tokens_decoder().items() if token.special}
    closing = encoder.encode(render(open_tokenizer(folder), 2)[-1], add_special_tokens=False).ids
    end = next((i for i in closing if i in special), None)
    if end is None:
        raise InputError(
            f"{folder}: its chat template does not end turns with a special token; give another model"
        )
    unknown = json.loads((folder / "tokenizer.json").read_bytes())["model"].get("unk_token")
    unknown_id = None if unknown is None else encoder.token_to_id(unknown)
    return SpecialTokens(end=end, unknown=unknown_id, banned=tuple(sorted(special - {end})))


def _raw_tokenizer(folder: Path) -> Tokenizer:
    """Load the tokenizer so that the name of a special token in the template is encoded as that token."""
    encoder = load(folder)
    encoder.encode_special_tokens = False
    return encoder
