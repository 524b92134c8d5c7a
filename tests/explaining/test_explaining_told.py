"""What `explain` does in order: it listens, aims, says so, tells how far it is, and writes."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from bab.core.types import Batch
from bab.explaining import explain as module
from bab.explaining.explain import ExplainOptions, explain


class Model(nn.Module):
    """Logits of three frames and two classes: means of the sound's thirds, and their negatives."""

    def __init__(self, framed: bool = True) -> None:
        super().__init__()
        self.framed, self.head = framed, nn.Linear(1, 1)
        self.heard: list[Batch] = []

    def forward(self, batch: Batch) -> tuple[Tensor, None]:
        self.heard.append(batch)
        samples = batch.inputs.samples
        thirds = samples.reshape(len(samples), 3, -1).mean(-1)
        values = torch.stack([thirds, -thirds], dim=-1)
        return (values if self.framed else values.mean(1)), None


@pytest.mark.parametrize("framed", [True, False])
def test_a_stretch_is_explained(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, framed: bool
) -> None:
    model, encoder = Model(framed), SimpleNamespace(sample_rate=10)
    task = SimpleNamespace(pairs=False, in_order=False, level="frame")
    saved = SimpleNamespace(model=model, encoder=encoder, task=task, members=(1,),
                            labels={"v": ("A", "B")}, spec={"task": {"name": "t"}})  # fmt: skip
    asked: list[Any] = []
    monkeypatch.setattr(module, "load_saved", lambda *given: asked.append(given) or saved)
    sound = np.array([1, 1, -2, -2, 4, 4], np.float32)
    monkeypatch.setattr(module, "_sound", lambda *given: (2.0, sound, ["n"]))
    scores: list[Any] = []

    def explained(saved: Any, file: Path, start: float, sound: Any, waves: Tensor, score: Any,
                  aim: Any, answer: Any, notices: Any) -> str:  # fmt: skip
        assert (file, start, notices, aim.name) == (Path("a.wav"), 2.0, ("n",), "A")
        scores.extend(score(torch.stack([waves, 2 * waves])).tolist() for _ in range(18))
        assert answer.tolist() == ([[1, -1], [-2, 2], [4, -4]] if framed else [[1, -1]])
        return "done"

    monkeypatch.setattr(module, "_explained", explained)
    monkeypatch.setattr(module, "_write", lambda *given: asked.append(given) or ["paths"])
    said: list[str] = []
    told: list[Any] = []
    options = ExplainOptions(label="A", device="cpu", offline=True)
    done = explain("R", "a.wav", tmp_path, options, said.append, lambda *one: told.append(one))
    assert done == ("done", ["paths"]) and asked[0] == (Path("R"), True, False)
    assert asked[1] == ("done", saved, tmp_path, Path("a.wav"), options)
    assert said == ["explaining A in 2 to 2.6 s"]
    # Frames in which A is likelier than not: the first and the last.
    assert scores == [[2.5, 5.0] if framed else [1.0, 2.0]] * 18
    assert told == [("explaining", min(i, 16), 16, "passes") for i in range(1, 19)]
    first = model.heard[0]
    assert first.inputs.samples.tolist() == [sound.tolist()] and first.inputs.lengths.tolist() == [
        6
    ]
    assert model.heard[1].inputs.lengths.tolist() == [6, 6]
