"""Converts a GGUF file (the format of llama.cpp) to a model folder."""

from importlib.util import find_spec
from pathlib import Path

from models.errors import InputError


def convert(path: Path, out: Path) -> None:
    """Convert a GGUF file to config.json, model.safetensors in float32, tokenizer.json and a chat template.

    Raises:
        InputError: transformers cannot read the file, or a package that it needs is not installed.
    """
    missing = [name for name in ("gguf", "accelerate") if find_spec(name) is None]
    if missing:
        raise InputError(
            f"init {path}: reading a GGUF file needs {' and '.join(missing)}: "
            "pip install -c constraints.txt -e '.[finetune]'"
        )
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from models.network.networks import silence_transformers

    options = {"gguf_file": path.name, "local_files_only": True, "trust_remote_code": False}
    try:
        with silence_transformers():
            AutoTokenizer.from_pretrained(path.parent, **options).save_pretrained(out)
            read = AutoModelForCausalLM.from_pretrained(path.parent, dtype="float32", **options)
            # Transformers still treats the model as quantised, and refuses to train or save such models.
            config = type(read.config).from_dict(
                {k: v for k, v in read.config.to_dict().items() if k != "quantization_config"}
            )
            model = type(read)(config)
            model.load_state_dict(read.state_dict())
            model.save_pretrained(out)
    except (OSError, ValueError, TypeError, KeyError, NotImplementedError) as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise InputError(f"init {path} cannot be converted ({reason}); give a model folder") from error
    (out / "generation_config.json").unlink(missing_ok=True)
