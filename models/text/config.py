"""The settings of a training example: what a conversation becomes."""

from typing import Literal

from pydantic import Field

from models.config import Config


class MarkupConfig(Config):
    """How a conversation becomes the sequence that a model reads."""

    unit: Literal["conversation", "pair"] = "conversation"
    """`conversation`: loss on every reply, the turns before as context; `pair`: a turn and the next alone."""
    max_tokens: int = Field(default=512, ge=8, le=2048)
    """Longest sequence, control tokens included; for a pair, the longest side."""

    @property
    def context_tokens(self) -> int:
        """Places for what was said before a sequence's first reply, the start token included.

        A quarter of a conversation: the rest is for its replies, of which long ones are cut least.
        """
        return self.max_tokens if self.unit == "pair" else max(3, self.max_tokens // 4)

    @property
    def reply_tokens(self) -> int:
        """Places for a reply, its end token included."""
        return self.max_tokens - (1 if self.unit == "pair" else self.context_tokens)
