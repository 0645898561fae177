"""The whole chain on tiny data, with real servers, processes and files."""

import json
import os
import re
import signal
import sqlite3
import subprocess
import time
from pathlib import Path

import pytest
from installation import PATIENCE_S, tiny_command

from models.evaluation.ledger import Ledger

pytestmark = pytest.mark.flow


def run(home, *changes, verb="run", **env):
    started_s = time.monotonic()
    done = subprocess.run(
        **tiny_command(home, verb, *changes, **env), capture_output=True, timeout=PATIENCE_S
    )
    assert done.returncode == 0, done.stderr
    return {**json.loads(done.stdout), "wall_s": time.monotonic() - started_s, "told": done.stderr}


def statuses(outcome):
    return {stage["name"]: stage["status"] for stage in outcome["stages"]}


def servers_of(home):
    listed = subprocess.run(["ps", "-ww", "-eo", "args"], capture_output=True, text=True, check=True).stdout
    return [line for line in listed.splitlines() if f"{home}/" in line]


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    return tmp_path_factory.mktemp("home")


@pytest.fixture(scope="module")
def first(home):
    return run(home)


def test_the_first_model_is_promoted_and_the_contract_holds(first, home):
    assert first["outcome"] == "promoted"
    assert first["version"] == 1
    assert first["mlflow_run_id"] and first["flow_run_id"]
    names = ["download", "parse", "clean", "vocabulary", "export", "train", "evaluate"]
    assert list(statuses(first)) == names
    for stage in first["stages"]:
        assert {"name", "status", "seconds", "rows", "unit", "path", "fingerprint", "why"} == set(stage)
        assert (Path(stage["path"]) / "manifest.json").exists()
    assert {"test_bpb", "test_perplexity", "test_accuracy"} <= set(first["metrics"])
    assert not servers_of(home), "the Prefect server is still running after the run"


def test_the_mlflow_run_says_in_which_precision_it_trained_and_on_what(first, home):
    tags = dict(sqlite3.connect(home / "mlflow.db").execute("select key, value from tags").fetchall())
    assert (tags["repartee.precision"], tags["repartee.device"]) in [("fp32", "cpu"), ("bf16", "cpu")]
    assert tags["repartee.fast_path"] == "off"  # only GPUs have the fast path


def test_a_run_has_at_most_twenty_metrics_of_learning_in_three_groups(first, home):
    keys = {key for (key,) in sqlite3.connect(home / "mlflow.db").execute("select key from latest_metrics")}
    groups = {"train", "validation", "test"}
    learning = {key for key in keys if not key.startswith("system/")}
    assert len(learning) <= 20 and {key.partition("/")[0] for key in learning} == groups, sorted(keys)
    assert len(keys - learning) <= 5, sorted(keys)


def test_prefect_kept_the_run_with_its_tasks_edges_and_summary(first, home):
    database = sqlite3.connect(home / "prefect" / "prefect.db")
    flows = database.execute("select name, state_name, tags from flow_run").fetchall()
    [(name, state, tags)] = flows
    assert re.fullmatch(r"quick-sample #1 sample_turns=3000 .*: promoted v1", name)
    assert (state, set(json.loads(tags))) == ("Completed", {"quick", "sample", "repartee", "promoted", "v1"})
    (message,) = database.execute("select message from flow_run_state where type = 'COMPLETED'").fetchone()
    assert message == "Promoted: repartee v1 is the champion; there was no champion before"
    tasks = dict(database.execute("select name, task_inputs from task_run").fetchall())
    assert {
        "plan",
        "download",
        "parse",
        "clean",
        "vocabulary",
        "export",
        "train",
        "evaluate",
        "gate",
        "register",
    } <= set(tasks)
    assert "task_run" in tasks["evaluate"], "the graph has no edges"
    keys = {key for (key,) in database.execute("select key from artifact where key is not null")}
    assert keys == {"repartee-summary", "repartee-data", "repartee-replies"}
    said = " ".join(message for (message,) in database.execute("select message from log"))
    assert "parse: running" in said, "the run's logs do not contain the log lines of the stages"


def test_the_same_again_is_unchanged_at_once_and_names_the_champion(first, home):
    again = run(home)
    assert again["outcome"] == "unchanged"
    assert again["version"] == 1 and "champion v1" in again["reason"]
    assert set(statuses(again).values()) == {"reused"}
    assert again["wall_s"] < first["wall_s"] / 2, "a run with nothing to do takes too long"
    planned = run(home, verb="plan")["stages"]
    assert {step["action"] for step in planned} == {"reuse"}


def test_a_run_that_died_is_closed_also_by_one_that_has_nothing_to_do(first, home):
    with sqlite3.connect(home / "prefect" / "prefect.db") as database:
        running = "state_type = 'RUNNING', state_name = 'Running'"
        database.execute(f"update flow_run set {running} where id = ?", (first["flow_run_id"],))
        database.execute(
            "update flow_run_state set type = 'RUNNING', name = 'Running' where type = 'COMPLETED'"
        )
    (home / "locks" / f"flow-{first['flow_run_id']}.lock").touch()
    assert run(home)["outcome"] == "unchanged"
    states = database.execute("select state_name from flow_run where id = ?", (first["flow_run_id"],))
    assert states.fetchall() == [("Crashed",)]


def test_another_rate_trains_again_and_only_that_and_the_gate_decides(first, home):
    changed = run(home, "train.learning_rate=1e-6")
    ran = [name for name, status in statuses(changed).items() if status == "ran"]
    assert ran == ["train", "evaluate"]
    assert changed["outcome"] == "refused"
    assert changed["version"] == 1
    assert "not better" in changed["reason"]
    [decision] = Ledger(home, "repartee").decisions()
    assert (decision.number, decision.promote, decision.reason) == (1, False, changed["reason"])
    assert decision.groups == decision.fresh_groups > 0
    database = sqlite3.connect(home / "prefect" / "prefect.db")
    states = database.execute("select state_name from task_run where name = 'parse'").fetchall()
    assert ("Cached",) in states
    messages = database.execute("select message from task_run_state where name = 'Cached'").fetchall()
    assert {message for (message,) in messages} == {"inputs, settings, code and libraries are the same"}
    flows = database.execute("select name, state_name, tags from flow_run").fetchall()
    [(name, tags)] = [(name, tags) for name, _, tags in flows if name.endswith(": refused")]
    assert re.match(r"quick-sample #\d+ ", name)
    assert set(json.loads(tags)) == {"quick", "sample", "repartee", "refused"}
    assert run(home, "train.learning_rate=1e-6")["outcome"] == "unchanged"
    assert len(Ledger(home, "repartee").decisions()) == 1


def test_a_damaged_output_is_named_and_made_again_alone(first, home, prefect):
    stage = next(stage for stage in first["stages"] if stage["name"] == "parse")
    (Path(stage["path"]) / "turns.parquet").write_bytes(b"garbage")
    mended = run(home, **prefect)
    ran = [name for name, status in statuses(mended).items() if status == "ran"]
    assert ran == ["parse"]
    assert "turns.parquet" in mended["told"]


def test_a_champion_whose_stored_files_are_damaged_is_stored_again(first, home, prefect):
    stored = next((home / "mlartifacts").glob("**/models/*/artifacts/model.safetensors"))
    stored.write_bytes(b"garbage")
    planned = {step["name"]: step for step in run(home, verb="plan")["stages"]}
    assert planned["register"]["action"] == "run" and "model.safetensors" in planned["register"]["why"]
    mended = run(home, **prefect)
    assert (mended["outcome"], mended["version"]) == ("promoted", 1)
    assert set(statuses(mended).values()) == {"reused"}
    assert run(home)["outcome"] == "unchanged"


def served(home):
    """The generation settings in the champion's files."""
    database = sqlite3.connect(home / "mlflow.db")
    champion = "select version from registered_model_aliases where alias = 'champion'"
    [(source,)] = database.execute(f"select source from model_versions where version = ({champion})")
    folder = home / "mlartifacts" / "models" / source.removeprefix("models:/") / "artifacts"
    return json.loads((folder / "generation_config.json").read_text())


def test_a_change_of_the_generation_alone_reaches_the_champion_without_a_training(first, home, prefect):
    before = served(home)
    values = ("generation.temperature=0.25", "generation.seed=4")
    assert {step["name"]: step for step in run(home, *values, verb="plan")["stages"]}["gate"][
        "action"
    ] == "run"
    changed = run(home, *values, **prefect)
    assert (changed["outcome"], set(statuses(changed).values())) == ("promoted", {"reused"})
    assert changed["version"] > first["version"]
    assert "generation.temperature changes from 0.7 to 0.25" in changed["reason"]
    assert served(home) == {**before, "temperature": 0.25, "seed": 4}
    again = run(home, *values)
    assert (again["outcome"], again["version"]) == ("unchanged", changed["version"])
    back = run(home, **prefect)
    assert (back["outcome"], back["version"], served(home)) == ("promoted", 1, before)


@pytest.mark.soak
def test_killed_in_stage_after_stage_the_same_command_goes_on_and_keeps_what_was_done(tmp_path):
    stages = ["download", "parse", "clean", "vocabulary", "export", "train", "evaluate"]
    lines = [f"{stage}: running" for stage in stages]
    lines += [
        "gate: promote (there was no champion before)",
        "register: writing",
        "register: version 1 is stored",
    ]
    for number, last in enumerate(lines):
        process = subprocess.Popen(
            **tiny_command(tmp_path, "run"),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
        assert process.stderr is not None
        told = []
        for line in process.stderr:
            told.append(line)
            if last in line:
                break
        else:
            raise AssertionError(f"ended before {last!r}: {told}")
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        done = stages[: max(0, number - 1)]  # the stage that was killed last runs again
        assert all(f"{name}: reused" in "".join(told) for name in done), told
    finished = run(tmp_path)
    assert finished["outcome"] == "promoted"
    assert set(statuses(finished).values()) == {"reused"}
    registered = sqlite3.connect(tmp_path / "mlflow.db").execute("select version from model_versions")
    assert registered.fetchall() == [(1,)], "a retry registered the model a second time"
    assert not list(tmp_path.glob("store/*/.tmp-*"))
    assert not servers_of(tmp_path)
