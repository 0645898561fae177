"""WHERE things live on this machine. Nothing here decides a result, and nothing here is logged."""

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
