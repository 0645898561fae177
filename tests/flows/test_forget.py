"""What is forgotten is left out of the next run, and only the stages from `clean` on run again."""

import json
import subprocess

import pytest
from installation import ask, command

pytestmark = pytest.mark.flow
TINY = ("vocabulary.size=300", "clean.validation_share=0.2", "clean.test_share=0.2")


def test_a_forgotten_conversation_is_in_no_later_output_until_it_is_restored(tmp_path, new_home, prefect):
    home, mine = new_home(tmp_path / "home"), tmp_path / "mine.csv"
    lines = [f"c {i},{who},{who} says {i}.\n" for i in range(60) for who in ("ann", f"'guest' {i}")]
    mine.write_text("conversation,speaker,text\n" + "".join(lines))
    sets = [word for change in TINY for word in ("--set", change)]

    def prepare(*more):
        words = ("prepare", "--recipe", "quick", "--corpus", str(mine), *sets, *more, "--json")
        done = subprocess.run(**command(home, *words, **prefect), capture_output=True, timeout=900)
        assert done.returncode == 0, done.stderr
        stages = {stage["name"]: stage for stage in json.loads(done.stdout)["stages"]}
        return stages, done.stderr

    first, log = prepare()
    assert "clean: 120 turns read: 120 kept, none left out" in log
    found = json.loads(
        ask(home, "corpus", "forget", "--conversation", "c 7", "--speaker", "'guest' 9", "--json")
    )
    assert [each["corpora"][0]["turns"] for each in found["forgotten"]] == [2, 2]
    second, log = prepare()
    assert "clean: running (the list of what is forgotten changed)" in log
    assert "clean: 120 turns read: 116 kept, 4 left out (4 in conversations that are forgotten)" in log
    assert [second[name]["status"] for name in ("download", "parse", "clean")] == ["reused", "reused", "ran"]
    mix, _ = prepare("--corpus", "sample=0.1", "--set", "download.sample_turns=3000")
    for stages in (second, mix):
        turns = json.loads(ask(home, "data", stages["export"]["fingerprint"], "--json"))["balance"]
        assert turns["removed"]["in conversations that are forgotten"] == 4
    ask(home, "corpus", "forget", "--undo", "--conversation", "c 7", "--speaker", "'guest' 9")
    third, _ = prepare()
    assert {stage["status"] for stage in third.values()} == {"reused"}
    assert third["export"]["fingerprint"] == first["export"]["fingerprint"]
    assert "nothing is forgotten" in ask(home, "corpus", "forget")
