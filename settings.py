"""WHERE things live on this machine. Nothing here decides a result, and nothing here is logged."""

import json
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from pydantic import Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict

LOOK_SECONDS = 0.5  # who looks whether a lock is free has it for a moment: wait out a look


class Settings(BaseSettings):
    """Read from REPARTEE_* variables; MLFLOW_TRACKING_URI and PREFECT_API_URL win where they are set."""

    model_config = SettingsConfigDict(env_prefix="REPARTEE_", extra="ignore", frozen=True)

    home: Path = Path("var")
    """Everything that is made lives under this folder; deleting it loses results, never correctness."""
    model_name: str = "repartee"
    """The registered model in MLflow."""
    notice_url: SecretStr | None = None
    """A webhook that is told of failures, deaths and promotions (flows/notices.py)."""
    experiment: str = Field(default="repartee", validation_alias="MLFLOW_EXPERIMENT_NAME")
    mlflow_tracking_uri: str | None = Field(default=None, validation_alias="MLFLOW_TRACKING_URI")
    prefect_api_url: str | None = Field(default=None, validation_alias="PREFECT_API_URL")

    @property
    def root(self) -> Path:
        return self.home.expanduser().absolute()

    @property
    def tracking_uri(self) -> str:
        """MLflow: the server that is configured, else the one that is up, else the home's database."""
        return self.mlflow_tracking_uri or self._address("mlflow") or f"sqlite:///{self.root / 'mlflow.db'}"

    @property
    def prefect_url(self) -> str | None:
        """The API of the Prefect server that is configured, else of the one that is up; none: neither."""
        if self.prefect_api_url:
            return self.prefect_api_url
        address = self._address("prefect")
        return f"{address}/api" if address else None

    def _address(self, service: str) -> str | None:
        state = services_up(self.root)
        return state["services"].get(service, {}).get("address") if state else None


def services_up(home: Path) -> dict[str, Any] | None:
    """What the supervisor of this home says of its services; None where none lives."""
    if not (home / "services").is_dir():
        return None
    try:
        with FileLock(home / "services" / "up.lock", timeout=0):
            return None
    except Timeout:
        return services_told(home)


def services_told(home: Path) -> dict[str, Any]:
    """What it said last, dead or alive."""
    try:
        told: dict[str, Any] = json.loads((home / "services" / "state.json").read_text())
        return told
    except (OSError, ValueError):
        return {"pid": 0, "services": {}}
