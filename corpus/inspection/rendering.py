"""Rendering: a conversation as text with the boundaries of its turns, as a model reads it."""

from models.record import Record
from models.text.config import MarkupConfig
from models.text.tokenizer import CONTROL, END, START

MAX_SEQUENCES = 5


class RenderedTurn(Record):
    """A turn in a sequence that a model reads."""

    text: str
    """The turn with the tokens before and after it."""
    carries_loss: bool
    """Whether the model learns to write this turn and the token after it."""


def render(
    texts: list[str], weights: list[float], markup: MarkupConfig, system: str = ""
) -> list[list[RenderedTurn]]:
    """The first training sequences of a conversation; a single one, unless `markup.unit` is `pair`.

    Nothing is cut off, because the length in tokens is only known when a vocabulary has been learnt.

    Args:
        texts: the texts of the turns.
        weights: the weights of the turns.
        system: the system text of the conversation, or "".
    """
    before = [system] if system and markup.system == "context" else []
    has_loss = [i > 0 and weight > 0 for i, weight in enumerate(weights)]
    if markup.unit == "conversation":
        return [_sequence([*before, *texts], [False] * len(before) + has_loss)] if any(has_loss) else []
    replies = [i for i, flag in enumerate(has_loss) if flag][:MAX_SEQUENCES]
    unscored = [False] * (1 + len(before))
    return [_sequence([*before, *texts[i - 1 : i + 1]], [*unscored, True]) for i in replies]


def _sequence(texts: list[str], has_loss: list[bool]) -> list[RenderedTurn]:
    starts = [f"{CONTROL[START]} ", *[""] * (len(texts) - 1)]
    return [
        RenderedTurn(text=f"{start}{text} {CONTROL[END]}", carries_loss=flag)
        for start, text, flag in zip(starts, texts, has_loss, strict=True)
    ]
