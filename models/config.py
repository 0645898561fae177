"""The base class of every group of settings.

A package declares its own settings in `config.py`, apart from the code that uses them, so that the
command line can read, check and show them without importing torch. The settings of a data stage
stand in its module under tasks/.
"""

import json
from typing import Any

from pydantic import BaseModel, ConfigDict


class Config(BaseModel):
    """A frozen group of knobs; an unknown key is an error, a docstring is a knob's help."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


def value_text(value: Any) -> str:
    """The value of a setting as text, as `--set` takes it."""
    return value if isinstance(value, str) else json.dumps(value)
