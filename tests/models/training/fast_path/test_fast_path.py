"""Training uses the fast path only if a proof has shown that it computes the same as the standard path.

These tests run packed sequences on the CPU, with a mask instead of the kernel; the rest of the proof is the
same as on a GPU.
"""

import json
import random
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch
from torch import Tensor
from trainings import run_folder, train, weights

from models import devices
from models.devices import FAST_PATH, STANDARD_PATH
from models.errors import InputError
from models.network.llama import packed_block
from models.training.distributed import ProcessGroup
from models.training.fast_path import choice, packing, proof
from models.training.fast_path.cuda_graph import CudaGraphStep
from models.training.fast_path.proof import BatchGradient, Unproved
from models.training.loop import Training
from models.training.run_folder import Run

CPU = torch.device("cpu")
PROVED = {"tokens_per_second": {"fast": 2.0, "plain": 1.0}, "loss": 1.0, "norm": 1.0}
PACKING = "packing with the variable-length kernel"


@pytest.fixture
def run(data: Path, tmp_path: Path) -> Run:
    return Run.read(run_folder(data, tmp_path / "run", precision="bf16", batch_tokens=128))


@pytest.fixture
def untimed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make both paths take the same time, because their speeds on the CPU mean nothing."""
    monkeypatch.setattr(proof, "seconds_per_token", lambda *_: 0.5)


@pytest.fixture
def able(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the device of the test count as supporting the fast path."""
    monkeypatch.setattr(packing, "unsupported_reason", lambda *_: None)


def choose(run: Run, stop: threading.Event | None = None) -> devices.FastPath:
    return choice.choose_path(run, cast(Any, None), CPU, ProcessGroup(), stop or threading.Event())


def record(run: Run) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((run.folder / choice.RECORD).read_text())
    return content


@pytest.mark.usefixtures("untimed")
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("context_loss", [0.0, 0.5])
def test_packed_steps_prove_themselves(
    data: Path, tmp_path: Path, precision: str, context_loss: float
) -> None:
    run = Run.read(run_folder(data, tmp_path / "run", batch_tokens=128, context_loss=context_loss))
    figures = proof.prove(run, CPU, precision)
    assert figures["tokens_per_second"] == {"fast": 2.0, "plain": 2.0}


def leak(original: Callable[..., Tensor], *given: Any) -> Tensor:
    """A defect that lets sequences attend to each other."""
    q, k, v, offsets_C, longest = given
    return original(q, k, v, offsets_C[[0, -1]], longest)


def shift(original: Callable[..., Tensor], *given: Any) -> Tensor:
    """A defect that gives each position the attention output of the position before it."""
    return original(*given).roll(1, dims=0)


def crash(original: Callable[..., Tensor], *given: Any) -> Tensor:
    raise RuntimeError("no kernel image is available\nfor this device")


@pytest.mark.usefixtures("untimed")
@pytest.mark.parametrize(
    ("defect", "failure"),
    [
        (leak, f"{PACKING}: the (loss|gradient)"),
        (shift, f"{PACKING}: the (loss|gradient)"),
        (crash, f"{PACKING}: RuntimeError: no kernel image is available$"),
    ],
)
def test_what_is_wrong_with_the_fast_path_is_named(
    run: Run, monkeypatch: pytest.MonkeyPatch, defect: Callable[..., Tensor], failure: str
) -> None:
    original = packed_block._attend
    monkeypatch.setattr(packed_block, "_attend", lambda *given: defect(original, *given))
    with pytest.raises(Unproved, match=failure):
        proof.prove(run, CPU, "bf16")


def taught(loss: float = 2.0, norm: float = 1.0, off: float = 0.0) -> BatchGradient:
    return BatchGradient(loss, norm, {"w": torch.tensor([3.0, 4.0 + off])})


@pytest.mark.parametrize(
    ("fast", "failure"),
    [
        (taught(loss=2.02), "the loss is 2.0200, but 2.0000 on the standard path"),
        (taught(loss=float("nan")), "the loss is nan"),
        (taught(norm=1.1), "the gradient norm is 1.1, but 1 on the standard path"),
        (taught(off=1.5), "the gradient of w differs by 30% from the standard path's"),
        (BatchGradient(2.0, 1.0, {}), "w has a gradient on only one of the paths"),
    ],
)
def test_what_is_further_away_than_rounding_is_refused(fast: BatchGradient, failure: str) -> None:
    proof.check_gradient(taught(), taught(loss=2.005, norm=1.02, off=0.5))
    with pytest.raises(Unproved, match=failure):
        proof.check_gradient(taught(), fast)


def test_an_update_in_another_direction_and_a_slower_path_are_refused() -> None:
    move = {"w": torch.tensor([1.0, 0.0])}
    proof.check_update(move, {"w": torch.tensor([1.0, 0.3])})
    with pytest.raises(Unproved, match="differs from the standard path's by 141%"):
        proof.check_update(move, {"w": torch.tensor([0.0, 1.0])})
    proof.check_speed(standard_s=0.2, fast_s=0.1)
    with pytest.raises(Unproved, match="slower: 5 tokens/s, against 10 on the standard path"):
        proof.check_speed(standard_s=0.1, fast_s=0.2)


@pytest.mark.parametrize(("setting", "path"), [("auto", STANDARD_PATH), ("off", STANDARD_PATH)])
def test_without_a_gpu_the_standard_path_trains(
    data: Path, tmp_path: Path, setting: str, path: devices.FastPath
) -> None:
    run = Run.read(run_folder(data, tmp_path / "run", fast_path=setting))
    assert choose(run) == path
    assert not (run.folder / choice.RECORD).exists()


def test_without_a_gpu_to_insist_on_the_fast_path_is_an_error_in_one_line(data: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"on, but .*: the device is cpu and not a CUDA GPU; give"):
        train(run_folder(data, tmp_path / "run", fast_path="on"))


@pytest.mark.usefixtures("able")
def test_a_proof_is_made_once_on_a_device_and_its_path_is_kept(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    proofs = []

    def prove(*_: Any) -> dict[str, Any]:
        proofs.append(1)
        return dict(PROVED)

    monkeypatch.setattr(choice, "_prove_apart", prove)
    assert [choose(run), choose(run)] == [FAST_PATH, FAST_PATH]
    assert (record(run)["path"], record(run)["device"], len(proofs)) == ("fast", "cpu", 1)
    monkeypatch.setattr(devices, "device_name", lambda _: "another GPU")
    assert choose(run) == FAST_PATH
    assert (record(run)["device"], len(proofs)) == ("another GPU", 2)


@pytest.mark.usefixtures("able")
def test_a_path_that_failed_is_tried_again_only_where_it_is_insisted_on(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(choice, "_prove_apart", lambda *_: {"failure": "the CUDA graph: it is torn"})
    folder = run_folder(data, tmp_path / "run", precision="bf16")
    assert [choose(Run.read(folder)) for _ in range(2)] == [STANDARD_PATH, STANDARD_PATH]
    warnings = [each.getMessage() for each in caplog.records if each.levelname == "WARNING"]
    assert (
        len(warnings) == 1
        and "training uses the standard path" in warnings[0]
        and "the CUDA graph: it is torn" in warnings[0]
    )
    config = json.loads((folder / "config.json").read_text())
    config["train"]["fast_path"] = "on"
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(InputError, match=r"on, but .*: the CUDA graph: it is torn; give"):
        choose(Run.read(folder))


@pytest.mark.usefixtures("able")
@pytest.mark.parametrize("torn", ["", "[]", '{"path"', '{"device": "cpu"}'])
def test_a_torn_record_is_passed_over(run: Run, monkeypatch: pytest.MonkeyPatch, torn: str) -> None:
    monkeypatch.setattr(choice, "_prove_apart", lambda *_: dict(PROVED))
    (run.folder / choice.RECORD).write_text(torn)
    assert choose(run) == FAST_PATH
    assert record(run)["path"] == "fast"


@pytest.mark.usefixtures("able")
def test_in_float32_nothing_is_packed(data: Path, tmp_path: Path) -> None:
    assert choose(Run.read(run_folder(data, tmp_path / "run", precision="fp32"))) == STANDARD_PATH


@pytest.mark.soak  # slow, because it starts a process that imports torch
@pytest.mark.usefixtures("able")
def test_the_proof_leaves_weights_and_random_numbers_as_they_were(run: Run) -> None:
    """The proof runs in a separate process, here on the CPU, where either path may be faster."""

    def state() -> list[bytes]:
        generators = [str(random.getstate()), str(np.random.get_state())]
        tensors = [
            torch.get_rng_state(),
            *training.weights().values(),
            *training.step.optimizer.tensors().values(),
        ]
        return [*(each.encode() for each in generators), *(t.detach().numpy().tobytes() for t in tensors)]

    (run.folder / choice.RECORD).write_text(
        json.dumps({"path": "plain", "device": "cpu", "torch": torch.__version__})
    )
    training = Training(run, threading.Event())
    training.train_step(np.arange(4), 1e-3)
    before = state()
    (run.folder / choice.RECORD).unlink()
    choose(run)
    assert state() == before
    recorded = record(run)
    if recorded["path"] == "plain":
        assert "slower" in recorded["failure"]
    else:
        assert 0 < recorded["seconds"] < 120 and recorded["tokens_per_second"]["fast"] > 0


@pytest.mark.usefixtures("able")
def test_a_training_whose_fast_path_fails_ends_in_the_bytes_of_one_that_never_tried_it(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(choice, "_prove_apart", lambda *_: {"failure": "it is torn"})
    torch.set_num_threads(1)
    tried, never = (
        run_folder(data, tmp_path / setting, precision="bf16", fast_path=setting)
        for setting in ("auto", "off")
    )
    assert train(tried) and train(never)
    assert weights(tried) == weights(never)
    assert json.loads((tried / "summary.json").read_text())["fast_path"] == "off"


@pytest.mark.soak
def test_a_proof_that_dies_is_a_failure_with_its_last_line(run: Run) -> None:
    """The proof dies here because it is asked to compute on an Apple GPU."""
    result = choice._prove_apart(run, torch.device("mps"), "fp32", threading.Event())
    assert result["failure"].startswith("the proof ended with status 1: ")
    assert "mps" in result["failure"].lower()


@pytest.mark.usefixtures("able")
def test_a_stop_ends_the_proof_and_nothing_is_recorded(run: Run) -> None:
    stop = threading.Event()
    stop.set()
    assert choose(run, stop) == STANDARD_PATH
    assert not (run.folder / choice.RECORD).exists()


@pytest.mark.parametrize("is_in_its_context", [False, True])
def test_running_out_of_memory_in_a_capture_does_not_end_capturing(
    monkeypatch: pytest.MonkeyPatch, is_in_its_context: bool
) -> None:
    """After an error in the middle of a capture, torch may raise a second error from the capture itself."""
    for name in ("stream", "current_stream"):
        monkeypatch.setattr(torch.cuda, name, lambda *_: threading.Lock())

    def record(*_: Any) -> Any:
        try:
            raise torch.OutOfMemoryError("CUDA out of memory")
        finally:
            if is_in_its_context:
                raise RuntimeError("operation failed due to a previous error during capture")

    cuda_graph = CudaGraphStep([])
    monkeypatch.setattr(cuda_graph, "_capture", record)
    part = packing.Packed(torch.zeros(1), torch.zeros(2), 8)
    with pytest.raises(torch.OutOfMemoryError):
        cuda_graph(lambda *_: torch.zeros(3), part, torch.ones(()))
    assert cuda_graph.failure is None


def test_a_failed_capture_is_logged_once_and_the_step_runs_without_a_graph(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    for name in ("stream", "current_stream"):
        monkeypatch.setattr(torch.cuda, name, lambda *_: threading.Lock())

    def record(*_: Any) -> Any:
        raise RuntimeError("operation not permitted\nwhen stream is capturing")

    cuda_graph = CudaGraphStep([])
    monkeypatch.setattr(cuda_graph, "_capture", record)
    part = packing.Packed(torch.zeros(1), torch.zeros(2), 8)
    for _ in range(2):
        assert cuda_graph(lambda *_: torch.ones(3), part, torch.ones(())).tolist() == [1, 1, 1]
    assert cuda_graph.failure == "operation not permitted when stream is capturing"
    assert len(caplog.records) == 1
