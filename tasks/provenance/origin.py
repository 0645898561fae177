"""The origin of a trained model: the stored outputs from which it was made, by their manifests."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from tasks.store.artifact import StoredOutput, stored_outputs
from tasks.trunk.chain import Night, Trunk, trunks
from tasks.trunk.night import SOURCE

TRAIN = "train"
TRUNK_INPUT = "trunk: "  # the beginning of the input SOURCE of a night; the digest of the trunk follows


@dataclass(frozen=True)
class Origin:
    """The outputs behind a model, from its training run back to the download of the corpus."""

    outputs: Mapping[str, StoredOutput]
    """By the name of the stage; `train` comes first, then the outputs that it reads, and so on."""
    missing: Mapping[str, str]
    """The digests of the outputs that are no longer in the store, by the name of the stage."""

    @property
    def fingerprint(self) -> str:
        return self.outputs[TRAIN].fingerprint

    @property
    def trunk(self) -> str:
        """The digest of the trunk from which the training went on; empty if it was no night."""
        outside = self.outputs[TRAIN].inputs.get(SOURCE, "")
        return outside.removeprefix(TRUNK_INPUT) if outside.startswith(TRUNK_INPUT) else ""


def origin_of(home: Path, fingerprint: str) -> Origin | None:
    """The origin of the training run with this fingerprint; None if its output is not in the store."""
    train = next((each for each in stored_outputs(home, TRAIN) if each.fingerprint == fingerprint), None)
    if train is None:
        return None
    outputs, missing, waiting = {TRAIN: train}, dict[str, str](), [train]
    while waiting:
        reader = waiting.pop(0)
        for stage, digest in reader.inputs.items():
            if stage == SOURCE or stage in outputs or stage in missing:
                continue
            if found := _with_digest(home, stage, digest, before=reader):
                outputs[stage] = found
                waiting.append(found)
            else:
                missing[stage] = digest
    return Origin(outputs, missing)


def trunk_entry(home: Path, digest: str) -> tuple[Trunk, Night] | None:
    """The entry of a chain of trunks with this digest, and its trunk; None if no chain in the home has it."""
    for trunk in trunks(home):
        for night in trunk.read()[0].nights:
            if night.digest == digest:
                return trunk, night
    return None


def _with_digest(home: Path, stage: str, digest: str, *, before: StoredOutput) -> StoredOutput | None:
    """The output that the later one has read. If several have the same content, the newest one before it."""
    found = [each for each in stored_outputs(home, stage) if each.digest == digest]
    earlier = [each for each in found if each.created_at <= before.created_at]
    return next(iter([*earlier, *found]), None)
