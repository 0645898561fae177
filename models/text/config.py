"""The settings of a training example: what a conversation becomes, and the record of them."""

from typing import Literal

from pydantic import Field

from models.config import Config
from models.record import Record
from models.text.normalisation import Style

DIALOGUE = "dialogue.json"


class MarkupConfig(Config):
    """How a conversation becomes the token sequence that a model reads."""

    unit: Literal["conversation", "pair"] = "conversation"
    """What one training example holds. `conversation`: as many turns as fit, with loss on each reply and
    the turns before it as context. `pair`: a turn and the reply to it."""
    max_tokens: int = Field(default=512, ge=8, le=2048)
    """Length of the longest sequence in tokens, control tokens included; for a pair, of the longer side."""

    @property
    def context_tokens(self) -> int:
        """Positions for the turns before a sequence's first reply, the start token included.

        For a conversation a quarter of them all: the rest is for its replies, so that few replies are cut.
        """
        return self.max_tokens if self.unit == "pair" else max(3, self.max_tokens // 4)

    @property
    def reply_tokens(self) -> int:
        """Positions for a reply, its end token included."""
        return self.max_tokens - (1 if self.unit == "pair" else self.context_tokens)


class Dialogue(Record):
    """dialogue.json of a folder of examples: how their text was prepared."""

    normalisation: Style
    markup: MarkupConfig
