"""Reproduction: build the outputs behind a model again, from the same inputs, and compare them with it.

The raw files of the corpus and an initial model are taken from the store, and everything else is built again
with the recorded settings in reproductions/FINGERPRINT, a folder of the home that has its own store and run
folder. An interrupted reproduction is therefore continued by the next one. Nothing else in the home changes.
"""

import json
import logging
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from dataclasses import replace as changed
from pathlib import Path
from typing import Any, Literal

from pydantic import ValidationError

from corpus.cleaning.config import MixConfig
from models.config import Config
from models.errors import InputError, validation_problem
from models.metrics_log import ELAPSED
from models.training.launch import PRECISION, SUMMARY, Summary, copy_logs
from tasks.prefect_api.training_progress import TrainingProgress
from tasks.provenance.origin import TRAIN, TRUNK_INPUT, Origin, trunk_entry
from tasks.store.artifact import MANIFEST, Artifact, StoredOutput, find
from tasks.store.run_context import RunContext
from tasks.store.stage import External, Stage, differences, digests_of
from tasks.store.stage_event import KEY, StageEvent, event
from tasks.trunk.night import RANDOM, SOURCE

log = logging.getLogger(__name__)

FOLDER = "reproductions"
MACHINE = ("device", "processor", "precision", "fast_path", "processes", "workers", "threads")
"""The parts of the summary of a training run that say on what and how it was computed."""


class NotReproducible(InputError):
    """The inputs of a model are not there any more, so that it cannot be trained again from them."""


@dataclass(frozen=True)
class StageComparison:
    """An output of a stage beside the one that was built again."""

    name: str
    status: Literal["equal", "differs", "from the store"]
    changes: list[str] = field(default_factory=list)
    """What has changed of that which decides the output: settings, inputs, libraries, code, machine."""
    files: list[str] = field(default_factory=list)
    """The files that differ."""


@dataclass(frozen=True)
class Reproduction:
    """The comparison of a model with the one that was trained again."""

    stages: list[StageComparison]
    weights: dict[str, str]
    """The SHA-256 of each file of weights that was trained again; empty if no model was trained."""
    is_equal: bool
    """Whether all weights are equal, bit by bit."""

    @property
    def differing(self) -> StageComparison:
        """The first stage whose output differs."""
        return next(stage for stage in self.stages if stage.status == "differs")


def reproduce(run: RunContext, origin: Origin, digest: str, chain: Sequence[Stage]) -> Reproduction:
    """Build the outputs again. If those that training reads are equal, train, and compare the weights.

    Args:
        digest: the digest of the model's output of the stage `train`.
        chain: all stages up to `train`, in order.

    Raises:
        NotReproducible: an output, a trunk or a record of the model is not there any more.
        InputError: an input from outside the store cannot be read.
    """
    used = [stage for stage in chain if stage.name in origin.outputs]
    _check(origin, chain)
    configs = {stage.name: _recorded_config(stage, run, origin.outputs[stage.name]) for stage in used}
    by_key = {stage.settings or stage.name: configs[stage.name] for stage in used}
    run = changed(run, settings={**run.settings, **by_key})
    rebuilding = _Rebuilding(run, origin, digest)
    train = _train_inputs(run, origin, rebuilding.folder)
    waiting = [StageEvent(stage.name, "waiting") for stage in used]
    log.info("reproducing the stages %s", ", ".join(configs), extra={KEY: waiting})
    for stage in used:
        rebuilding.compare(stage, configs[stage.name], train if stage.name == TRAIN else None)
    shutil.rmtree(rebuilding.folder, ignore_errors=True)
    return rebuilding.result()


class _Rebuilding:
    """Builds one output after the other in a folder of its own."""

    def __init__(self, run: RunContext, origin: Origin, digest: str) -> None:
        self.run, self.origin, self.digest = run, origin, digest
        self.folder = run.home / FOLDER / origin.outputs[TRAIN].fingerprint
        self.outputs: dict[str, Artifact] = {}
        self.stages: list[StageComparison] = []
        self.weights: dict[str, str] = {}
        self.is_equal = False

    def compare(self, stage: Stage, config: Config, outside: External | None) -> None:
        recorded = self.origin.outputs[stage.name]
        names = [name for name in recorded.inputs if name != SOURCE]
        if not names and (found := find(self.run.home, stage.name, recorded.fingerprint)):
            self.outputs[stage.name] = found
            self.stages.append(StageComparison(stage.name, "from the store"))
            log.info("%s: taken from the store", stage.name, extra=event(stage.name, "reused"))
            return
        inputs = {name: self.outputs[name] for name in names if name in self.outputs}
        if stage.name == TRAIN and any(recorded.inputs[name] != each.digest for name, each in inputs.items()):
            return  # another vocabulary or other examples cannot give the same weights
        external = outside or self._external(stage, config, inputs)
        built = stage.run(self.folder, config, inputs, identity=external.identity, context=external.context)
        self.outputs[stage.name] = built
        had, got = _manifest(recorded.path), _manifest(built.path)
        digests = digests_of(inputs, external.identity)
        changes = _changes(had["ingredients"], stage.ingredients(config, digests), stage.outside)
        if stage.name == TRAIN:
            changes += _machine_changes(recorded.path, built.path)
            self._add_training(stage.name, had, got, changes)
        else:
            self._add(stage.name, recorded.digest == built.digest, changes, _differing(had, got))

    def result(self) -> Reproduction:
        return Reproduction(self.stages, self.weights, self.is_equal)

    def _add(self, name: str, is_equal: bool, changes: list[str], files: list[str]) -> None:
        status: Literal["equal", "differs"] = "equal" if is_equal else "differs"
        self.stages.append(StageComparison(name, status, changes, files))

    def _add_training(
        self, name: str, had: Mapping[str, Any], got: Mapping[str, Any], changes: list[str]
    ) -> None:
        """Compare the weights. Other files of the model may differ, for example by a version number."""
        is_recorded = had["digest"] == self.digest  # else the store has another model of the same inputs
        files = _differing(had, got) if is_recorded else []
        self.weights = {
            path.rpartition("/")[2]: known["sha256"]
            for path, known in got["files"].items()
            if path.endswith(".safetensors")
        }
        differs = any(path.endswith(".safetensors") for path in files) or not is_recorded
        self.is_equal = got["digest"] == self.digest or not differs
        self._add(name, self.is_equal, changes, files)

    def _external(self, stage: Stage, config: Config, inputs: Mapping[str, Artifact]) -> External:
        try:
            return stage.external(self.run, config, inputs)
        except InputError as error:
            path = self.origin.outputs[stage.name].path
            raise NotReproducible(f"{path} is damaged, and cannot be built again: {error}") from None


def _check(origin: Origin, chain: Sequence[Stage]) -> None:
    """
    Raises:
        NotReproducible: an output is not in the store, or belongs to a stage that does not exist any more.
    """
    for stage, digest in origin.missing.items():
        raise NotReproducible(
            f"the output of the stage {stage} with the digest {digest[:12]} is not in the store"
        )
    names = [stage.name for stage in chain]
    if unknown := next((name for name in origin.outputs if name not in names), None):
        raise NotReproducible(f"this release has no stage {unknown}")


def _recorded_config(stage: Stage, run: RunContext, recorded: StoredOutput) -> Config:
    """
    Raises:
        NotReproducible: this release does not have one of the recorded settings.
    """
    values = _manifest(recorded.path)["ingredients"]["config"]
    kind = MixConfig if "weights" in values else type(stage.config(run))
    try:
        return kind.model_validate(values)
    except ValidationError as error:
        key, why = validation_problem(error, depth=2)
        raise NotReproducible(
            f"a setting of the stage {stage.name} is not one of this release: {key}: {why}"
        ) from None


def _train_inputs(run: RunContext, origin: Origin, folder: Path) -> External:
    """The trunk of a night, and the logs of the training run that is repeated.

    Raises:
        NotReproducible: a file of the trunk is missing or damaged, or the clock of a run with a time limit
            was not recorded.
    """
    train = origin.outputs[TRAIN]
    context: dict[str, Any] = {"watch": TrainingProgress(), "replay": _replay(train, folder)}
    if not origin.trunk:
        return External(context=context)
    context |= {"next_trunk": folder / "trunk", "trunk": _parent(run.home, origin.trunk)}
    return External(f"{TRUNK_INPUT}{origin.trunk}", context)


def _parent(home: Path, digest: str) -> Path | None:
    """The files of a trunk; None if the trunk is random weights.

    Raises:
        NotReproducible: a file of the trunk is missing or damaged.
    """
    if digest.startswith(RANDOM):
        return None
    entry = trunk_entry(home, digest)
    if entry is None:
        raise NotReproducible(f"no chain in {home / 'trunks'} has the trunk from which its night went on")
    trunk, night = entry
    if damage := trunk.damage(night):
        raise NotReproducible(
            f"the files of the trunk from which its night went on are not there ({damage}); a model line "
            "stores only those of its last night and of the night before"
        )
    return trunk.path(night.folder) if night.folder else None


def _replay(train: StoredOutput, folder: Path) -> Path:
    """A folder with the logs of the training run. The precision is that of its summary if it was not logged.

    Raises:
        NotReproducible: the logs are damaged, or the run had a time limit and its clock was not recorded.
    """
    source, replay = train.path / "logs", folder / "replay"
    try:
        summary = Summary.read(source / SUMMARY)
    except (OSError, ValueError) as error:
        raise NotReproducible(f"the record of its training cannot be read ({error})") from None
    is_limited = _manifest(train.path)["ingredients"]["config"]["train"].get("max_minutes") is not None
    if is_limited and _logged_steps(source) <= summary.steps:
        raise NotReproducible(
            "its training had a time limit, so its weights depend on the time of each step, and the release "
            "that trained it did not record that time"
        )
    copy_logs(source, replay)
    if not (replay / PRECISION).exists():
        choice = {"precision": summary.precision, "device": summary.device}
        (replay / PRECISION).write_text(json.dumps(choice))
    (replay / ELAPSED).touch()
    return replay


def _logged_steps(logs: Path) -> int:
    """How many steps have an entry in elapsed.txt; the end of the training counts as one more step."""
    try:
        return len((logs / ELAPSED).read_text().splitlines())
    except FileNotFoundError:
        return 0


def _manifest(folder: Path) -> dict[str, Any]:
    """
    Raises:
        NotReproducible: the manifest cannot be read.
    """
    try:
        manifest: dict[str, Any] = json.loads((folder / MANIFEST).read_text())
    except (OSError, ValueError) as error:
        raise NotReproducible(f"{folder / MANIFEST} cannot be read ({error})") from None
    return manifest


def _changes(had: dict[str, Any], wanted: dict[str, Any], outside: str) -> list[str]:
    return [] if had == wanted else differences(had, wanted, outside)


def _machine_changes(before: Path, now: Path) -> list[str]:
    """What differs between the computers on which two training runs took place, and in how they computed."""
    then, today = (Summary.read(path / "logs" / SUMMARY) for path in (before, now))
    pairs = [(name, getattr(then, name), getattr(today, name)) for name in MACHINE]
    found = [f"{name} changed from {old} to {new}" for name, old, new in pairs if old not in (new, "")]
    is_exact = today.device == "cpu"
    return found if is_exact else [*found, f"on {today.device}, the order of additions varies"]


def _differing(had: Mapping[str, Any], got: Mapping[str, Any]) -> list[str]:
    """The files that only one of two outputs has, or that have another content. Logs do not count."""
    before, now = (
        {path: known["sha256"] for path, known in each["files"].items() if not path.startswith("logs/")}
        for each in (had, got)
    )
    return sorted(path for path in before.keys() | now.keys() if before.get(path) != now.get(path))
