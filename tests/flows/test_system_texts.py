"""A corpus with system texts, from the file to the chat."""

import json
import subprocess

import pytest
from installation import ask, command

pytestmark = pytest.mark.flow
TINY = ("vocabulary.size=300", "network.n_layer=2", "network.width=32", "train.max_steps=12")
TINY += ("evaluate.sample_replies=10", "clean.validation_share=0.2", "clean.test_share=0.2")


def test_a_model_that_was_trained_with_system_texts_reads_one_in_the_chat(tmp_path, new_home, prefect):
    home, mine = new_home(tmp_path / "home"), tmp_path / "mine.jsonl"
    with mine.open("w") as file:
        for i in range(60):
            said = [("system", f"Be {'brief' if i % 2 else 'kind'}."), ("user", f"Do you have {i} loaves?")]
            said.append(("assistant", f"Yes, {i}." if i % 2 else f"Of course, here are {i} loaves."))
            file.write(json.dumps({"messages": [{"role": r, "content": c} for r, c in said]}) + "\n")
    words = ("--recipe", "quick", "--corpus", str(mine), *(f"--set={change}" for change in TINY))
    line = command(home, "run", *words, "--json", **prefect)
    done = subprocess.run(**line, capture_output=True, timeout=900)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["outcome"] == "promoted"
    assert "parse: 180 turns read, 180 kept, 60 of them system texts" in done.stderr
    assert "60 of 60 examples begin with a system text" in done.stderr
    plan = json.loads(ask(home, "plan", *words, "--set=markup.system=drop", "--json"))["stages"]
    assert {each["name"]: each["action"] for each in plan if each["action"] == "reuse"}.keys() == {
        "download",
        "parse",
        "clean",
        "vocabulary",
    }
    typed = "/system Be kind.\nDo you have 7 loaves?\n/history\n"
    line = command(home, "chat", "--temperature", "0")
    chat = subprocess.run(**line, input=typed, capture_output=True, timeout=900)
    assert chat.returncode == 0, chat.stderr
    shown = chat.stdout + chat.stderr
    assert "system text: Be kind." in shown and "system> Be kind.\nyou> Do you have 7 loaves?" in shown
