"""The base class of every group of settings.

Settings are declared in modules that do not import torch (often a package's `config.py`), so that the command
line can read, check and show them quickly.
"""

import json
from typing import Any

from pydantic import BaseModel, ConfigDict


class Config(BaseModel):
    """A frozen group of settings. An unknown key is an error; a setting's docstring is its help text."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


def value_text(value: Any) -> str:
    """Return a setting's value as text for people. For text that `--set` can parse, see flows/notation.py."""
    return value if isinstance(value, str) else json.dumps(value)
