"""The trunk of a model line in a training run: the undecayed checkpoint with which a night begins and ends.

A night goes on from the trunk at the full learning rate. When the cool-down begins, the weights and the
optimizer state become the new trunk; the cool-down itself produces only the model of this night
(warmup-stable-decay, https://arxiv.org/abs/2405.18392).
"""

import hashlib
import json
import logging
import shutil
from typing import TYPE_CHECKING

import safetensors.torch
from torch import Tensor
from transformers import PreTrainedModel

from models.files import sha256
from models.training import checkpoint, trunk_files
from models.training.initial_weights import mean_rows, token_rows
from models.training.muon import Muon
from models.training.optimizer import Optimizer
from models.training.run_folder import Run
from models.training.schedule import STABLE_SHARE
from models.training.trunk_files import FOLDER, MODEL, OPTIMIZER, STATE, TEMPORARY, TrunkState

if TYPE_CHECKING:  # the loop imports this module
    from models.training.loop import Training

log = logging.getLogger(__name__)

SEPARATOR = "|"  # between the names of a parameter and of a part of its optimizer state


def restore(run: Run, optimizer: Optimizer, model: PreTrainedModel, *, is_packed: bool) -> TrunkState:
    """Give the optimizer the state of the trunk; return where training goes on.

    A run that is no night, and a night without a trunk, begin at 0. The order of the batches is continued if
    it is the same as that of the trunk; otherwise the next epoch begins. If the optimizer state of a
    parameter is missing, the steps begin at 0, so that the learning rate warms up.

    Raises:
        DamagedTrunk: a file of the trunk is missing or has changed.
    """
    order = order_of(run, is_packed=is_packed) if run.is_night else ""
    if run.trunk is None:
        return TrunkState(order=order)
    trunk_files.digest_of(run.trunk)
    if not (run.trunk / STATE).exists():  # a copy of a champion
        return TrunkState(order=order)
    state = TrunkState.read(run.trunk / STATE)
    is_whole = _restore_optimizer(run, optimizer, model)
    if state.order != order:
        state = state.model_copy(update={"order": order, "epoch": state.epoch + 1, "batch_index": 0})
    if not is_whole:
        log.info("trunk: the optimizer begins without the state of some parameters")
        state = state.model_copy(update={"steps": 0})
    return state


def branch(training: "Training", progress: float) -> bool:
    """Write the trunk if the cool-down of a night begins now; return whether it was written."""
    state = training.state
    if not training.run.is_night or state.has_branched or progress < STABLE_SHARE or state.faults_in_a_row:
        return False
    if training.group.is_main:
        past = training.past
        _write(
            training,
            TrunkState(
                steps=past.steps + state.step,
                tokens=past.tokens + state.tokens,
                epoch=past.epoch + state.epoch,
                batch_index=state.batch_index,
                order=past.order,
            ),
        )
        log.info("the cool-down begins at step %d", state.step)
    state.has_branched = True
    return True


def order_of(run: Run, *, is_packed: bool) -> str:
    """A digest of all that decides the order of the batches: data, batch size, seed and packing."""
    parts = [sha256(run.examples / "train.parquet"), run.train.batch_tokens, run.train.seed, is_packed]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def _write(training: "Training", state: TrunkState) -> None:
    """Write the trunk of this run folder completely or not at all."""
    run = training.run
    partial = run.folder / f"{TEMPORARY}{FOLDER}"
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir()
    run.write_model(training.model, partial / MODEL)
    names = _names(training.step.optimizer, training.model)
    tensors = {}
    for key, value in training.step.optimizer.tensors().items():
        part, parameter, name = key.split(".", 2)
        tensors[f"{names[int(part)][int(parameter)]}{SEPARATOR}{name}"] = _compact(value)
    safetensors.torch.save_file(tensors, partial / OPTIMIZER)
    state.write(partial / STATE)
    trunk_files.seal(partial)
    checkpoint.put(partial, run.folder / FOLDER)


def _compact(value: Tensor) -> Tensor:
    """Matrices in bfloat16: momenta need no more precision, and the trunk takes half the space."""
    value = value.detach().cpu().contiguous()
    return value.bfloat16() if value.ndim >= 2 else value


def _names(optimizer: Optimizer, model: PreTrainedModel) -> list[list[str]]:
    """The names of each optimizer's parameters, in the order of its state."""
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    return [
        [names[id(parameter)] for group in part.param_groups for parameter in group["params"]]
        for part in optimizer.parts
    ]


def _restore_optimizer(run: Run, optimizer: Optimizer, model: PreTrainedModel) -> bool:
    """Load the optimizer state of the trunk; return whether there was one for each parameter.

    The rows of the token tables are matched as those of the weights are.
    """
    assert run.trunk is not None
    known: dict[str, dict[str, Tensor]] = {}
    for key, value in safetensors.torch.load_file(run.trunk / OPTIMIZER).items():
        parameter, _, name = key.partition(SEPARATOR)
        known.setdefault(parameter, {})[name] = value
    pieces_of, tables = token_rows(run, model)
    wanted = dict(model.named_parameters())
    tensors: dict[str, Tensor] = {}
    is_whole = True
    for part, names in enumerate(_names(optimizer, model)):
        is_muon = isinstance(optimizer.parts[part], Muon)
        keys = {"momentum_buffer"} if is_muon else {"step", "exp_avg", "exp_avg_sq"}
        for index, name in enumerate(names):
            found = known.get(name, {})
            if name in tables:
                found = {k: mean_rows(v.float(), pieces_of) if v.ndim > 1 else v for k, v in found.items()}
            shapes = {v.shape for k, v in found.items() if k != "step"}
            if found.keys() != keys or shapes != {wanted[name].shape}:
                is_whole = False
                continue
            tensors |= {f"{part}.{index}.{key}": value for key, value in found.items()}
    optimizer.load_tensors(tensors)
    return is_whole
