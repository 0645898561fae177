"""If the trainer, its parent or both are killed at random times, the same command resumes training."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from trainings import NETWORK, make_data

pytestmark = pytest.mark.soak

ROOT = Path(__file__).resolve().parents[3]
KILLS = 25
VICTIMS = ("trainer", "parent", "both")
COMMAND = """
import json, sys
from pathlib import Path
from models.network.config import NetworkConfig
from models.training.config import TrainConfig
from models.training.launch import TrainingConfig, train_model

data, out, work = map(Path, sys.argv[1:4])
network, train = json.loads(sys.argv[4])
config = TrainingConfig(network=NetworkConfig(**network), train=TrainConfig(**train))
out.mkdir(exist_ok=True)
train_model(
    out, config, data / "tokenizer", data / "examples", work=work, watch=lambda line: print(json.dumps(line), flush=True)
)
"""
TRAIN = {
    "batch_tokens": 64,
    "max_epochs": 60,
    "log_every": 1,
    "warmup_steps": 2,
    "checkpoint_seconds": 0.3,
    "validations": 1,
}


class Command:
    """The command that trains and watches the trainer; each start is the same command."""

    def __init__(self, data: Path, folder: Path) -> None:
        self.work, self.out = folder / "work", folder / "out"
        self.work.mkdir(parents=True)
        (self.work / "precision.json").write_text(json.dumps({"precision": "fp32"}))
        (self.work / "preflight.json").write_text("{}")
        config = json.dumps([{**NETWORK, "dropout": 0.2}, TRAIN])
        self.command = [sys.executable, "-c", COMMAND, str(data), str(self.out), str(self.work), config]

    def start(self) -> subprocess.Popen[str]:
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        return subprocess.Popen(
            self.command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )

    def trainers(self) -> list[int]:
        """The ids of the trainer's processes; empty if none is running."""
        listed = subprocess.run(
            ["ps", "-ww", "-eo", "pid=,args="], capture_output=True, text=True, check=True
        ).stdout
        return [
            int(line.split()[0])
            for line in listed.splitlines()
            if f"models.training.trainer {self.work}" in line
        ]

    def kill(self, process: subprocess.Popen[str], victim: str) -> None:
        if victim in ("trainer", "both"):
            for number in self.trainers():
                os.kill(number, signal.SIGKILL)
        if victim in ("parent", "both"):
            process.kill()


def steps_shown(printed: str) -> list[Any]:
    lines = [json.loads(line) for line in printed.splitlines() if line.endswith("}")]
    return [(line["kind"], line["step"]) for line in lines if "step" in line]


def test_killed_at_25_random_instants_the_same_command_goes_on_to_the_same_weights(tmp_path: Path) -> None:
    seed = int.from_bytes(os.urandom(4))
    rng = random.Random(seed)
    data = make_data(tmp_path)
    whole = Command(data, tmp_path / "whole")
    began_s = time.monotonic()
    process = whole.start()
    printed, errors = process.communicate()
    whole_s = time.monotonic() - began_s
    assert process.returncode == 0, errors
    expected = (whole.out / "model" / "model.safetensors").read_bytes()
    kills = interrupted = attempts = 0
    while kills < KILLS:
        attempts += 1
        folder = tmp_path / str(attempts)
        command = Command(data, folder)
        for _ in range(4):  # after four kills, the command runs to its end
            process = command.start()
            time.sleep(rng.uniform(0, whole_s))
            command.kill(process, VICTIMS[kills % len(VICTIMS)])
            printed, errors = process.communicate()
            interrupted += process.returncode != 0
            kills += 1
            shown = steps_shown(printed)
            assert len(shown) == len(set(shown)), (seed, kills)
            assert "JSONDecodeError" not in errors, (seed, kills, errors)
            if process.returncode == 0:
                break
        process = command.start() if process.returncode else process
        printed, errors = process.communicate() if process.poll() is None else (printed, errors)
        assert process.returncode == 0, (seed, kills, errors)
        shown = steps_shown(printed)
        assert len(shown) == len(set(shown)), (seed, kills)
        assert (command.out / "model" / "model.safetensors").read_bytes() == expected, (seed, kills)
    assert interrupted > KILLS // 3, (seed, interrupted)
