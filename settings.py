"""WHERE things live on this machine. Nothing here decides a result, and nothing here is logged."""

import json
import os
import unicodedata
from pathlib import Path
from typing import Any

from pydantic import Field, SecretStr, ValidationInfo, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from models.errors import InputError
from models.locks import is_held
from models.sqlite_files import address

LONGEST_NAME = 200  # letters that a file's path may have after the home's
MAX_MODEL_BYTES = 200  # a folder is named after the model, its version and a digest
MAX_EXPERIMENT = 500  # letters; MLflow's own limit


class Settings(BaseSettings):
    """Read from REPARTEE_* variables; MLFLOW_TRACKING_URI and PREFECT_API_URL win where they are set."""

    model_config = SettingsConfigDict(
        env_prefix="REPARTEE_",
        extra="ignore",
        frozen=True,
        env_ignore_empty=True,  # a variable that is set to nothing is one that is not set
        str_strip_whitespace=True,
    )

    home: Path = Path("var")
    """Everything that is made lives under this folder; deleting it loses results, never correctness."""
    model_name: str = "repartee"
    """The registered model in MLflow."""
    notice_url: SecretStr | None = None
    """A webhook that is told of failures, deaths and promotions (flows/lifecycle/webhook.py)."""
    download_hosts: str = ""
    """Hosts and networks inside that deployed runs may download from, with commas between them."""
    experiment: str = Field(default="repartee", validation_alias="MLFLOW_EXPERIMENT_NAME")
    mlflow_tracking_uri: str | None = Field(default=None, validation_alias="MLFLOW_TRACKING_URI")
    prefect_api_url: str | None = Field(default=None, validation_alias="PREFECT_API_URL")

    # Before pydantic looks: its own words for what is no text or no path are a page long.
    @field_validator("home", mode="before")
    @classmethod
    def _can_be_a_home(cls, home: Any) -> Any:
        return _fit(home, "REPARTEE_HOME", "the home folder", _unfit_path(Path(home)))

    @field_validator("model_name", mode="before")
    @classmethod
    def _can_be_a_model(cls, name: Any) -> Any:
        return _fit(name, "REPARTEE_MODEL_NAME", "the model's name", _unfit_name(str(name)))

    @field_validator("experiment", mode="before")
    @classmethod
    def _can_be_an_experiment(cls, name: Any) -> Any:
        why = _unfit_text(str(name), most=MAX_EXPERIMENT)
        return _fit(name, "MLFLOW_EXPERIMENT_NAME", "the experiment's name", why)

    @field_validator("mlflow_tracking_uri", "prefect_api_url", mode="before")
    @classmethod
    def _can_be_an_address(cls, uri: Any, info: ValidationInfo) -> Any:
        if uri is None or not str(uri).strip():
            return None
        return _fit(uri, str(info.field_name).upper(), "the address", _unfit_text(str(uri).strip()))

    @property
    def root(self) -> Path:
        """The home under its one name, whatever links lead to it."""
        return self.home.expanduser().resolve()

    @property
    def tracking_uri(self) -> str:
        """MLflow: the server that is configured, else the one that is up, else the home's database."""
        return self.mlflow_tracking_uri or self._address("mlflow") or address(self.root / "mlflow.db")

    @property
    def prefect_url(self) -> str | None:
        """The API of the Prefect server that is configured, else of the one that is up; none: neither."""
        if self.prefect_api_url:
            return self.prefect_api_url
        address = self._address("prefect")
        return f"{address}/api" if address else None

    def _address(self, service: str) -> str | None:
        """Where a service that is up answers; none while it starts."""
        found = (services_up(self.root) or {"services": {}})["services"].get(service)
        return found["address"] if found and not found["starting"] else None


def _fit(value: Any, variable: str, what: str, why: str | None) -> Any:
    if why:
        raise InputError(f"{what} {ascii(str(value))[:300]} {why}; set {variable} to another one")
    return value


def _unfit_path(path: Path) -> str | None:
    """Why nothing can be kept in a folder of this path; none: it can."""
    if why := _unfit_text(str(path)):
        return why
    try:
        root = path.expanduser().resolve()
    except RuntimeError as error:  # no such user, or links that lead in a circle
        return f"leads nowhere ({error})"
    if "?" in str(root):  # the address of a SQLite database ends there
        return "has a question mark in its path, with which MLflow and Prefect find no database"
    try:
        (root / ("x" * LONGEST_NAME)).lstat()
    except (FileNotFoundError, NotADirectoryError, PermissionError):
        return None
    except OSError as error:
        return f"cannot be used ({error.strerror})"
    return None


def _unfit_name(name: str) -> str | None:
    """Why MLflow, or a file, cannot have this name; none: they can."""
    if wrong := {"/", ":"} & set(name):
        return f"has {' and '.join(sorted(wrong))} in it, which MLflow does not take in a name"
    if name in (".", ".."):
        return "is no name"
    if "'" in name and '"' in name:
        return "has both kinds of quotation marks, which MLflow cannot look for"
    if len(os.fsencode(name)) > MAX_MODEL_BYTES:
        return f"is {len(name)} letters long, and {MAX_MODEL_BYTES} bytes are a folder's limit"
    return _unfit_text(name)


def _unfit_text(text: str, most: int = 100_000) -> str | None:
    if not text.strip():
        return "is blank"
    try:
        text.encode()
    except UnicodeEncodeError:
        return "is not written in UTF-8"
    if any(unicodedata.category(letter) in ("Cc", "Zl", "Zp") for letter in text):
        return "holds a line break, a tab or another character that is none"
    if len(text) > most:
        return f"is {len(text)} letters long, and {most} are the limit"
    return None


def services_up(home: Path) -> dict[str, Any] | None:
    """What the supervisor of this home says of its services; None where none lives."""
    return services_told(home) if is_held(home / "services" / "up.lock") else None


def services_told(home: Path) -> dict[str, Any]:
    """What it said last, dead or alive; process 0 where nothing that can be read stands there."""
    try:
        told = json.loads((home / "services" / "state.json").read_text())
        services = {
            str(name): {
                "pid": int(each["pid"]),
                "starting": bool(each.get("starting")),
                "address": str(each["address"]),
                "health": str(each["health"]),
            }
            for name, each in told["services"].items()
        }
        return {"pid": int(told["pid"]), "services": services}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {"pid": 0, "services": {}}
