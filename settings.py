"""WHERE things live on this machine. Nothing here decides a result, and nothing here is logged."""

import os
from pathlib import Path

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict


class Settings(BaseSettings):
    """Read from REPARTEE_* variables; MLFLOW_TRACKING_URI and PREFECT_API_URL win where they are set."""

    model_config = SettingsConfigDict(env_prefix="REPARTEE_", extra="ignore", frozen=True)

    home: Path = Path("var")
    """Everything that is made lives under this folder; deleting it loses results, never correctness."""
    model_name: str = "repartee"
    """The registered model in MLflow."""
    experiment: str = Field(default="repartee", validation_alias="MLFLOW_EXPERIMENT_NAME")
    mlflow_tracking_uri: str | None = Field(default=None, validation_alias="MLFLOW_TRACKING_URI")
    prefect_api_url: str | None = Field(default=None, validation_alias="PREFECT_API_URL")

    @property
    def root(self) -> Path:
        return self.home.expanduser().absolute()

    @property
    def tracking_uri(self) -> str:
        return self.mlflow_tracking_uri or f"sqlite:///{self.root / 'mlflow.db'}"


# The libraries read these when they are imported, so they are set before anything else is.
_QUIET = {
    "DO_NOT_TRACK": "true",  # MLflow knows no other spelling
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "HF_HUB_OFFLINE": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "TOKENIZERS_PARALLELISM": "true",
    # A second thread that spins while another process has its core makes a step 50 times slower.
    "OMP_WAIT_POLICY": "passive",
}


def quiet_environment() -> None:
    """Keep the libraries from phoning home and from spinning; what the user has set stays."""
    for name, value in _QUIET.items():
        os.environ.setdefault(name, value)
