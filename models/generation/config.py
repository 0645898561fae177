"""The settings of the generation of replies."""

from typing import Annotated, Any

from pydantic import BeforeValidator, Field

from models.config import Config


def _texts(given: Any) -> Any:
    """One text alone stands for a list of one."""
    return (given,) if isinstance(given, str) else given


class GenerationConfig(Config):
    temperature: float = Field(default=0.7, ge=0)
    """0 takes the likeliest token each time; 1 samples from the model as it is."""
    top_p: float = Field(default=0.9, gt=0, le=1)
    """Sample from the likeliest tokens that together hold this probability."""
    max_tokens: int = Field(default=60, ge=1)
    """Of one reply."""
    seed: int | None = None
    """In the chat, the same seed gives the same reply; none: a new one each time."""
    top_k: int = Field(default=0, ge=0)
    """Sample from this many of the likeliest tokens; 0: from as many as `top_p` lets in."""
    repetition_penalty: float = Field(default=1.0, gt=0, allow_inf_nan=False)
    """Above 1, tokens of the context and the reply become less likely (CTRL, section 4.1); 1: as they are."""
    no_repeat_ngram: int = Field(default=0, ge=0)
    """A reply repeats no sequence of this many tokens, the context's neither; 0: it may."""
    stop: Annotated[tuple[Annotated[str, Field(min_length=1)], ...], BeforeValidator(_texts)] = ()
    """In the chat, a reply ends before any of these texts."""
