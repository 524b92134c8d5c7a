"""What the folds of a run share: who is asked, what is filled, what is said of it; and speed."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
import soundfile
import torch
from train_worker import Small

from bab.audio import decoding
from bab.core.errors import InterruptedRunError
from bab.core.types import Clip, Encoded, Prediction, Trial, View, Waves
from bab.data.batches import WaveSource
from bab.data.windows import Examples, regions
from bab.machine.processes import Alone
from bab.running import context as module
from bab.running import report
from bab.running.context import Context
from bab.running.scores import Scorecard

CLIPS = [Clip(name, f"{name}.wav", 0, 1, "g") for name in "abcd"]


class Features:
    """Notes how it is filled."""

    def __init__(self, problem: str = "", repairs: Any = ()) -> None:
        self.store = SimpleNamespace(problem=problem, repairs=lambda: list(repairs))
        self.filled: list[Any] = []

    def fill(self, rank: int, world: int, progress: Any, stop: Any) -> None:
        self.filled.append((rank, world))
        progress(1.0, 4.0)


def context(features: Any = None, stop: bool = False, **changes: Any) -> tuple[Any, list[Any]]:
    told: list[Any] = []

    class Watchers:
        def __getattr__(self, name: str) -> Any:
            return lambda **given: told.append((name, given.get("message", given.get("stage"))))

    handle = SimpleNamespace(
        process_index=2, num_processes=changes.get("world", 5),
        device=torch.device(changes.get("device", "cpu")),
        wait_for_everyone=lambda: told.append("waited"),
    )  # fmt: skip
    life = SimpleNamespace(accelerator=handle, watchers=Watchers(), stop=lambda: stop)
    task = SimpleNamespace(pairs=changes.get("pairs", False))
    parts = SimpleNamespace(
        task=task, pooled=changes.get("pooled", True), encoder=Small(), members=("m",),
        corpus=SimpleNamespace(splits_given=changes.get("given", True)),
    )  # fmt: skip
    trials = {
        "dev": [Trial("a", "c", True)],
        "test": [Trial("d", "b", False), Trial("b", "b", True)],
    }
    data = SimpleNamespace(trials=trials, folds=[1])
    config = SimpleNamespace(protocol=changes.get("protocol", "given"))
    made = Context(
        cast(Any, config), cast(Any, parts), cast(Any, data), cast(Any, life), cast(Any, "info"),
        Path("runs"), features,
    )  # fmt: skip
    return made, told


def test_of_pairs_only_the_clips_of_trials_are_asked() -> None:
    plain, _ = context()
    pairs, _ = context(pairs=True)
    assert plain.asked(CLIPS, "dev") is CLIPS and plain.references(CLIPS, "dev") is CLIPS
    assert [c.id for c in pairs.asked(CLIPS, "dev")] == ["a", "c"]
    assert [c.id for c in pairs.asked(CLIPS, "test")] == ["b", "d"]
    assert pairs.references(CLIPS, "test") == pairs.data.trials["test"]


def test_each_process_fills_its_share_and_waits_for_the_others() -> None:
    features = Features()
    given, told = context(features)
    given.fill()
    given.fill((0, 1))
    assert features.filled == [(2, 5), (0, 1)]
    assert told == [("bab_progress", "features"), "waited"] * 2
    given, told = context(Features(problem="the disk"))
    given.fill()
    assert told[-1] == ("bab_notice", "the disk")
    given, told = context(Features(), stop=True)
    with pytest.raises(InterruptedRunError) as error:
        given.fill()
    assert str(error.value) == (
        "stopped while computing features; what was computed is kept, the same command goes on"
    )
    assert "waited" in told


def test_what_was_repaired_is_told_and_noted() -> None:
    assert context()[0].repaired() == []
    given, told = context(Features(repairs=["one", "two"]))
    assert given.repaired() == ["one", "two"]
    assert told == [("bab_notice", "one"), ("bab_notice", "two")]


def test_audio_or_features_go_in() -> None:
    features = Features()
    assert context(features)[0].source() is features
    source = context()[0].source()
    assert isinstance(source, WaveSource) and source.rate == 100


@pytest.mark.parametrize(
    ("features", "pooled", "world", "device", "alone"),
    [
        (True, True, 1, "cuda", True), (True, True, 1, "cpu", False),
        (True, True, 2, "cuda", False),
        (True, False, 1, "cuda", False), (False, True, 1, "cuda", False),
    ],
)  # fmt: skip
def test_heads_on_one_frame_train_on_the_cpu(
    features: bool, pooled: bool, world: int, device: str, alone: bool
) -> None:
    given, _ = context(Features() if features else None, pooled=pooled, world=world, device=device)
    assert isinstance(given.trainer, Alone) is alone
    assert alone or given.trainer is given.accelerator


@pytest.mark.parametrize(
    ("protocol", "given", "made"),
    [("given", True, False), ("given", False, True), ("kfold", True, True), ("kfold", False, True)],
)
def test_whose_the_splits_are(
    protocol: str, given: bool, made: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Any] = []
    monkeypatch.setattr(module, "doubts", lambda *args: asked.append(args) or {"x": 1})
    one, _ = context(protocol=protocol, given=given)
    assert one.doubts == {"x": 1} == one.doubts
    assert asked == [(one.config, ("m",), one.data, made)]


# ------------------------------------------------------------------------------- speed, matrices


class Timed(Small):
    """Takes half a second for each second of audio, but a second more at the first pass."""

    def __init__(self, clock: list[float]) -> None:
        super().__init__()
        self.clock, self.passes = clock, list[int]()

    def forward(self, waves: Waves, mask: Any = None, layers: str = "all") -> Encoded:
        self.clock[0] += waves.samples.shape[1] / 200 + (0.0 if self.passes else 1.0)
        self.passes.append(waves.samples.shape[1])
        return super().forward(waves, mask, layers)


def test_an_encoders_speed_is_its_best_of_a_few_windows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(decoding, "_SLOWEST", 1)
    clock = [0.0]
    monkeypatch.setattr(report.time, "perf_counter", lambda: clock[0])
    encoder: Any = Timed(clock).train()

    def speed(*seconds: float) -> float:
        clips = []
        for i, s in enumerate(seconds):
            path = tmp_path / f"{i}.wav"
            soundfile.write(path, np.zeros(round(100 * s), np.float32), 100, subtype="FLOAT")
            clips.append(Clip(str(i), str(path), 0.0, s, "g"))
        parts = SimpleNamespace(
            members=(encoder,),
            examples=lambda c, e: Examples(regions(c), View(window=4.0), e.grid, None, True),
        )
        given = SimpleNamespace(
            parts=parts, data=SimpleNamespace(clips=clips),
            accelerator=SimpleNamespace(device=torch.device("cpu")),
            config=SimpleNamespace(train=SimpleNamespace(precision="fp32")),
        )  # fmt: skip
        encoder.passes.clear()
        return report.encoder_speed(cast(Any, given))

    assert speed(1.0, 2.0) == pytest.approx(2.0)
    assert encoder.passes == [100, 100, 200] and not encoder.training  # the first warms it up
    assert speed(1.0, 9.0, 1.0) == pytest.approx(2.0)
    assert encoder.passes == [100, 100, 400, 400, 400]  # four windows are enough
    assert speed() == 0.0


@pytest.mark.parametrize(("kinds", "shown"), [(20, True), (21, False)])
def test_a_matrix_of_more_than_twenty_rows_is_not_shown(kinds: int, shown: bool) -> None:
    class Kinds:
        pairs, additive = False, True

        def statistics(self, clip: Clip, said: Prediction | None) -> dict[str, float]:
            return {f"confusion\tk\t{clip.id}\tx\ty": 2.0, "confusion\tl\tr\tc": 1.0, "n": 1.0}

    clips = [Clip(f"c{i:02}", "x.wav", 0, 1, "g") for i in reversed(range(kinds))]
    matrices = Scorecard(cast(Any, Kinds()), clips, []).confusion(clips)
    assert matrices["l"] == {"r": {"c": float(kinds)}}
    assert ("k" in matrices) is shown
    if shown:
        assert list(matrices["k"]) == sorted(c.id for c in clips)
        assert matrices["k"]["c00"] == {"x\ty": 2.0}
