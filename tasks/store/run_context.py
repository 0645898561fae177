"""Run context: the information that all tasks of a run share."""

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
    """The home and the settings of a run, and the parameters and tags that link the model to the run."""

    name: str
    home: Path
    registry: Registry
    reach: Reach
    """The hosts to which the run's downloads may connect."""
    settings: Mapping[str, Config]
    """The settings of the stages. The key of a stage is its name, or `Stage.settings` if that is set."""
    gate: GateConfig
    generation: GenerationConfig
    params: dict[str, Any]
    """The whole configuration with flat keys such as `train.learning_rate`, for display in MLflow."""
    tags: dict[str, str]
    command: str
    """The command that repeats the run with the same configuration."""
    flow_run_id: str | None
    dashboard: str
    """The address at which `repartee up` shows the runs of this home."""
    started_s: float
    """When the run started, in seconds of `time.monotonic`."""
    location: str
    """The machine and the home in readable form."""
    home_identity: str
    """The identifier of the home. Only a run in the same home may declare another run dead."""
