"""The records of a conversation: its turns, a complete reply, and its size."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Turn:
    """One message of the conversation."""

    role: Literal["user", "assistant"]
    content: str
    """The text as it is shown to the user."""
    text: str
    """The text as the model reads it, after normalisation and redaction."""


@dataclass(frozen=True)
class Answer:
    """A complete reply."""

    text: str
    tokens: int
    """The number of generated tokens, including those of a stop text."""
    finished: bool
    """True if the model or a stop text ended the reply, False if the token limit did."""


@dataclass(frozen=True)
class Stats:
    """The size of a conversation, and the length and duration of its last reply."""

    turns: int
    context_tokens: int
    """The number of context tokens that the model reads before the next message."""
    reply_tokens: int
    """The number of tokens in the last reply; 0 before the first reply."""
    reply_seconds: float
