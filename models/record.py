"""Records: JSON files whose keys are known, one class for each."""

import json
from pathlib import Path
from typing import Self

from pydantic import BaseModel, ConfigDict, ValidationError

from models.errors import validation_problem


class Record(BaseModel):
    """The content of a JSON file. Keys of a later version are ignored; new keys need a default."""

    model_config = ConfigDict(frozen=True, extra="ignore", use_attribute_docstrings=True)

    @classmethod
    def read(cls, path: Path) -> Self:
        """
        Raises:
            FileNotFoundError: there is no such file.
            ValueError: it is not JSON, or a key is missing or has a wrong type; the line names both.
        """
        content = json.loads(path.read_text())
        try:
            return cls.model_validate(content)
        except ValidationError as error:
            key, reason = validation_problem(error, depth=1)
            raise ValueError(f"{path}: {key}: {reason}") from None

    def write(self, path: Path) -> None:
        """Write the file; figures that are infinite or no numbers stay what they are."""
        path.write_text(json.dumps(self.model_dump(), indent=2, ensure_ascii=False) + "\n")
