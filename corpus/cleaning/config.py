"""The settings of cleaning: the form of the text, and how it is split."""

from typing import Literal

from pydantic import Field

from models.config import Config


class CleanConfig(Config):
    normalisation: Literal["plain", "article"] = "plain"
    """`plain`: tidy Unicode, blanks, markup; `article`: lower-case letters and .,!? alone."""
    split_by: Literal["group", "conversation"] = "group"
    """What is never on two sides of a split: a whole group (a movie), or only a conversation."""
    validation_share: float = Field(default=0.05, gt=0, lt=0.5)
    test_share: float = Field(default=0.05, gt=0, lt=0.5)
