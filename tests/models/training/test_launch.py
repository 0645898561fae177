"""The parent of the trainer survives any line in the trainer's log files and shows each line only once."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from trainings import NETWORK, make_data

from models.metrics_log import METRICS, Reader
from models.network.config import NetworkConfig
from models.training.config import TrainConfig
from models.training.launch import TrainingConfig, follow, train_model

TRUNCATES = """
import json, sys, time

def write(mode, steps, at):
    with open(sys.argv[1], mode) as file:
        for step in steps:
            file.write(json.dumps({"kind": "step", "time": at, "step": step, "loss": 1.5}) + "\\n")

write("a", range(1, 40), 1)
time.sleep(1.5)
write("w", range(1, 4), 1)
write("a", range(4, 60), 1234567)  # longer than before, when the reader reads the file again
time.sleep(1)
open(sys.argv[1], "a").write('{"kind": "step", "st')
"""


def test_a_file_that_is_cut_and_grows_again_under_the_reader_is_followed_to_its_end(tmp_path: Path) -> None:
    path = tmp_path / METRICS
    with subprocess.Popen([sys.executable, "-c", TRUNCATES, str(path)]) as process:
        lines = list(follow([Reader(path)], process))
    assert [line["step"] for line in lines] == list(range(1, 60))


def test_the_lines_of_an_earlier_run_are_not_shown_again(tmp_path: Path) -> None:
    path = tmp_path / METRICS
    path.write_text(json.dumps({"kind": "epoch", "time": 1, "step": 9, "epoch": 1}) + "\n")
    reader = Reader(path)
    reader.skip()
    added = f'open({str(path)!r}, \'a\').write(\'{{"kind": "epoch", "time": 2, "step": 18, "epoch": 2}}\\n\')'
    with subprocess.Popen([sys.executable, "-c", added]) as process:
        assert [line["epoch"] for line in follow([reader], process)] == [2]


class Deleted(Exception):
    pass


def test_what_a_check_raises_ends_the_training_which_leaves_a_checkpoint(tmp_path: Path) -> None:
    for name in ("data", "work"):
        (tmp_path / name).mkdir()
    make_data(tmp_path / "data")
    (tmp_path / "work" / "precision.json").write_text(json.dumps({"precision": "fp32"}))
    (tmp_path / "work" / "preflight.json").write_text("{}")
    endless = TrainConfig(batch_tokens=64, max_minutes=None, max_epochs=1_000_000, log_every=1)
    lines: list[dict[str, object]] = []

    def check() -> None:
        if any(line["kind"] == "step" for line in lines):
            raise Deleted

    with pytest.raises(Deleted):
        train_model(
            tmp_path / "out",
            TrainingConfig(network=NetworkConfig(**NETWORK), train=endless),
            tmp_path / "data" / "tokenizer",
            tmp_path / "data" / "examples",
            work=tmp_path / "work",
            watch=lines.append,
            check=check,
        )
    assert list((tmp_path / "work" / "checkpoints").glob("[0-9]*"))
    assert not (tmp_path / "out").exists()
