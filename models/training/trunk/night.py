"""A night: a training run that goes on from a trunk and leaves a new one.

A night goes on from the trunk at the full learning rate. When the cool-down begins, the weights and the
optimizer state become the new trunk; the cool-down itself produces only the model of this night
(warmup-stable-decay, https://arxiv.org/abs/2405.18392).
"""

import hashlib
import json
import logging
import shutil

import safetensors.torch
from torch import Tensor
from transformers import PreTrainedModel

from models.files import put_folder, sha256
from models.partial import PREFIX
from models.training.initial_weights import mean_rows, token_rows
from models.training.muon import Muon
from models.training.optimizer import Optimizer
from models.training.run_folder import Run
from models.training.schedule import STABLE_SHARE
from models.training.state import TrainingState
from models.training.trunk import files
from models.training.trunk.files import FOLDER, MODEL, OPTIMIZER, STATE, TrunkState

log = logging.getLogger(__name__)

SEPARATOR = "|"  # between the names of a parameter and of a part of its optimizer state


class Night:
    """The trunk in a training run. In a run that is no night, it begins at 0 and does nothing.

    Raises:
        DamagedTrunk: a file of the trunk is missing or has changed.
    """

    def __init__(self, run: Run, model: PreTrainedModel, optimizer: Optimizer, *, is_packed: bool) -> None:
        self.run, self.model, self.optimizer = run, model, optimizer
        self.stable_share = STABLE_SHARE if run.is_night else None
        self.past = _restore(run, model, optimizer, is_packed=is_packed)
        """How far the nights before have come."""

    def branch(self, state: TrainingState, progress: float, *, writes: bool) -> bool:
        """Write the trunk if the cool-down begins now; return whether it begins.

        `writes` is False in all processes of a group except the main one.
        """
        is_due = self.run.is_night and not state.has_branched and progress >= STABLE_SHARE
        if not is_due or state.faults_in_a_row:  # after a faulty step, the weights may be faulty, too
            return False
        state.has_branched = True
        if writes:
            log.info("the cool-down begins at step %d", state.step)
            _write(
                self.run,
                self.model,
                self.optimizer,
                TrunkState(
                    nights=self.past.nights + 1,
                    steps=self.past.steps + state.step,
                    tokens=self.past.tokens + state.tokens,
                    epoch=self.past.epoch + state.epoch,
                    batch_index=state.batch_index,
                    order=self.past.order,
                ),
            )
        return True


def _restore(run: Run, model: PreTrainedModel, optimizer: Optimizer, *, is_packed: bool) -> TrunkState:
    """Give the optimizer the state of the trunk; return where training goes on.

    The order of the batches is continued if it is the same as that of the trunk; otherwise the next epoch
    begins. If the optimizer state of a parameter is missing, the steps begin at 0, so that the learning rate
    warms up.
    """
    order = _order(run, is_packed=is_packed) if run.is_night else ""
    if run.trunk is None:
        return TrunkState(order=order)
    files.digest_of(run.trunk)
    if not (run.trunk / STATE).exists():  # a copy of a champion
        return TrunkState(order=order)
    state = TrunkState.read(run.trunk / STATE)
    if state.order != order:
        state = state.model_copy(update={"order": order, "epoch": state.epoch + 1, "batch_index": 0})
    if not _restore_optimizer(run, model, optimizer):
        log.info("trunk: the optimizer begins without the state of some parameters")
        state = state.model_copy(update={"steps": 0})
    return state


def _order(run: Run, *, is_packed: bool) -> str:
    """A digest of all that decides the order of the batches: data, batch size, seed and packing."""
    parts = [sha256(run.examples / "train.parquet"), run.train.batch_tokens, run.train.seed, is_packed]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def _restore_optimizer(run: Run, model: PreTrainedModel, optimizer: Optimizer) -> bool:
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


def _write(run: Run, model: PreTrainedModel, optimizer: Optimizer, state: TrunkState) -> None:
    """Write the trunk of this run folder completely or not at all."""
    partial = run.folder / f"{PREFIX}{FOLDER}"
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir()
    run.write_model(model, partial / MODEL)
    names = _names(optimizer, model)
    tensors = {}
    for key, value in optimizer.tensors().items():
        part, parameter, name = key.split(".", 2)
        tensors[f"{names[int(part)][int(parameter)]}{SEPARATOR}{name}"] = _compact(value)
    safetensors.torch.save_file(tensors, partial / OPTIMIZER)
    state.write(partial / STATE)
    files.seal(partial)
    put_folder(partial, run.folder / FOLDER)


def _compact(value: Tensor) -> Tensor:
    """Matrices in bfloat16: momenta need no more precision, and the trunk takes less space."""
    value = value.detach().cpu().contiguous()
    return value.bfloat16() if value.ndim >= 2 else value


def _names(optimizer: Optimizer, model: PreTrainedModel) -> list[list[str]]:
    """The names of each optimizer's parameters, in the order of its state."""
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    return [
        [names[id(parameter)] for group in part.param_groups for parameter in group["params"]]
        for part in optimizer.parts
    ]
