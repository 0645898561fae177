"""A run on two sources of different formats, from the command to the chat."""

import json

import pytest
from installation import ask

TINY = ("download.sample_turns=3000", "vocabulary.size=600", "network.n_layer=2", "network.width=32")
TINY += ("train.max_steps=12", "evaluate.sample_replies=10")
pytestmark = pytest.mark.flow


def test_a_mix_is_promoted_is_unchanged_and_is_not_downloaded_again_for_another_weight(
    tmp_path, new_home, prefect
):
    home, mine = new_home(tmp_path / "home"), tmp_path / "mine.jsonl"
    mine.write_text("".join(f'["Do you have bread {i}?", "Yes, {i} loaves."]\n' for i in range(200)))
    sets = [word for change in TINY for word in ("--set", change)]

    def answer(verb, weight):
        words = (verb, "--recipe", "quick", *sets, "--corpus", "sample", "--corpus", f"{mine}={weight}")
        return json.loads(ask(home, *words, "--json", **prefect))

    first = answer("run", 0.5)
    assert (first["outcome"], first["version"]) == ("promoted", 1)
    assert answer("run", 0.5)["outcome"] == "unchanged"
    stages = {stage["name"]: stage for stage in answer("plan", 0.3)["stages"]}
    assert [stages[name]["action"] for name in ("download", "parse", "clean")] == ["reuse", "reuse", "run"]
    assert stages["clean"]["why"] == "weights.mine changed from 0.5 to 0.3"
    (model,) = json.loads(ask(home, "models", "--json"))["models"]
    assert model["tags"]["repartee.corpus"] == "sample+mine"
    assert model["tags"]["repartee.source"] == f"sample + {mine}=0.5"
    assert json.loads(ask(home, "chat", "--once", "Hello.", "--json"))["version"] == 1
