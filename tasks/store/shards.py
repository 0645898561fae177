"""Stored shards: each is stored once under a digest of all that decides it, beside the outputs of the stages.

    store/shards/KEY/...files..., manifest.json

A shard is complete or absent, as an output is, but it is not flushed to the disk: a shard whose bytes are not
those of its manifest is built again. A shard can be deleted at any time at which no run is in progress.
"""

import hashlib
import json
import logging
import os
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from models.partial import building
from tasks.store.artifact import (
    MANIFEST,
    SCHEMA_VERSION,
    CorruptArtifact,
    is_whole,
    new_manifest,
    publish,
    verify,
)
from tasks.store.fingerprint import Code, code_of

SHARDS = "shards"

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class StoredShards:
    """The shards in the store of a home."""

    home: Path

    def __call__(self, build: Callable[..., None], identity: Mapping[str, Any], **given: Any) -> Path:
        code = _code_of(build)
        ingredients = {
            "schema": SCHEMA_VERSION,
            "stage": SHARDS,
            "inputs": {},
            "config": {"build": f"{build.__module__}.{build.__qualname__}", **identity},
            "code": code.sha256,
            "libraries": code.libraries,
        }
        key = hashlib.sha256(json.dumps(ingredients, sort_keys=True).encode()).hexdigest()[:24]
        final = self.home / "store" / SHARDS / key
        if _is_usable(final):
            return final
        with building(final.parent, key) as partial:
            if is_whole(final):
                return final  # another process built the shard while this one waited
            started_s = time.monotonic()
            build(partial, **given)
            seconds = round(time.monotonic() - started_s, 3)
            manifest = new_manifest(partial, ingredients, 0, seconds)
            (partial / MANIFEST).write_text(json.dumps(manifest, indent=2) + "\n")
            publish(partial, final)
        return final


_code_of: Callable[[Callable[..., object]], Code] = cache(code_of)


def _is_usable(shard: Path) -> bool:
    """Whether the shard is stored and undamaged. Its use is noted, which `repartee prune` goes by."""
    try:
        if verify(shard) is None:
            return False
    except CorruptArtifact as damage:
        log.warning("%s; this shard is built again", damage)
        return False
    with suppress(OSError):
        os.utime(shard)
    return True
