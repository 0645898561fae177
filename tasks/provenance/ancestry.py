"""The ancestry of a model: the trunk or initial model from which its training began, and theirs in turn."""

import json
from collections.abc import Generator, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Literal

from models.errors import InputError, TrackingUnavailable
from models.registry.tags import FINGERPRINT
from models.registry.version import Version
from models.registry.versions import Registry
from tasks.provenance.origin import Origin, origin_of, trunk_entry
from tasks.trunk.night import RANDOM


@dataclass(frozen=True)
class Ancestor:
    """That from which a training began."""

    kind: Literal["trunk", "initial model", "random weights"]
    title: str
    """What it is, such as `night 2` or `repartee v3`."""
    version: int | None = None
    """The version that has these weights or, for a trunk, the one that came out of the same night."""
    at: str = ""
    """When the trunk was left; empty for a model."""


@dataclass(frozen=True)
class Ancestry:
    """Finds the ancestors of the models of one home."""

    home: Path
    registry: Registry

    def of(self, origin: Origin) -> Iterator[Ancestor]:
        """Yield the ancestors of a model, the nearest first, as far back as the home records them.

        Raises:
            TrackingUnavailable: MLflow does not answer.
        """
        passed: set[str] = set()
        following: Origin | None = origin
        while following is not None and following.fingerprint not in passed:
            passed.add(following.fingerprint)
            model: Version | None = None
            if following.trunk:
                model = yield from self._nights(following.trunk)
            elif start := following.outputs.get("start"):
                title, model = self._initial_model(start.path)
                yield Ancestor("initial model", title, model.number if model else None)
            elif "start" not in following.missing:
                yield Ancestor("random weights", RANDOM)
            following = None if model is None else origin_of(self.home, model.tags.get(FINGERPRINT, ""))

    def _nights(self, digest: str) -> Generator[Ancestor, None, Version | None]:
        """Yield the trunk with this digest and those before it; return the version with which they began."""
        entry = trunk_entry(self.home, digest)
        if entry is None:
            title = RANDOM if digest.startswith(RANDOM) else "a trunk that is not in the home any more"
            yield Ancestor("random weights" if title == RANDOM else "trunk", title)
            return None
        trunk, last = entry
        nights = trunk.read()[0].nights
        nights = nights[: nights.index(last) + 1]
        while nights and not nights[-1].origin:
            since = next((i for i, night in enumerate(reversed(nights)) if night.origin), len(nights))
            night = nights.pop()
            yield Ancestor("trunk", f"night {since}", self._number_of(night.fingerprint), night.at)
        if not nights:
            return None
        if nights[-1].origin == RANDOM:
            yield Ancestor("random weights", RANDOM)
            return None
        model = next((each for _, each in self._versions if each.digest == nights[-1].model), None)
        yield Ancestor("initial model", nights[-1].origin, model.number if model else None)
        return model

    def _number_of(self, fingerprint: str) -> int | None:
        """The version of the own line that the training run with this fingerprint produced."""
        for registry, version in self._versions:
            if registry.model == self.registry.model and version.tags.get(FINGERPRINT) == fingerprint:
                return version.number
        return None

    def _initial_model(self, start: Path) -> tuple[str, Version | None]:
        """The name of a stored initial model, and the version that it is."""
        source: dict[str, str] = {}
        with suppress(OSError, ValueError):
            source = json.loads((start / "logs" / "source.json").read_text())
        for line, version, location in self._locations:
            if source.get("place") == location:
                return f"{line} v{version.number}", version
        return source.get("place", "a model whose origin is not recorded"), None

    @cached_property
    def _versions(self) -> list[tuple[Registry, Version]]:
        """The versions of all model lines, those of the own line first."""
        others = [line for line in self.registry.lines() if line != self.registry.model]
        registries = [self.registry, *(replace(self.registry, model=line) for line in others)]
        return [(registry, version) for registry in registries for version in registry.versions()]

    @cached_property
    def _locations(self) -> list[tuple[str, Version, str]]:
        """The model line, the version and the folder of each version whose files exist."""
        found = []
        for registry, version in self._versions:
            try:
                found.append((registry.model, version, registry.location(version)))
            except TrackingUnavailable:
                raise
            except InputError:  # the files of the version are deleted
                continue
        return found
