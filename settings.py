"""Settings: where files and servers are. No setting here affects how a model is trained or scored."""

from pathlib import Path
from typing import Any

from pydantic import Field, SecretStr, ValidationInfo, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from models.errors import InputError
from models.model_name import name_fault, text_fault
from models.sqlite_files import address
from services_state import HOST, PREFECT_PORT, last_state, running_services

MAX_PATH_BELOW_HOME = 200  # characters; the longest path of a file, relative to the home
MAX_EXPERIMENT = 500  # characters; MLflow's own limit


class Settings(BaseSettings):
    """The settings, read from environment variables.

    The variables are REPARTEE_*, MLFLOW_TRACKING_URI, MLFLOW_EXPERIMENT_NAME and PREFECT_API_URL.

    Raises:
        InputError: a value cannot be used; the message names the environment variable.
    """

    model_config = SettingsConfigDict(
        env_prefix="REPARTEE_",
        extra="ignore",
        frozen=True,
        env_ignore_empty=True,  # an empty variable counts as not set
        str_strip_whitespace=True,
    )

    home: Path = Path("var")
    """The folder of all outputs. If this folder is deleted, results are lost, but later runs are correct."""
    model_name: str = "repartee"
    """The default model line: the name of the registered model in MLflow."""
    notice_url: SecretStr | None = None
    """A webhook that is called on failures, crashes and promotions (flows/lifecycle/webhook.py)."""
    notice_refused: bool = False
    """Whether the webhook is also called if the gate refuses the model of a run."""
    download_hosts: str = ""
    """Local hosts and networks, separated by commas, from which deployed runs may download."""
    experiment: str = Field(default="repartee", validation_alias="MLFLOW_EXPERIMENT_NAME")
    mlflow_tracking_uri: str | None = Field(default=None, validation_alias="MLFLOW_TRACKING_URI")
    prefect_api_url: str | None = Field(default=None, validation_alias="PREFECT_API_URL")

    # These checks run before pydantic's own validation, whose messages about a wrong value are a page long.
    @field_validator("home", mode="before")
    @classmethod
    def _check_home(cls, home: Any) -> Any:
        return _accept(home, "REPARTEE_HOME", "the home folder", _path_fault(Path(home)))

    @field_validator("model_name", mode="before")
    @classmethod
    def _check_model_name(cls, name: Any) -> Any:
        return _accept(name, "REPARTEE_MODEL_NAME", "the model's name", name_fault(str(name)))

    @field_validator("experiment", mode="before")
    @classmethod
    def _check_experiment(cls, name: Any) -> Any:
        why = text_fault(str(name), max_length=MAX_EXPERIMENT)
        return _accept(name, "MLFLOW_EXPERIMENT_NAME", "the experiment's name", why)

    @field_validator("notice_refused", mode="before")
    @classmethod
    def _check_notice_refused(cls, value: Any) -> Any:
        is_valid = isinstance(value, bool) or str(value).strip().lower() in ("true", "false", "1", "0")
        why = None if is_valid else "is neither true nor false"
        return _accept(value, "REPARTEE_NOTICE_REFUSED", "the value", why)

    @field_validator("mlflow_tracking_uri", "prefect_api_url", mode="before")
    @classmethod
    def _check_address(cls, uri: Any, info: ValidationInfo) -> Any:
        if uri is None or not str(uri).strip():
            return None
        return _accept(uri, str(info.field_name).upper(), "the address", text_fault(str(uri).strip()))

    @property
    def root(self) -> Path:
        """The home as an absolute path without symbolic links. All processes use this form of the path."""
        return self.home.expanduser().resolve()

    @property
    def tracking_uri(self) -> str:
        """MLflow's address: as configured, else the server of `repartee up`, else the home's database."""
        return self.mlflow_tracking_uri or self._address("mlflow") or address(self.root / "mlflow.db")

    @property
    def prefect_url(self) -> str | None:
        """The address of Prefect's API: as configured, else the server of `repartee up`, else None."""
        if self.prefect_api_url:
            return self.prefect_api_url
        address = self._address("prefect")
        return f"{address}/api" if address else None

    @property
    def dashboard(self) -> str:
        """The address of the dashboard in which `repartee up` shows the runs of this home.

        It is the last address of the dashboard or, if `repartee up` has never run, the address that it tries
        first.
        """
        last = last_state(self.root).services.get("prefect")
        return last.address if last and last.address else f"http://{HOST}:{PREFECT_PORT}"

    def _address(self, service: str) -> str | None:
        """The address of a service that `repartee up` runs; None unless the service has started."""
        state = running_services(self.root)
        found = state.services.get(service) if state else None
        return found.address if found and not found.starting else None


def _accept(value: Any, variable: str, what: str, why: str | None) -> Any:
    if why:
        raise InputError(f"{what} {ascii(str(value))[:300]} {why}; set {variable} to another value")
    return value


def _path_fault(path: Path) -> str | None:
    """Why a folder with this path cannot be the home; None if it can be the home."""
    if why := text_fault(str(path)):
        return why
    try:
        root = path.expanduser().resolve()
    except RuntimeError as error:  # no such user, or a loop of symbolic links
        return f"cannot be resolved ({error})"
    if "?" in str(root):  # SQLAlchemy reads the text after a question mark as a query
        return "has a question mark in its path, and MLflow and Prefect ignore everything after it"
    try:
        (root / ("x" * MAX_PATH_BELOW_HOME)).lstat()
    except (FileNotFoundError, NotADirectoryError, PermissionError):
        return None
    except OSError as error:
        return f"cannot be used ({error.strerror})"
    return None
