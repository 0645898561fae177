"""Tests of the settings: the values that are accepted, and the one-line error for any other value."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from models.errors import InputError
from settings import Settings

ROOT = Path(__file__).resolve().parent.parent


def test_an_empty_variable_counts_as_not_set(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    for name in ("REPARTEE_HOME", "REPARTEE_MODEL_NAME", "REPARTEE_NOTICE_URL", "MLFLOW_EXPERIMENT_NAME"):
        monkeypatch.setenv(name, "")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", " ")
    monkeypatch.setenv("PREFECT_API_URL", "")
    settings = Settings()
    assert settings.root == tmp_path / "var"
    assert (settings.model_name, settings.experiment, settings.notice_url) == ("repartee", "repartee", None)
    assert settings.tracking_uri == f"sqlite:///{tmp_path}/var/mlflow.db" and settings.prefect_url is None


def test_a_home_has_one_name_whatever_link_leads_to_it(monkeypatch, tmp_path):
    (tmp_path / "disk").mkdir()
    (tmp_path / "alias").symlink_to(tmp_path / "disk")
    monkeypatch.setenv("REPARTEE_HOME", str(tmp_path / "alias" / "var"))
    assert Settings().root == tmp_path / "disk" / "var"


@pytest.mark.parametrize(
    ("home", "why"),
    [
        ("what?/var", "question mark"),
        ("a\nb", "line break"),
        (os.fsdecode(b"caf\xe9"), "not valid UTF-8"),
        ("~nosuchuser/var", "cannot be resolved"),
        ("x" * 300, "File name too long"),
        ("/".join(["x" * 100] * 40), "File name too long"),
    ],
)
def test_a_path_that_cannot_be_a_home_is_one_line(monkeypatch, tmp_path, home, why):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("REPARTEE_HOME", home)
    with pytest.raises(InputError, match=f"{why}.*; set REPARTEE_HOME") as caught:
        Settings()
    assert "\n" not in str(caught.value) and str(caught.value).isascii()


@pytest.mark.parametrize("name", ["a/b", "a:b", "..", " ", "x" * 300, "ü" * 150, "'\"", "a\tb", "caf\udce9"])
def test_a_name_that_no_model_can_have_is_one_line(monkeypatch, name):
    monkeypatch.setenv("REPARTEE_MODEL_NAME", name)
    with pytest.raises(InputError, match=r"the model's name .*; set REPARTEE_MODEL_NAME"):
        Settings()


@pytest.mark.parametrize("name", [" ", "x" * 501, "a\nb"])
def test_a_name_that_no_experiment_can_have_is_one_line(monkeypatch, name):
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", name)
    with pytest.raises(InputError, match=r"the experiment's name .*; set MLFLOW_EXPERIMENT_NAME"):
        Settings()


def test_a_switch_that_is_neither_true_nor_false_is_one_line(monkeypatch):
    monkeypatch.setenv("REPARTEE_NOTICE_REFUSED", "sometimes")
    with pytest.raises(
        InputError, match=r"'sometimes' is neither true nor false; set REPARTEE_NOTICE_REFUSED"
    ):
        Settings()
    monkeypatch.setenv("REPARTEE_NOTICE_REFUSED", "")
    assert not Settings().notice_refused
    monkeypatch.setenv("REPARTEE_NOTICE_REFUSED", "true")
    assert Settings().notice_refused


def test_a_home_may_have_any_letter_that_is_one(monkeypatch, tmp_path):
    home = tmp_path / '50% off #1 👩‍👩‍👧 o\'neil "x" a\u00a0b\u3000c'
    monkeypatch.setenv("REPARTEE_HOME", str(home))
    assert Settings().tracking_uri == f"sqlite:///{home}/mlflow.db"


@pytest.mark.parametrize("verb", ["models", "status", "plan", "run"])
def test_every_verb_says_it_in_one_line_before_anything_is_done(tmp_path, verb):
    done = subprocess.run(
        [sys.executable, "-m", "cli", verb],
        env={**os.environ, "REPARTEE_HOME": str(tmp_path / "what?" / "var")},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2 and done.stderr.startswith("repartee: the home folder")
    assert done.stderr.count("\n") == 1 and not list(tmp_path.iterdir())


def test_an_address_that_is_no_text_is_one_line(monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "sqlite:///caf\udce9.db")
    with pytest.raises(InputError, match="MLFLOW_TRACKING_URI"):
        Settings()
