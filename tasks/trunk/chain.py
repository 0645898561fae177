"""The chain of a trunk: which undecayed checkpoints the nights of a model line have left.

    trunks/LINE/NETWORK/trunk.json     the chain: an entry for each night; the last one names the trunk
    trunks/LINE/NETWORK/nights/NAME/   the files of the trunk and of its parent

models/training/trunk/files.py describes these files. The chain is replaced atomically, and always last. Only
the holder of the lock of the model line writes it.
"""

import hashlib
import json
import logging
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from models.files import sync
from models.model_name import file_name_of
from models.partial import PREFIX
from models.record import Record
from models.training.trunk import files as trunk_files
from models.training.trunk.files import DamagedTrunk

log = logging.getLogger(__name__)

ROOT, CHAIN, NIGHTS = "trunks", "trunk.json", "nights"
SHAPE = (
    "network.family",
    "network.n_layer",
    "network.n_head",
    "network.width",
    "markup.unit",
    "markup.max_tokens",
)
"""The settings that decide whether the weights of one night fit the network of another."""
CONVERGED_AFTER = 2  # nights in a row without a better score


class Night(Record):
    """An entry of the chain: a night, or the origin of the nights after it."""

    at: str
    """The time of the entry, in UTC and ISO 8601."""
    digest: str
    """The name of this trunk in the fingerprint of the next night: the digest of its files, and for an origin
    a text that no other entry has."""
    files: str = ""
    """The digest of the files; empty if the trunk is random weights."""
    folder: str = ""
    """The name of the folder of the files; empty if the trunk is random weights."""
    origin: str = ""
    """What the weights of an origin are, such as `champion v3`; empty for a night."""
    parent: str = ""
    """The digest of the trunk from which the night went on."""
    parent_folder: str = ""
    fingerprint: str = ""
    """The fingerprint of the night's stage `train`."""
    base: str = ""
    """A digest of the settings, the data, the code and the libraries of the night, but not of its parent."""
    export: str = ""
    """The digest of the examples."""
    model: str = ""
    """The digest of the output of `train` that the gate judged; for an origin, that of the champion."""
    validation_bpb: float | None = None
    """The bits per byte of this model on the sample for nights (models/training/validation.py)."""
    stale: int = 0
    """The number of nights in a row, up to this one, that were no better than the night before."""
    flow_run_id: str | None = None

    def has_converged(self, base: str) -> bool:
        """Whether another night with this base would hardly improve the model."""
        return self.stale >= CONVERGED_AFTER and self.base == base


class Chain(Record):
    """The content of trunk.json."""

    line: str
    network: dict[str, str]
    nights: list[Night] = []

    @property
    def num_nights(self) -> int:
        """The number of nights since the last origin."""
        origins = [number for number, night in enumerate(self.nights) if night.origin]
        return len(self.nights) - (origins[-1] + 1 if origins else 0)


@dataclass(frozen=True)
class Trunk:
    """The trunk of one network of a model line, in one home."""

    folder: Path
    line: str
    network: Mapping[str, str]

    @classmethod
    def of(cls, home: Path, line: str, params: Mapping[str, object]) -> "Trunk":
        """The trunk of a line for the network in these settings, whose keys are flat."""
        network = {key: str(params[key]) for key in SHAPE}
        digest = hashlib.sha256(json.dumps(network).encode()).hexdigest()[:8]
        family, n_layer, _, width, *_ = network.values()
        name = f"{family}-{n_layer}x{width}-{digest}"
        return cls(home / ROOT / file_name_of(line) / name, line, network)

    def chain(self) -> Chain:
        """The chain; empty if there is none yet.

        Raises:
            ValueError: the file of the chain is damaged.
        """
        try:
            return Chain.read(self.folder / CHAIN)
        except FileNotFoundError:
            return Chain(line=self.line, network=dict(self.network))

    def state(self) -> tuple[Chain, str]:
        """The chain, and what is wrong with it or with the files of its last entry ("" if they are whole).

        A damaged chain is empty. All files of the last entry are read.
        """
        chain, damage = self.read()
        return chain, damage or (self.damage(chain.nights[-1]) if chain.nights else "")

    def read(self) -> tuple[Chain, str]:
        """The chain, and why it cannot be read ("" if it can). A damaged chain is empty."""
        try:
            return self.chain(), ""
        except (OSError, ValueError) as error:
            empty = Chain(line=self.line, network=dict(self.network))
            return empty, f"{self.folder / CHAIN} cannot be read ({error})"

    def damage(self, night: Night) -> str:
        """What is wrong with the files of an entry; "" if they are whole."""
        if not night.folder:
            return ""
        path = self.path(night.folder)
        try:
            is_same = trunk_files.digest_of(path) == night.files
        except DamagedTrunk as damage:
            return str(damage)
        return "" if is_same else f"{path} has changed since it was written"

    def path(self, name: str) -> Path:
        return self.folder / NIGHTS / name

    def append(self, night: Night) -> None:
        """Move the trunk: replace the chain, then remove the folders that no longer belong to it."""
        self.folder.mkdir(parents=True, exist_ok=True)
        chain, _ = self.read()
        partial = self.folder / f"{PREFIX}{CHAIN}"
        chain.model_copy(update={"nights": [*chain.nights, night]}).write(partial)
        sync(partial)
        partial.replace(self.folder / CHAIN)
        sync(self.folder)
        for path in (self.folder / NIGHTS).glob("*"):
            if path.name not in (night.folder, night.parent_folder):
                shutil.rmtree(path, ignore_errors=True)


def trunks(home: Path) -> list[Trunk]:
    """All trunks of a home whose chains can be read. A damaged chain has no line and no network."""
    found = []
    for path in sorted((home / ROOT).glob(f"*/*/{CHAIN}")):
        try:
            chain = Chain.read(path)
        except (OSError, ValueError):
            chain = Chain(line="", network={})
        found.append(Trunk(path.parent, chain.line, chain.network))
    return found
