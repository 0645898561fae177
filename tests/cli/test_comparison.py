"""Two versions side by side: what differs in their origin, their scores, the gain, and their replies."""

import math

import pytest
import registries
from registries import model_folder

from cli.comparison import compare_versions
from cli.terminal.comparison import comparison_text
from models.errors import InputError
from models.evaluation.report import REPORT, Report, Sample
from models.evaluation.scorecard import SCORE, ScoreRecord
from models.registry.reference import open_registry
from settings import Settings
from tasks.run_page.contents import HASHES, REJECT_TABLE, SPLIT_TABLE


@pytest.fixture
def registry(tmp_path, monkeypatch, new_home):
    monkeypatch.setenv("REPARTEE_HOME", str(new_home(tmp_path / "home")))
    return open_registry(Settings())


def register(registry, folder, *, name, bpb, reply, seed, rows=100, test_set="t", normalisation="plain"):
    """A version whose MLflow run has what a retraining records; each of its 10 groups has the same score."""
    run = registry.open_run(
        name, name, {"train.seed": seed, "vocabulary.size": 600}, {"repartee.recipe": "quick"}
    )
    report = folder / f"{name}-report"
    report.mkdir()
    groups = {f"film {i}": [bpb * 1000 * math.log(2), 1000.0] for i in range(10)}
    ScoreRecord(
        bpb=bpb, normalisation=normalisation, test_set=test_set, groups=groups, openers={"Hello.": reply}
    ).write(report / SCORE)
    sample = Sample(context=["Where is it?", "Here."], reply=reply, said="In the attic.")
    Report(metrics={"test_bpb": bpb}, normalisation=normalisation, samples=[sample]).write(report / REPORT)
    registry.log_artifacts(run, report, "report")
    splits = [{"split": "train", "conversations": rows, "turns": 2 * rows, "tokens": 9 * rows}]
    registry.log_tables(
        run, {SPLIT_TABLE: splits, REJECT_TABLE: [{"stage": "clean", "cause": "empty", "count": 3}]}
    )
    registry.log_text(run, '{"datasets": {"sample-train": "%s"}}' % (str(rows) * 20), HASHES)
    return registry.register(
        model_folder(folder / name, name.encode()), run, fingerprint=name, tags={}, description=""
    )


def test_the_settings_and_data_that_differ_are_listed_and_the_others_are_not(registry, tmp_path):
    register(registry, tmp_path, name="a", bpb=1.5, reply="No.", seed=0)
    register(registry, tmp_path, name="b", bpb=1.25, reply="Yes.", seed=7, rows=120)
    compared = compare_versions("1", "v2", None)
    assert compared["origin"] == [
        {
            "what": "data: train split",
            "first": "100 conversations, 200 turns, 900 tokens",
            "second": "120 conversations, 240 turns, 1,080 tokens",
        },
        {"what": "data: train split, SHA-256", "first": "10010010", "second": "12012012"},
        {"what": "train.seed", "first": "0", "second": "7"},
    ]


def test_the_gain_has_an_interval_and_the_replies_stand_side_by_side(registry, tmp_path):
    register(registry, tmp_path, name="a", bpb=1.5, reply="No.", seed=0)
    register(registry, tmp_path, name="b", bpb=1.25, reply="Yes.", seed=0)
    compared = compare_versions("1", "2", None)
    assert compared["gain"]["bits"] == pytest.approx(0.25)
    assert compared["gain"]["lower"] <= compared["gain"]["bits"] <= compared["gain"]["upper"]
    assert [(each["context"], each["first"], each["second"]) for each in compared["replies"]] == [
        ("Where is it?\nHere.", "No.", "Yes."),
        ("Hello.", "No.", "Yes."),
    ]
    assert compared["replies"][0]["in_the_corpus"] == "In the attic."
    text = comparison_text(compared)
    assert "v2 needs 0.2500 bits per byte fewer than v1 on the same test replies" in text
    assert "> Where is it?\n> Here.\n  v1             No.\n  v2             Yes.\n" in text
    assert compare_versions("2", "1", None)["gain"]["bits"] == pytest.approx(-0.25)


@pytest.mark.parametrize(
    ("other", "reason"),
    [
        ({"test_set": "another"}, "scored on different test replies"),
        ({"normalisation": "article"}, "normalise text differently"),
    ],
)
def test_scores_that_are_not_comparable_give_a_reason_in_place_of_a_gain(registry, tmp_path, other, reason):
    register(registry, tmp_path, name="a", bpb=1.5, reply="No.", seed=0)
    register(registry, tmp_path, name="b", bpb=1.25, reply="Yes.", seed=0, **other)
    compared = compare_versions("1", "2", None)
    assert compared["gain"] is None and reason in compared["why_no_gain"]
    assert reason in comparison_text(compared)


def test_a_version_whose_run_has_no_report_is_compared_by_its_scores(registry, tmp_path):
    registries.register(registry, model_folder(tmp_path / "old", b"old"), "old")
    register(registry, tmp_path, name="b", bpb=1.25, reply="Yes.", seed=0)
    compared = compare_versions("1", "2", None)
    assert compared["gain"] is None and compared["replies"] == []
    assert compared["figures"] == [{"figure": "test_bpb", "first": 1.5, "second": 1.25}]
    assert "the MLflow run of repartee v1 has no scores of groups" in comparison_text(compared)


def test_a_version_that_does_not_exist_is_one_line_with_those_that_do(registry, tmp_path):
    register(registry, tmp_path, name="a", bpb=1.5, reply="No.", seed=0)
    with pytest.raises(InputError, match="'repartee' has no version '9'; it has 1"):
        compare_versions("1", "9", None)


def test_a_cause_of_rejects_is_shown_in_full_however_long_it_is():
    what = "data: clean: training turns removed as near copies of scored replies"
    side = {"line": "repartee", "version": 1, "aliases": [], "run_id": ""}
    compared = {
        "first": side,
        "second": side,
        "origin": [
            {"what": what, "first": "12", "second": "7"},
            {"what": "seed", "first": "0", "second": "1"},
        ],
        "figures": [],
        "gain": None,
        "why_no_gain": "no reason",
        "replies": [],
    }
    assert f"  {what}\n    12 -> 7\n  seed" in comparison_text(compared)
