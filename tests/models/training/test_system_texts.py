"""The ids of a system text carry no loss, not even that of the setting `train.context_loss`."""

import json
import shutil
import threading
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from trainings import assert_loss_is_that_of_the_logits, run_folder, train

from models.data.batches import Examples, read_examples
from models.data.schemas import SILENT
from models.training import loop, preflight
from models.training.run_folder import Run

SILENT_IDS = 2


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


def silent(table: pa.Table) -> pa.Table:
    return table.append_column(SILENT, pa.array([SILENT_IDS] * table.num_rows, SILENT.type))


@pytest.fixture
def system_data(data: Path, tmp_path: Path) -> Path:
    """The data of the other tests, in which each example begins with two ids of a system text."""
    folder = tmp_path / "data"
    shutil.copytree(data, folder)
    for path in (folder / "examples").glob("*.parquet"):
        pq.write_table(silent(pq.read_table(path)), path)
    return folder


def test_the_loss_leaves_out_what_is_silent(system_data: Path, tmp_path: Path) -> None:
    run = Run.read(run_folder(system_data, tmp_path / "run", context_loss=0.5))
    training = loop.Training(run, threading.Event())
    assert_loss_is_that_of_the_logits(training, first=SILENT_IDS - 1)


def test_a_sound_training_passes_the_preflight_and_its_model_renders_system_messages(
    system_data: Path, tmp_path: Path
) -> None:
    dialogue = system_data / "examples" / "dialogue.json"
    dialogue.write_text(json.dumps({**json.loads(dialogue.read_text()), "has_system": True}))
    folder = run_folder(system_data, tmp_path / "run", context_loss=0.5)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "has_system": True}))
    (folder / "preflight.json").unlink()
    training = loop.Training(Run.read(folder), threading.Event())
    preflight.check(training.model, training.examples, training.run, training.step.precision)
    assert train(folder)
    assert json.loads((folder / "model" / "repartee.json").read_text())["has_system"] is True
    assert "system" not in (folder / "model" / "chat_template.jinja").read_text()
    assert "!= 'system'" in (system_data / "tokenizer" / "chat_template.jinja").read_text()


def test_examples_of_earlier_releases_have_nothing_silent(data: Path, system_data: Path) -> None:
    before, now = (Examples(read_examples(folder / "examples", "train")) for folder in (data, system_data))
    assert before.is_silent is None and before.silent_targets(np.arange(3)) is None
    assert now.is_silent is not None and int(now.is_silent.sum()) == SILENT_IDS * len(now)
