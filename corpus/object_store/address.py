"""Addresses of object stores: `s3://BUCKET/PATH` and `gs://BUCKET/PATH`, for an object or for a folder."""

import re
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Literal, cast

from models.addresses import OBJECTS, redact_corpus
from models.errors import InputError

Scheme = Literal["s3", "gs"]
SCHEMES = ("s3:", "gs:")
FORM = "s3://BUCKET/PATH or gs://BUCKET/PATH"


@dataclass(frozen=True)
class Objects:
    """The objects of a bucket whose names begin with a path, or a single object."""

    scheme: Scheme
    bucket: str
    path: str = ""
    """The name of an object or of a folder; "" for the whole bucket."""

    def __str__(self) -> str:
        return f"{self.scheme}://{self.location}"

    @property
    def location(self) -> str:
        """The bucket and the path, as pyarrow's file systems expect them."""
        return f"{self.bucket}/{self.path}" if self.path else self.bucket


def read_address(corpus: str) -> Objects:
    """The objects that a text beginning with `s3:` or `gs:` names.

    Raises:
        InputError: the text is not in the form s3://BUCKET/PATH.
    """
    text = corpus.strip()
    found = OBJECTS.fullmatch(text)
    if not found or {".", ".."} & set(found["path"].split("/")):
        # A query could direct the request to another server, and a key in the address would be stored.
        raise InputError(
            f"corpus {redact_corpus(text)} names no objects in a bucket: give {FORM}, without keys or a query"
        )
    return Objects(cast(Scheme, found["scheme"]), found["bucket"], found["path"].strip("/"))


def name_of(objects: Objects) -> str:
    """A short name that is safe as the name of a folder."""
    name = PurePosixPath(objects.path).name if objects.path else objects.bucket
    stem = re.sub(r"\.(parquet|arrow|jsonl?|csv|tsv|txt|zip|gz|zst)\b", "", name)
    return re.sub(r"[^A-Za-z0-9._-]+", "-", stem).strip(".-")[:80] or "corpus"
