"""The settings of the clean stage: how the text is normalised, and how the corpus is split."""

from typing import Literal

from pydantic import Field

from models.config import Config


class CleanConfig(Config):
    normalisation: Literal["plain", "article"] = "plain"
    """`plain` tidies up Unicode, whitespace and markup. `article` also converts the text to lower case and
    keeps only the letters a to z and .,!?, as does the tutorial that the recipe `tutorial` follows."""
    split_by: Literal["group", "conversation"] = "group"
    """What always stays in one split: a whole group (such as a movie), or only a conversation."""
    validation_share: float = Field(default=0.05, gt=0, lt=0.5)
    """Share of the groups or conversations (see `split_by`) that are assigned to the validation split."""
    test_share: float = Field(default=0.05, gt=0, lt=0.5)
    """Share of the groups or conversations (see `split_by`) that are assigned to the test split."""
