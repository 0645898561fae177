import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from registries import model_folder, register, three
from transformers import GenerationConfig, LlamaForCausalLM

from flows.lifecycle.context import describe_run
from flows.recipes import RECIPES, configure
from models.evaluation.report import Report
from models.evaluation.verdict import GateConfig, Verdict
from models.generation.config import GenerationConfig as Generation
from models.generation.generation_config import to_transformers
from models.network import networks
from models.network.config import NetworkConfig
from models.registry.version import Version
from models.registry.versions import Registry
from settings import Settings
from tasks.gate import changed_answers
from tasks.register import build_folder, settle, version_tags
from tasks.run_page.contents import Outputs
from tasks.store.artifact import Artifact
from tasks.store.run_context import RunContext


def context_of(*changes: str) -> RunContext:
    return describe_run(configure("quick", None, list(changes)), Settings())


def test_the_knobs_of_the_generation_are_those_that_transformers_knows(tmp_path: Path) -> None:
    changes = ("top_k=40", "repetition_penalty=1.2", "no_repeat_ngram=3", 'stop=["|"]', "temperature=0.5")
    run = context_of(*(f"generation.{change}" for change in changes))
    chosen = to_transformers(run.generation)
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
    knobs = to_transformers(RECIPES[recipe].generation.model_copy(update=changes))
    path.write_text(json.dumps(json.loads(path.read_text()) | knobs))
    loaded = LlamaForCausalLM.from_pretrained(tmp_path).eval()
    assert loaded.generate(torch.tensor([[1, 5, 2]])).shape[1] > 3


def test_the_card_says_in_which_precision_the_model_was_trained_and_on_what(tmp_path: Path) -> None:
    training = tmp_path / "training"
    networks.save(networks.build(NetworkConfig(n_layer=1, n_head=1, width=8), 20, 90), training / "model")
    (training / "logs").mkdir()
    (training / "logs" / "summary.json").write_text(
        '{"precision": "bf16", "device": "cpu", "fast_path": "off", "steps": 3}'
    )
    report = Report(metrics={"parameters": 8}, normalisation="plain")
    run = replace(context_of(), tags={"repartee.corpus": "sample"})
    build_folder(tmp_path / "out", training / "model", report, run)
    assert "in bf16 on cpu" in (tmp_path / "out" / "README.md").read_text()


def test_the_tags_of_a_version_say_how_good_it_is_on_what_and_why(tmp_path: Path) -> None:
    tags = {"repartee.recipe": "quick", "repartee.corpus": "sample", "repartee.source": "sample"}
    run = replace(context_of(), tags={**tags, "repartee.home": "h"})
    outputs = Outputs(**dict.fromkeys(("train", "evaluate", "parse", "clean", "export"), trained("d")))
    report = Report(metrics={"test_bpb": 1.5, "test_accuracy": 0.25, "parameters": 8}, normalisation="plain")
    assert version_tags(run, outputs, report, Verdict(True, "better than v1", 1)) == {
        **tags,
        "repartee.test_bpb": "1.5000",
        "repartee.test_accuracy": "0.2500",
        "repartee.reason": "better than v1",
        "repartee.model_digest": "d",
    }


AUTO = GateConfig()


def trained(digest: str) -> Artifact:
    return Artifact("train", "fingerprint", digest, Path(), 1, "ran", 0.0, "")


def test_a_champion_that_changed_after_the_verdict_is_judged_again_and_may_stay(
    registry: Registry, tmp_path: Path
) -> None:
    one, two, worse = three(registry, tmp_path)
    registry.promote(one, "the first")
    stored: list[Version] = []

    def store(verdict: Verdict) -> Version:
        stored.append(worse)
        registry.promote(two, "a person wants it", by_hand=True)  # while the model is uploaded
        return worse

    again = Verdict(False, "not better than v2", 2)
    verdict = Verdict(True, "better than v1", 1)
    settled = settle(registry, trained("d"), verdict, store, lambda: again, None)
    assert (settled, stored, registry.find("champion").number) == ((again, None), [worse], 2)
    # If the champion changed before the model is stored, the model is judged again and nothing is stored.
    assert settle(registry, trained("d"), verdict, store, lambda: again, None) == (again, None)
    assert stored == [worse]


def test_a_promotion_whose_answer_was_lost_is_not_judged_against_itself(
    registry: Registry, tmp_path: Path
) -> None:
    one, two, _ = three(registry, tmp_path)
    registry.tag(two, {"repartee.model_digest": "d"})
    registry.promote(one, "the first")
    registry.promote(two, "better than v1", judged_against=1)
    verdict = Verdict(True, "better than v1", 1)
    store = pytest.fail
    assert settle(registry, trained("d"), verdict, store, store, None) == (verdict, 2)  # type: ignore[arg-type]


def test_a_champion_is_registered_anew_only_where_it_is_to_answer_otherwise(
    registry: Registry, tmp_path: Path
) -> None:
    folder = model_folder(tmp_path / "model", b"weights")
    values = Generation(temperature=0.25, stop=("|",))
    (folder / "generation_config.json").write_text(json.dumps(to_transformers(values)))
    version = registry.promote(register(registry, folder, "fingerprint"), "the first")
    ours = trained("d")

    def change(values: Generation, train: Artifact = ours, config: GateConfig = AUTO) -> str:
        run = replace(context_of(), registry=registry, home=tmp_path, generation=values, gate=config)
        return changed_answers(run, version, train)

    assert change(values) == ""
    changed = values.model_copy(update={"temperature": 0.5, "seed": 3})
    assert change(changed) == (
        f"the weights are those of champion v{version.number}, but the generation settings differ: "
        "generation.temperature changes from 0.25 to 0.5, generation.seed changes from null to 3"
    )
    assert change(changed, replace(ours, fingerprint="another")) == ""
    assert change(changed, config=GateConfig(promote="never")) == ""
    registry.promote(three(registry, tmp_path)[0], "by hand", by_hand=True)
    assert change(changed) == "", "a person took it out of service"
