"""System text: the instructions that stand before the turns of a conversation, as token ids."""

from dataclasses import dataclass

from tokenizers import Tokenizer

from models.text.chat_template import ChatFormat
from models.text.config import MarkupConfig


@dataclass(frozen=True)
class System:
    """The ids of a conversation's system text."""

    ids: list[int]
    tokens: int
    """The number of positions that it takes from the context, with the ids around it."""


NO_SYSTEM = System([], 0)


def fit_system(text: str, tokenizer: Tokenizer, markup: MarkupConfig, chat_format: ChatFormat) -> System:
    """The ids of a system text; NO_SYSTEM if it is empty or too long, or if the format has no system text.

    At least a quarter of the context stays for the turns.
    """
    if not text or chat_format.max_system is None:
        return NO_SYSTEM
    ids = tokenizer.encode(text, add_special_tokens=False).ids
    system = System(ids, len(ids) + chat_format.max_system)
    rest = markup.context_tokens - chat_format.max_prefix - chat_format.max_per_turn - system.tokens
    has_room = system.tokens <= markup.system_tokens and rest >= max(1, markup.context_tokens // 4)
    return system if ids and has_room else NO_SYSTEM


def beginning(turns: int, system: System, chat_format: ChatFormat) -> tuple[list[int], list[list[int]]]:
    """The ids up to the last one of the system text, and `turns` + 1 lists: the ids around the turns."""
    if not system.ids:
        return [], chat_format.surrounding_ids(turns)
    surrounding = chat_format.surrounding_ids(turns, has_system=True)
    return [*surrounding[0], *system.ids], surrounding[1:]
