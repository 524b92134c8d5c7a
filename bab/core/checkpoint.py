"""The state of a training run in one safetensors file: it appears whole or not at all.

`step-<n>.safetensors` holds the trainable weights, the optimizer's state and, as metadata, where
the run stood; `best-<n>.safetensors` the weights of the best dev score. The newest step names its
best, so a kill between two writes leaves the older pair, which is still consistent. Two steps are
kept: should the newest be damaged on the disk, the run goes back to the one before it.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path

import torch
from torch import Tensor, nn

from bab.core import sealed
from bab.core.errors import BabError

_REMEDY = "repeat the run with --force"
_AGAIN = "give the same command again, which goes back to one that is sound"


@dataclass(slots=True)
class State:
    """Where a run stands after `step` optimizer steps."""

    step: int = 0
    best_step: int = -1  # -1: no dev score yet
    best_value: float = 0.0
    best_metrics: dict[str, float] = field(default_factory=dict)
    stale: int = 0  # evaluations since the best one
    audio_seconds: float = 0.0
    seconds: float = 0.0  # of training, over all the attempts
    scaler: dict[str, float] = field(default_factory=dict)  # fp16's loss scale

    def judge(self, metrics: dict[str, float], value: float) -> bool:
        """Note the dev score of this step; whether it is the best so far. value: the one that
        decides, higher is better."""
        best = self.best_step < 0 or value > self.best_value
        if best:
            self.best_step, self.best_value, self.best_metrics = self.step, value, metrics
        self.stale = 0 if best else self.stale + 1
        return best


def trainable(module: nn.Module) -> dict[str, Tensor]:
    """What training changes: parameters that take gradients, and buffers; no frozen weights."""
    return {
        name: value.detach()
        for name, value in module.state_dict(keep_vars=True).items()
        if value.requires_grad or not isinstance(value, nn.Parameter)
    }


def save(
    folder: Path, module: nn.Module, optimizer: torch.optim.Optimizer, state: State, run: str = ""
) -> Path:
    """Write the state after `state.step` steps; returns the file. run: whose it is."""
    tensors = {f"model/{k}": v for k, v in trainable(module).items()}
    names = {id(p): n for n, p in module.named_parameters()}
    for parameter, values in optimizer.state.items():
        for key, value in values.items():
            tensors[f"optimizer/{names[id(parameter)]}/{key}"] = torch.as_tensor(value)
    path = folder / f"step-{state.step:09d}.safetensors"
    sealed.write_tensors(path, tensors, _key(run, path), state=json.dumps(asdict(state)))
    return path


def save_best(folder: Path, module: nn.Module, step: int, run: str = "") -> None:
    """Write the weights of the best dev score so far."""
    path = best_path(folder, step)
    sealed.write_tensors(path, trainable(module), _key(run, path))


def best_path(folder: Path, step: int) -> Path:
    """Where the weights of the best dev score, reached at `step`, are."""
    return folder / f"best-{step:09d}.safetensors"


def prune(folder: Path, state: State) -> None:
    """Remove what the newest two checkpoints don't need. Call after `save`, never before."""
    steps = sorted(folder.glob("step-*.safetensors"))[-2:]
    before = [p for p in sorted(folder.glob("best-*")) if p.stem[5:] <= steps[0].stem[5:]]
    keep = {*steps, *before[-1:], best_path(folder, state.best_step)}
    for path in folder.glob("*.safetensors*"):
        if path not in keep:
            path.unlink(missing_ok=True)


def latest(folder: Path) -> Path | None:
    """The newest checkpoint of a run, if any."""
    return max(folder.glob("step-*.safetensors"), default=None)


def newest(folder: Path, run: str) -> tuple[Path | None, list[str]]:
    """The newest checkpoint of a run that is sound, with its best weights; and what is to be said
    of newer ones, which are deleted. None: the run begins anew."""
    said: list[str] = []
    for path in sorted(folder.glob("step-*.safetensors"), reverse=True):
        try:
            state = _state(path, sealed.read(path, _key(run, path), "going back")[1])
            if state.best_step >= 0:
                best = best_path(folder, state.best_step)
                sealed.read(best, _key(run, best), "going back")
            return path, said
        except (sealed.DamagedError, FileNotFoundError) as error:
            said.append(str(error))
            path.unlink(missing_ok=True)
    return None, [*said, *(["no checkpoint is left: training begins anew"] if said else [])]


def restore(path: Path, module: nn.Module, optimizer: torch.optim.Optimizer) -> State:
    """Put weights and optimizer back as `save` found them.

    Raises:
        BabError: where the file is damaged or of another model.
    """
    tensors, about = sealed.read(path, remedy=_REMEDY)
    state = _state(path, about)
    load_trainable(module, {k[6:]: v for k, v in tensors.items() if k.startswith("model/")}, path)
    names = dict(module.named_parameters())
    for key, value in tensors.items():
        if key.startswith("optimizer/"):
            name, _, entry = key.removeprefix("optimizer/").rpartition("/")
            parameter = names[name]
            # AdamW's step counter lives on the CPU whatever the device, unless it is fused.
            fused = optimizer.param_groups[0].get("fused")
            device = parameter.device if fused or entry != "step" else "cpu"
            optimizer.state[parameter][entry] = value.to(device)
    return state


def restore_best(folder: Path, module: nn.Module, step: int, run: str = "") -> None:
    """Put the weights of the best dev score, reached at `step`, into the module."""
    path = best_path(folder, step)
    try:
        tensors, _ = sealed.read(path, _key(run, path), _AGAIN)
    except FileNotFoundError:
        raise BabError(f"{path} is gone: {_AGAIN}") from None
    load_trainable(module, tensors, path)


def _key(run: str, path: Path) -> str:
    return f"{run}/{path.stem}" if run else ""


def _state(path: Path, about: dict[str, str]) -> State:
    try:
        return State(**json.loads(about["state"]))
    except (KeyError, TypeError, ValueError) as error:
        raise sealed.DamagedError(f"{path} is damaged ({error}): {_REMEDY}") from None


def load_trainable(module: nn.Module, tensors: dict[str, Tensor], path: Path) -> None:
    """Put trained weights into a module whose frozen weights are in place already."""
    missing, unexpected = module.load_state_dict(tensors, strict=False)
    lost = set(missing) & set(trainable(module))
    if lost or unexpected:
        odd = sorted([*lost, *unexpected])[0]
        raise BabError(f"{path} does not fit this model (first difference: {odd}); use --force")
