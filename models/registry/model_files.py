"""The files of registered models: stored with the run that trained them, copied from there, and verified."""

import logging
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path

from filelock import FileLock

from models.errors import InputError
from models.registry.manifest import MANIFEST, check, digest_of, manifest_of
from models.registry.runs import Tracking

log = logging.getLogger(__name__)

PARTIAL = ".tmp-"  # prefix of a folder into which a model is being copied


class ModelFiles(Tracking):
    """The model folders among the artifacts of MLflow runs."""

    def _local(self, run_id: str, path: str) -> Path | None:
        """The artifact's folder if MLflow stores it on this machine, and otherwise None.

        Raises:
            InputError: the run is deleted.
        """
        run = self.run_or_none(run_id)
        if run is None:
            raise InputError(
                f"the files of the model were deleted with MLflow run {run_id}; train a new model "
                "(`repartee run`) or put another version into service (`repartee promote`)"
            )
        folder = self.local_folder(run.info.artifact_uri)
        return None if folder is None else folder / path

    def _download(self, run_id: str, path: str, target: Path) -> None:
        """Copy an artifact folder to `target` atomically."""
        target.parent.mkdir(parents=True, exist_ok=True)
        # Only one process copies at a time, so any other partial copy belongs to a dead process.
        with FileLock(target.parent / ".lock"):
            for leftover in target.parent.glob(f"{PARTIAL}*"):
                log.info("removing %s, an unfinished copy of a model", leftover)
                shutil.rmtree(leftover, ignore_errors=True)
            if target.exists():
                return
            with tempfile.TemporaryDirectory(prefix=PARTIAL, dir=target.parent) as scratch:
                self._fetch(run_id, path, Path(scratch)).replace(target)

    def _fetch(self, run_id: str, path: str, scratch: Path) -> Path:
        try:
            with self.time_for(0), self.reading() as client:
                return Path(client.download_artifacts(run_id, path, str(scratch)))
        except Exception as error:
            if isinstance(error, InputError) or not _is_missing(error):
                raise
            raise InputError(
                f"MLflow run {run_id} no longer has the artifact {path}; train a new model (`repartee run`) "
                "or put another version into service (`repartee promote`)"
            ) from error

    def _store(self, folder: Path, files: Mapping[str, str], run_id: str, path: str) -> None:
        """Copy a folder, and then the manifest of `files`, to the run; verify the stored files."""
        self.log_artifacts(run_id, folder, path)
        self.log_text(run_id, manifest_of(files), f"{path}/{MANIFEST}")
        self._read_back(run_id, path, digest_of(files))

    def _read_back(self, run_id: str, path: str, digest: str) -> None:
        with tempfile.TemporaryDirectory() as scratch:
            local = self._local(run_id, path)
            if local is None:
                local = Path(scratch) / "model"
                self._download(run_id, path, local)
            check(local, digest, f"the model stored with run {run_id}")

    def _copy_once(self, run_id: str, path: str, target: Path, digest: str) -> None:
        """Copy an artifact folder to `target`, unless an undamaged copy exists."""
        if target.exists() and _is_damaged(target, digest):
            log.warning("the copy of a model in %s is damaged and is copied again", target)
            shutil.rmtree(target)
        if not target.exists():
            self._download(run_id, path, target)


def _is_damaged(folder: Path, digest: str) -> bool:
    try:
        check(folder, digest, "the copy")
    except InputError:
        return True
    return False


def _is_missing(error: Exception) -> bool:
    """Whether the error of an artifact store means that the artifacts do not exist."""
    response = getattr(error, "response", None)
    status = getattr(response, "status_code", None)  # botocore's response is a dictionary
    phrases = ("NoSuchKey", "No such file", "No such artifact", "404", "Not Found")
    return status == 404 or (status is None and any(word in str(error) for word in phrases))
