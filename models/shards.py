"""Shards: what a stage computes of one part of its input, such as one file, and what later runs may reuse.

A stage that gets a store of shards computes only those of new parts. Its output is the same without one: a
shard saves time, and decides nothing.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol


class Shards(Protocol):
    """A store of shards."""

    def __call__(self, build: Callable[..., None], identity: Mapping[str, Any], **given: Any) -> Path:
        """The folder of a shard, which is found in the store or built now with `build(folder, **given)`.

        Args:
            identity: everything that decides the files of the shard, except the code of `build`.
        """
        ...
