"""Records: a record is a JSON file whose keys are the fields of a class."""

import json
from pathlib import Path
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, SerializerFunctionWrapHandler, ValidationError, model_serializer

from models.errors import validation_problem


class Record(BaseModel):
    """The content of a JSON file. Unknown keys, such as those of later versions, are ignored.

    Give a newly added key a default, so that older files can still be read.
    """

    model_config = ConfigDict(frozen=True, extra="ignore", use_attribute_docstrings=True)

    @classmethod
    def read(cls, path: Path) -> Self:
        """
        Raises:
            FileNotFoundError: there is no such file.
            ValueError: the file is not JSON, or the key named in the message is missing or has a wrong type.
        """
        content = json.loads(path.read_text())
        try:
            return cls.model_validate(content)
        except ValidationError as error:
            key, reason = validation_problem(error, depth=1)
            raise ValueError(f"{path}: {key}: {reason}") from None

    def write(self, path: Path) -> None:
        """Write the file. Numbers that are infinite or NaN are preserved."""
        path.write_text(json.dumps(self.model_dump(), indent=2, ensure_ascii=False) + "\n")


def left_out(**values: object) -> Any:
    """A serializer, for an attribute of a class, that leaves out fields as long as they have these values.

    Files and fingerprints then stay those of earlier releases, which did not have the fields.
    """

    @model_serializer(mode="wrap")
    def serialize(self: BaseModel, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return {key: value for key, value in handler(self).items() if (key, value) not in values.items()}

    return serialize
