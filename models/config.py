"""The base class of every group of settings.

Each package declares its settings in `config.py`, apart from the code that uses them, so that the
command line can read, check and show them without importing torch. The settings of a data stage
are declared in the stage's module under tasks/.
"""

import json
from typing import Any

from pydantic import BaseModel, ConfigDict


class Config(BaseModel):
    """A frozen group of settings. An unknown key is an error; a setting's docstring is its help text."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


def value_text(value: Any) -> str:
    """Return a setting's value as text for people; flows/notation.py writes values that `--set` can read."""
    return value if isinstance(value, str) else json.dumps(value)
