"""Passes of a GPU, streams of several encoders, what sessions keep: planned and summed by hand."""

from __future__ import annotations

from contextlib import nullcontext
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
import torch
from train_worker import Small

from bab.core.errors import BabError
from bab.core.types import Clip, Features, Item, Output, View, Waves, Window
from bab.data.windows import Examples
from bab.predicting import overview
from bab.predicting.engine import Engine
from bab.predicting.fused import member_walk, vectors_of
from bab.predicting.recordings import of_array
from bab.predicting.walking import Held, Rows, listen
from bab.running import inference
from bab.running.ensemble import EnsembleSource
from bab.running.inference import infer, per_pass
from bab.running.saved import Saved
from bab.running.session import _MUCH, Session, settled

CPU = torch.device("cpu")


def clips(*seconds: float) -> list[Clip]:
    return [Clip(f"c{i}", f"{i}.wav", 0.0, s, "g") for i, s in enumerate(seconds)]


class Known:
    """Features of clips: as many frames as seconds, of the value of the clip's number."""

    by_window = False

    def __init__(self) -> None:
        self.passes: list[list[str]] = []

    def inputs(self, items: Any) -> Features:
        self.passes.append([item.clip.id for item in items])
        frames = [int(item.clip.duration) for item in items]
        states = torch.zeros(len(items), 1, max(frames), 1)
        for i, (item, n) in enumerate(zip(items, frames, strict=True)):
            states[i, 0, :n] = float(item.clip.id[1:])
        return Features(states, torch.tensor(frames))


class Said:
    """Says what it is given."""

    def __call__(self, batch: Any) -> Any:
        return batch.inputs.states[:, 0], batch.inputs.lengths

    def embed(self, batch: Any) -> Any:
        return batch.inputs.states[:, 0, 0] + 0.5


def gone_through(
    seconds: list[float],
    source: Any,
    monkeypatch: pytest.MonkeyPatch,
    kind: str = "cpu",
    **more: Any,
) -> list[Output]:
    monkeypatch.setattr(Features, "to", lambda self, device: self)
    monkeypatch.setattr(inference, "arithmetic", lambda device, precision: nullcontext())
    examples = Examples(
        clips(*seconds), View(window=4.0, tail="short"), Small().grid, None, whole=True
    )
    device: Any = SimpleNamespace(type=kind)
    return [*infer(cast(Any, Said()), examples, source, device, **more)]


def test_a_gpu_takes_regions_of_like_length_together(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inference, "_SECONDS_ON_GPU", 8.0)
    source = Known()
    told: list[Any] = []
    seconds = [4.0, 1.0, 2.0, 1.0, 3.0, 1.0]
    outputs = gone_through(
        seconds, source, monkeypatch, "mps", progress=lambda done, total: told.append((done, total))
    )
    # Eight of one second fit into a pass, four of two: the longest of a pass counts.
    assert source.passes == [["c1", "c3", "c5", "c2"], ["c4", "c0"]]
    assert [o.clip.id for o in outputs] == ["c1", "c3", "c5", "c2", "c4", "c0"]
    assert told == [(5.0, 12.0), (12.0, 12.0)]
    for output in outputs:
        number = int(output.clip.id[1:])
        assert output.values[:, 0].tolist() == [float(number)] * int(seconds[number])
    alone = Known()
    monkeypatch.setattr(inference, "_SECONDS_ON_GPU", 0.5)
    gone_through(seconds, alone, monkeypatch, "mps")
    assert [len(part) for part in alone.passes] == [1] * 6


def test_on_a_cpu_passes_are_in_order_and_of_one_size(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inference, "_SECONDS_PER_PASS", 8.0)
    source = Known()
    outputs = gone_through([4.0, 1.0, 2.0, 1.0, 3.0], source, monkeypatch)
    assert source.passes == [["c0", "c1"], ["c2", "c3"], ["c4"]]
    assert [o.clip.id for o in outputs] == ["c0", "c1", "c2", "c3", "c4"]
    embedded = gone_through([4.0, 1.0], Known(), monkeypatch, embed=True)
    assert [o.values.tolist() for o in embedded] == [[0.5], [1.5]]
    one = [Window(c) for c in clips(3.0, 2.0)]
    assert [per_pass(one, s) for s in (0.1, 3.0, 5.9, 6.0)] == [1, 1, 1, 2]


# ------------------------------------------------------------------------------- several encoders


def test_vectors_of_members_stand_side_by_side() -> None:
    def held(*rows: list[float]) -> Held:
        return Held([Rows(0, np.array([row], np.float64), 0.0) for row in rows])

    one = held([0, 100, 3, 1.0, 10.0], [90, 100, 1, 5.0, 50.0])
    two = held([0, 400, 1, 7.0])
    features, seconds = vectors_of([one, two], [100, 200])
    assert features.states.shape == (1, 1, 1, 3) and features.lengths.tolist() == [1]
    assert features.states.flatten().tolist() == [2.0, 20.0, 7.0]
    assert features.states.dtype == torch.float32 and seconds == 2.0
    assert vectors_of([two, one], [400, 100])[1] == 1.9


def test_a_member_walks_by_itself_with_the_layers_that_are_wanted() -> None:
    member = Small().eval()
    sound = of_array(np.random.default_rng(0).normal(size=250).astype(np.float32), 100)
    wave = Waves(torch.from_numpy(cast(Any, sound.array))[None], torch.tensor([250]))
    with torch.no_grad():
        states = member(wave).layers
    for layers, wanted in (("mix", states), ("last", states[1:]), (0, states[:1]), (1, states[1:])):
        walk = member_walk(member, cast(Any, layers), View(window=1.0), CPU)
        sink = Held()
        listen([walk], sound, [sink], lambda seconds: None)
        (rows,) = sink.read()
        assert rows[:, :3].tolist() == [[0, 100, 10], [100, 100, 10], [150, 100, 5]]
        mean = (rows[:, 3:] * rows[:, 2:3]).sum(0) / 25
        expected = torch.cat([state[0].double().mean(0) for state in wanted])
        torch.testing.assert_close(torch.from_numpy(mean), expected, atol=1e-6, rtol=0)


class Source:
    """One member's features: `dim` numbers of each of `layers`."""

    def __init__(self, name: str, layers: int, dim: int) -> None:
        self.encoder, self.store, self.name = Small(), f"store of {name}", name
        self.layers, self.dim = layers, dim
        self.planned: list[Any] = []
        self.events: list[str] = []

    def plan(self, windows: Any) -> None:
        self.planned += windows

    def claim(self) -> None:
        self.events.append("claim")

    def fill(self, rank: int, world: int, progress: Any, stop: Any) -> None:
        assert (rank, world) == (1, 3) and stop() == "stop"
        self.events.append("fill")
        progress(2.0, 4.0)

    def inputs(self, items: Any) -> Features:
        self.asked = items
        values = [
            float(item.clip.id[1:]) + 10 * layer + d
            for item in items
            for layer in range(self.layers)
            for d in range(self.dim)
        ]
        states = torch.tensor(values).view(len(items), self.layers, 1, self.dim)
        return Features(states, torch.ones(len(items), dtype=torch.long))


def test_members_features_are_planned_filled_and_joined() -> None:
    sources: Any = [Source("a", 2, 2), Source("b", 1, 3)]
    joined = EnsembleSource(sources, View(window=1.0))
    assert joined.store == "store of a" and joined.by_window is False
    some = clips(2.5, 1.0)
    joined.plan(some)
    assert [len(s.planned) for s in sources] == [4, 4]  # three windows and one
    told: list[Any] = []
    joined.fill(1, 3, lambda done, total: told.append((done, total)), lambda: "stop")
    assert told == [(2.0, 8.0), (6.0, 8.0)]
    assert [s.events for s in sources] == [["claim", "fill"]] * 2
    items = [Item(c, ()) for c in (some[1], some[0], clips(1.0, 1.0, 3.0)[2])]
    out = joined.inputs(items)
    assert out.states.shape == (3, 1, 1, 7) and out.lengths.tolist() == [1, 1, 1]
    assert out.states[:, 0, 0].tolist() == [
        [n, n + 1, n + 10, n + 11, n, n + 1, n + 2] for n in (1.0, 0.0, 2.0)
    ]
    assert [len(item.windows) for item in sources[1].asked] == [1, 3, 3]  # one wasn't planned


# ------------------------------------------------------------------------------- settings


@pytest.mark.parametrize(
    ("dim", "mode", "pooled", "hop", "layers", "dtype"),
    [
        (2500, "probe", False, 160, "mix", "float32"),
        (2501, "probe", False, 160, "mix", "float16"),
        (2501, "finetune", False, 160, "mix", "float32"),
        (2501, "probe", True, 160, "mix", "float32"),
        (2501, "probe", False, 0, "mix", "float32"), (2500, "probe", False, 159, "mix", "float16"),
        (2500, "probe", False, 159, "last", "float32"), (2500, "probe", False, 159, 0, "float32"),
    ],
)  # fmt: skip
def test_frames_over_a_megabyte_a_second_are_kept_in_half(
    dim: int, mode: str, pooled: bool, hop: int, layers: Any, dtype: str
) -> None:
    from bab.config.resolve import run_config

    config = run_config(None, {"encoder": "fbank", "task": "vtc"}).model_copy(
        update={"mode": mode, "layers": layers}
    )
    encoder = SimpleNamespace(depth=1, dim=dim, sample_rate=16000, grid=SimpleNamespace(hop=hop))
    parts: Any = SimpleNamespace(encoder=encoder, pooled=pooled)
    if layers == "mix":
        assert _MUCH == 1_000_000
    elif hop:
        encoder.depth, encoder.dim = 2, dim // 2  # one of two layers is half of them
    assert settled(config, parts).cache.dtype == dtype
    named = config.model_copy(
        update={"cache": config.cache.model_copy(update={"dtype": "float16"})}
    )
    assert settled(named, parts) is named


def test_what_one_run_made_serves_the_next_of_its_cell(monkeypatch: pytest.MonkeyPatch) -> None:
    from bab.config.resolve import run_config
    from bab.running import session as module

    made: list[str] = []
    for name in ("build_parts", "read_data", "_planned"):
        monkeypatch.setattr(module, name, lambda *given, name=name: made.append(name) or object())

    def config(*sets: str, **more: Any) -> Any:
        return run_config(None, {"encoder": "fbank", "task": "vtc", **more}, sets)

    session, clips_ = Session(), cast(Any, [])
    measured = iter([5.0, 6.0])

    def through(asked: Any) -> Any:
        parts = session.parts(asked)
        data = session.data(asked, parts, cast(Any, None))
        features = session.features(asked, parts, None, clips_)
        return parts, data, features, session.speed(lambda: next(measured)), session.answers

    plain = SimpleNamespace(corpus=None, task=None, start=None)
    monkeypatch.setattr(module, "build_parts", lambda asked: made.append("build_parts") or plain)
    first = through(config())
    for same in (config("seed=1"), config("train.lr=0.5"), config(runs="other")):
        assert through(same) == first
    assert made == ["build_parts", "read_data", "_planned"]
    other = through(config("train.steps=3"))
    assert made == ["build_parts", "read_data", "_planned"] * 2
    assert other[3] == 6.0 and other[4] is not first[4] and other[1] is not first[1]
    tuned = config(mode="finetune", encoder="hubert")
    session.parts(tuned)
    session.parts(tuned)
    assert made.count("build_parts") == 4  # what is trained is nobody else's


def test_pictures_and_windows_that_cannot_be(monkeypatch: pytest.MonkeyPatch) -> None:
    saved: Any = SimpleNamespace(
        task=SimpleNamespace(whole_clips=False),
        labels={"voice": ("A", "B")},
        spec={"task": {"name": "vtc"}},
    )
    assert overview.voices_of(saved) == ("A", "B")
    overview.refuse_pictures(saved, ["png", "svg"])
    monkeypatch.setattr(overview, "find_spec", lambda name: None)
    overview.refuse_pictures(saved, [])
    with pytest.raises(BabError) as error:
        overview.refuse_pictures(saved, ["png"])
    assert str(error.value) == "--timeline needs matplotlib: pip install 'bab[plots]'"
    clip_task: Any = SimpleNamespace(task=SimpleNamespace(whole_clips=True), spec=saved.spec)
    assert overview.voices_of(clip_task) == ()
    model = torch.nn.Linear(1, 1)
    whole: Any = SimpleNamespace(
        model=model, encoder=Small(), task=SimpleNamespace(whole_clips=False, one_target=False),
        view=View(), members=(1,), spec=saved.spec,
    )  # fmt: skip
    with pytest.raises(BabError) as error:
        Engine(cast(Saved, whole), CPU, overlap=0.5)
    assert str(error.value) == "--overlap: this model takes a recording whole, not in windows"
    whole.view = View(window=2.0)
    assert model.weight.dtype == torch.float32
    Engine(cast(Saved, whole), CPU, "bf16")
    assert model.weight.dtype == torch.bfloat16  # rounded once
    for share, step in ((0.0, 200), (0.5, 100), (0.75, 50)):
        engine = Engine(cast(Saved, whole), CPU, overlap=share)
        assert (engine.raster.window, engine.raster.step) == (200, step)
        assert engine.by_frame and len(engine.walks) == 1 and engine.walks[0].batch == 4
