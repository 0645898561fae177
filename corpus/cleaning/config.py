"""The settings of the clean stage: how the text is prepared, and how the corpus is split."""

from typing import Literal

from pydantic import Field

from models.config import Config
from models.text.normalisation import Redaction


class CleanConfig(Config):
    normalisation: Literal["plain", "article"] = "plain"
    """How the text is cleaned. `plain`: Unicode, whitespace and markup are tidied up. `article`: in addition,
    the text is converted to lower case, and only the letters a to z and .,!? are kept, as in the tutorial
    that the recipe `tutorial` follows."""
    redact: Literal["auto", "personal", "none"] = "auto"
    """Whether personal data is replaced. `personal`: e-mail addresses, phone numbers, card numbers, IBANs, IP
    addresses and credentials in URLs are replaced by words such as `[email]`. `none`: nothing is replaced.
    `auto`: `none` for the corpora `cornell` and `sample` and a mix of these two, `personal` for every other
    corpus."""
    split_by: Literal["group", "conversation"] = "group"
    """What is never divided between splits: a group (such as a movie), or a conversation."""
    validation_share: float = Field(default=0.05, gt=0, lt=0.5)
    """Share of the groups or conversations (see `split_by`) that are assigned to the validation split."""
    test_share: float = Field(default=0.05, gt=0, lt=0.5)
    """Share of the groups or conversations (see `split_by`) that are assigned to the test split."""

    @property
    def redaction(self) -> Redaction:
        """What is replaced in the text; `personal` if `auto` has not been decided by the corpus."""
        return "none" if self.redact == "none" else "personal"


class MixConfig(CleanConfig):
    """The settings of the stage for a corpus whose sources have weights."""

    weights: dict[str, float]
    """The weights by the names of the sources. The setting `download.corpus` contains them."""
