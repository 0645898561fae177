"""The settings for generating replies."""

from typing import Annotated, Any

from pydantic import BeforeValidator, Field

from models.config import Config


def _as_tuple(value: Any) -> Any:
    """Convert a single string to a tuple that contains only this string."""
    return (value,) if isinstance(value, str) else value


class GenerationConfig(Config):
    temperature: float = Field(default=0.7, ge=0)
    """Sampling temperature: 0 always takes the most likely token, 1 samples from the model's own
    distribution."""
    top_p: float = Field(default=0.9, gt=0, le=1)
    """Nucleus sampling: sample from the most likely tokens whose probabilities add up to this value."""
    max_tokens: int = Field(default=60, ge=1)
    """Limit on the number of tokens in one reply."""
    seed: int | None = None
    """Random seed: with the same seed, the chat generates the same replies to the same messages. null: the
    replies vary."""
    top_k: int = Field(default=0, ge=0)
    """Top-k sampling: sample from this many of the most likely tokens; 0: sample from all tokens."""
    repetition_penalty: float = Field(default=1.0, gt=0, allow_inf_nan=False)
    """A penalty above 1 makes tokens that already occur in the context or the reply less likely (section 4.1
    of https://arxiv.org/abs/1909.05858); 1: no penalty."""
    no_repeat_ngram: int = Field(default=0, ge=0)
    """No sequence of this many tokens may occur twice in the context and the reply; 0: no such rule."""
    stop: Annotated[tuple[Annotated[str, Field(min_length=1)], ...], BeforeValidator(_as_tuple)] = ()
    """In the chat, a reply is cut before the first occurrence of any of these texts."""
