"""Stage: one step of the chain, which runs only if something that decides its output has changed."""

import hashlib
import json
import logging
import shutil
import time
from collections.abc import Callable, Collection, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, cast

from prefect.states import Completed

from models.addresses import redact_addresses
from models.config import Config, value_text
from models.partial import building
from models.quantities import count_text, duration_text
from tasks.prefect_api.recorded import recorded
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
from tasks.store.run_context import RunContext
from tasks.store.stage_event import event

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class External:
    """An input that does not come from the store."""

    identity: str = ""
    """An identifier of the input's content, which is part of the output's fingerprint."""
    context: Mapping[str, Any] = field(default_factory=dict)
    """Arguments of `build` that give access to the input. The fingerprint includes only `identity`."""


@dataclass(frozen=True)
class Stage:
    """A step of the chain: a pure function, with the names of its inputs and the key of its settings.

    `build(out, config, **inputs)` writes files into the folder `out` and returns the size of its output,
    counted in `unit`. Each of the `inputs` is a folder, passed under the name of the stage that wrote it.
    If the stage is resumable, `build` also gets `work`, a folder that is kept until the stage has succeeded.
    """

    name: str
    build: Callable[..., int]
    reads: tuple[str, ...] = ()
    """The names of the stages whose outputs this stage always reads."""
    may_read: Callable[[Any], tuple[str, ...]] = lambda config: ()
    """Returns, for given settings, the names of further stages whose outputs are read if they exist."""
    settings: str = ""
    """The key of this stage's settings in `RunContext.settings`, if it differs from the name of the stage."""
    is_used: Callable[[Any], bool] = lambda config: True
    """Whether a run with these settings includes this stage."""
    external: Callable[[RunContext, Any, Mapping[str, Artifact]], External] = lambda run, config, inputs: (
        External()
    )
    """The input that this stage reads from outside the store, given its settings and its other inputs."""
    outside: str = "the corpus"
    """What this input is, for people."""
    attend: Callable[[RunContext, str], AbstractContextManager[Mapping[str, Any]]] | None = None
    """A context manager in which `build` is called; it yields further arguments of `build`."""
    resumable: bool = False
    unit: str = "rows"
    """The unit in which the output is counted, as a plural noun."""

    def config(self, run: RunContext) -> Config:
        return run.settings[self.settings or self.name]

    def inputs(self, run: RunContext, available: Collection[str]) -> tuple[str, ...]:
        """The names of the outputs that this stage reads if the outputs `available` exist in the run."""
        optional = self.may_read(self.config(run))
        return (*self.reads, *(name for name in optional if name in available))

    @cached_property
    def task(self) -> Callable[[RunContext, dict[str, Artifact]], Artifact]:
        """The stage as a Prefect task."""

        @recorded(self.name)
        def run_stage(run: RunContext, inputs: dict[str, Artifact]) -> Artifact:
            return as_task_state(self.produce(run, inputs))

        return run_stage

    def produce(self, run: RunContext, inputs: Mapping[str, Artifact]) -> Artifact:
        """The output of the stage in this run, found in the store or built now."""
        config = self.config(run)
        external = self.external(run, config, inputs)
        fingerprint = self.fingerprint(config, digests_of(inputs, external.identity))
        if self.attend is None or self.find(run.home, fingerprint):
            return self.run(run.home, config, inputs, identity=external.identity, context=external.context)
        with self.attend(run, fingerprint) as attended:
            context = {**external.context, **attended}
            return self.run(run.home, config, inputs, identity=external.identity, context=context)

    @cached_property
    def code(self) -> Code:
        return code_of(self.build)

    def ingredients(self, config: Config, digests: Mapping[str, str]) -> dict[str, Any]:
        """Everything that decides the output: equal ingredients give an equal output."""
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
        """The output for these ingredients, found in the store or built now.

        `identity` identifies the content of an input that does not come from the store. `context` contains
        further arguments of `build`, which do not affect the output.
        """
        digests = digests_of(inputs, identity)
        fingerprint = self.fingerprint(config, digests)
        found = self.find(home, fingerprint)
        if found is not None:
            output = count_text(found.rows, self.unit)
            log.info("%s: reused (%s)", self.name, output, extra=event(self.name, "reused", output=output))
            return found
        why = self.why(home, config, digests)
        log.info("%s: running (%s)", self.name, why, extra=event(self.name, "running"))
        extra = {**(context or {}), **{name: each.path for name, each in inputs.items()}}
        work = home / "runs" / fingerprint
        if self.resumable:
            extra["work"] = work
        artifact = self._build(home, config, digests, extra, why)
        shutil.rmtree(work, ignore_errors=True)
        output = count_text(artifact.rows, self.unit)
        done = event(self.name, "done", output=output, seconds=artifact.seconds)
        log.info("%s: %s in %s", self.name, output, duration_text(artifact.seconds), extra=done)
        return artifact

    def find(self, home: Path, fingerprint: str) -> Artifact | None:
        """The stored output with this fingerprint; None if it is missing or damaged."""
        found = find(home, self.name, fingerprint)
        return None if found is None else replace(found, unit=self.unit)

    def _build(
        self, home: Path, config: Config, digests: Mapping[str, str], extra: Mapping[str, Any], why: str
    ) -> Artifact:
        fingerprint = self.fingerprint(config, digests)
        final = home / "store" / self.name / fingerprint
        with building(final.parent, fingerprint) as partial:
            if is_whole(final) and (found := self.find(home, fingerprint)):
                return found  # another process built the output while this one waited
            started_s = time.monotonic()
            rows = self.build(partial, config, **extra)
            seconds = round(time.monotonic() - started_s, 3)
            manifest = new_manifest(partial, self.ingredients(config, digests), rows, seconds)
            write_manifest(partial, manifest)
            publish(partial, final)
        return Artifact(
            self.name, fingerprint, manifest["digest"], final, rows, "ran", seconds, why, unit=self.unit
        )

    def why(self, home: Path, config: Config, digests: Mapping[str, str]) -> str:
        """Why the stage has to run: what differs from the most similar stored output; otherwise SAME."""
        folder = home / "store" / self.name
        try:
            if verify(folder / self.fingerprint(config, digests)):
                return SAME
        except CorruptArtifact as damage:
            return str(damage)
        wanted = self.ingredients(config, digests)
        manifests = sorted(folder.glob(f"*/{MANIFEST}"), key=lambda path: path.stat().st_mtime, reverse=True)
        known = (_ingredients(path) for path in manifests)
        reasons = [differences(had, wanted, self.outside) for had in known if had is not None]
        return min(reasons, key=len, default=["no stored output yet"])[0]


def as_task_state(artifact: Artifact) -> Artifact:
    """The return value of a stage's task: the artifact, in the Prefect state `Cached` if it was reused.

    The declared type is `Artifact` in both cases, because Prefect unwraps the artifact before the next task
    receives it.
    """
    if artifact.status == "ran":
        return artifact
    return cast(Artifact, Completed(name="Cached", message=artifact.why, data=artifact))


def _ingredients(manifest: Path) -> dict[str, Any] | None:
    """The ingredients of a stored output; None if its manifest is damaged."""
    try:
        ingredients: dict[str, Any] = json.loads(manifest.read_text())["ingredients"]
    except (ValueError, KeyError, TypeError):
        return None
    return ingredients


def digests_of(inputs: Mapping[str, Artifact], identity: str = "") -> dict[str, str]:
    digests = {name: artifact.digest for name, artifact in inputs.items()}
    return {**digests, "source": identity} if identity else digests


def differences(had: dict[str, Any], wanted: dict[str, Any], outside: str) -> list[str]:
    """The differences between the ingredients of two outputs; the most informative difference comes first."""
    found = config_differences("", had["config"], wanted["config"])
    for name in sorted(set(had["inputs"]) | set(wanted["inputs"])):
        if had["inputs"].get(name) != wanted["inputs"].get(name):
            found.append(f"{outside if name == 'source' else f'the output of {name}'} changed")
    libraries = had.get("libraries", {})
    for name, version in wanted["libraries"].items():
        if libraries.get(name, version) != version:
            found.append(f"{name} changed from {libraries[name]} to {version}")
    if had["code"] != wanted["code"]:
        found.append("its code changed")
    return found or ["the format of the store changed"]


def config_differences(path: str, before: Any, now: Any) -> list[str]:
    """The settings that differ, each with its old and its new value; `path` is the key of both values."""
    if before == now:
        return []
    if isinstance(before, dict) and isinstance(now, dict):
        keys = sorted(set(before) | set(now))
        found = [
            config_differences(f"{path}.{key}".lstrip("."), before.get(key), now.get(key)) for key in keys
        ]
        return [line for lines in found for line in lines]
    return [redact_addresses(f"{path} changed from {value_text(before)} to {value_text(now)}")]
