"""The files that make a model folder an MLflow model: MLmodel, its requirements, and a copy of its tokenizer.

docs/decisions/0016-a-version-is-an-mlflow-model.md explains what MLflow reads from these files.
"""

import json
import platform
import shutil
from importlib.metadata import version
from pathlib import Path
from typing import Any

import yaml
from packaging.version import Version

from models.registry.manifest import EXAMPLE, MLMODEL, PYTHON_ENV, REQUIREMENTS, TOKENIZER, TOKENIZER_FILES

TASK = "llm/v1/chat"
LIBRARIES = ("mlflow", "torch", "transformers", "tokenizers", "safetensors", "jinja2")
MESSAGES = {"messages": [{"role": "user", "content": "Hello."}]}


def reason_against(folder: Path) -> str | None:
    """Why MLflow cannot serve the model in this folder as a chat model; None if it can."""
    config = _read(folder / "config.json")
    if config.get("is_encoder_decoder"):
        return "MLflow's chat task does not support encoder-decoders"
    if not config.get("architectures"):
        return "its config.json names no architecture"
    if _read(folder / "generation_config.json").get("stop_strings"):
        return "MLflow's chat task does not support stop strings in the generation settings (generation.stop)"
    if missing := [name for name in TOKENIZER_FILES if not (folder / name).is_file()]:
        return f"it has no {missing[0]}"
    return None


def write(folder: Path, out: Path) -> None:
    """Write to `out` the files with which MLflow can open the model in `folder`.

    `out` may be the same folder as `folder`. The files contain neither times nor addresses, so that equal
    models get equal files.
    """
    (out / TOKENIZER).mkdir(parents=True, exist_ok=True)
    for name in TOKENIZER_FILES:
        shutil.copyfile(folder / name, out / TOKENIZER / name)
    (out / EXAMPLE).write_text(json.dumps(MESSAGES) + "\n")
    versions = "".join(f"{name}=={Version(version(name)).public}\n" for name in LIBRARIES)
    (out / REQUIREMENTS).write_text(versions)
    environment = {"python": platform.python_version(), "dependencies": [f"-r {REQUIREMENTS}"]}
    (out / PYTHON_ENV).write_text(yaml.safe_dump(environment, sort_keys=False))
    architecture = _read(folder / "config.json")["architectures"][0]
    (out / MLMODEL).write_text(yaml.safe_dump(_description(architecture)))


def _read(path: Path) -> dict[str, Any]:
    """Read a JSON object from a file; {} if the file does not exist."""
    return dict(json.loads(path.read_text())) if path.is_file() else {}


def _description(architecture: str) -> dict[str, Any]:
    """The content of MLmodel."""
    from mlflow import pyfunc
    from mlflow.models import Model, ModelSignature
    from mlflow.types.llm import CHAT_MODEL_INPUT_SCHEMA, CHAT_MODEL_OUTPUT_SCHEMA

    model = Model(
        signature=ModelSignature(CHAT_MODEL_INPUT_SCHEMA, CHAT_MODEL_OUTPUT_SCHEMA),
        saved_input_example_info={
            "artifact_path": EXAMPLE,
            "serving_input_path": EXAMPLE,
            "type": "json_object",
        },
        metadata={"task": TASK},
    )
    # source_model_name is left out on purpose: for a request with `stop`, MLflow would load the tokenizer
    # under that name, from the current folder or from the Hugging Face hub.
    model.add_flavor(
        "transformers",
        task="text-generation",
        inference_task=TASK,
        instance_type="TextGenerationPipeline",
        pipeline_model_type=architecture,
        model_binary=".",
        components=["tokenizer"],
        # This generic class reads any tokenizer.json. The tokenizer's own class is not named, because if
        # transformers lacked that class, MLflow would let code from the model folder run.
        tokenizer_type="PreTrainedTokenizerFast",
    )
    pyfunc.add_to_model(model, "mlflow.transformers", python_env=PYTHON_ENV)
    content: dict[str, Any] = model.to_dict()
    return {key: value for key, value in content.items() if key not in ("utc_time_created", "model_uuid")}
