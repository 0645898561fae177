"""The run folder of a training run: its config.json, its examples and its model folder."""

import hashlib
import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError
from transformers import PreTrainedModel

from models.data.batches import Examples
from models.errors import InputError, validation_problem
from models.files import put_folder
from models.network import networks
from models.network.config import NetworkConfig
from models.text import tokenizer
from models.text.config import MarkupConfig
from models.text.encoding import MODEL_INFO, ModelInfo
from models.text.normalisation import Redaction, Style
from models.training import checkpoint
from models.training.config import TrainConfig
from models.training.trunk import files as trunk_files


@dataclass(frozen=True)
class Run:
    """A run folder and its configuration."""

    folder: Path
    network: NetworkConfig
    train: TrainConfig
    markup: MarkupConfig
    normalisation: Style
    tokenizer: Path
    examples: Path
    start: Path | None
    redaction: Redaction = "none"
    has_system: bool = False
    is_night: bool = False
    """Whether the run leaves a trunk, from which another run can go on (models/training/trunk/night.py)."""
    trunk: Path | None = None
    """The trunk from which the run goes on; its weights are those of `start`."""
    replay: Path | None = None
    """The folder with the logs of an earlier run, which this run repeats (models/training/schedule.py)."""

    @classmethod
    def read(cls, folder: Path) -> "Run":
        """The run that the config.json of this folder describes.

        Raises:
            InputError: config.json is missing or is not the configuration of a run.
        """
        path = folder / "config.json"
        try:
            content = json.loads(path.read_text())
            trunk = (content.get("night") or {}).get("parent")
            return cls(
                folder=folder,
                network=NetworkConfig(**content["network"]),
                train=TrainConfig(**content["train"]),
                markup=MarkupConfig(**content["markup"]),
                normalisation=content["normalisation"],
                tokenizer=Path(content["tokenizer"]),
                examples=Path(content["examples"]),
                start=Path(content["start"]) if content.get("start") else None,
                redaction=content.get("redaction", "none"),
                has_system=content.get("has_system", False),
                is_night=content.get("night") is not None,
                trunk=Path(trunk) if trunk else None,
                replay=Path(content["replay"]) if content.get("replay") else None,
            )
        except FileNotFoundError:
            raise InputError(f"{path} is missing; give the run folder of a training run") from None
        except ValidationError as error:
            raise InputError(f"{path}: {': '.join(validation_problem(error, depth=1))}") from None
        except (ValueError, KeyError, TypeError) as error:
            raise InputError(f"{path}: {type(error).__name__}: {error}") from None

    def key(self) -> str:
        """A digest of all that determines the weights. Only checkpoints with this key are used to resume.

        Raises:
            DamagedTrunk: a file of the trunk is missing or has changed.
        """
        # The key leaves out the number of processes and the path (fast or standard). Both change the weights
        # only by rounding, so training may resume with other values.
        configs = (self.network.model_dump(), self.train.model_dump(exclude={"processes", "fast_path"}))
        parts: list[Any] = [self.normalisation, *configs, self.markup.model_dump()]
        files = [self.examples / f"{split}.parquet" for split in ("train", "validation")]
        start = sorted(self.start.glob("*.safetensors")) if self.start else []
        for path in (self.tokenizer / "tokenizer.json", *files, *start):
            with path.open("rb") as file:
                parts.append(hashlib.file_digest(file, "sha256").hexdigest())
        if self.is_night:
            parts.append(["night", trunk_files.digest_of(self.trunk) if self.trunk else ""])
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()

    def positions(self) -> int:
        """The largest length of a sequence. Without an encoder, the turns of a pair form one sequence."""
        follows = self.markup.unit == "pair" and self.network.family != "encoder-decoder"
        return self.markup.max_tokens * (2 if follows else 1)

    def check(self, examples: Examples, sides: NDArray[np.int64], vocabulary: int) -> None:
        """Check that the network can be trained on the examples.

        Raises:
            InputError: there is no reply, an id is outside the vocabulary, or a sequence is too long.
        """
        where = self.examples / "train.parquet"
        if not examples.is_reply.any():
            raise InputError(f"{where} has no reply to learn from; give a corpus with more turns")
        if int(examples.ids.max()) >= vocabulary:
            raise InputError(
                f"{where} was not encoded with {self.tokenizer}: it has ids above {vocabulary - 1}"
            )
        if int(sides.max()) > self.positions():
            raise InputError(
                f"{where} has a sequence of {sides.max()} ids, but markup.max_tokens allows "
                f"{self.positions()}; export the examples again"
            )

    def publish(self, model: PreTrainedModel) -> None:
        """Write model/ atomically: the network, the tokenizer's files, and repartee.json."""
        partial = self.folder / f"{checkpoint.TEMPORARY}model"
        shutil.rmtree(partial, ignore_errors=True)
        self.write_model(model, partial)
        put_folder(partial, self.folder / "model")

    def write_model(self, model: PreTrainedModel, folder: Path) -> None:
        """Write a new folder with the network, the tokenizer's files, and repartee.json."""
        folder.mkdir()
        for path in self.tokenizer.iterdir():
            if path.is_file() and path.name != "manifest.json":  # written by the store
                shutil.copyfile(path, folder / path.name)
        networks.save(model, folder)
        info = ModelInfo(
            family=self.network.family,
            normalisation=self.normalisation,
            redaction=self.redaction,
            markup=self.markup,
            has_system=self.has_system,
        )
        if self.has_system:
            tokenizer.render_system(folder)
        info.write(folder / MODEL_INFO)
