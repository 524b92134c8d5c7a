"""Around a GPU's steps: cache filling, probes, targets, bench workers; on a CPU that plays one."""

from __future__ import annotations

import queue
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar, cast

import numpy as np
import pytest
import soundfile
import torch
from torch import Tensor

from bab.benching import pool
from bab.config.resolve import pretrain_config
from bab.core.errors import ConfigError
from bab.core.observers import hookimpl, observers
from bab.core.record import RunInfo
from bab.core.types import Clip, Encoded, View, Waves
from bab.data.windows import Examples
from bab.features.source import FeatureSource
from bab.features.store import Store
from bab.machine import processes
from bab.plugins.encoders.hubert import Hubert
from bab.pretraining import watch
from bab.pretraining.running import Running
from bab.targets.features import LayerFeatures

CPU = torch.device("cpu")


class Counted(Hubert):
    """Notes how many clips each pass takes, and how much of it is padding."""

    passes: list[list[int]]

    def forward(self, waves: Waves, mask: Any = None, layers: Any = "all") -> Encoded:
        if not hasattr(self, "passes"):
            self.passes = []
        self.passes.append(waves.lengths.tolist())
        return super().forward(waves, mask, layers)


def utterances(folder: Path, seconds: list[float]) -> list[Clip]:
    clips = []
    for number, length in enumerate(seconds):
        path = folder / f"{number}.wav"
        noise = np.random.default_rng(number).standard_normal(round(length * 16000)) * 0.1
        soundfile.write(path, noise.astype("f4"), 16000, subtype="FLOAT")
        clips.append(Clip(str(number), str(path), 0.0, length, ""))
    return clips


def filled(
    folder: Path, clips: list[Clip], budget: int = 10**9, **more: Any
) -> tuple[FeatureSource, Counted, Any]:
    encoder = Counted.load("random-tiny", Hubert.Options())
    assert isinstance(encoder, Counted)
    encoder.passes = []
    store = Store(folder / "cache", budget)
    source = FeatureSource(encoder, "all", store, folder / "memo", CPU, **more)
    examples = Examples(clips, View(), encoder.grid, encoder.max_seconds, True)
    source.plan(examples.windows)
    source.fill(0, 1, lambda done, total: None, lambda: False)
    return source, encoder, examples.items


def test_utterances_are_encoded_together_across_files(tmp_path: Path) -> None:
    clips = utterances(tmp_path, [0.4, 1.1, 0.5, 0.9, 1.0, 0.45])
    alone, one, items = filled(tmp_path / "a", clips)
    assert [len(lengths) for lengths in one.passes] == [1] * 6
    together, many, _ = filled(tmp_path / "b", clips, batch=3)
    assert [len(lengths) for lengths in many.passes] == [3, 3]
    assert max(many.passes[0]) <= min(many.passes[1])  # of like length
    blocks = [sorted(p.name for p in (tmp_path / x / "cache").rglob("*.saf*")) for x in "ab"]
    assert blocks[0] == blocks[1]  # a block is a file's, whatever it was computed beside
    a, b = alone.inputs(items), together.inputs(items)
    assert torch.equal(a.lengths, b.lengths)
    torch.testing.assert_close(a.states, b.states, atol=1e-4, rtol=1e-4)
    assert len(one.passes) == 6 and len(many.passes) == 2  # all of it was read


def test_frames_that_stay_are_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clips = utterances(tmp_path, [0.4, 1.1, 0.5])
    source, _, items = filled(tmp_path, clips)
    kept, _, _ = filled(tmp_path, clips, resident=10**9)
    first = kept.inputs(items)
    assert torch.equal(first.states, source.inputs(items).states)
    monkeypatch.setattr(FeatureSource, "_read", lambda *asked: pytest.fail("read again"))
    assert torch.equal(kept.inputs(items).states, first.states)
    few, _, _ = filled(tmp_path, clips, resident=100)  # too little for any
    monkeypatch.undo()
    assert torch.equal(few.inputs(items).states, first.states)


@pytest.mark.parametrize("resident", [0, 10**9])
def test_what_cant_be_kept_is_encoded_together_as_it_is_asked_for(
    tmp_path: Path, resident: int
) -> None:
    clips = utterances(tmp_path, [0.4, 1.1, 0.5, 0.9])
    kept, _, items = filled(tmp_path / "a", clips)
    made, encoder, _ = filled(tmp_path / "b", clips, 0, batch=4, resident=resident)
    assert encoder.passes == []  # nothing is computed that there is no room for
    states = made.inputs(items[:3]).states
    torch.testing.assert_close(states, kept.inputs(items[:3]).states, atol=1e-4, rtol=1e-4)
    assert encoder.passes == [[6400, 8000, 17600]]
    made.inputs(items)
    # What stays on the device is there; of the rest all is made again.
    assert encoder.passes[1:] == [[14400] if resident else [6400, 8000, 14400, 17600]]


def test_the_precision_is_part_of_an_address(tmp_path: Path) -> None:
    clips = utterances(tmp_path, [0.4])
    full, _, items = filled(tmp_path, clips)
    half, encoder, _ = filled(tmp_path, clips, precision="bf16")
    assert full.blocks[0][0] != half.blocks[0][0] and len(encoder.passes) == 1
    a, b = full.inputs(items).states, half.inputs(items).states
    assert 0 < float((a - b).abs().max() / a.abs().max()) < 0.05


def test_a_shortened_encoder_gives_the_same_state() -> None:
    for stable in (False, True):
        size = {"do_stable_layer_norm": stable, "feat_extract_norm": "layer" if stable else "group"}
        options = Hubert.Options(size=size)
        waves = Waves(torch.randn(2, 9000), torch.tensor([9000, 7000]))
        whole = Hubert.load("random-tiny", options)
        states = whole(waves).layers
        for layer in (0, 1, whole.depth - 1):
            short = Hubert.load("random-tiny", options)
            short.shorten(layer)
            assert short.depth == layer + 1
            assert torch.equal(short(waves, layers="last").layers[-1], states[layer]), layer


def test_targets_say_their_precision() -> None:
    def features(precision: str) -> LayerFeatures:
        encoder = Hubert.load("random-tiny", Hubert.Options())
        return LayerFeatures(encoder, 1, CPU, precision)

    assert features("fp32").identity != features("bf16").identity
    assert "fp32" not in features("fp32").identity  # as before there was a choice
    assert features("fp32").seconds == 64.0


# ------------------------------------------------------------------------------- pretraining


def running(world: int, kind: str = "cpu", *sets: str) -> Running:
    asked = {"encoder": "hubert:random-tiny", "objective": "masked", "corpus": "rttm"}
    config = pretrain_config(None, asked, list(sets))
    handle = SimpleNamespace(num_processes=world, device=torch.device(kind))
    made = object.__new__(Running)
    made.config, made.life = config, SimpleNamespace(accelerator=handle)  # type: ignore[assignment]
    return made


def test_micro_batches_follow_from_the_processes() -> None:
    sets = ["train.seconds=5600", "train.micro_seconds=175"]
    assert running(32, "cpu", *sets).accumulation() == 1
    assert running(1, "cpu", *sets).accumulation() == 32
    assert running(1, "cpu", *sets, "train.accumulation=40").accumulation() == 40
    by_count = ["train.batch=64", "audio.crop=8", "train.micro_seconds=16"]
    assert running(4, "cpu", *by_count).accumulation() == 8
    assert running(1, "cpu", "train.accumulation=3").accumulation() == 3
    with pytest.raises(ConfigError, match=r"train\.seconds"):
        running(1, "cpu", "audio.crop=null", "train.micro_seconds=16").accumulation()


def test_micro_seconds_change_no_earlier_run() -> None:
    assert "micro_seconds" not in running(1).config.identity()["train"]
    asked = running(1, "cpu", "train.micro_seconds=16").config.identity()
    assert asked["train"]["micro_seconds"] == 16


def test_a_small_micro_batch_is_said_where_it_matters() -> None:
    assert running(8, "cuda", "train.batch=16")._small().startswith("a micro-batch holds 16 s")
    assert running(8, "cpu", "train.batch=16")._small() == ""
    assert running(1, "cuda", "train.batch=64")._small() == ""


class Slow:
    """A probe that ends when it is told to."""

    started: ClassVar[list[Slow]] = []
    returncode: int | None = None

    def __init__(self, *asked: object, **more: object) -> None:
        Slow.started.append(self)
        self.killed = False
        more["stderr"].write(b"a warning\nit failed\n")  # type: ignore[attr-defined]

    def poll(self) -> int | None:
        return self.returncode

    def wait(self) -> int:
        self.returncode = self.returncode or 1
        return self.returncode

    def kill(self) -> None:
        self.killed = True


@pytest.mark.parametrize("beside", [True, False])
def test_a_gpu_doesn_t_wait_for_a_probe(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, beside: bool
) -> None:
    said: list[str] = []

    class Listener:
        @hookimpl
        def bab_notice(self, message: str) -> None:
            said.append(message)

    monkeypatch.setattr(Slow, "started", [])
    monkeypatch.setattr(subprocess, "Popen", Slow)
    watchers = observers([])
    watchers.join(Listener())
    config = running(1, "cpu", "probe.every=2").config
    info = RunInfo("x", ".", "pretrain", "rttm", "hubert", 9, {})
    one = watch.Watch(config, tmp_path, watchers, lambda folder: None, 0, beside)
    for step in (1, 2, 3):
        one.bab_step(info, step, {})
    assert len(Slow.started) == 1
    assert bool(said) is not beside
    one.bab_step(info, 4, {})
    Slow.started[0].returncode = 1
    one.told(info, wait=False)
    assert said and said[0].startswith("step 2: the probe on 'vtc' failed: it failed")
    one.leave()
    assert Slow.started[1].killed is beside


def test_a_probe_that_warns_of_much_ends(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A pipe that nobody reads holds 64 KB; then it would wait for ever."""
    talks = "import sys; sys.stderr.write('a warning\\n' * 20_000); sys.exit('at last')"
    start = subprocess.Popen
    monkeypatch.setattr(
        subprocess, "Popen", lambda _, **more: start([sys.executable, "-c", talks], **more)
    )
    said: list[str] = []
    watchers = SimpleNamespace(bab_notice=lambda run, message: said.append(message))
    config = running(1, "cpu", "probe.every=2").config
    one = watch.Watch(config, tmp_path, cast(Any, watchers), lambda folder: None, 0, beside=True)
    info = RunInfo("x", ".", "pretrain", "rttm", "hubert", 9, {})
    one.bab_step(info, 2, {})
    process = one.probes[0][2]
    try:
        assert process.wait(30) == 1
    finally:
        process.kill()
    one.told(info, wait=False)
    assert said == ["step 2: the probe on 'vtc' failed: at last"]


# ------------------------------------------------------------------------------- processes


def test_each_bench_worker_has_a_gpu(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    environments: list[dict[str, str]] = []

    def start(command: Any, env: dict[str, str], **more: Any) -> Any:
        environments.append(env)
        return SimpleNamespace(stdout=[], stdin=None)

    monkeypatch.setattr(pool.subprocess, "Popen", start)
    heard: queue.SimpleQueue[Any] = queue.SimpleQueue()
    for slot in range(3):
        pool.Worker(slot, tmp_path, 1, heard, ["0", "1"])
    pool.Worker(0, tmp_path, 1, heard, ["0"])
    shown = [env.get("CUDA_VISIBLE_DEVICES") for env in environments]
    assert shown[:3] == ["0", "1", "0"]
    assert shown[3] == ""  # one GPU, or none: as it was


def test_processes_beside_gpus_share_the_cpus(monkeypatch: pytest.MonkeyPatch) -> None:
    taken: list[int] = []
    monkeypatch.setattr(torch, "get_num_threads", lambda: 1)
    monkeypatch.setattr(torch, "set_num_threads", taken.append)
    monkeypatch.setattr(processes.os, "cpu_count", lambda: 64)
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "8")
    processes.share_cpus(32)
    assert taken == []  # without a GPU all is as it was
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    processes.share_cpus(32)
    assert taken == [8]


def test_pinned_memory_is_the_cpus(monkeypatch: pytest.MonkeyPatch) -> None:
    from bab.core.types import pinned

    monkeypatch.setattr(Tensor, "pin_memory", lambda x: x + 1)
    assert pinned(torch.zeros(1)).item() == 1
    assert pinned(torch.zeros(1, device="meta")).device.type == "meta"
