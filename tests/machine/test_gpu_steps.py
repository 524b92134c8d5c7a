"""A step as a GPU would run it, on machines without one.

The meta device stands for the GPU: it takes every path that isn't the CPU's, and has no numbers. So
whatever asks for one (`item`, `tolist`, `bool`, a boolean index) is an error here, where on a GPU
it would be a wait until all that was launched is done.
"""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

from bab.checking import encoders as checking
from bab.core.observers import observers
from bab.core.options import TrainConfig
from bab.core.record import RunInfo
from bab.core.trainer import Trainer, Training, adamw
from bab.core.types import Batch, Clip, Waves
from bab.kit.layers import ValidGroupNorm
from bab.machine.arithmetic import arithmetic
from bab.plugins.encoders.hubert import Hubert
from bab.plugins.encoders.shared.kaldi import LogMel
from bab.plugins.encoders.wav2vec2 import Wav2Vec2
from bab.plugins.heads.shared.bilstm import BiLSTM
from bab.plugins.heads.xvector import statistics
from bab.plugins.objectives.am_softmax import AmSoftmax
from bab.plugins.objectives.contrastive import Contrastive
from bab.plugins.objectives.cross_entropy import CrossEntropy
from bab.plugins.objectives.masked import Masked
from bab.plugins.objectives.shared import at_once, negatives
from bab.pretraining.masking import span_mask
from bab.pretraining.running import Pretraining
from bab.running.inference import _grouped
from bab.running.model import Answered

META = torch.device("meta")


class Everything(set[Any]):
    """What has been seen of an encoder: all there is."""

    def __contains__(self, kind: object) -> bool:
        return True


@pytest.fixture(autouse=True)
def pretended(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the meta device lacks beside numbers. And transformers asks once in a padded forward
    pass whether a mask hides anything: that wait is its own, and left."""
    real = torch.autocast

    def autocast(kind: str, *asked: Any, **named: Any) -> Any:
        return nullcontext() if kind == "meta" else real(kind, *asked, **named)

    asked = torch.is_autocast_enabled
    monkeypatch.setattr(torch, "autocast", autocast)
    monkeypatch.setattr(torch, "is_autocast_enabled", lambda kind: kind != "meta" and asked(kind))
    # The first batch of a kind is checked against the contract, number by number, and waits.
    monkeypatch.setattr(checking, "_seen", SimpleNamespace(setdefault=lambda *one: Everything()))
    own = "transformers.masking_utils._ignore_bidirectional_mask_sdpa"
    monkeypatch.setattr(own, lambda mask, *asked: mask is None)


_NO_WORK = ("device", "_record_function_enter_new", "_record_function_exit", "detach", "view")


class Count(TorchDispatchMode):
    """Counts operations, which on a GPU are launches, and notes the types of what they make."""

    def __init__(self, everywhere: bool = False) -> None:
        super().__init__()
        self.all = everywhere
        self.names: list[str] = []
        self.types: set[torch.dtype] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        made = out if isinstance(out, (tuple, list)) else [out]
        tensors = [one for one in made if isinstance(one, torch.Tensor)]
        name = func.overloadpacket.__name__
        # What the CPU does beside a GPU is no launch.
        if name not in _NO_WORK and (self.all or any(one.device == META for one in tensors)):
            self.names.append(name)
        self.types |= {one.dtype for one in tensors}
        return out


def pretraining_batch(encoder: Any, seconds: list[float], clusters: int = 7) -> Batch:
    lengths = [round(s * 16000) for s in seconds]
    frames = [encoder.grid.frames(n) for n in lengths]
    draw = torch.Generator().manual_seed(0)
    samples = torch.randn(len(lengths), max(lengths), generator=draw) * 0.1
    masks = [span_mask(t, 0.65, 10, 2, i) for i, t in enumerate(frames)]
    targets = torch.randint(clusters, (len(frames), max(frames)), generator=draw)
    return Batch(
        Waves(samples, torch.tensor(lengths)),
        targets,
        torch.tensor(frames),
        tuple(Clip(str(i), "", 0.0, s, "") for i, s in enumerate(seconds)),
        0,
        mask=torch.nn.utils.rnn.pad_sequence(masks, True),
        seeds=tuple(range(len(frames))),
    )


def parts(name: str) -> tuple[Pretraining, Any]:
    cls = Wav2Vec2 if name == "contrastive" else Hubert
    encoder = cls.load("random-tiny", cls.Options())
    torch.manual_seed(0)
    objective: Any
    if name == "contrastive":
        objective = Contrastive(encoder.dim, [], Contrastive.Options())
    else:
        objective = Masked(encoder.dim, [7], Masked.Options(unmasked_weight=0.5))
    objective.attach(encoder)
    return Pretraining(encoder), objective


class OnMeta:
    """What a Trainer asks of Accelerate, with a GPU that has no numbers."""

    device, num_processes, process_index, is_main_process, scaler = META, 1, 0, True, None

    def prepare(self, *things: Any) -> Any:
        return things

    def no_sync(self, model: Any) -> Any:
        return nullcontext()


@pytest.mark.parametrize("name", ["contrastive", "masked"])
@pytest.mark.parametrize("seconds", [[2.0, 2.0], [2.0, 1.3]], ids=["alike", "padded"])
def test_a_step_asks_a_gpu_for_nothing_before_its_end(
    name: str, seconds: list[float], tmp_path: Path
) -> None:
    model, objective = parts(name)
    config = TrainConfig(steps=1, clip=1.0)
    info = RunInfo("", "", "", "", "", 1, {})
    job = Training(
        model, objective, lambda step: [], None, config, 0, tmp_path, OnMeta(), observers([]), info,
        lambda: False,
    )  # fmt: skip
    trainer = Trainer(job)
    trainer._train_mode()
    batch = pretraining_batch(model.encoder, seconds)
    sums, logs, norm = trainer._backward([batch, batch], trainer._divisors([batch, batch]))
    assert isinstance(norm, torch.Tensor) and norm.device == META
    assert any(isinstance(value, torch.Tensor) for _, value, _ in logs)
    assert all(p.grad is not None for p in objective.parameters())
    assert {key for key, _, _ in sums} >= {name}


def test_all_is_fetched_at_once(tmp_path: Path) -> None:
    tensors = [torch.tensor(float(i)) for i in range(6)]
    sums = [("a", 0.0, 0.0), ("a", tensors[1], 0.0), ("a", tensors[2], 0.0)]
    logs = [("x", tensors[3], 2.0), ("y", 7.0, 1.0), ("x", tensors[4], 3.0)]
    with Count(everywhere=True) as count:
        fetched = Trainer._fetched(None, sums, logs, tensors[5])  # type: ignore[arg-type]
    assert fetched == ({"a": 3.0}, {"x": (7.0, 5.0), "y": (7.0, 1.0)}, 5.0)
    assert count.names.count("stack") + count.names.count("cat") == 1
    assert "_local_scalar_dense" not in count.names


def test_numbers_of_a_step_are_the_same_off_the_cpu() -> None:
    """The padded, loopless forms beside the CPU's, on the same draws."""
    model, _ = parts("contrastive")
    batch = pretraining_batch(model.encoder, [2.0, 1.3, 1.7])
    sizes = (batch.mask & (batch.mask.sum(1, keepdim=True) > 1)).sum(1).tolist()  # type: ignore[union-attr]
    layout = at_once.Layout.of(sizes, torch.device("cpu"))
    x = torch.nn.functional.normalize(torch.randn(sum(sizes), 8), dim=-1)
    y = torch.nn.functional.normalize(torch.randn(sum(sizes), 8), dim=-1)
    codes = torch.randint(3, (sum(sizes), 2))
    drawn = at_once.negatives(layout, 100, [5, 6, 7])
    split = iter(torch.split(drawn, sizes))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(negatives, "negatives", lambda *asked: next(split))
        looped = negatives.similarities(x, y, codes, sizes, [5, 6, 7], 100, 0.1)
    whole = at_once.similarities(x, y, codes, layout, drawn, 0.1)
    assert torch.equal(whole.isinf(), looped.isinf()) and whole.isinf().any()
    torch.testing.assert_close(whole, looped, atol=1e-5, rtol=1e-5)
    mask = batch.mask
    assert mask is not None
    local = torch.randn(*mask.shape, 4)
    places = mask.flatten().nonzero().squeeze(1)
    assert torch.equal(local[mask], local.flatten(0, 1).index_select(0, places))


def test_draws_don_t_depend_on_the_batch_and_are_even() -> None:
    cpu = torch.device("cpu")
    both = at_once.Layout.of([40, 2000], cpu)
    alone = at_once.Layout.of([2000], cpu)
    noise = at_once.gumbel(both, 2, 8, [1, 2])
    assert torch.equal(noise[40:], at_once.gumbel(alone, 2, 8, [2]))
    assert not torch.equal(noise[:40], noise[40:80])
    assert torch.isfinite(noise).all()
    # Gumbel's mean is Euler's constant, its variance pi^2 / 6: within 5 standard errors.
    assert abs(noise.mean() - 0.5772) < 5 * 1.2825 / noise.numel() ** 0.5
    assert abs(noise.var() - 1.6449) < 0.1
    drawn = at_once.negatives(both, 50, [3, 4])
    assert torch.equal(drawn[40:], at_once.negatives(alone, 50, [4]))
    assert (drawn != both.place[:, None]).all()
    assert int(drawn.min()) == 0 and int(drawn[:40].max()) == 39
    counts = torch.bincount(drawn[40:].flatten(), minlength=2000).double()
    expected = 50 * 2000 / 2000
    assert len(counts) == 2000
    # Pearson's statistic has a mean of 1999 and a deviation of 63.
    assert abs(((counts - expected) ** 2 / expected).sum() - 1999) < 5 * 63


def test_launches_don_t_grow_with_utterances() -> None:
    def launches(utterances: int) -> int:
        sizes = [50] * utterances
        n = sum(sizes)
        x, y = torch.empty(n, 8, device=META), torch.empty(n, 8, device=META)
        codes = torch.empty(n, 2, dtype=torch.int64, device=META)
        with Count() as count:
            layout = at_once.Layout.of(sizes, META)
            at_once.gumbel(layout, 2, 320, list(range(utterances)))
            negatives.similarities(x, y, codes, sizes, list(range(utterances)), 100, 0.1)
        return len(count.names)

    assert launches(16) == launches(2) < 150


def test_adamw_is_one_launch_for_all_weights() -> None:
    with FakeTensorMode(allow_non_fake_inputs=True):
        weights = [torch.nn.Parameter(torch.empty(4, 4, device="cuda")) for _ in range(50)]
        for weight in weights:
            weight.grad = torch.empty(4, 4, device="cuda")
        optimizer = adamw([{"params": weights}], TrainConfig(steps=1), True)
        optimizer.step()  # makes the state
        with Count(everywhere=True) as count:
            optimizer.step()
    assert count.names.count("_fused_adamw_") == 1
    assert len(count.names) < 10


def test_a_fused_counter_of_steps_goes_back_to_its_device(tmp_path: Path) -> None:
    from bab.core import checkpoint
    from bab.core.checkpoint import State

    module = torch.nn.Linear(2, 2)
    optimizer = adamw([{"params": list(module.parameters())}], TrainConfig(steps=1), True)
    module(torch.ones(1, 2)).sum().backward()
    optimizer.step()
    path = checkpoint.save(tmp_path, module, optimizer, State(step=1))
    for fused, where in ((True, META), (False, torch.device("cpu"))):
        there = torch.nn.Linear(2, 2, device=META)
        own = torch.optim.AdamW(there.parameters())
        own.param_groups[0]["fused"] = fused
        checkpoint.restore(path, there, own)
        assert {s["step"].device for s in own.state.values()} == {where}


# ------------------------------------------------------------------------------- half precision


def halves() -> Any:
    return torch.autocast("cpu", torch.bfloat16)


def test_statistics_count_frames_in_full_precision() -> None:
    x = torch.randn(2, 400, 6)
    lengths = torch.tensor([400, 257])
    rounded = x.bfloat16()
    torch.testing.assert_close(
        statistics(rounded, lengths), statistics(rounded.float(), lengths), atol=0, rtol=0
    )


def test_an_lstm_is_left_out_of_autocast() -> None:
    torch.manual_seed(0)
    net, x, lengths = BiLSTM(6, 5, 2), torch.randn(2, 9, 6), torch.tensor([9, 4])
    with halves():
        said = net(x, lengths)
    assert said.dtype == torch.float32
    assert torch.equal(said, net(x, lengths))


def test_mel_energies_are_the_same_under_autocast() -> None:
    log_mel = LogMel(40, torch.hann_window(400))
    samples = torch.randn(2, 4000)
    with halves():
        said = log_mel(samples)
    assert torch.equal(said, log_mel(samples))
    with Count() as count:
        log_mel.to(META)(torch.empty(4, 480000, device=META))
    assert count.names.count("_fft_r2c") == 1  # a GPU gets one chunk


def test_cosines_of_speakers_are_compared_in_full_precision() -> None:
    torch.manual_seed(0)
    objective = AmSoftmax(32, [10], AmSoftmax.Options())
    vectors = torch.randn(6, 32)
    model = Answered(vectors, torch.ones(6))
    batch = Batch(Waves(vectors, torch.ones(6)), torch.arange(6)[:, None], torch.ones(6), (), 0)
    with halves():
        said = objective(model, batch).terms["am_softmax"].total
    assert torch.equal(said, objective(model, batch).terms["am_softmax"].total)


@pytest.mark.parametrize("name", ["contrastive", "masked"])
def test_no_doubles_where_a_device_may_lack_them(name: str) -> None:
    """MPS has none."""
    model, objective = parts(name)
    model.to(META)
    objective.to(META)
    with Count() as count:
        objective(model, pretraining_batch(model.encoder, [1.0, 0.7]).to(META))
    assert torch.float64 not in count.types


def test_balanced_classes_need_no_doubles() -> None:
    objective = CrossEntropy(3, [3], CrossEntropy.Options(class_weights="balanced"))
    objective.observe(torch.tensor([[0], [0], [1], [2]]))
    logits = torch.randn(4, 3, device=META)
    targets = torch.tensor([[0], [1], [2], [-1]])
    batch = Batch(Waves(torch.zeros(4, 1), torch.ones(4)), targets, torch.ones(4), (), 0)
    expected = objective.counts(batch)
    assert expected["loss"] == pytest.approx(4 / 6 + 4 / 3 + 4 / 3)
    objective.balance = objective.balance.clone()
    on_meta = batch.to(META)
    there = CrossEntropy(3, [3], CrossEntropy.Options()).to(META)
    assert there(Answered(logits, torch.ones(4)), on_meta).terms["loss"].count == 3.0


def test_padded_group_norm_without_a_loop() -> None:
    torch.manual_seed(0)
    norm = ValidGroupNorm(8, 8)
    torch.nn.init.normal_(norm.weight)
    torch.nn.init.normal_(norm.bias)
    x = torch.randn(3, 8, 20)
    x[1, :, 13:] = float("nan")
    norm.lengths = [20, 13, 7]
    torch.testing.assert_close(
        norm._at_once(x.nan_to_num(9.0)), norm(x.nan_to_num(9.0)), atol=1e-5, rtol=1e-5
    )
    norm.to(META)
    counts = []
    for copies in (1, 8):
        norm.lengths = [20, 13, 7] * copies
        with Count() as count:
            norm(torch.empty(3 * copies, 8, 20, device=META))
        counts.append(len(count.names))
    assert counts[0] == counts[1]


# ------------------------------------------------------------------------------- batches


def test_a_batch_remembers_where_it_came_from() -> None:
    model, _ = parts("masked")
    batch = pretraining_batch(model.encoder, [1.0, 0.7])
    assert batch.to(torch.device("cpu")) is batch
    assert batch.here is batch and batch.to("cpu").here.mask is batch.mask
    there = batch.to(META)
    assert there.here is batch
    assert isinstance(there.inputs, Waves) and there.inputs.lengths.device == META
    assert there.inputs.sizes.tolist() == [16000, 11200]


def test_another_batch_came_from_nowhere() -> None:
    """The check of a first loss takes a batch apart: what is counted then is its parts'."""
    from bab.checking.losses import _some

    model, _ = parts("masked")
    there = pretraining_batch(model.encoder, [1.0, 0.7]).to(META)
    there.target_lengths = there.here.target_lengths  # it looks at these
    there.targets = there.here.targets
    part = _some(there, [0])
    assert part.here is part and len(part.seeds) == 1


def test_a_gpu_gets_passes_of_like_length() -> None:
    def item(seconds: float) -> Any:
        clip = Clip("", "", 0.0, seconds, "")
        return SimpleNamespace(clip=clip, windows=(SimpleNamespace(clip=clip),))

    seconds = [3.0, 60.0, 2.0, 4.0, 3.5] * 20
    owned = {i: [item(s)] for i, s in enumerate(seconds)}
    cpu = list(_grouped(list(owned), owned, torch.device("cpu")))
    assert [len(group) for group, _ in cpu] == [1] * 100  # one is long, and all go alone
    groups = list(_grouped(list(owned), owned, torch.device("cuda")))
    assert sorted(i for group, _ in groups for i in group) == list(owned)
    for group, batch in groups:
        assert len(group) <= batch
        assert len(group) * max(seconds[i] for i in group) <= 512
    assert len(groups) < 10


def test_arithmetic() -> None:
    cpu = torch.device("cpu")
    assert isinstance(arithmetic(cpu, "fp32"), nullcontext)
    assert isinstance(arithmetic(cpu, "tf32"), nullcontext)
    with arithmetic(cpu, "bf16"):
        assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == torch.bfloat16
