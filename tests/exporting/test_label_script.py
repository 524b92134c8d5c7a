"""The script that stands beside an exported graph: its three functions, counted by hand."""

from __future__ import annotations

import csv
import io
import json
import runpy
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import soundfile

from bab.core.grid import Grid
from bab.core.types import Prediction
from bab.exporting import label
from bab.exporting.settings import decodes

ABOUT: dict[str, Any] = {
    "level": "frame", "sample_rate": 10, "hop": 2, "field": 5, "window": 10, "step": 6,
    "once": False, "labels": {"voice": ["A", "B"]}, "preset": "f1",
    "presets": {"f1": {"thresholds": {"A": 0.5, "B": 0.9}}}, "fill_gaps": 0, "min_segment": 0,
}  # fmt: skip


def logit(*shares: float) -> np.ndarray:
    return np.log(np.array(shares) / (1 - np.array(shares)))


def said(*shares: float, seconds: float = 1.3, **about: Any) -> list[tuple[float, float, str]]:
    rows = np.stack([logit(*shares), np.full(len(shares), -9.0)], axis=1)
    return label.segments(rows, {**ABOUT, **about}, seconds)


@pytest.mark.parametrize(
    ("scores", "labels", "same"),
    [
        ({}, {}, True), ({"g=a": 0.9e-6}, {}, True), ({"g=a": -0.9e-6}, {}, True),
        ({"g=a": 1.1e-6}, {}, False), ({"g=b": -1.1e-6}, {}, False), ({"other": 0.5}, {}, False),
        ({}, {"g": "other"}, False), ({}, {"h": "a"}, False),
    ],
)  # fmt: skip
def test_a_script_that_says_something_else_is_not_written(
    scores: dict[str, float], labels: dict[str, str], same: bool
) -> None:
    """Of made-up logits. scores: how far the task's own are from a softmax; labels: its own."""
    about = {"preset": "p", "labels": {"g": ["a", "b"]}}

    def decode(output: Any, grid: Any, names: Any, tuned: Any) -> Prediction:
        assert (output.clip.duration, tuned, names) == (1.0, "tuned", {"g": ("a", "b")})
        own = label.classes(output.values, about)
        shares = {"g=a": own["g=a"], "g=b": own["g=b"]}
        told = {key: shares.get(key, 0.0) + far for key, far in scores.items()}
        return Prediction(output.clip.id, labels={"g": own["g"], **labels}, scores=shares | told)

    saved: Any = SimpleNamespace(
        encoder=SimpleNamespace(grid=Grid(16000, 320, 400)), labels={"g": ("a", "b")},
        task=SimpleNamespace(level="clip", decode=decode), tuned={"p": "tuned"},
    )  # fmt: skip
    assert decodes(saved, about) is same
    for grid in (Grid(16000, 320, 400, -40), Grid(16000, 0, 400)):
        saved.encoder.grid = grid  # whose frames the script counts otherwise
        assert decodes(saved, about) is False


def test_frames_become_segments() -> None:
    # Frames' centres lie at .25, .45, .65 ... s: their edges at 0, .35, .55, .75, .95 and the end.
    assert said(0.9, 0.9, 0.1, 0.1, 0.9) == [(0.0, 0.55, "A"), (0.95, 1.3, "A")]
    assert said(0.1, 0.5, 0.1, 0.1, 0.1) == [(0.35, 0.55, "A")]  # the threshold itself is over it
    assert said(0.1, 0.1, 0.1, 0.1, 0.1) == []
    assert said(0.9, 0.9, 0.9, 0.9, 0.9, seconds=0.8) == [(0.0, 0.8, "A")]
    assert said(0.9, 0.1, 0.9, 0.1, 0.9, fill_gaps=200) == [
        *((0.0, 0.35, "A"), (0.55, 0.75, "A"), (0.95, 1.3, "A"))
    ]
    assert said(0.9, 0.1, 0.9, 0.1, 0.9, fill_gaps=201) == [(0.0, 1.3, "A")]
    assert said(0.1, 0.9, 0.1, 0.1, 0.9, min_segment=200) == [
        *((0.35, 0.55, "A"), (0.95, 1.3, "A"))
    ]
    assert said(0.1, 0.9, 0.1, 0.1, 0.9, min_segment=201) == [(0.95, 1.3, "A")]
    both = np.stack([logit(0.1, 0.1, 0.6), logit(0.95, 0.1, 0.89)], axis=1)
    assert label.segments(both, ABOUT, 1.0) == [(0.0, 0.35, "B"), (0.55, 1.0, "A")]


def test_clips_have_a_label_of_each_kind() -> None:
    about = {**ABOUT, "labels": {"sex": ["f", "m"], "age": ["a", "b", "c"]}}
    told = label.classes(np.log([1.0, 3.0, 2.0, 1.0, 1.0]), about)
    shares = [told[key] for key in ("sex=f", "sex=m", "age=a", "age=b", "age=c")]
    assert (told["sex"], told["age"]) == ("m", "a")
    assert shares == pytest.approx([0.25, 0.75, 0.5, 0.25, 0.25])


def graph(level: str) -> tuple[Any, list[tuple[int, int]]]:
    """A graph whose logits are each frame's first sample; and what it was asked."""
    asked: list[tuple[int, int]] = []

    def run(names: None, feed: dict[str, Any]) -> list[Any]:
        part = feed["samples"]
        assert part.shape[0] == 1
        frames = part[0, : part.shape[1] - 4 : 2]
        first = int(feed["first"][0]) if "first" in feed else 0
        asked.append((part.shape[1], first))
        rows = np.stack([frames, -frames], axis=1)
        return [rows[None] if level == "frame" else rows[first:].mean(axis=0)[None]]

    return run, asked


def test_windows_of_frames_are_averaged_where_they_overlap() -> None:
    run, asked = graph("frame")
    x = np.arange(20.0)
    rows = label.logits(x, ABOUT, run)
    assert asked == [(10, 0)] * 3  # at 0, 6 and, moved back, 10
    assert rows.tolist() == [[2.0 * i, -2.0 * i] for i in range(8)]
    assert rows.dtype == np.float32
    asked.clear()
    assert label.logits(np.ones(3), ABOUT, run).tolist() == [[1.0, -1.0]]  # padded to a field
    assert asked == [(5, 0)]
    steps = iter([0.0, 1.0, 5.0])

    def other(names: None, feed: dict[str, Any]) -> list[Any]:
        return [np.full((1, 3, 2), next(steps))]

    # Frames 0-2, 3-5 and 5-7: frame 5 is the mean of two windows.
    assert label.logits(x, ABOUT, other)[:, 0].tolist() == [0, 0, 0, 1, 1, 3, 5, 5]


@pytest.mark.parametrize(("once", "firsts"), [(True, [0, 0, 1]), (False, [0, 0, 0])])
def test_windows_of_a_clip_are_weighed_by_their_frames(once: bool, firsts: list[int]) -> None:
    run, asked = graph("clip")
    rows = label.logits(np.arange(20.0), {**ABOUT, "level": "clip", "once": once}, run)
    assert [first for _, first in asked] == firsts
    frames = [0, 2, 4, 6, 8, 10, *([] if once else [10]), 12, 14]
    assert rows.shape == (1, 2) and rows[0, 0] == pytest.approx(np.mean(frames))


@pytest.mark.parametrize("level", ["frame", "clip"])
def test_the_script_prints_rttm_or_csv(
    level: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    script = tmp_path / "label.py"
    script.write_text(Path(label.__file__).read_text(encoding="utf-8"), encoding="utf-8")
    about = {**ABOUT, "level": level, "sample_rate": 8000, "window": 4000, "step": 4000, "hop": 2}
    (tmp_path / "bab.json").write_text(json.dumps(about))
    run, _ = graph(level)
    opened: list[Path] = []

    def session(path: Path) -> Any:
        opened.append(path)
        return SimpleNamespace(run=run)

    monkeypatch.setitem(sys.modules, "onnxruntime", SimpleNamespace(InferenceSession=session))  # type: ignore[arg-type]
    for name, value in (("a  b.wav", 0.25), ("c.wav", -0.25)):
        soundfile.write(tmp_path / name, np.full((16000, 2), (value, 0)), 16000)
    paths = [str(tmp_path / name) for name in ("a  b.wav", "c.wav")]
    monkeypatch.setattr(sys, "argv", [str(script), *paths])
    runpy.run_path(str(script), run_name="__main__")
    assert opened == [tmp_path / "model.onnx"]
    lines = capsys.readouterr().out.splitlines()
    if level == "frame":
        assert lines == ["SPEAKER a_b 1 0.000 1.000 <NA> <NA> A <NA> <NA>"]
        return
    one, two = csv.DictReader(io.StringIO("\n".join(lines)))
    assert list(one) == ["id", "voice", "voice=A", "voice=B"]
    assert (one["id"], one["voice"], two["id"], two["voice"]) == ("a  b", "A", "c", "B")
    share = 1 / (1 + np.exp(-0.25))
    assert float(one["voice=A"]) == pytest.approx(share, abs=0.01)
