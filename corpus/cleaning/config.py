"""The settings of the clean stage: how the text is normalised, and how the corpus is split."""

from typing import Literal

from pydantic import Field

from models.config import Config


class CleanConfig(Config):
    normalisation: Literal["plain", "article"] = "plain"
    """`plain` tidies Unicode, whitespace and markup; `article` keeps only lower-case letters and .,!?, as in
    the tutorial that the recipe `tutorial` follows."""
    split_by: Literal["group", "conversation"] = "group"
    """The unit that is never divided between two splits: a whole group (a movie), or only a conversation."""
    validation_share: float = Field(default=0.05, gt=0, lt=0.5)
    """Share of the groups or conversations (`split_by`) that go into the validation split."""
    test_share: float = Field(default=0.05, gt=0, lt=0.5)
    """Share of the groups or conversations (`split_by`) that go into the test split."""
