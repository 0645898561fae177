"""The model versions in MLflow's registry, and the version in service.

A version is a folder of safetensors, JSON and Markdown files, usually with the files that make it an MLflow
model. Its manifest.json lists the SHA-256 of each file, and a tag of the version contains the SHA-256 of the
manifest.
"""

import logging
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from models.addresses import redact_addresses
from models.errors import InputError, TrackingUnavailable
from models.registry import mlflow_model
from models.registry.logged_models import LoggedModels, Scores
from models.registry.manifest import FOR_MLFLOW, allowed, check, digest_of, hashes, without_mlflow
from models.registry.model_files import ModelFiles
from models.registry.promotions import CHAMPION, WHOEVER, Promotions
from models.registry.runs import quoted
from models.registry.tables import Tables
from models.registry.tags import CONTENT_DIGEST, DIGEST, FINGERPRINT, MODEL_DIGEST, TAKEN_OUT
from models.registry.version import Version, is_of_training, source_of, version_of

if TYPE_CHECKING:
    from mlflow.entities.model_registry import RegisteredModel

log = logging.getLogger(__name__)


class Registry(ModelFiles, LoggedModels, Tables, Promotions):
    """The versions of one model, and the runs that trained them."""

    def versions(self) -> list[Version]:
        """All versions, the newest first."""
        records = self._records()
        metrics = self._metrics([version.run_id for version in records])
        aliases = self._model_state()[1] if records else {}
        return [version_of(version, aliases, metrics.get(version.run_id, {})) for version in records]

    def champion(self) -> Version | None:
        """The version in service, or None before the first promotion.

        Raises:
            TrackingUnavailable, InputError: MLflow cannot be used; the method `reading` lists the cases.
        """
        return self._aliased(CHAMPION)

    def taken_out(self, fingerprint: str, model_digest: str) -> tuple[int, str] | None:
        """Find a version with this fingerprint or these weights that a user has taken out of service.

        Returns:
            The version's number, and when and why a user took it out of service; None if none matches."""
        for version in self._records():
            tags = version.tags
            is_same = tags.get(FINGERPRINT) == fingerprint or tags.get(MODEL_DIGEST) == model_digest
            if is_same and TAKEN_OUT in tags:
                return int(version.version), str(tags[TAKEN_OUT])
        return None

    def find(self, ref: str) -> Version:
        """The version with this number or alias (champion, challenger or previous).

        Raises:
            InputError: there is no such version; the message lists the existing versions.
            TrackingUnavailable: MLflow does not answer.
        """
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
        scores: Scores | None = None,
    ) -> Version:
        """Store the folder as a version and verify it, or return an equal version of the same training run.

        The version is a logged model of the run, with these scores.

        Raises:
            InputError: the folder has a file that is not allowed, or the stored files are damaged.
            TrackingUnavailable: MLflow does not answer.
        """
        files = hashes(allowed(model_folder))
        content, digest = digest_of(without_mlflow(files)), digest_of(files)
        own_versions = [v for v in self.versions() if run_id == v.run_id or is_of_training(v, fingerprint)]
        for version in own_versions:
            if version.content_digest == content and self._restore(version, model_folder, files):
                if version.logged_model and version.run_id == run_id:
                    self._show(version.logged_model, run_id, version.number, scores)
                return self.find(str(version.number))
        # On some devices, training again writes other files, which must not replace those of the first run.
        model_id = self._open_logged_model(run_id, content)
        # The files are stored before the version is created, so that every version can be read.
        self._store(model_folder, files, f"models:/{model_id}")
        self._finish_logged_model(model_id)
        self._make_model()
        own_tags = {FINGERPRINT: fingerprint, CONTENT_DIGEST: content, DIGEST: digest}
        number = self._create_version(model_id, run_id, tags={**tags, **own_tags}, description=description)
        self._show(model_id, run_id, number, scores)
        return self.find(str(number))

    def folder(self, version: Version, cache: Path) -> Path:
        """The folder of a version's files, after verifying them; remote files are first copied to `cache`.

        Raises:
            InputError: Repartee did not register the version, or its files are missing or damaged.
            TrackingUnavailable: MLflow does not answer.
        """
        digest = version.tags.get(DIGEST)
        if digest is None:
            raise InputError(
                f"{self._name(version)} has no {DIGEST} tag: it was not registered by Repartee; "
                "choose another version (`repartee models`)"
            )
        source = source_of(version)
        local = self._local(source)
        if local is None:
            local = cache / f"{self.model}-v{version.number}-{digest[:12]}"
            self._copy_once(source, local, digest)
        check(local, digest, self._name(version))
        return local

    def location(self, version: Version) -> str:
        """The folder of a version's files, or their address if they are on another machine. Reads no file.

        Raises:
            InputError: Repartee did not register the version, or its files are deleted.
            TrackingUnavailable: MLflow does not answer.
        """
        address = self._location(source_of(version))
        return str(self.local_folder(address) or redact_addresses(address))

    def unreadable(self, version: Version, cache: Path) -> str | None:
        """Why a version cannot be loaded, or None if it can be loaded.

        Raises:
            TrackingUnavailable: MLflow does not answer.
        """
        try:
            self.folder(version, cache)
        except TrackingUnavailable:
            raise  # during an outage it is unknown whether the files are intact
        except InputError as error:
            return str(error)
        return None

    def params(self, version: Version) -> dict[str, str]:
        """The settings with which a version was trained, by key; empty if the version's run was deleted."""
        run = self.run_or_none(version.run_id) if version.run_id else None
        return {} if run is None else dict(run.data.params)

    def damage(self, version: Version) -> str | None:
        """What is wrong with the stored files of a version, or None if they are intact.

        Raises:
            TrackingUnavailable: MLflow does not answer.
        """
        try:
            self._read_back(source_of(version), version.tags.get(DIGEST, ""))
        except TrackingUnavailable:
            raise  # during an outage it is unknown whether the files are intact
        except InputError as error:
            return str(error)
        return None

    def upgrade(self, version: Version, cache: Path) -> str | None:
        """Turn a version of an earlier release into an MLflow model, or return why this is impossible.

        The version's own files do not change, and the version stays readable. An interrupted upgrade can be
        repeated.

        Raises:
            InputError: Repartee did not register the version, or its files are missing or damaged.
            TrackingUnavailable: MLflow does not answer.
        """
        folder = self.folder(version, cache)
        if reason := mlflow_model.reason_against(folder):
            return reason
        own_files = without_mlflow(hashes(allowed(folder)))
        with tempfile.TemporaryDirectory() as scratch:
            mlflow_model.write(folder, Path(scratch))
            added = {name: Path(scratch) / name for name in FOR_MLFLOW}
            files = {**own_files, **hashes(added)}
            self._store(Path(scratch), files, source_of(version))
        self._record_digest(version, files)
        return None

    def promote(
        self,
        version: Version,
        why: str,
        *,
        judged_against: int | None = WHOEVER,
        by_hand: bool = False,
        flow_run_id: str | None = None,
    ) -> Version:
        """Put a version into service: it becomes `champion`, and the old champion becomes `previous`.

        Raises:
            ChampionMoved: the champion is no longer the version `judged_against`.
            InputError: another promotion is running, or has changed the champion at the same time.
            TrackingUnavailable: MLflow does not answer.
        """
        self._promote(
            version.number, why, judged_against=judged_against, by_hand=by_hand, flow_run_id=flow_run_id
        )
        return self.find(str(version.number))

    def tag(self, version: Version, tags: Mapping[str, str]) -> None:
        """Add tags to a version, for instance the gate's verdict."""
        for key, value in tags.items():
            self._tag_version(version.number, key, value)

    def _records(self) -> list[Any]:
        """MLflow's own records of all versions, the newest first."""
        if self._registered_model() is None:
            return []
        records: list[Any] = []
        page = None
        while page is None or page:
            query = f"name = {quoted(self.model)}"
            with self.reading() as client:
                batch = client.search_model_versions(query, max_results=200, page_token=page)
            records += batch
            page = batch.token or ""
        return sorted(records, key=lambda version: -int(version.version))

    def _aliased(self, alias: str) -> Version | None:
        model = self._registered_model()
        if model is None or alias not in model.aliases:
            return None
        return self._numbered(int(model.aliases[alias]), model.aliases)

    def _numbered(self, number: int, aliases: Mapping[str, Any] | None = None) -> Version | None:
        record = self.find_or_none(lambda client: client.get_model_version(self.model, str(number)))
        if record is None:
            return None
        if aliases is None:
            with self.reading() as client:
                aliases = client.get_registered_model(self.model).aliases
        return version_of(record, aliases, self._metrics([record.run_id]).get(record.run_id or "", {}))

    def _metrics(self, run_ids: list[str | None]) -> dict[str, dict[str, float]]:
        """The metrics of each run; a deleted run has no metrics."""
        runs = (self.run_or_none(run_id) for run_id in run_ids if run_id)
        return {run.info.run_id: run.data.metrics for run in runs if run is not None}

    def _registered_model(self) -> "RegisteredModel | None":
        return self.find_or_none(lambda client: client.get_registered_model(self.model))

    def _make_model(self) -> None:
        text = "The reply model that Repartee trains. The version with the alias `champion` is in service."
        if self._registered_model() is None:
            try:
                with self.writing() as client:
                    client.create_registered_model(self.model, description=text)
            except Exception as error:
                # Another process may have just created the model.
                if getattr(error, "error_code", None) != "RESOURCE_ALREADY_EXISTS":
                    raise

    def _unknown(self, ref: str) -> str:
        versions = self.versions()
        if not versions:
            first = f"no version of {self.model!r} is registered yet; `repartee run` registers the first one"
            others = [line for line in self.lines() if line != self.model]
            return f"{first}; other model lines: {', '.join(others)}" if others else first
        listed = (f"{v.number}" + "".join(f" ({a})" for a in v.aliases) for v in versions[:10])
        more = f" and {len(versions) - 10} older" if len(versions) > 10 else ""
        return f"{self.model!r} has no version {ref!r}; it has {', '.join(listed)}{more}"

    def _name(self, version: Version) -> str:
        return f"{self.model} version {version.number}"

    def _restore(self, version: Version, model_folder: Path, files: Mapping[str, str]) -> bool:
        """Store a version's files again if they are damaged; return whether they are intact now.

        If the version's logged model or run has been deleted, its files cannot be stored again.
        """
        if not self.damage(version):
            return True
        if not self._has_location(source_of(version)):
            return False
        self._store(model_folder, files, source_of(version))
        self._record_digest(version, files)
        return True

    def _record_digest(self, version: Version, files: Mapping[str, str]) -> None:
        """Set both digest tags: first CONTENT_DIGEST, by which `register` recognises an equal version."""
        self.tag(version, {CONTENT_DIGEST: digest_of(without_mlflow(files)), DIGEST: digest_of(files)})
