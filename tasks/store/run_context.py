"""Run context: what all tasks of a run share."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from corpus.transfer.guard import Reach
from models.config import Config
from models.evaluation.verdict import GateConfig
from models.generation.config import GenerationConfig
from models.registry.versions import Registry


@dataclass(frozen=True)
class RunContext:
    """Where a run keeps its files, with which settings it runs, and what leads from its model back to it."""

    name: str
    home: Path
    registry: Registry
    reach: Reach
    """The hosts to which its downloads may connect."""
    settings: Mapping[str, Config]
    """The settings of each stage, by the name that the stage gives for them."""
    gate: GateConfig
    generation: GenerationConfig
    params: dict[str, Any]
    """The whole configuration, flat, as MLflow shows it: `train.learning_rate`."""
    tags: dict[str, str]
    flow_run_id: str | None
    started_s: float
    """By the monotonic clock."""
    location: str
    """The machine and the home, for people."""
    home_identity: str
    """Which home this is: only a run of the same home may say that a run in it is dead."""
