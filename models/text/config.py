"""The settings for encoding conversations as training examples, and the file that records the settings."""

from typing import Literal

from pydantic import Field

from models.config import Config
from models.record import Record, left_out
from models.text.normalisation import Redaction, Style

DIALOGUE = "dialogue.json"


class MarkupConfig(Config):
    """How a conversation becomes the token sequence that a model reads."""

    unit: Literal["conversation", "pair"] = "conversation"
    """What one training example contains. `conversation`: as many turns as fit, with loss on each reply; the
    turns before a reply are its context. `pair`: a turn and the reply to it."""
    max_tokens: int = Field(default=512, ge=8, le=2048)
    """Maximum length of a sequence in tokens, special tokens included. With `pair`, the limit applies
    to the context and to the reply separately."""
    system: Literal["context", "drop"] = "context"
    """What is done with the system text of a conversation (a message of the role `system` or `developer`
    before its first turn). `context`: each example begins with it, without loss, if it takes at most an
    eighth of `max_tokens` (with `pair`, a half); a longer one is left out. `drop`: it is left out."""

    _as_before = left_out(system="context")

    @property
    def context_tokens(self) -> int:
        """The number of positions for the turns before a sequence's first reply, including the start token.

        With `unit=conversation` this is a quarter of `max_tokens`. The remaining positions are for the
        replies, so that few replies are truncated.
        """
        return self.max_tokens if self.unit == "pair" else max(3, self.max_tokens // 4)

    @property
    def system_tokens(self) -> int:
        """The most positions for a system text, with the tokens around it. A longer one is left out."""
        return self.context_tokens // 2

    @property
    def reply_tokens(self) -> int:
        """The number of positions for a reply, including its end token."""
        return self.max_tokens - (1 if self.unit == "pair" else self.context_tokens)


class Dialogue(Record):
    """The file dialogue.json beside the examples: the settings with which their text was prepared."""

    normalisation: Style
    redaction: Redaction = "none"
    markup: MarkupConfig
    has_system: bool = False
    """Whether a conversation had a system text that is part of its examples."""

    _as_before = left_out(has_system=False)
