"""What every reader of other tools' models has to do: `check_model` of a reader and a model.

A model is a folder (or a name) that the test makes, with random weights in the tool's layout, and
`says`: the tool's own answer for some audio.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from bab.core.errors import BabError
from bab.core.types import Batch, Waves
from bab.running.published import ModelReader, Reference, read_published
from bab.running.saved import Saved, load_saved

NEAR = 1e-4  # of logits
_NONE = torch.empty(0)
Says = Callable[[NDArray[np.float32]], NDArray[np.floating]]


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
    check_refusals(name, folder)
    saved = load_saved(f"{name}:{where}")
    check_parts(saved)
    check_answers(saved, says, seconds)
    check_same_again(name, where, saved)
    return saved


def check_refusals(name: str, folder: Path) -> None:
    """No place, a place that isn't there, an empty folder: each is a BabError."""
    empty = folder / "empty"
    empty.mkdir(parents=True, exist_ok=True)
    for where in ("", str(folder / "nowhere"), str(empty)):
        try:
            read_published(Reference(name, where), True, False)
        except BabError as error:
            assert str(error), f"{name}:{where}: an error without a word"
            continue
        raise AssertionError(f"{name}:{where} was read; it must be a BabError")


def check_parts(saved: Saved) -> None:
    """Labels are there, each once; every class has its threshold, where there are any."""
    names = [label for group in saved.labels.values() for label in group]
    assert names or saved.task.pairs, "a model without labels"
    for key, group in saved.labels.items():
        assert len(set(group)) == len(group), f"labels of '{key}' stand twice: {group}"
    for preset, tuned in saved.tuned.items():
        chosen = tuned.get("thresholds")
        if chosen is not None:
            assert set(chosen) == set(names), f"preset {preset}: thresholds of {sorted(chosen)}"


@torch.no_grad()
def check_answers(saved: Saved, says: Says, seconds: float) -> None:
    """The model says what the tool says of the same audio, to 1e-4; padding changes nothing."""
    rate = saved.encoder.sample_rate
    samples = np.random.default_rng(0).normal(0, 0.1, round(rate * seconds)).astype(np.float32)
    wanted = torch.from_numpy(np.asarray(says(samples), np.float32))
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


def check_same_again(name: str, where: str, saved: Saved) -> None:
    """Read twice, it is the same model: same digest, same name. Nothing in it is a class's own."""
    again = load_saved(f"{name}:{where}")
    assert again.digest == saved.digest, "two readings have two digests"
    assert again.name == saved.name and again.name.startswith(f"{name}:")
    assert isinstance(reader_of(name), ModelReader)


def reader_of(name: str) -> ModelReader:
    """The reader of this name."""
    from bab.core.registry import load

    made: ModelReader = load("models", name)()
    return made
