import json
from pathlib import Path

import pytest
import torch
from transformers import GenerationConfig, LlamaForCausalLM

from flows.lineage import flatten
from flows.recipes import RECIPES, configure
from models import networks
from models.config import NetworkConfig
from tasks.register import build_folder, generation_defaults


def params(*changes: str) -> dict[str, object]:
    return flatten(configure("quick", None, list(changes)).model_dump(mode="json"))


def test_the_knobs_of_the_generation_are_those_that_transformers_knows(tmp_path: Path) -> None:
    changes = ("top_k=40", "repetition_penalty=1.2", "no_repeat_ngram=3", 'stop=["|"]', "temperature=0.5")
    chosen = generation_defaults(params(*(f"generation.{change}" for change in changes)))
    (tmp_path / "generation_config.json").write_text(json.dumps(chosen))
    read = GenerationConfig.from_pretrained(tmp_path)
    assert (read.top_k, read.repetition_penalty, read.no_repeat_ngram_size) == (40, 1.2, 3)
    assert (read.stop_strings, read.temperature, read.top_p, read.max_new_tokens) == (["|"], 0.5, 0.9, 60)


@pytest.mark.parametrize("recipe", RECIPES)
@pytest.mark.parametrize("changes", [{}, {"temperature": 0, "seed": 3}], ids=["its own", "temperature 0"])
def test_transformers_answers_with_the_knobs_of_a_recipe(
    recipe: str, changes: dict[str, object], tmp_path: Path
) -> None:
    model = networks.build(NetworkConfig(n_layer=1, n_head=1, width=8), 20, 90)
    networks.save(model, tmp_path)
    path = tmp_path / "generation_config.json"
    values = flatten(RECIPES[recipe].model_dump(mode="json"))
    knobs = generation_defaults({**values, **flatten({"generation": changes})})
    path.write_text(json.dumps(json.loads(path.read_text()) | knobs))
    loaded = LlamaForCausalLM.from_pretrained(tmp_path).eval()
    assert loaded.generate(torch.tensor([[1, 5, 2]])).shape[1] > 3


def test_the_card_says_in_which_precision_the_model_was_trained_and_on_what(tmp_path: Path) -> None:
    training = tmp_path / "training"
    networks.save(networks.build(NetworkConfig(n_layer=1, n_head=1, width=8), 20, 90), training / "model")
    (training / "logs").mkdir()
    (training / "logs" / "summary.json").write_text('{"precision": "bf16", "device": "cpu", "steps": 3}')
    report = {"metrics": {"parameters": 8}, "samples": []}
    build_folder(tmp_path / "out", training / "model", report, params(), {"repartee.corpus": "sample"})
    assert "in bf16 on cpu" in (tmp_path / "out" / "README.md").read_text()
