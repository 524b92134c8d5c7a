"""Checkpoints that are damaged on the disk: the run goes back, and ends with the same weights."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from damaged import flipped
from train_worker import make_job

from bab import hookimpl
from bab.core import checkpoint
from bab.core.errors import BabError, InterruptedRunError
from bab.core.options import TrainConfig
from bab.core.trainer import Trainer

CONFIG = TrainConfig(steps=8, batch=12, eval_every=2, save_every=2)
RUN = "x/0"  # of the jobs here


class Said:
    def __init__(self) -> None:
        self.lines: list[str] = []

    @hookimpl
    def bab_notice(self, run: Any, message: str) -> None:
        self.lines.append(message)


@pytest.fixture
def stopped(tmp_path: Path) -> Path:
    """The folder of a run that was stopped at step 6 of 8."""
    asked = iter([False] * 5 + [True])
    with pytest.raises(InterruptedRunError, match="step 6 of 8"):
        Trainer(make_job(tmp_path / "run", CONFIG, stop=lambda: next(asked))).fit()
    return tmp_path / "run"


def finish(folder: Path) -> tuple[dict[str, torch.Tensor], list[str]]:
    job, said = make_job(folder, CONFIG), Said()
    job.watchers.join(said)
    Trainer(job).fit()
    return job.model.state_dict(), said.lines


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in (folder / "checkpoints").iterdir())


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:200])


def turn(path: Path) -> None:
    data = path.read_bytes()
    path.write_bytes(flipped(data, len(data) * 8 - 100))


def swap(path: Path) -> None:
    other = min(path.parent.glob(f"{path.stem[:5]}*"))
    path.write_bytes(other.read_bytes() if other != path else b"")


@pytest.mark.parametrize("harm", [cut, turn, swap])
@pytest.mark.parametrize("which", ["newest", "its best", "all"])
def test_a_damaged_one_falls_back_to_the_one_before(
    stopped: Path, tmp_path: Path, harm: Callable[[Path], None], which: str
) -> None:
    expected, _ = finish(tmp_path / "whole")
    folder = stopped / "checkpoints"
    kept = sorted(folder.glob("step-*"))
    assert [path.stem for path in kept] == ["step-000000004", "step-000000006"]
    bests = sorted(folder.glob("best-*"))
    if which == "newest":
        harm(kept[-1])
    elif which == "its best":
        harm(bests[-1])
    else:
        for path in kept:
            turn(path)
    weights, said = finish(stopped)
    for name, value in expected.items():
        assert torch.equal(weights[name], value), name
    assert any("step-000000006" in line or "best-" in line for line in said), said
    if which == "all":
        assert "begins anew" in " ".join(said)
    assert not any("begins anew" in line for line in said) or which == "all" or len(bests) == 1


def test_best_weights_that_are_damaged_at_the_end_say_what_helps(
    stopped: Path, tmp_path: Path
) -> None:
    expected, _ = finish(tmp_path / "whole")
    best = max((stopped / "checkpoints").glob("best-*"))
    turn(best)
    with pytest.raises(BabError, match="same command again"):
        checkpoint.restore_best(best.parent, modules(stopped)[0], int(best.stem[5:]), RUN)
    weights, _ = finish(stopped)
    assert all(torch.equal(weights[name], value) for name, value in expected.items())


def test_no_bit_changes_what_is_resumed(stopped: Path) -> None:
    """Every k-th bit of both files: the state as it was, or one that is not taken."""
    folder = stopped / "checkpoints"
    newest = checkpoint.latest(folder)
    expected, own = modules(stopped)
    state = checkpoint.restore(newest, expected, own)
    weights = expected.state_dict()
    data, refused, bits = newest.read_bytes(), 0, range(0, newest.stat().st_size * 8, 97)
    for bit in bits:
        newest.write_bytes(flipped(data, bit))
        bundle, optimizer = modules(stopped)
        try:
            there = checkpoint.restore(newest, bundle, optimizer)
        except BabError as error:
            refused += 1
            told = str(error)
            assert newest.name in told and told.endswith("): repeat the run with --force")
            continue
        assert there == state
        assert all(torch.equal(v, weights[k]) for k, v in bundle.state_dict().items())
    assert refused > len(bits) * 0.8


def modules(folder: Path) -> tuple[Any, Any]:
    made = Trainer(make_job(folder.parent / "fresh", CONFIG))
    return made.bundle, made.optimizer


def test_two_are_kept_with_the_weights_that_each_needs(tmp_path: Path) -> None:
    finish(tmp_path)
    steps = [name for name in names(tmp_path) if name.startswith("step")]
    assert steps == ["step-000000006.safetensors", "step-000000008.safetensors"]
    for path in (tmp_path / "checkpoints").glob("step-*"):
        state = checkpoint.restore(path, *modules(tmp_path / "run"))
        assert checkpoint.best_path(path.parent, state.best_step).exists()
    path, said = checkpoint.newest(tmp_path / "checkpoints", RUN)
    assert path is not None and not said


def test_another_runs_checkpoint_is_not_taken(stopped: Path) -> None:
    path, said = checkpoint.newest(stopped / "checkpoints", "y/0")
    newest = stopped / "checkpoints" / "step-000000006.safetensors"
    whose = "'x/0/step-000000006' not 'y/0/step-000000006'"
    assert path is None and said[0] == f"{newest} is another's, {whose}: going back"


def test_weights_of_another_model_name_the_first_difference(tmp_path: Path) -> None:
    module = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.Linear(2, 1))
    module[0].requires_grad_(False)
    whole = {k: torch.ones_like(v) for k, v in module.state_dict().items()}
    trained = {k: v for k, v in whole.items() if k.startswith("1.")}
    checkpoint.load_trainable(module, trained, tmp_path / "best")  # frozen ones may be missing
    assert module[1].weight.tolist() == [[1, 1]] and module[0].weight.tolist() != [[1, 1], [1, 1]]
    for tensors, first in (
        ({"1.weight": trained["1.weight"]}, "1.bias"),
        (trained | {"2.bias": torch.ones(1)}, "2.bias"),
        ({"0.more": torch.ones(1)}, "0.more"),
    ):
        with pytest.raises(BabError) as error:
            checkpoint.load_trainable(module, tensors, tmp_path / "best")
        told = f"does not fit this model (first difference: {first}); use --force"
        assert str(error.value) == f"{tmp_path / 'best'} {told}"
