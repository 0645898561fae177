"""Tests that MLflow can open and serve a version without Repartee, and that Repartee still verifies it."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from chat_models import model_folder, set_generation
from registries import register

from chat.session import Session
from models.errors import InputError
from models.generation.generation_config import read_generation
from models.registry import mlflow_model
from models.registry.manifest import FOR_MLFLOW, LEFT_BY_MLFLOW
from models.registry.versions import Registry

HELLO = "hello there ."


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A chat model that always takes the most likely token, with an MLmodel file."""
    folder = set_generation(
        model_folder(tmp_path_factory.mktemp("models") / "a"), temperature=0, max_tokens=12
    )
    mlflow_model.write(folder, folder)
    return folder


def without_network(registry: Registry) -> dict[str, str]:
    """The environment of a process that can use the registry, but cannot read a pickle or reach the hub."""
    return {
        **os.environ,
        "MLFLOW_TRACKING_URI": registry.tracking_uri,
        "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false",
        "HF_HUB_OFFLINE": "1",
        "TRANSFORMERS_VERBOSITY": "error",
    }


def reply_of(folder: Path) -> str:
    return Session(folder, read_generation(folder)).reply_once(HELLO).text


OPENS = """
import json, socket, sys

def connect(*_):
    raise OSError("no network in this process")

socket.socket.connect = connect
import mlflow
uri, text = sys.argv[1:]
messages = [{"role": "user", "content": text}]
pipeline = mlflow.transformers.load_model(uri)
served = mlflow.pyfunc.load_model(uri)
replies = [pipeline(messages)[0]["generated_text"][-1]["content"]]
for options in ({}, {"stop": ["a"]}, {"max_tokens": 2}):
    (answer,) = served.predict({"messages": messages, **options})
    replies.append(answer["choices"][0]["message"]["content"])
print(json.dumps({"replies": replies, "example": served.input_example}))
"""


def test_mlflow_opens_the_champion_without_pickles_or_network_and_it_answers_as_in_the_chat(
    registry: Registry, folder: Path, tmp_path: Path
) -> None:
    version = registry.promote(register(registry, folder, registry.model), "the first")
    done = subprocess.run(
        [sys.executable, "-c", OPENS, f"models:/{registry.model}@champion", HELLO],
        cwd=tmp_path,
        env=without_network(registry),
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    opened = json.loads(done.stdout)
    pipeline, served, with_stop, cut = (
        "".join(c if c.isprintable() else " " for c in reply) for reply in opened["replies"]
    )
    assert pipeline == served == with_stop == reply_of(folder)
    assert served.startswith(cut) and len(cut) < len(served)
    assert opened["example"] == mlflow_model.MESSAGES
    # The file that MLflow leaves in the folder does not count as damage.
    assert registry.damage(version) is None
    assert reply_of(registry.folder(version, tmp_path / "cache")) == served
    assert list(tmp_path.iterdir()) == [], "nothing is written where the process runs"


def test_a_file_that_mlflow_leaves_in_a_version_is_admitted_by_its_name_alone(
    registry: Registry, folder: Path, tmp_path: Path
) -> None:
    version = register(registry, folder, registry.model)
    stored = registry.folder(version, tmp_path)
    (stored / LEFT_BY_MLFLOW).write_text("model_name: m\nmodel_version: '1'\n")
    assert registry.damage(version) is None
    for name in (f"{LEFT_BY_MLFLOW}.json", f"components/{LEFT_BY_MLFLOW}"):
        (stored / name).write_text("")
        assert name in (registry.damage(version) or ""), name
        (stored / name).unlink()
    (stored / LEFT_BY_MLFLOW).unlink()


@pytest.mark.parametrize(
    "name", ["MLmodel.yaml", "conda.yaml", "components/MLmodel", "other/requirements.txt"]
)
def test_the_files_for_mlflow_are_allowed_by_their_names_alone(
    registry: Registry, folder: Path, tmp_path: Path, name: str
) -> None:
    copy = Path(shutil.copytree(folder, tmp_path / "copy"))
    (copy / name).parent.mkdir(exist_ok=True)
    (copy / name).write_text("")
    with pytest.raises(InputError, match=name):
        registry.register(copy, "run", fingerprint="f", tags={}, description="")


def test_a_changed_mlmodel_is_damage(registry: Registry, folder: Path, tmp_path: Path) -> None:
    version = register(registry, folder, registry.model)
    stored = registry.folder(version, tmp_path)
    with (stored / "MLmodel").open("a") as file:
        file.write("code: elsewhere\n")
    with pytest.raises(InputError, match=r"MLmodel of .* differs from the registered file"):
        registry.folder(version, tmp_path)
    assert register(registry, folder, registry.model) == version
    assert registry.damage(version) is None


def test_the_folder_of_an_mlflow_model_is_still_a_folder_of_transformers(folder: Path) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer, pipeline

    assert AutoModelForCausalLM.from_pretrained(folder).config.model_type == "llama"
    assert AutoTokenizer.from_pretrained(folder).chat_template
    chat = pipeline("text-generation", model=str(folder))
    assert chat([{"role": "user", "content": HELLO}])[0]["generated_text"][-1]["role"] == "assistant"


def test_mlmodel_names_no_place_and_the_same_model_has_the_same(folder: Path, tmp_path: Path) -> None:
    mlflow_model.write(folder, tmp_path)
    assert {p.relative_to(tmp_path).as_posix() for p in tmp_path.rglob("*") if p.is_file()} == FOR_MLFLOW
    for name in FOR_MLFLOW:
        assert (tmp_path / name).read_bytes() == (folder / name).read_bytes()
    text = (tmp_path / "MLmodel").read_text()
    assert str(folder) not in text and "/tmp" not in text
    flavors = yaml.safe_load(text)["flavors"]
    assert "source_model_name" not in flavors["transformers"], "MLflow would look for it on the hub"
    assert (
        "code" not in flavors["transformers"] and flavors["transformers"]["inference_task"] == "llm/v1/chat"
    )


def test_a_model_that_mlflow_cannot_serve_as_a_chat_model_is_refused_with_the_reason(tmp_path: Path) -> None:
    tutorial = model_folder(tmp_path / "tutorial", family="encoder-decoder", unit="pair", words=True)
    assert "does not support encoder-decoders" in (mlflow_model.reason_against(tutorial) or "")
    stops = set_generation(model_folder(tmp_path / "stops"), stop=("|",))
    assert "generation.stop" in (mlflow_model.reason_against(stops) or "")
    (stops / "tokenizer.json").unlink()
    set_generation(stops).joinpath("generation_config.json").write_text("{}")
    assert mlflow_model.reason_against(stops) == "it has no tokenizer.json"


def test_another_mlflow_makes_no_second_version_of_a_training(
    registry: Registry, folder: Path, tmp_path: Path
) -> None:
    version = register(registry, folder, registry.model)
    other = Path(shutil.copytree(folder, tmp_path / "other"))
    (other / "requirements.txt").write_text("mlflow==99\n")
    assert register(registry, other, registry.model) == version
    assert registry.versions() == [version]
