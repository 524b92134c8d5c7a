"""What every reader of other tools' models has to do: `check_model` of a reader and a model.

A model is a folder (or a name) that the test makes, with random weights in the tool's layout, and
`says`: the tool's own answer for some audio.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
from numpy.typing import NDArray

from bab.core.errors import BabError
from bab.core.types import Batch, Waves
from bab.running.published import ModelReader, Reference, read_published
from bab.running.saved import Saved, load_saved
from bab.testing.declared import described
from bab.testing.suite import Contract

NEAR = 1e-4  # of logits
_NONE = torch.empty(0)
_NO_MODEL = "no model was named: bab check NAME:WHERE"
Says = Callable[[NDArray[np.float32]], NDArray[np.floating]]


@dataclass(frozen=True)
class ModelCase:
    """A reader by its name, what stands after the colon of a good model, an empty folder, and the
    tool's own answer (`check_model` says how)."""

    name: str
    where: str
    folder: Path
    says: Says | None = None
    seconds: float = 3.0

    def saved(self) -> Saved:
        return load_saved(f"{self.name}:{self.where}")


def check_model(name: str, where: str, folder: Path, says: Says, seconds: float = 3.0) -> Saved:
    """Every check of this module.

    Args:
        name: the reader's, as it is installed.
        where: what stands after the colon of a good model.
        folder: an empty one to write in.
        says: audio f32[S] at the encoder's rate -> the tool's logits, frames [T, C] or [C], or of a
            pair task the vector [E]; columns in the order of the labels.
        seconds: of the audio.

    Raises:
        AssertionError: saying what breaks which rule.
    """
    case = ModelCase(name, where, folder, says, seconds)
    for check in CHECKS:
        check(case)
    return case.saved()


def check_described(case: ModelCase) -> None:
    """The class has a docstring, and each option a description.

    To do: write them; `bab info NAME` shows them.
    """
    described(type(reader_of(case.name)))


def check_refusals(case: ModelCase) -> None:
    """No place, a place that isn't there, an empty folder: each is a BabError.

    To do: raise bab.WeightsError with what was looked for, and where it is to be had.
    """
    empty = case.folder / "empty"
    empty.mkdir(parents=True, exist_ok=True)
    for where in ("", str(case.folder / "nowhere"), str(empty)):
        try:
            read_published(Reference(case.name, where), True, False)
        except BabError as error:
            assert str(error), f"{case.name}:{where}: an error without a word"
            continue
        raise AssertionError(f"{case.name}:{where} was read; it must be a BabError")


def check_parts(case: ModelCase) -> str | None:
    """Labels are there, each once; every class has its threshold, where there are any.

    To do: ModelParts.labels in the order of the head's outputs; tuned by preset of the task.
    """
    if not case.where:
        return _NO_MODEL
    saved = case.saved()
    names = [label for group in saved.labels.values() for label in group]
    assert names or saved.task.pairs, "a model without labels"
    for key, group in saved.labels.items():
        assert len(set(group)) == len(group), f"labels of '{key}' stand twice: {group}"
    for preset, tuned in saved.tuned.items():
        chosen = tuned.get("thresholds")
        if chosen is not None:
            assert set(chosen) == set(names), f"preset {preset}: thresholds of {sorted(chosen)}"
    return None


@torch.no_grad()
def check_answers(case: ModelCase) -> str | None:
    """The model says what the tool says of the same audio, to 1e-4; padding changes nothing.

    To do: compare state by state; tensors carry the names of the head's own state dict.
    """
    if not case.where or case.says is None:
        return "what the tool itself answers isn't known here: run the pytest class"
    saved = case.saved()
    rate = saved.encoder.sample_rate
    samples = np.random.default_rng(0).normal(0, 0.1, round(rate * case.seconds)).astype(np.float32)
    wanted = torch.from_numpy(np.asarray(case.says(samples), np.float32))
    longer = torch.zeros(2, len(samples) + rate)
    longer[0, : len(samples)] = torch.from_numpy(samples)
    longer[1] = 0.1
    alone = Waves(torch.from_numpy(samples)[None], torch.tensor([len(samples)]))
    padded = Waves(longer, torch.tensor([len(samples), longer.shape[1]]))
    for waves, what in ((alone, "alone"), (padded, "beside a longer clip")):
        batch = Batch(waves, _NONE, _NONE, (), 0)
        said = saved.model.embed(batch) if saved.task.pairs else saved.model(batch)[0]
        said = said[0][: len(wanted)] if wanted.ndim == 2 else said[0]
        assert said.shape == wanted.shape, f"{what}: {list(said.shape)}, not {list(wanted.shape)}"
        far = float((said - wanted).abs().max())
        assert far <= NEAR, f"{what}: off by {far:.2g} from the tool's own answer"
    return None


def check_same_again(case: ModelCase) -> str | None:
    """Read twice, it is the same model: same digest, same name. Nothing in it is a class's own.

    To do: no random weights, no dates in the options.
    """
    assert isinstance(reader_of(case.name), ModelReader)
    if not case.where:
        return _NO_MODEL
    saved, again = case.saved(), case.saved()
    assert again.digest == saved.digest, "two readings have two digests"
    assert again.name == saved.name and again.name.startswith(f"{case.name}:")
    return None


CHECKS: tuple[Callable[[ModelCase], str | None], ...] = (
    check_refusals,
    check_parts,
    check_answers,
    check_same_again,
    check_described,
)


class ModelContract(Contract):
    """`name` is the reader's; `model` puts a good model of the tool's layout into a folder and
    gives what stands after the colon, and `says` is the tool's own answer."""

    checks: ClassVar = CHECKS
    name: ClassVar[str]
    seconds: ClassVar[float] = 3.0

    def model(self, folder: Path) -> str:
        raise NotImplementedError

    def says(self, samples: NDArray[np.float32]) -> NDArray[np.floating]:
        raise NotImplementedError

    def subject(self, folder: Path) -> ModelCase:
        place = folder / "model"
        place.mkdir()
        return ModelCase(self.name, self.model(place), folder, self.says, self.seconds)


def reader_of(name: str) -> ModelReader:
    """The reader of this name."""
    from bab.core.registry import load

    made: ModelReader = load("models", name)()
    return made
