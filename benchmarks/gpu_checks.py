"""Does a device compute what the CPU does? Encoders, heads, objectives, and what a run leaves.

`benchmarks/gpu.py` runs all of it, and so does `pytest -m gpu` (tests/machine/test_gpu.py). Each
takes the device and gives what it measured, or raises AssertionError with the numbers.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from bab.config.resolve import encoder_config
from bab.core import registry
from bab.core.components import build_encoder
from bab.core.interfaces import Encoder
from bab.core.observers import observers
from bab.core.options import TrainConfig
from bab.core.record import RunInfo
from bab.core.trainer import Trainer, Training
from bab.core.types import Batch, Clip, Waves
from bab.machine.arithmetic import arithmetic
from bab.plugins.objectives.shared import at_once, negatives
from bab.pretraining.masking import span_mask
from bab.pretraining.running import Pretraining
from bab.running.model import Answered
from bab.starting.lifecycle import lifecycle

ENCODERS = ("wav2vec2", "hubert", "wavlm", "ast", "clap", "fbank")
OBJECTIVES = ("contrastive", "masked")
# How far a device may be from the CPU, as a share of the largest number; by precision.
ALLOWED = {"fp32": 1e-4, "bf16": 0.08, "fp16": 0.01}
HEADS: dict[str, dict[str, Any]] = {
    "frames": {"rnn": "bilstm", "hidden": 16, "conv": 8},
    "ctc": {"rnn": "bilstm", "hidden": 16},
    "pooled": {},
    "xvector": {},
    "logistic": {},
}


def open_encoder(name: str, size: str) -> Encoder:
    """size: random or random-tiny; of an encoder without weights: nothing."""
    named = encoder_config(name if name == "fbank" else f"{name}:{size}")
    return build_encoder(named.name, named.weights, named.options, True, False)


def waves(rate: int, seconds: list[float]) -> Waves:
    draw = torch.Generator().manual_seed(0)
    lengths = torch.tensor([round(s * rate) for s in seconds])
    samples = torch.randn(len(seconds), int(lengths.max()), generator=draw) * 0.1
    return Waves(samples, lengths)


def pretraining_batch(encoder: Encoder, seconds: list[float], clusters: int, step: int) -> Batch:
    """Noise, masked as wav2vec 2.0 does, with random clusters."""
    heard = waves(encoder.sample_rate, seconds)
    frames = [encoder.grid.frames(n) for n in heard.lengths.tolist()]
    draw = torch.Generator().manual_seed(step)
    hidden = [span_mask(t, 0.65, 10, 2, step + i) for i, t in enumerate(frames)]
    return Batch(
        heard,
        torch.randint(clusters, (len(frames), max(frames)), generator=draw),
        torch.tensor(frames),
        tuple(Clip(str(i), "", 0.0, s, "") for i, s in enumerate(seconds)),
        step,
        mask=torch.nn.utils.rnn.pad_sequence(hidden, batch_first=True),
        seeds=tuple(range(1000 * step, 1000 * step + len(frames))),
    )


def objective_for(name: str, encoder: Encoder, clusters: int) -> Any:
    cls = registry.load("objectives", name)
    torch.manual_seed(0)
    made = cls(encoder.dim, [clusters] if name == "masked" else [], cls.Options())
    made.attach(encoder)
    return made


def apart(there: Tensor, here: Tensor) -> float:
    """The largest difference, as a share of the largest number."""
    return float((there.float().cpu() - here).abs().max() / here.abs().max().clamp(min=1e-6))


def within(name: str, value: float, limit: float) -> float:
    assert value <= limit, f"{name}: {value:.2e} apart from the CPU; {limit:.0e} is allowed"
    return value


@torch.no_grad()
def encoders(
    device: torch.device, precision: str = "fp32", names: Sequence[str] = ENCODERS
) -> dict[str, float]:
    """Each encoder, of two clips of unlike length, beside the CPU in fp32."""
    far = {}
    for name in names:
        encoder = open_encoder(name, "random-tiny")
        heard = waves(encoder.sample_rate, [1.5, 1.0])
        here = encoder(heard)
        encoder.to(device)
        with arithmetic(device, precision):
            there = encoder(heard.to(device))
        assert there.lengths.tolist() == here.lengths.tolist(), name
        worst = max(apart(a, b) for a, b in zip(there.layers, here.layers, strict=True))
        far[name] = within(f"encoder {name} in {precision}", worst, ALLOWED[precision])
    return far


@torch.no_grad()
def batches(
    device: torch.device, clips: int = 16, names: Sequence[str] = ENCODERS
) -> dict[str, float]:
    """A clip alone and among others of other lengths."""
    far = {}
    for name in names:
        encoder = open_encoder(name, "random-tiny").to(device)
        others = [0.5 + 0.1 * i for i in range(clips - 1)]
        heard = waves(encoder.sample_rate, [1.0, *others]).to(device)
        n = encoder.sample_rate
        alone = encoder(Waves(heard.samples[:1, :n], heard.lengths[:1])).layers[-1]
        among = encoder(heard).layers[-1][:1, : alone.shape[1]]
        far[name] = within(f"batch of {clips}, {name}", apart(among, alone.cpu()), 1e-4)
    return far


@torch.no_grad()
def heads(device: torch.device, precision: str = "fp32") -> dict[str, float]:
    """Each head on random frames; the recurrent ones where they can be."""
    far = {}
    for name, options in HEADS.items():
        cls = registry.load("heads", name)
        torch.manual_seed(0)
        head = cls(24, 5, cls.Options(**options)).eval()
        x, lengths = torch.randn(3, 60, 24), torch.tensor([60, 41, 9])
        here = head(x, lengths)
        head.to(device)
        with arithmetic(device, precision):
            there = head(x.to(device), lengths.to(device))
        if here.ndim == 3:  # padding is undefined
            inside = torch.arange(60)[None] < lengths[:, None]
            there, here = there.cpu()[inside], here[inside]
        far[name] = within(f"head {name} in {precision}", apart(there, here), ALLOWED[precision])
    return far


def _losses() -> Iterator[tuple[str, Any, Callable[[torch.device], Any], Batch]]:
    """Objectives on known outputs: name, objective, the model on a device, the batch."""
    torch.manual_seed(0)
    lengths = torch.tensor([20, 13, 20, 7])
    clips = tuple(Clip(str(i), "", 0.0, 1.0, "") for i in range(4))
    targets = {
        "multilabel": (torch.rand(4, 20, 3) < 0.5).float(),
        "cross_entropy": torch.tensor([[0], [2], [1], [-1]]),
        "ctc": torch.tensor([[1, 2, 1], [2, 2, 0], [1, 0, 0], [2, 1, 2]]),
        "am_softmax": torch.tensor([[0], [2], [1], [2]]),
    }
    sizes = {"multilabel": lengths, "ctc": torch.tensor([3, 2, 1, 3])}
    for name, wanted in targets.items():
        frames = name in ("multilabel", "ctc")
        said = torch.randn(4, 20, 3) if frames else torch.randn(4, 3)
        cls = registry.load("objectives", name)
        objective = cls(3, [3], cls.Options())
        counted = sizes.get(name, torch.ones(4, dtype=torch.long))
        batch = Batch(Waves(torch.zeros(4, 1), lengths), wanted, counted, clips, 0)

        def model(device: torch.device, said: Tensor = said) -> Any:
            return Answered(said.to(device), lengths.to(device))

        yield name, objective, model, batch


@contextmanager
def same_negatives() -> Iterator[None]:
    """Have the CPU draw what GPUs draw."""

    def drawn(masked: int, count: int, seed: int, device: Any = "cpu") -> Tensor:
        return at_once.negatives(at_once.Layout.of([masked], torch.device("cpu")), count, [seed])

    before, negatives.negatives = negatives.negatives, drawn
    try:
        yield
    finally:
        negatives.negatives = before


@torch.no_grad()
def objectives(device: torch.device) -> dict[str, float]:
    """The losses of each objective."""
    far = {}

    def compare(name: str, objective: Any, model: Callable[[Any], Any], batch: Batch) -> None:
        here = objective(model(torch.device("cpu")), batch).terms
        objective.to(device)
        there = objective(model(device), batch.to(device)).terms
        for key, term in here.items():
            value = apart(there[key].total, term.total)
            far[f"{name}/{key}"] = within(f"objective {name}/{key}", value, 1e-4)
            assert there[key].count == term.count, (name, key)

    for one in _losses():
        compare(*one)
    with same_negatives():
        for name in OBJECTIVES:
            encoder = open_encoder("wav2vec2" if name == "contrastive" else "hubert", "random-tiny")
            objective = objective_for(name, encoder, 9).eval()
            scorer = Pretraining(encoder)
            batch = pretraining_batch(encoder, [1.5, 1.0], 9, 0)
            compare(name, objective, scorer.to, batch)
    return far


# ------------------------------------------------------------------------------- training


def training(
    device: str, precision: str, steps: int, folder: Path, made: Callable[[Encoder, int], Batch],
    objective: str = "masked", size: str = "random-tiny", **more: Any,
) -> Iterator[tuple[Trainer, Training]]:  # fmt: skip
    """A pretraining run as `bab pretrain` has it, on batches made up; once, as a generator so that
    the device is its own until the next one."""
    encoder = open_encoder("wav2vec2" if objective == "contrastive" else "hubert", size)
    config = TrainConfig(
        steps=steps, lr=5e-4, clip=10.0, eval_every=10**6, precision=precision, **more
    )  # type: ignore[arg-type]
    with lifecycle(device, precision, False, []) as life:
        own = Training(
            Pretraining(encoder),
            objective_for(objective, encoder, 9),
            lambda step: [made(encoder, step)],
            None,
            config,
            0,
            folder,
            life.accelerator,
            observers([]),
            RunInfo("", "", "", "", "", steps, {}),
            life.stop,
            "last",
        )
        yield Trainer(own), own


def tiny(encoder: Encoder, step: int) -> Batch:
    return pretraining_batch(encoder, [1.2, 1.0, 0.8, 0.6], 9, step)


def resume(device: torch.device) -> dict[str, float]:
    """Six steps at once, and three and three: how far the weights are apart (0 on a CPU)."""
    ends = []
    with tempfile.TemporaryDirectory() as place:
        for name, stops in (("once", [6]), ("twice", [3, 6])):
            for steps in stops:
                (pair,) = training(str(device), "fp32", steps, Path(place) / name, tiny)
                pair[0].fit()
            ends.append([p.detach().float().cpu() for p in pair[1].model.parameters()])
    worst = max(apart(a, b) for a, b in zip(*ends, strict=True))
    return {"weights": within("resume", worst, 1e-4)}


def folds(device: torch.device) -> dict[str, float]:
    """What a device holds after each of three trainings: the same, or a fold leaves its model."""
    held = []
    for _ in range(3):
        with tempfile.TemporaryDirectory() as place:
            for trainer, own in training(str(device), "fp32", 2, Path(place), tiny):
                trainer.fit()
                assert not getattr(own.accelerator, "_models", [])
            del trainer, own
        if device.type == "cuda":
            torch.cuda.synchronize()
            held.append(torch.cuda.memory_allocated() / 2**20)
    growth = held[-1] - held[0] if held else 0.0
    return {"MiB": within("memory over folds, MiB", growth, 8.0)}
