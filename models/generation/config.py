"""The settings of the generation of replies."""

from typing import Annotated, Any

from pydantic import BeforeValidator, Field

from models.config import Config


def _as_tuple(value: Any) -> Any:
    """A single text stands for a list of one text."""
    return (value,) if isinstance(value, str) else value


class GenerationConfig(Config):
    temperature: float = Field(default=0.7, ge=0)
    """0 always takes the most likely token; 1 samples from the model's own distribution."""
    top_p: float = Field(default=0.9, gt=0, le=1)
    """Nucleus sampling: sample from the most likely tokens whose probabilities add up to this."""
    max_tokens: int = Field(default=60, ge=1)
    """Limit on the tokens of one reply."""
    seed: int | None = None
    """Random seed: in the chat, the same seed gives the same reply. null: a new reply each time."""
    top_k: int = Field(default=0, ge=0)
    """Sample from this many of the most likely tokens; 0: no such limit."""
    repetition_penalty: float = Field(default=1.0, gt=0, allow_inf_nan=False)
    """Above 1, tokens that the context or the reply already has become less likely (section 4.1 of
    https://arxiv.org/abs/1909.05858); 1: no penalty."""
    no_repeat_ngram: int = Field(default=0, ge=0)
    """No sequence of this many tokens may occur a second time in context and reply; 0: no such rule."""
    stop: Annotated[tuple[Annotated[str, Field(min_length=1)], ...], BeforeValidator(_as_tuple)] = ()
    """In the chat, a reply ends before the first of these texts."""
