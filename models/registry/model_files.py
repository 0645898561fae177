"""Stores the files of registered models in MLflow, copies them from there, and verifies them.

The files of a version belong to a logged model (`models:/MODEL_ID`). If an earlier release of Repartee
registered the version, they are artifacts of the run that trained it instead (`runs:/RUN_ID/PATH`).
"""

import logging
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path

from filelock import FileLock

from models.errors import InputError, TrackingUnavailable
from models.registry.manifest import MANIFEST, check, digest_of, manifest_of
from models.registry.runs import Tracking

log = logging.getLogger(__name__)

PARTIAL = ".tmp-"  # prefix of a folder into which a model is being copied


class ModelFiles(Tracking):
    """The model folders in MLflow. The `source` of a version specifies the location of its folder."""

    def _location(self, source: str) -> str:
        """The address of a version's files in MLflow's artifact store.

        Raises:
            InputError: the logged model or the run is deleted.
        """
        model_id, run_id, path = _parts(source)
        if model_id:
            model = self.find_or_none(lambda client: client.get_logged_model(model_id))
            if model is not None:
                return str(model.artifact_location)
        else:
            run = self.run_or_none(run_id)
            if run is not None:
                return f"{run.info.artifact_uri}/{path}"
        deleted = f"logged model {model_id}" if model_id else f"run {run_id}"
        raise InputError(
            f"the files of the model were deleted together with MLflow {deleted}; train a new model "
            "(`repartee run`) or put another version into service (`repartee promote`)"
        )

    def _has_location(self, source: str) -> bool:
        try:
            self._location(source)
        except TrackingUnavailable:
            raise  # during an outage it is unknown whether the files exist
        except InputError:
            return False
        return True

    def _local(self, source: str) -> Path | None:
        """The folder of a version's files, or None if these files are not on this machine's disk.

        Raises:
            InputError: the logged model or the run is deleted.
        """
        return self.local_folder(self._location(source))

    def _download(self, source: str, target: Path) -> None:
        """Copy the files to the folder `target` atomically."""
        target.parent.mkdir(parents=True, exist_ok=True)
        # Only one process copies at a time, so any other partial copy was left by a dead process.
        with FileLock(target.parent / ".lock"):
            for leftover in target.parent.glob(f"{PARTIAL}*"):
                log.info("removing %s, an unfinished copy of a model", leftover)
                shutil.rmtree(leftover, ignore_errors=True)
            if target.exists():
                return
            with tempfile.TemporaryDirectory(prefix=PARTIAL, dir=target.parent) as scratch:
                self._fetch(source, Path(scratch)).replace(target)

    def _fetch(self, source: str, scratch: Path) -> Path:
        model_id, run_id, path = _parts(source)
        try:
            with self.time_for(0), self.reading() as client:
                if not model_id:
                    return Path(client.download_artifacts(run_id, path, str(scratch)))
                from mlflow.artifacts import download_artifacts

                location = client.get_logged_model(model_id).artifact_location
                return Path(
                    download_artifacts(location, dst_path=str(scratch), tracking_uri=self.tracking_uri)
                )
        except Exception as error:
            if isinstance(error, InputError) or not _is_missing(error):
                raise
            raise InputError(
                f"MLflow no longer has the files at {source}; train a new model (`repartee run`) "
                "or put another version into service (`repartee promote`)"
            ) from error

    def _store(self, folder: Path, files: Mapping[str, str], source: str) -> None:
        """Copy a folder to MLflow, then the manifest of `files`; finally, verify the stored files."""
        self._upload(folder, source)
        with tempfile.TemporaryDirectory() as scratch:
            (Path(scratch) / MANIFEST).write_text(manifest_of(files))
            self._upload(Path(scratch), source)
        self._read_back(source, digest_of(files))

    def _upload(self, folder: Path, source: str) -> None:
        model_id, run_id, path = _parts(source)
        if not model_id:
            self.log_artifacts(run_id, folder, path)
            return
        with self.time_for_files(folder), self.writing() as client:
            client.log_model_artifacts(model_id, str(folder))

    def _read_back(self, source: str, digest: str) -> None:
        with tempfile.TemporaryDirectory() as scratch:
            local = self._local(source)
            if local is None:
                local = Path(scratch) / "model"
                self._download(source, local)
            check(local, digest, f"the model stored at {source}")

    def _copy_once(self, source: str, target: Path, digest: str) -> None:
        """Copy the files to the folder `target`, unless it already contains an undamaged copy."""
        if target.exists() and _is_damaged(target, digest):
            log.warning("the copy of a model in %s is damaged, so the model is copied again", target)
            shutil.rmtree(target)
        if not target.exists():
            self._download(source, target)


def _parts(source: str) -> tuple[str, str, str]:
    """Parse a source into (logged model id, "", "") or ("", run id, path in the run)."""
    scheme, _, rest = source.partition(":/")
    run_id, _, path = rest.partition("/")
    return (rest, "", "") if scheme == "models" else ("", run_id, path)


def _is_damaged(folder: Path, digest: str) -> bool:
    try:
        check(folder, digest, "the copy")
    except InputError:
        return True
    return False


def _is_missing(error: Exception) -> bool:
    """Whether the error of an artifact store means that the artifacts do not exist."""
    response = getattr(error, "response", None)
    status = getattr(response, "status_code", None)  # None for botocore's errors, whose response is a dict
    phrases = ("NoSuchKey", "No such file", "No such artifact", "404", "Not Found")
    return status == 404 or (status is None and any(word in str(error) for word in phrases))
