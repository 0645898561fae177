"""What leads from a version to its inputs and to its use, in homes that are written by hand."""

import json
from datetime import UTC, datetime

import pytest
from registries import model_folder, register
from stored_homes import rows, store_corpus, store_training

from cli.provenance.lineage import trace_version
from cli.provenance.service import trained_by
from cli.terminal.lineage import lineage_text
from models.evaluation.ledger import Decision, Ledger
from models.registry.history import Promotion
from models.registry.reference import open_registry
from models.registry.tags import COMMIT, FLOW_RUN_ID
from settings import Settings
from tasks.provenance.ancestry import Ancestry
from tasks.provenance.origin import origin_of
from tasks.trunk.chain import SHAPE, Night, Trunk

HASHES = {
    "stages": {"clean": {"fingerprint": "f1", "digest": "d1"}, "train": {"fingerprint": "f2", "digest": "d2"}}
}
DECISION = {
    "at": "2026-11-29T06:30:00+00:00",
    "champion": "c",
    "champion_version": 1,
    "test_set": "t",
    "number": 2,
    "gain": 0.031,
    "lower": 0.025,
    "confidence": 0.99,
    "groups": 40,
    "fresh_groups": 0,
    "fresh_gain": None,
    "min_gain": 0.02,
    "promote": True,
    "reason": "better",
}


@pytest.fixture
def home(tmp_path, monkeypatch, new_home):
    home = new_home(tmp_path / "home")
    monkeypatch.setenv("REPARTEE_HOME", str(home))
    return home


def train(home, name, start=None):
    """A stored training run, and the version that it produced."""
    turns = rows("film", ("ann", "bob"), "train")
    store_training(home, name, store_corpus(home, name, turns), turns, start)
    return register(open_registry(Settings()), model_folder(home / f"model-{name}", name.encode()), name)


def ancestors(home, name):
    return [
        (each.kind, each.title, each.version)
        for each in Ancestry(home, open_registry(Settings())).of(origin_of(home, name))
    ]


def test_a_version_leads_to_each_output_and_its_digest(home):
    train(home, "a")
    traced = trace_version("1", None)
    assert [each.stage for each in traced.stages] == ["download", "parse", "clean", "export", "train"]
    assert all(each.path and each.digest for each in traced.stages)
    (home / "store" / "parse" / "a" / "manifest.json").unlink()
    shown = {each.stage: each for each in trace_version("1", None).stages}
    assert shown["parse"].path == "" and shown["parse"].digest == traced.stages[1].digest
    assert "no longer there" in lineage_text(trace_version("1", None))


def test_without_the_store_the_digests_are_those_that_mlflow_recorded(home, tmp_path):
    registry = open_registry(Settings())
    version = register(registry, model_folder(tmp_path / "model", b"weights"), "night")
    assert "the outputs from which it was made are not recorded" in lineage_text(trace_version("1", None))
    registry.log_text(version.run_id, json.dumps(HASHES), "hashes.json")
    assert [(each.stage, each.digest) for each in trace_version("1", None).stages] == [
        ("clean", "d1"),
        ("train", "d2"),
    ]


@pytest.mark.parametrize(
    ("tag", "commit", "clean", "text"),
    [
        ("abc", "abc", True, "commit abc, no file was modified"),
        ("abc+", "abc", False, "commit abc, with modified files"),
        ("unknown", "unknown", None, "the commit is not known"),
    ],
)
def test_the_commit_and_whether_files_were_modified_are_told_apart(home, tag, commit, clean, text):
    version = train(home, "a")
    open_registry(Settings()).log_tags(version.run_id, {COMMIT: tag})
    traced = trace_version("1", None)
    assert traced.to_json()["git"] == {"commit": commit, "clean": clean}
    assert text in lineage_text(traced)


def test_warm_starts_lead_back_to_random_weights(home):
    registry = open_registry(Settings())
    train(home, "a")
    train(home, "b", registry.location(registry.find("1")))
    train(home, "c", registry.location(registry.find("2")))
    train(home, "d", "/models/foreign")
    assert ancestors(home, "a") == [("random weights", "random weights", None)]
    assert ancestors(home, "c") == [
        ("initial model", "repartee v2", 2),
        ("initial model", "repartee v1", 1),
        ("random weights", "random weights", None),
    ]
    assert ancestors(home, "d") == [("initial model", "/models/foreign", None)]


def test_a_night_leads_to_the_nights_before_it_and_to_the_champion_with_which_they_began(home):
    champion, _, _ = train(home, "a"), train(home, "n1"), train(home, "n2")
    trunk = Trunk.of(home, "repartee", dict.fromkeys(SHAPE, "x"))
    trunk.append(Night(at="1", digest="d0", origin="champion v1", model=champion.digest))
    trunk.append(Night(at="2", digest="d1", fingerprint="n1"))
    trunk.append(Night(at="3", digest="d2", fingerprint="n2"))
    for name, parent in (("n1", "d0"), ("n2", "d1")):
        manifest = home / "store" / "train" / name / "manifest.json"
        known = json.loads(manifest.read_text())
        known["ingredients"]["inputs"]["source"] = f"trunk: {parent}"
        manifest.write_text(json.dumps(known))
    assert ancestors(home, "n2") == [
        ("trunk", "night 1", 2),
        ("initial model", "champion v1", 1),
        ("random weights", "random weights", None),
    ]
    (trunk.folder / "trunk.json").unlink()
    assert ancestors(home, "n2") == [("trunk", "a trunk that is not in the home any more", None)]


def test_who_promoted_it_when_and_why_is_that_of_the_history_and_the_ledger(home):
    registry = open_registry(Settings())
    first, second = train(home, "a"), train(home, "b")
    registry.promote(first, "the first", flow_run_id="run-1")
    registry.promote(second, "I prefer it", by_hand=True)
    ledger = Ledger(home, "repartee")
    ledger.append(Decision(**DECISION, model=second.digest), ["a group"])
    ledger.append(Decision(**DECISION, model="another"), ["a group"])
    (period,) = trace_version("1", None).periods
    assert (period.why, period.flow_run_id, period.replaced_by) == ("the first", "run-1", 2)
    traced = trace_version("2", None)
    assert traced.to_json()["in_service"][0]["until"] is None
    assert [each["number"] for each in traced.to_json()["decisions"]] == [2]
    text = lineage_text(traced)
    assert "promoted against v1, gain 0.0310, certainly more than 0.0250 bits per byte, margin 0.02" in text
    assert " UTC instead of v1, by a user: I prefer it" in text and "champion    since 2" in text
    assert " (then v2), by the run run-1: the first" in lineage_text(trace_version("1", None))


def test_the_address_of_a_dashboard_that_does_not_answer_is_not_printed(home):
    tags = {FLOW_RUN_ID: "1", "prefect.flow_run_url": "http://127.0.0.1:9/runs/flow-run/1"}
    run, page = trained_by(tags, "http://127.0.0.1:9")
    assert run.name == "a run" and page == ""
    assert trained_by({}, "http://127.0.0.1:9") is None


def test_a_promotion_at_a_moment_is_no_part_of_the_time_of_another_version():
    from cli.provenance.service import periods_of

    moments = [datetime(2026, 11, day, tzinfo=UTC) for day in (3, 2, 1)]
    versions = ((1, 2), (2, 1), (1, None))
    history = [
        Promotion(at, version, before, "why") for at, (version, before) in zip(moments, versions, strict=True)
    ]
    assert [(each.since[:10], (each.until or "now")[:10]) for each in periods_of(history, 1)] == [
        ("2026-11-03", "now"),
        ("2026-11-01", "2026-11-02"),
    ]
