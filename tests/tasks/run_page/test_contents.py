"""Tests of what MLflow shows of a run, in a real store."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from prepared_data import write_outputs

from flows.lifecycle.context import describe_run
from flows.recipes import configure
from models.evaluation.report import Report, Sample
from models.evaluation.scorecard import ScoreRecord
from models.evaluation.verdict import Verdict
from models.registry.description import without_spacers
from models.registry.versions import Registry
from settings import Settings
from tasks.run_page.contents import Outputs, group_rows, record_training
from tasks.run_page.description import description
from tasks.store.artifact import Artifact
from tasks.store.run_context import RunContext

FIGURES = {"test_bpb": 1.5, "test_accuracy": 0.25, "test_replies": 7, "parameters": 900}
SUMMARY = {"steps": 3, "precision": "bf16", "device": "cpu", "seconds": 12.5, "stopped_by": "max_minutes"}
CONVERSATIONS = [
    ("c1", "train", ["Hello.", "Hi.", "How are you?"]),
    ("c2", "validation", ["Yes?", "No."]),
    ("c3", "test", ["Where?", "There."]),
]


@pytest.fixture
def run(registry: Registry, tmp_path: Path) -> RunContext:
    context = describe_run(configure("quick", None, ["train.seed=7"]), Settings())
    return replace(context, registry=registry, home=tmp_path, tags={"repartee.corpus": "sample"})


@pytest.fixture
def outputs(tmp_path: Path) -> Outputs:
    parse, clean, export = write_outputs(tmp_path, CONVERSATIONS, rejected={"no text": 4})
    train, evaluate = tmp_path / "train", tmp_path / "evaluate"
    (train / "logs").mkdir(parents=True)
    line = {"kind": "step", "time": 1, "step": 1, "loss": 2.0, "progress": 0.5}
    (train / "logs" / "metrics.jsonl").write_text(json.dumps(line) + "\n")
    (train / "logs" / "summary.json").write_text(json.dumps(SUMMARY))
    evaluate.mkdir()
    samples = [Sample(context=["Where are you?"], reply="Home.", said="In | the kitchen.")]
    Report(metrics=FIGURES, normalisation="plain", samples=samples).write(evaluate / "report.json")
    score = ScoreRecord(bpb=1.5, normalisation="plain", groups={"m1": [8.0, 4], "m2": [8.0, 2]})
    score.write(evaluate / "score.json")
    (evaluate / "report.md").write_text("## Test split")
    (evaluate / "loss.png").write_bytes(b"picture")
    folders = {"train": train, "evaluate": evaluate, "parse": parse, "clean": clean, "export": export}
    return Outputs(
        **{name: Artifact(name, "f", "d", path, 1, "ran", 0.0, "") for name, path in folders.items()}
    )


def table(registry: Registry, run_id: str, path: str) -> list[list[object]]:
    content = json.loads(Path(registry.client.download_artifacts(run_id, path)).read_text())
    return [content["columns"], *content["data"]]


def test_the_data_and_the_groups_of_a_run_are_tables_written_once(run: RunContext, outputs: Outputs) -> None:
    run_id = run.registry.open_run(run.registry.model, "night", {}, {})
    for _ in range(2):  # a registration that is killed is repeated
        record_training(run, run_id, outputs)
    header, *splits = table(run.registry, run_id, "data/splits.json")
    assert (header[:3], splits[0][:3]) == (["split", "conversations", "turns"], ["train", 1, 3])
    assert len(splits) == 3
    assert ["parse", "no text", 4] in table(run.registry, run_id, "data/rejects.json")
    conversations = table(run.registry, run_id, "data/conversations.json")
    assert ["c1", "train", "u0: Hello.\nu1: Hi.\nu0: How are you?"] in conversations
    assert table(run.registry, run_id, "report/groups.json")[1][0] == "m2", "the worst group is first"
    assert ["parameters", 900] in table(run.registry, run_id, "report/facts.json")
    assert ["train_seconds", 12.5] in table(run.registry, run_id, "report/facts.json")
    tags = run.registry.client.get_run(run_id).data.tags
    shown = [entry["path"] for entry in json.loads(tags["mlflow.loggedArtifacts"])]
    assert len(shown) == len(set(shown)) == 6


def test_mlflow_itself_reads_the_tables(
    run: RunContext, outputs: Outputs, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", run.registry.tracking_uri)  # `load_table` has its own client
    run_id = run.registry.open_run(run.registry.model, "night", {}, {})
    record_training(run, run_id, outputs)
    experiment = run.registry.client.get_run(run_id).info.experiment_id
    frame = run.registry.client.load_table(experiment, "data/splits.json", run_ids=[run_id])
    assert list(frame["split"]) == ["train", "validation", "test"]


def test_the_hashes_of_a_run_are_one_file(run: RunContext, outputs: Outputs) -> None:
    run_id = run.registry.open_run(run.registry.model, "night", {}, {})
    record_training(run, run_id, outputs)
    hashes = json.loads(Path(run.registry.client.download_artifacts(run_id, "hashes.json")).read_text())
    assert hashes["stages"]["train"] == {"fingerprint": "f", "digest": "d"}
    assert set(hashes["stages"]) == {"parse", "clean", "export", "train", "evaluate"}
    assert len(hashes["datasets"]["sample-test"]) == 64


def test_the_links_of_a_description_lead_to_the_data_the_champion_and_prefect(
    run: RunContext, outputs: Outputs
) -> None:
    url = "http://prefect:4200/runs/flow-run/1"
    tags = {**run.tags, "prefect.flow_run_url": url, "prefect.flow_run_name": "night #1"}
    run_id = run.registry.open_run(run.registry.model, "night", {}, tags)
    linked = replace(run, tags=tags)
    score = ScoreRecord(bpb=1.75, normalisation="plain")
    verdict = Verdict(True, "better", champion=4, champion_bpb=1.75, champion_score=score)
    text = description(linked, run_id, outputs, verdict, version=5)
    experiment = run.registry.client.get_run(run_id).info.experiment_id
    page = f"#/experiments/{experiment}/runs/{run_id}/artifacts/data/splits.json"
    mode = "?workflowType=machine_learning"
    assert f"[counts of the splits]({page}{mode})" in text
    assert f"[previous champion v4](#/models/{run.registry.model}/versions/4{mode})" in text
    assert f"[trained by night #1]({url})" in text and "promoted by" not in text
    text = without_spacers(text)
    assert "| figure | this model | champion v4 (before) |" in text
    assert "| bits per byte (lower is better) | 1.5000 | 1.7500 |" in text
    assert "Training: 3 steps in 12 s, ended by train.max_minutes=1.5." in text
    assert "    repartee run --recipe quick --set train.seed=7" in text
    refused = description(run, run_id, outputs, replace(verdict, promote=False), version=None)
    assert "[champion v4](" in refused and "| this model | champion v4 |" in without_spacers(refused)


def test_what_is_no_measure_is_no_metric_of_the_run(run: RunContext, outputs: Outputs) -> None:
    run_id = run.registry.open_run(run.registry.model, "night", {}, {})
    record_training(run, run_id, outputs)
    metrics = run.registry.client.get_run(run_id).data.metrics
    assert metrics == {"train/loss": 2.0, "test/bpb": 1.5, "test/accuracy": 0.25}


def test_a_score_without_groups_gives_no_table() -> None:
    assert group_rows(ScoreRecord(bpb=1.5, normalisation="plain")) == []
