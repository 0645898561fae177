"""The settings of cleaning: how the text is normalised, and how it is split."""

from typing import Literal

from pydantic import Field

from models.config import Config


class CleanConfig(Config):
    normalisation: Literal["plain", "article"] = "plain"
    """`plain`: tidy Unicode, blanks, markup; `article`: lower-case letters and .,!? alone, as in the
    tutorial that the recipe `tutorial` follows."""
    split_by: Literal["group", "conversation"] = "group"
    """What must not be in two splits: a whole group (a movie), or only a conversation."""
    validation_share: float = Field(default=0.05, gt=0, lt=0.5)
    """Share of the groups, or of the conversations, in the validation split."""
    test_share: float = Field(default=0.05, gt=0, lt=0.5)
    """Share of the groups, or of the conversations, in the test split."""
