"""A night of a model line: a run that goes on from the line's trunk and leaves a new one (`--init trunk`).

A night is known by its parent, the trunk from which it goes on: the digest of the parent is an input of the
stage `train`. The trunk moves last, when the model has been judged and registered. The same command after a
kill therefore continues the night, and begins no other one.
"""

import hashlib
import json
import logging
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal, NamedTuple
from uuid import uuid4

from models.pretrained.source import TRUNK, StartConfig
from models.registry.version import Version
from models.training.launch import SUMMARY, Summary
from models.training.trunk import files as trunk_files
from models.training.trunk.files import DamagedTrunk
from tasks.gate import COPIES, wait_for_mlflow
from tasks.prefect_api.recorded import recorded
from tasks.store.artifact import MANIFEST, Artifact
from tasks.store.run_context import RunContext
from tasks.trunk.chain import SHAPE, Night, Trunk

log = logging.getLogger(__name__)

SOURCE = "source"  # the key of the parent among the inputs of the stage `train`
RANDOM = "random weights"  # the origin of a line without a champion
CONVERGED = (
    "converged: the last two nights were no better on the validation split, and the data, the settings and "
    "the code are the same"
)


class Parent(NamedTuple):
    """The trunk from which a night goes on."""

    digest: str
    folder: Path | None
    """None if the trunk is random weights."""


def is_night(run: RunContext) -> bool:
    start = run.settings.get("start")
    return isinstance(start, StartConfig) and start.init == TRUNK


def trunk_of(run: RunContext) -> Trunk:
    return Trunk.of(run.home, run.registry.model, run.params)


def parent_of(run: RunContext, base: str) -> Parent:
    """The trunk from which the night with this base goes on.

    If the line has converged, its night is the last one again, whose outputs are in the store.

    Raises:
        TrackingUnavailable: there is no trunk yet, and MLflow does not answer.
    """
    trunk = trunk_of(run)
    chain, damage = trunk.state()
    if damage or not chain.nights:
        return Parent(
            _origin(run, trunk, damage)[0].digest, None
        )  # `begin_night` stores the files of the origin
    night = chain.nights[-1]
    if night.has_converged(base):
        return Parent(night.parent, trunk.path(night.parent_folder) if night.parent_folder else None)
    return Parent(night.digest, trunk.path(night.folder) if night.folder else None)


def next_folder(run: RunContext, fingerprint: str) -> Path:
    """The folder in which the night with this fingerprint leaves its trunk."""
    trunk = trunk_of(run)
    chain, _ = trunk.read()
    is_repeated = chain.nights and chain.nights[-1].fingerprint == fingerprint
    return trunk.path(f"{fingerprint}-repeated" if is_repeated else fingerprint)


def begin_night(run: RunContext) -> None:
    """If the run is a night and there is no whole trunk, begin the chain with the champion or random weights.

    The chain begins before the first night, so that a promotion in this night does not change its parent.

    Raises:
        TrackingUnavailable: MLflow does not answer, so the champion is unknown.
    """
    if not is_night(run):
        return
    trunk = trunk_of(run)
    chain, damage = trunk.state()
    if damage or not chain.nights:
        _begin_again(run, trunk, damage)


def end_night(run: RunContext, train: Artifact) -> None:
    """If the run is a night, move the trunk of its line; a second call changes nothing."""
    if is_night(run):
        _move(run, train)


@recorded("trunk")
def _move(run: RunContext, train: Artifact) -> None:
    move(run, train)


def move(run: RunContext, train: Artifact) -> None:
    """Make the undecayed checkpoint of this night the trunk."""
    trunk = trunk_of(run)
    chain, damage = trunk.state()
    if not chain.nights:
        _begin_again(run, trunk, damage or f"{trunk.folder} is missing")
        return
    last = chain.nights[-1]
    if last.fingerprint == train.fingerprint:
        return
    try:
        files = trunk_files.digest_of(trunk.path(train.fingerprint))
    except DamagedTrunk as error:
        _begin_again(run, trunk, str(error))
        return
    ingredients = json.loads((train.path / MANIFEST).read_text())["ingredients"]
    base, bpb = base_of(ingredients), Summary.read(train.path / "logs" / SUMMARY).trunk_bpb
    is_comparable = last.base == base and None not in (bpb, last.validation_bpb)
    trunk.append(
        Night(
            at=_now(),
            digest=files,
            files=files,
            folder=train.fingerprint,
            parent=last.digest,
            parent_folder=last.folder,
            fingerprint=train.fingerprint,
            base=base,
            export=ingredients["inputs"]["export"],
            model=train.digest,
            validation_bpb=bpb,
            stale=last.stale + 1 if is_comparable and bpb >= last.validation_bpb else 0,  # type: ignore[operator]
            flow_run_id=run.flow_run_id,
        )
    )
    log.info("trunk: night %d is complete; the next night goes on from here", chain.num_nights + 1)


def base_of(ingredients: Mapping[str, Any]) -> str:
    """A digest of the ingredients of an output of the stage `train`, without the trunk."""
    inputs = {name: digest for name, digest in ingredients["inputs"].items() if name != SOURCE}
    text = json.dumps({**ingredients, "inputs": inputs}, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:24]


def planned(run: RunContext, train: Artifact | None) -> tuple[Literal["run", "reuse"], str]:
    """What a run would do with the trunk, and why.

    Args:
        train: the output of the stage `train` if it is in the store.
    """
    trunk = trunk_of(run)
    chain, damage = trunk.state()
    if damage or not chain.nights:
        title = _origin(run, trunk, damage)[0].origin
        return "run", f"{damage}; the nights begin again with {title}" if damage else f"night 1, from {title}"
    if train is None:
        return "run", f"night {chain.num_nights + 1}"
    if chain.nights[-1].fingerprint == train.fingerprint:
        return "reuse", CONVERGED
    return "run", f"night {chain.num_nights + 1} has been trained, but has not moved the trunk yet"


def _begin_again(run: RunContext, trunk: Trunk, damage: str) -> None:
    """Enter an origin in the chain; its files are stored first."""
    night, folder = wait_for_mlflow(lambda: _origin(run, trunk, damage))
    if damage:
        log.warning("trunk: %s; the nights begin again with %s", damage, night.origin)
    else:
        log.info("trunk: the nights begin with %s", night.origin)
    if folder is not None:
        copy = trunk.path(night.folder)
        trunk_files.adopt(folder, copy)
        night = night.model_copy(update={"files": trunk_files.digest_of(copy)})
    trunk.append(night)


def _origin(run: RunContext, trunk: Trunk, damage: str) -> tuple[Night, Path | None]:
    """The entry with which a chain begins or begins again, and the model folder with its weights.

    The weights are those of the champion if it has the same network, and otherwise random. After a damage,
    the digest is unique, so that no stored output of an earlier night is taken for the output of the next.

    Raises:
        TrackingUnavailable: MLflow does not answer, so the champion is unknown.
    """
    unique = f" {uuid4().hex}" if damage else ""
    random = Night(at=_now(), digest=f"{RANDOM}{unique}", origin=RANDOM)
    champion = run.registry.champion()
    if champion is None or not _is_same_network(run, champion):
        return random, None
    title = f"champion v{champion.number}"
    if unreadable := run.registry.unreadable(champion, run.home / COPIES):
        log.warning("trunk: %s cannot be read (%s)", title, unreadable)
        return random, None
    name = f"champion-{champion.number}"
    night = Night(at=_now(), digest=f"{name} {champion.digest}{unique}", folder=name, origin=title)
    night = night.model_copy(update={"model": champion.digest})
    return night, run.registry.folder(champion, run.home / COPIES)


def _is_same_network(run: RunContext, champion: Version) -> bool:
    params = run.registry.params(champion)
    return all(params.get(key) == str(run.params[key]) for key in SHAPE)


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
