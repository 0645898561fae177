import itertools
import json
import os
import shutil
import socket
import sqlite3
import subprocess
import sys
import time
import uuid
from contextlib import closing
from functools import partial
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.errors import InputError
from models.metrics_log import checkpointed_size
from models.registry.metrics_forwarder import MAX_POINTS, MetricsForwarder, evenly, read_points
from models.registry.runs import Tracking


@pytest.fixture(scope="module")
def tracking(tmp_path_factory: pytest.TempPathFactory) -> Tracking:
    home = tmp_path_factory.mktemp("a home with spaces")
    return Tracking(f"sqlite:///{home}/mlflow.db", home / "mlartifacts")


@pytest.fixture
def run_id(tracking: Tracking) -> str:
    return tracking.open_run(uuid.uuid4().hex, "night", {}, {})


def line(step: int, kind: str = "step", **fields: float) -> str:
    return json.dumps({"kind": kind, "time": 1000 + step, "step": step, **fields}) + "\n"


def curve(tracking: Tracking, run_id: str, key: str) -> list[tuple[int, float]]:
    history = tracking.client.get_metric_history(run_id, key)
    return sorted((point.step, point.value) for point in history)


def forward(tracking: Tracking, run_id: str, path: Path) -> bool:
    return MetricsForwarder(tracking, run_id, path).close()


def test_a_run_is_found_again_by_its_fingerprint(tracking: Tracking) -> None:
    first = tracking.open_run("f" * 64, "night", {"seed": 1, "long": "x" * 9000}, {"corpus": "a"})
    tracking.close_run(first, "KILLED")
    again = tracking.open_run("f" * 64, "night", {"seed": 1, "late": None}, {"corpus": "b"})
    assert again == first
    run = tracking.find_run("f" * 64)
    assert run is not None
    assert run.info.status == "RUNNING"
    assert run.data.params == {"seed": "1", "long": "x" * 6000, "late": "None"}
    assert run.data.tags["corpus"] == "b"
    assert tracking.open_run("e" * 64, "night", {}, {}) != first


def test_an_experiment_is_one_of_model_training_unless_a_person_chose_another_kind(tmp_path: Path) -> None:
    tracking = Tracking(f"sqlite:///{tmp_path}/mlflow.db", tmp_path / "mlartifacts")
    tracking.open_run("first", "night", {}, {})
    experiment = tracking.client.get_experiment_by_name("repartee")
    assert experiment is not None
    assert experiment.tags["mlflow.experimentKind"] == "custom_model_development"
    tracking.client.set_experiment_tag(experiment.experiment_id, "mlflow.experimentKind", "genai_development")
    tracking.open_run("second", "night", {}, {})
    again = tracking.client.get_experiment(experiment.experiment_id)
    assert again.tags["mlflow.experimentKind"] == "genai_development"


def test_a_hundred_and_fifty_params_are_logged(tracking: Tracking) -> None:
    tracking.open_run("many", "night", {f"key.{i}": i for i in range(150)}, {})
    run = tracking.find_run("many")
    assert run is not None and len(run.data.params) == 150


def test_the_run_shows_what_it_read_once(tracking: Tracking, run_id: str) -> None:
    for _ in range(2):
        tracking.log_dataset(
            run_id,
            "sample-train",
            digest="d" * 64,
            source="https://example.org/sample.zip",
            profile={"num_rows": 12},
            context="train",
            columns={"ids": "string"},
        )
    run = tracking.client.get_run(run_id)
    assert run.inputs is not None
    inputs = run.inputs.dataset_inputs
    assert [(i.dataset.name, i.tags[0].value) for i in inputs] == [("sample-train", "train")]
    assert json.loads(inputs[0].dataset.profile or "") == {"num_rows": 12}


def test_notes_texts_and_folders_reach_the_run(tracking: Tracking, run_id: str, tmp_path: Path) -> None:
    (tmp_path / "report.json").write_text("{}")
    tracking.log_artifacts(run_id, tmp_path, "evaluation")
    tracking.log_text(run_id, "hello", "notes.txt")
    tracking.note(run_id, "# A report")
    tracking.close_run(run_id, "FINISHED")
    assert [f.path for f in tracking.client.list_artifacts(run_id)] == ["evaluation", "notes.txt"]
    run = tracking.client.get_run(run_id)
    assert run.data.tags["mlflow.note.content"] == "# A report"
    assert run.info.status == "FINISHED"
    assert run.info.artifact_uri.startswith("file:///")
    assert tracking.artifacts is not None and list(tracking.artifacts.rglob("notes.txt"))


def test_a_run_of_a_local_store_is_looked_at_with_a_command(tracking: Tracking) -> None:
    assert tracking.run_url("abc").startswith("mlflow ui --backend-store-uri 'sqlite:///")


def test_a_run_behind_a_server_is_a_link_without_the_password() -> None:
    tracking = Tracking("https://me:secret@mlflow.example.org/", None)
    vars(tracking)["_experiment_id"] = "7"  # as if the server had returned this id
    link = "https://mlflow.example.org/#/experiments/7/runs/abc?workflowType=machine_learning"
    assert tracking.run_url("abc") == link


def test_a_torn_last_line_waits_for_its_end(tracking: Tracking, run_id: str, tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_text(line(1, loss=3.0) + line(2, loss=2.0)[:-8])
    assert forward(tracking, run_id, path)
    assert curve(tracking, run_id, "train/loss") == [(1, 3.0)]
    path.write_text(line(1, loss=3.0) + line(2, loss=2.0))
    assert forward(tracking, run_id, path)
    assert curve(tracking, run_id, "train/loss") == [(1, 3.0), (2, 2.0)]


def test_lines_are_grouped_by_kind_and_damage_is_passed_over(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    nothing = '{"kind": "step"}\n[1]\nnot json\n\n{"kind": "new", "time": 1, "step": 1, "loss": 1}\n'
    path.write_text(
        nothing
        + line(4, loss=1.5, learning_rate=0.1, grad_norm=float("nan"))
        + line(4, "validation", bpb=1.25)
        + line(4, "replies", distinct_1=0.5)
    )
    assert read_points(path) == [
        ("train/loss", 1.5, 1004, 4),
        ("train/learning_rate", 0.1, 1004, 4),
        ("validation/bpb", 1.25, 1004, 4),
        ("validation/distinct_1", 0.5, 1004, 4),
    ]


def test_what_is_no_measure_or_repeats_one_becomes_no_metric(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_text(
        line(4, epoch=0.5, progress=0.25, seconds_left=9.0, loss=1.5, tokens_per_second=100)
        + line(4, "epoch", train_loss=1.5, validation_bpb=1.25, seconds=3.0)
    )
    assert [key for key, *_ in read_points(path)] == ["train/loss", "system/tokens_per_second"]


def test_a_resumed_training_that_repeats_steps_adds_no_second_points(
    tracking: Tracking, run_id: str, tmp_path: Path
) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_text("".join(line(step, loss=step) for step in range(4)))
    assert forward(tracking, run_id, path)
    later = [line(step, loss=step).replace('"time": 100', '"time": 900') for step in range(2, 6)]
    path.write_text("".join([line(0, loss=0), line(1, loss=1), *later]))
    assert forward(tracking, run_id, path)
    assert curve(tracking, run_id, "train/loss") == [(step, float(step)) for step in range(6)]


def test_what_a_diverged_training_takes_back_was_never_sent(
    tracking: Tracking, run_id: str, tmp_path: Path
) -> None:
    path, state = tmp_path / "metrics.jsonl", tmp_path / "checkpoints" / "000000002" / "state.json"
    state.parent.mkdir(parents=True)
    good = line(1, loss=3.0) + line(2, loss=2.0)
    state.write_text(json.dumps({"journal": {"metrics": len(good)}}))
    path.write_text(good + line(3, loss=900.0) + line(4, loss=9000.0))
    certain = partial(checkpointed_size, tmp_path)
    with MetricsForwarder(tracking, run_id, path, every_s=0.05, certain=certain) as running:
        while len(curve(tracking, run_id, "train/loss")) < 2:
            time.sleep(0.05)
        path.write_text(good + line(3, loss=1.5) + line(4, loss=1.0))
        time.sleep(0.2)
        later = state.parents[1] / "000000004" / "state.json"
        later.parent.mkdir()
        later.write_text(json.dumps({"journal": {"metrics": path.stat().st_size}}))
        assert running.close()
    assert curve(tracking, run_id, "train/loss") == [(1, 3.0), (2, 2.0), (3, 1.5), (4, 1.0)]


def test_five_thousand_points_become_at_most_a_thousand_spread_evenly(
    tracking: Tracking, run_id: str, tmp_path: Path
) -> None:
    path = tmp_path / "metrics.jsonl"
    with path.open("w") as file, MetricsForwarder(tracking, run_id, path, every_s=0.05) as running:
        for step in range(5000):
            file.write(line(step, loss=1 / (step + 1), accuracy=0.5))
            if step % 1000 == 0:
                file.flush()
                time.sleep(0.1)
        file.flush()
        assert running.close()
    assert forward(tracking, run_id, path)
    for key in ("train/loss", "train/accuracy"):
        steps = [step for step, _ in curve(tracking, run_id, key)]
        assert len(steps) == len(set(steps)) == MAX_POINTS
        assert (steps[0], steps[-1]) == (0, 4999)
        gaps = [after - before for before, after in itertools.pairwise(steps)]
        assert max(gaps) <= 16


@given(st.integers(0, 3000), st.integers(0, 1200))
def test_thinning_keeps_the_last_point_and_the_order(many: int, most: int) -> None:
    points = [("train/loss", 0.0, step, step) for step in range(many)]
    thinned = evenly(points, most)
    assert len(thinned) == min(many, most)
    assert thinned == sorted(set(thinned))
    if thinned:
        assert thinned[-1] == points[-1]


def test_an_outage_is_logged_once_and_never_raised(
    tracking: Tracking, run_id: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_text(line(1, loss=3.0))
    gone = Tracking(f"http://127.0.0.1:{free_port()}", None)
    with MetricsForwarder(gone, run_id, path, every_s=0.01) as running:
        time.sleep(0.2)
    assert not running.close()
    assert len(caplog.records) == 1
    assert "does not answer" in caplog.text
    assert forward(tracking, run_id, path)
    assert curve(tracking, run_id, "train/loss") == [(1, 3.0)]


def test_a_server_that_refuses_is_named_with_the_remedy_within_seconds(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    address = f"http://127.0.0.1:{free_port()}"
    started_s = time.monotonic()
    with pytest.raises(InputError, match=r"does not answer.*`repartee status` shows its state"):
        Tracking(address, None).find_run("f")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", address)
    with pytest.raises(InputError, match=r"does not answer.*start it, or unset MLFLOW_TRACKING_URI"):
        Tracking(address, None).find_run("f")
    assert time.monotonic() - started_s < 5


def test_a_password_in_the_uri_is_in_no_message() -> None:
    with pytest.raises(InputError) as caught:
        Tracking(f"http://me:secret@127.0.0.1:{free_port()}", None).find_run("f")
    assert "secret" not in str(caught.value) and "http://127.0.0.1" in str(caught.value)


def test_a_server_that_hangs_is_named_within_seconds() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        started_s = time.monotonic()
        uri = f"http://127.0.0.1:{silent.getsockname()[1]}"
        with pytest.raises(InputError, match="does not answer"):
            Tracking(uri, None).find_run("f")
        assert time.monotonic() - started_s < 5


def test_a_file_that_is_no_database_is_named_at_once(tmp_path: Path) -> None:
    (tmp_path / "mlflow.db").write_text("not a database, but long enough to be read as one")
    with pytest.raises(InputError, match=r"cannot use sqlite:///.*not a database.*REPARTEE_HOME"):
        Tracking(f"sqlite:///{tmp_path}/mlflow.db", tmp_path).find_run("f")


@pytest.mark.parametrize("uri", ["./mlruns", "foo://x", "http:/x", "postgresql+nobody://x/y"])
def test_an_address_of_no_store_is_one_line(uri: str) -> None:
    with pytest.raises(InputError, match=r"MLFLOW_TRACKING_URI|not installed") as caught:
        Tracking(uri, None).find_run("f")
    assert "\n" not in str(caught.value)


def test_a_database_that_is_damaged_within_is_one_line_with_the_command_that_rescues_it(
    tracking: Tracking, run_id: str, tmp_path: Path
) -> None:
    path = tmp_path / "mlflow.db"
    shutil.copy(tracking.tracking_uri.removeprefix("sqlite:///"), path)
    with closing(sqlite3.connect(path)) as copy:
        (root,) = copy.execute("SELECT rootpage FROM sqlite_master WHERE name = 'tags'").fetchone()
        size = copy.execute("PRAGMA page_size").fetchone()[0]
    with path.open("r+b") as file:
        file.seek((root - 1) * size)
        file.write(b"\xff" * size)
    with pytest.raises(InputError, match=r"malformed.*repartee doctor --fix"):
        Tracking(f"sqlite:///{path}", tmp_path / "mlartifacts").open_run("g", "night", {}, {"a": "b"})


def test_a_home_that_cannot_be_made_is_named_at_once(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot use sqlite:///"):
        Tracking(f"sqlite:///{tmp_path}/file/mlflow.db", tmp_path).find_run("f")


def test_the_error_of_another_mlflows_database_has_the_command_that_upgrades_it(
    tracking: Tracking, run_id: str, tmp_path: Path
) -> None:
    source = sqlite3.connect(tracking.tracking_uri.removeprefix("sqlite:///"))
    other = sqlite3.connect(tmp_path / "mlflow.db")
    source.backup(other)
    other.execute("update alembic_version set version_num = '0a8213491aaa'")
    other.commit()
    source.close()
    other.close()
    with pytest.raises(InputError, match="mlflow db upgrade sqlite:///"):
        Tracking(f"sqlite:///{tmp_path}/mlflow.db", tmp_path).find_run("f")


def test_the_error_of_a_deleted_experiment_has_the_command_that_restores_it(tracking: Tracking) -> None:
    lost = Tracking(tracking.tracking_uri, tracking.artifacts, experiment="lost")
    lost.open_run("f", "night", {}, {})
    lost.client.delete_experiment(lost._experiment_id)
    with pytest.raises(InputError, match="mlflow experiments restore --experiment-id"):
        Tracking(tracking.tracking_uri, None, experiment="lost").find_run("f")


def test_a_fresh_store_is_used_without_a_word_and_the_module_imports_no_mlflow(
    tracking: Tracking,
) -> None:
    script = """
import logging, sys
logging.basicConfig(level=logging.INFO)
from models.registry.runs import Tracking
assert "mlflow" not in sys.modules and "sqlalchemy" not in sys.modules
tracking = Tracking(sys.argv[1], None)
run_id = tracking.open_run("quiet", "night", {"a": 1}, {})
tracking.log_metrics(run_id, [("train/loss", 1.0, 1, 1)])
tracking.close_run(run_id, "FINISHED")
"""
    environment = {k: v for k, v in os.environ.items() if not k.startswith("MLFLOW_LOG")}
    command = [sys.executable, "-c", script, tracking.tracking_uri]
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


def test_the_address_of_a_server_is_shown_without_its_login(tmp_path):
    server = Tracking("http://ann:s3cr3t@mlflow.example:5000/", None, "repartee", "nights").server
    assert server is not None and server.endswith("mlflow.example:5000") and "s3cr3t" not in server
    assert Tracking(f"sqlite:///{tmp_path}/mlflow.db", None, "repartee", "nights").server is None
