"""The model versions in MLflow's registry: which there are, which is in service, and why.

A version is a folder of safetensors, JSON and Markdown, stored with the run that trained it. Its
manifest.json holds the SHA-256 of each file, and the version's tag holds that of the manifest.
"""

import hashlib
import json
import logging
import re
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from filelock import FileLock

from models.errors import InputError
from models.manifest import MANIFEST, allowed, check, hashes
from models.tracking import FINGERPRINT, Tracking, quoted

log = logging.getLogger(__name__)

CHAMPION, CHALLENGER, PREVIOUS = "champion", "challenger", "previous"
DIGEST = "repartee.digest"
PROMOTED_AT, REPLACED = "repartee.promoted_at", "repartee.previous"
HISTORY = "repartee.history."
ENTRY = re.compile(r"(?P<at>\S+) v(?P<version>\d+)(?: after v(?P<previous>\d+))?: (?P<why>.*)", re.DOTALL)
PARTIAL = ".tmp-"  # a folder into which a model is being copied
MAX_WHY = 4000  # characters; a tag of a registered model holds 5,000


@dataclass(frozen=True)
class Version:
    """One registered model."""

    number: int
    aliases: tuple[str, ...]
    tags: dict[str, str]
    metrics: dict[str, float]
    """The last value of each metric of its run."""
    run_id: str
    created: datetime
    description: str
    source: str
    """Where its files are, for MLflow."""


@dataclass(frozen=True)
class Promotion:
    """One change of the champion."""

    at: datetime
    version: int
    previous: int | None
    why: str


class Registry(Tracking):
    """The versions of one model, and the runs that they came from."""

    def versions(self) -> list[Version]:
        """All versions, the newest first."""
        model = self.ask_or_none("get_registered_model", self.model)
        if model is None:
            return []
        found: list[Any] = []
        page = None
        while page is None or page:
            query = f"name = {quoted(self.model)}"
            batch = self.ask("search_model_versions", query, max_results=200, page_token=page)
            found += batch
            page = batch.token or ""
        metrics = self._metrics([version.run_id for version in found])
        versions = [_version(v, model.aliases, metrics.get(v.run_id, {})) for v in found]
        return sorted(versions, key=lambda version: -version.number)

    def champion(self) -> Version | None:
        """The version in service; none before the first promotion."""
        return self._aliased(CHAMPION)

    def find(self, ref: str) -> Version:
        """The version of a number or of an alias: champion, challenger or previous."""
        number = ref.removeprefix("v")
        version = self._numbered(int(number)) if number.isdecimal() else self._aliased(ref)
        if version is None:
            raise InputError(self._unknown(ref))
        return version

    def register(
        self,
        model_folder: Path,
        run_id: str,
        *,
        fingerprint: str,
        tags: Mapping[str, str],
        description: str,
    ) -> Version:
        """Store the folder as a version and read it back; the same files make no second one."""
        files = hashes(allowed(model_folder))
        manifest = json.dumps({"files": files}, indent=1, sort_keys=True) + "\n"
        digest = hashlib.sha256(manifest.encode()).hexdigest()
        mine = [v for v in self.versions() if run_id == v.run_id or _made_by(v, fingerprint)]
        for version in mine:
            if version.tags.get(DIGEST) == digest:
                if self.damage(version):
                    self._store(model_folder, manifest, version.run_id, _artifact_path(version))
                return version
        # Other files of the same training (not every device is exact) leave the older ones alone.
        path = "model" if not mine else f"model-{digest[:12]}"
        # Before there is a version, so that there never is one that cannot be read.
        self._store(model_folder, manifest, run_id, path)
        self._make_model()
        made = self.ask(
            "create_model_version",
            self.model,
            f"runs:/{run_id}/{path}",
            run_id=run_id,
            tags={**tags, FINGERPRINT: fingerprint, DIGEST: digest},
            description=description,
        )
        return self.find(str(made.version))

    def folder(self, version: Version, cache: Path) -> Path:
        """The folder of a version's files, each checked; a remote one is copied to `cache`."""
        digest = version.tags.get(DIGEST)
        if digest is None:
            raise InputError(
                f"{self._name(version)} has no {DIGEST} tag: it was not registered by Repartee; "
                "choose another version (`repartee models`)"
            )
        path = _artifact_path(version)
        local = self._local(version.run_id, path)
        if local is None:
            local = cache / f"{self.model}-v{version.number}-{digest[:12]}"
            if not local.exists():
                self._download(version.run_id, path, local)
        check(local, digest, self._name(version))
        return local

    def damage(self, version: Version) -> str | None:
        """What is wrong with the stored files of a version; none: they are as they were registered."""
        try:
            self._read_back(version.run_id, _artifact_path(version), version.tags.get(DIGEST, ""))
        except InputError as error:
            return str(error)
        return None

    def promote(self, version: Version, why: str) -> Version:
        """Put a version into service: it is the champion, the old champion `previous`."""
        old = self.champion()
        if old is not None and old.number != version.number:
            self._point(PREVIOUS, old)
        if old is None or old.number != version.number:
            self._point(CHAMPION, version)
        # Also where it is the champion already: an earlier try may have stopped here.
        self._record(version, why)
        now = self.champion()
        if now is None or now.number != version.number:
            there = "nothing" if now is None else self._name(now)
            raise InputError(
                f"{self._name(version)} was promoted, but {there} is the champion now: somebody "
                "else promoted at the same time; compare them (`repartee models`)"
            )
        return now

    def tag(self, version: Version, tags: Mapping[str, str]) -> None:
        """Add tags to a version, the gate's verdict for one."""
        for key, value in tags.items():
            self._set("set_model_version_tag", str(version.number), key, value)

    def history(self) -> list[Promotion]:
        """Who was champion since when, and why, the newest first."""
        model = self.ask_or_none("get_registered_model", self.model)
        tags: dict[str, str] = {} if model is None else model.tags
        keys = sorted((key for key in tags if key.startswith(HISTORY)), reverse=True)
        entries = [entry for key in keys if (entry := ENTRY.fullmatch(tags[key]))]
        return [
            Promotion(
                at=datetime.fromisoformat(entry["at"]),
                version=int(entry["version"]),
                previous=int(entry["previous"]) if entry["previous"] else None,
                why=entry["why"],
            )
            for entry in entries
        ]

    def _record(self, version: Version, why: str) -> None:
        """Add the promotion to the history, unless it is its newest entry."""
        entries = self.history()
        if entries and entries[0].version == version.number:
            return
        at = datetime.now(UTC).isoformat(timespec="milliseconds")
        before = entries[0].version if entries else None
        self.tag(version, {PROMOTED_AT: at, REPLACED: "" if before is None else str(before)})
        after = "" if before is None else f" after v{before}"
        # Numbered, not timed: the order survives a clock that jumps.
        key = f"{HISTORY}{len(entries) + 1:06d}-v{version.number}"
        entry = f"{at} v{version.number}{after}: {why[:MAX_WHY]}"
        self._set("set_registered_model_tag", key, entry)

    def _point(self, alias: str, version: Version) -> None:
        self._set("set_registered_model_alias", alias, str(version.number))

    def _set(self, method: str, *args: str) -> None:
        """Set an alias or a tag; MLflow fails where two processes set the same new one at once."""
        try:
            self.ask(method, self.model, *args)
        except Exception as error:
            if "IntegrityError" not in str(error):
                raise
            self.ask(method, self.model, *args)

    def _aliased(self, alias: str) -> Version | None:
        model = self.ask_or_none("get_registered_model", self.model)
        if model is None or alias not in model.aliases:
            return None
        return self._numbered(int(model.aliases[alias]), model.aliases)

    def _numbered(self, number: int, aliases: Mapping[str, Any] | None = None) -> Version | None:
        found = self.ask_or_none("get_model_version", self.model, str(number))
        if found is None:
            return None
        if aliases is None:
            aliases = self.ask("get_registered_model", self.model).aliases
        return _version(found, aliases, self._metrics([found.run_id]).get(found.run_id, {}))

    def _metrics(self, run_ids: list[str | None]) -> dict[str, dict[str, float]]:
        """The metrics of each run; a run that is deleted has none."""
        runs = (self.ask_or_none("get_run", run_id) for run_id in run_ids if run_id)
        return {run.info.run_id: run.data.metrics for run in runs if run is not None}

    def _make_model(self) -> None:
        text = "The reply model that Repartee trains. The version called `champion` is in service."
        if self.ask_or_none("get_registered_model", self.model) is None:
            try:
                self.ask("create_registered_model", self.model, description=text)
            except Exception as error:
                # Another process was faster.
                if getattr(error, "error_code", None) != "RESOURCE_ALREADY_EXISTS":
                    raise

    def _unknown(self, ref: str) -> str:
        versions = self.versions()
        if not versions:
            return f"no version of {self.model!r} is registered yet; `repartee run` makes the first"
        named = (f"{v.number}" + "".join(f" ({a})" for a in v.aliases) for v in versions[:10])
        more = f" and {len(versions) - 10} older" if len(versions) > 10 else ""
        return f"{self.model!r} has no version {ref!r}; it has {', '.join(named)}{more}"

    def _name(self, version: Version) -> str:
        return f"{self.model} version {version.number}"

    def _local(self, run_id: str, path: str) -> Path | None:
        """The artifact's folder where MLflow keeps it on this machine's disk, else none."""
        run = self.ask_or_none("get_run", run_id)
        if run is None:
            raise InputError(f"run {run_id}, which holds the model, is gone; train it again")
        folder = self.local_folder(run.info.artifact_uri)
        return None if folder is None else folder / path

    def _download(self, run_id: str, path: str, target: Path) -> None:
        """Copy an artifact folder to `target`, whole or not at all."""
        target.parent.mkdir(parents=True, exist_ok=True)
        # One at a time: what else is half-copied there is a dead one's.
        with FileLock(target.parent / ".lock"):
            for left in target.parent.glob(f"{PARTIAL}*"):
                log.info("%s is left of a copy that was cut off, and goes", left)
                shutil.rmtree(left, ignore_errors=True)
            if target.exists():
                return
            with tempfile.TemporaryDirectory(prefix=PARTIAL, dir=target.parent) as scratch:
                Path(self.ask("download_artifacts", run_id, path, scratch)).replace(target)

    def _store(self, model_folder: Path, manifest: str, run_id: str, path: str) -> None:
        self.log_artifacts(run_id, model_folder, path)
        self.log_text(run_id, manifest, f"{path}/{MANIFEST}")
        self._read_back(run_id, path, hashlib.sha256(manifest.encode()).hexdigest())

    def _read_back(self, run_id: str, path: str, digest: str) -> None:
        with tempfile.TemporaryDirectory() as scratch:
            local = self._local(run_id, path)
            if local is None:
                local = Path(scratch) / "model"
                self._download(run_id, path, local)
            check(local, digest, f"the model stored with run {run_id}")


def _version(found: Any, aliases: Mapping[str, Any], metrics: dict[str, float]) -> Version:
    number = int(found.version)
    return Version(
        number=number,
        aliases=tuple(sorted(a for a, pointed in aliases.items() if int(pointed) == number)),
        tags=dict(found.tags),
        metrics=metrics,
        run_id=found.run_id or "",
        created=datetime.fromtimestamp(found.creation_timestamp / 1000, UTC),
        description=found.description or "",
        source=found.source,
    )


def _made_by(version: Version, fingerprint: str) -> bool:
    return version.tags.get(FINGERPRINT) == fingerprint


def _artifact_path(version: Version) -> str:
    """Where in its run's artifacts a version lies."""
    found = re.fullmatch(r"runs:/\w+/(.+)", version.source)
    if found is None:
        raise InputError(
            f"version {version.number} lies at {version.source}: it was not registered by "
            "Repartee; choose another version (`repartee models`)"
        )
    return found[1]
