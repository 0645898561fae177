"""Stage: one step of the chain, run only when what decides its output has changed."""

import hashlib
import json
import logging
import shutil
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, cast

from prefect.states import Completed

from models.addresses import bare
from models.config import Config
from models.partial import building
from tasks.store.artifact import (
    MANIFEST,
    SAME,
    SCHEMA_VERSION,
    Artifact,
    CorruptArtifact,
    find,
    is_whole,
    new_manifest,
    publish,
    verify,
    write_manifest,
)
from tasks.store.fingerprint import Code, code_of

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Stage:
    """A pure function, the stages whose outputs it reads, and the fingerprint of both.

    `build(out, config, **inputs)` writes files into the folder `out`, reads the folders of its
    inputs (by the name of the stage that made them) and returns how many rows it made.
    A resumable one also gets `work`, a folder that stays until it has succeeded.
    """

    name: str
    build: Callable[..., int]
    resumable: bool = False

    @cached_property
    def code(self) -> Code:
        return code_of(self.build)

    def ingredients(self, config: Config, digests: Mapping[str, str]) -> dict[str, Any]:
        """All that decides the output: equal ingredients, equal output."""
        return {
            "schema": SCHEMA_VERSION,
            "stage": self.name,
            "inputs": dict(sorted(digests.items())),
            "config": config.model_dump(mode="json"),
            "code": self.code.sha256,
            "libraries": self.code.libraries,
        }

    def fingerprint(self, config: Config, digests: Mapping[str, str]) -> str:
        text = json.dumps(self.ingredients(config, digests), sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:24]

    def run(
        self,
        home: Path,
        config: Config,
        inputs: Mapping[str, Artifact],
        *,
        identity: str = "",
        context: Mapping[str, Any] | None = None,
    ) -> Artifact:
        """The output for these ingredients: found in the store, or made now.

        `identity` stands for an input from outside the store; `context` is handed to `build` and
        decides nothing.
        """
        digests = digests_of(inputs, identity)
        fingerprint = self.fingerprint(config, digests)
        found = find(home, self.name, fingerprint)
        if found is not None:
            log.info("%s: reused, %s rows", self.name, f"{found.rows:,}")
            return found
        why = self.why(home, config, digests)
        log.info("%s: runs, for %s", self.name, why)
        extra = {**(context or {}), **{name: each.path for name, each in inputs.items()}}
        work = home / "runs" / fingerprint
        if self.resumable:
            extra["work"] = work
        artifact = self._make(home, config, digests, extra, why)
        shutil.rmtree(work, ignore_errors=True)
        log.info("%s: %s rows in %.1f s", self.name, f"{artifact.rows:,}", artifact.seconds)
        return artifact

    def _make(
        self, home: Path, config: Config, digests: Mapping[str, str], extra: Mapping[str, Any], why: str
    ) -> Artifact:
        fingerprint = self.fingerprint(config, digests)
        final = home / "store" / self.name / fingerprint
        with building(final.parent, fingerprint) as partial:
            if is_whole(final) and (found := find(home, self.name, fingerprint)):
                return found  # by the builder that was waited for
            started_s = time.monotonic()
            rows = self.build(partial, config, **extra)
            seconds = round(time.monotonic() - started_s, 3)
            manifest = new_manifest(partial, self.ingredients(config, digests), rows, seconds)
            write_manifest(partial, manifest)
            publish(partial, final)
        return Artifact(self.name, fingerprint, manifest["digest"], final, rows, "ran", seconds, why)

    def why(self, home: Path, config: Config, digests: Mapping[str, str]) -> str:
        """Why it would run, told from the kept output that differs least; or why it would not."""
        folder = home / "store" / self.name
        try:
            if verify(folder / self.fingerprint(config, digests)):
                return SAME
        except CorruptArtifact as damage:
            return str(damage)
        wanted = self.ingredients(config, digests)
        manifests = sorted(folder.glob(f"*/{MANIFEST}"), key=lambda path: path.stat().st_mtime, reverse=True)
        known = (_ingredients(path) for path in manifests)
        reasons = [differences(had, wanted) for had in known if had is not None]
        return min(reasons, key=len, default=["it has not run in this home before"])[0]


def named(artifact: Artifact) -> Artifact:
    """The end of a stage's task run: the artifact, in Prefect's state `Cached` if nothing was made.

    Typed as what the tasks that it is passed to receive: Prefect takes it out of the state.
    """
    if artifact.status == "ran":
        return artifact
    return cast(Artifact, Completed(name="Cached", message=artifact.why, data=artifact))


def _ingredients(manifest: Path) -> dict[str, Any] | None:
    """What an output was made of; None where its manifest is damaged: then it explains nothing."""
    try:
        ingredients: dict[str, Any] = json.loads(manifest.read_text())["ingredients"]
    except (ValueError, KeyError, TypeError):
        return None
    return ingredients


def digests_of(inputs: Mapping[str, Artifact], identity: str = "") -> dict[str, str]:
    digests = {name: artifact.digest for name, artifact in inputs.items()}
    return {**digests, "source": identity} if identity else digests


def differences(had: dict[str, Any], wanted: dict[str, Any]) -> list[str]:
    """What differs between two lists of ingredients, the most telling first."""
    found = _config_differences("", had["config"], wanted["config"])
    for name in sorted(set(had["inputs"]) | set(wanted["inputs"])):
        if had["inputs"].get(name) != wanted["inputs"].get(name):
            found.append("the corpus is another" if name == "source" else f"{name} made another output")
    libraries = had.get("libraries", {})
    for name, version in wanted["libraries"].items():
        if libraries.get(name, version) != version:
            found.append(f"{name} is {version}, it was {libraries[name]}")
    if had["code"] != wanted["code"]:
        found.append("its code has changed")
    return found or ["the format of the store has changed"]


def _config_differences(path: str, before: Any, now: Any) -> list[str]:
    if before == now:
        return []
    if isinstance(before, dict) and isinstance(now, dict):
        keys = sorted(set(before) | set(now))
        found = [
            _config_differences(f"{path}.{key}".lstrip("."), before.get(key), now.get(key)) for key in keys
        ]
        return [line for lines in found for line in lines]
    return [bare(f"{path} is {now}, it was {before}")]
