from pathlib import Path

import pytest
import torch
from trainings import StopAt, lines, run_folder, timeless, train, weights

from models.data.batches import read_examples
from models.evaluation import collapse
from models.evaluation.collapse import ReplyStats
from models.network import networks
from models.text.tokenizer import END
from models.training import trainer

HEALTHY = {
    "distinct_1": 0.4,
    "distinct_2": 0.8,
    "repetition": 0.1,
    "commonest_reply_share": 0.2,
    "stopped_share": 0.9,
}


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


@pytest.mark.parametrize(
    ("change", "alarm"),
    [
        ({}, None),
        ({"commonest_reply_share": 0.75}, "75% of the replies are identical"),
        ({"repetition": 0.6}, "60% of the replies repeat themselves"),
        ({"stopped_share": 0.0}, "the model itself ended none of the replies"),
    ],
)
def test_the_alarm_says_what_has_collapsed(change: dict[str, float], alarm: str | None) -> None:
    assert ReplyStats(**{**HEALTHY, **change}).alarm() == alarm


def test_a_model_that_says_the_same_to_everybody_raises_it_and_one_that_has_learnt_does_not(
    data: Path, tmp_path: Path
) -> None:
    folder = run_folder(
        data, tmp_path / "run", network={"width": 32}, max_epochs=60, learning_rate=1e-2, log_every=50
    )
    assert train(folder)
    validation = read_examples(data / "examples", "validation")
    model = networks.load(folder / "model")
    learnt = collapse.sample_replies(model, validation)
    assert learnt.alarm() is None
    assert learnt.stopped_share > 0.5
    with torch.no_grad():
        table = networks.lm_head(model).weight
        table[7] = 10 * table[END]  # the token 7 replaces the end as the likeliest token
    stuck = collapse.sample_replies(model, validation)
    assert stuck.alarm() is not None
    assert stuck.distinct_1 < learnt.distinct_1


def test_the_last_replies_are_looked_at_and_a_resumed_training_tells_them_once(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(collapse, "TOKENS_BETWEEN", 300)
    whole, cut = (run_folder(data, tmp_path / name) for name in ("whole", "cut"))
    assert train(whole)
    steps = [line["step"] for line in lines(whole, "replies")]
    assert len(steps) > 1
    assert steps[-1] == lines(whole, "epoch")[-1]["step"]
    trainer.train(cut, StopAt(steps[0] + 1))
    assert train(cut)
    assert timeless(cut) == timeless(whole)


def test_a_training_that_ends_with_an_epoch_samples_its_replies(data: Path, tmp_path: Path) -> None:
    folder = run_folder(data, tmp_path / "run", max_epochs=2)
    assert train(folder)
    assert [line["step"] for line in lines(folder, "replies")] == [lines(folder, "epoch")[-1]["step"]]


def test_looking_changes_no_weight(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seldom, often = (run_folder(data, tmp_path / n, network={"dropout": 0.2}) for n in ("seldom", "often"))
    assert train(seldom)
    monkeypatch.setattr(collapse, "TOKENS_BETWEEN", 1)
    assert train(often)
    assert len(lines(often, "replies")) > len(lines(seldom, "replies"))
    assert weights(often) == weights(seldom)
