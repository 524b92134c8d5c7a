"""The contract of an encoder, as checks that raise AssertionError with what is wrong.

    from bab.testing import EncoderContract

    class TestMine(EncoderContract):
        component = MyEncoder
        weights = "random"

Each check takes `make`, which builds the same encoder each time it is called;
`check_encoder(make)` runs all of them. No clip is longer than the encoder's `max_seconds`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from bab.core.components import identify
from bab.core.errors import BabError
from bab.core.interfaces import Encoder
from bab.testing import loading, threads
from bab.testing.declared import standard
from bab.testing.suite import Contract
from bab.testing.tools import TOLERANCE, close, longest, noise, run, waves

Make = Callable[[], Encoder]


def check_encoder(make: Make, other: Make | None = None) -> None:
    """Every check; `other` builds the encoder with other weights or options that change output."""
    for check in ALL:
        check(make)
    if other is not None:
        check_identity(make, other)


def check_attributes(make: Make) -> None:
    """What an encoder says of itself: types, units, and a grid at its own sample rate."""
    encoder = make()
    for name, kind in (("sample_rate", int), ("dim", int), ("depth", int), ("resolved", str)):
        value = getattr(encoder, name, None)
        assert isinstance(value, kind) and value, f"{name} is {value!r}, not a {kind.__name__}"
    assert encoder.grid.sample_rate == encoder.sample_rate, "the grid has another sample rate"
    seconds = encoder.max_seconds
    assert seconds is None or seconds > 0, f"max_seconds is {seconds}"
    assert not encoder.training, "load() must return the encoder in eval mode"


def check_shapes(make: Make) -> None:
    """Layers, widths and frame counts, at odd lengths and for a clip shorter than one field."""
    encoder = make()
    field, hop = encoder.grid.field, max(1, encoder.grid.hop)
    wanted = (field - 7, field, field + hop - 1, field + hop, field + 5 * hop + 3)
    for samples in (min(size, longest(encoder)) for size in wanted):
        out = run(encoder, [noise(samples)])
        frames = encoder.grid.frames(samples)
        said = out.lengths.tolist()
        assert said == [frames], f"{samples} samples: {said} frames, the grid says [{frames}]"
        assert len(out.layers) == encoder.depth, f"{len(out.layers)} states, depth {encoder.depth}"
        for index, state in enumerate(out.layers):
            want = (1, frames, encoder.dim)
            assert tuple(state.shape) == want, f"state {index} is {tuple(state.shape)}, not {want}"
            assert state.dtype == torch.float32, f"state {index} is {state.dtype}, not float32"
            assert bool(state.isfinite().all()), f"state {index} is not finite at {samples} samples"
        if out.local is not None:
            assert out.local.shape[:2] == (1, frames), f"local is {tuple(out.local.shape)}"
        last = run(encoder, [noise(samples)], layers="last").layers
        assert len(last) == 1, f"layers='last' returned {len(last)} states"
        close(last[0], out.layers[-1], "layers='last' against the last of layers='all'")


def check_batch(make: Make) -> None:
    """A clip's frames, at every layer, don't depend on the other clips or on what the padding is.

    Lengths differ threefold, loudness a hundredfold, and the padding is filled with loud noise.
    """
    encoder = make()
    field, hop = encoder.grid.field, max(1, encoder.grid.hop)
    sizes = [field + 30 * hop + 1, field - 7, field + 11 * hop, field + 90 * hop + hop // 2]
    most = longest(encoder)
    if sizes[3] > most or encoder.grid.hop == 0:
        most = min(most, 10 * encoder.sample_rate)
        sizes = [most // 3 + 1, most // 9 + 7, most // 2, most]
    clips = [noise(size, i, 0.003 * 10**i) for i, size in enumerate(sizes[:3])]
    clips.append(noise(sizes[3], 9, 0.1))
    batch = run(encoder, clips)
    for row, clip in enumerate(clips):
        alone = run(encoder, [clip])
        frames = int(alone.lengths[0])
        assert int(batch.lengths[row]) == frames, f"clip {row}: another frame count in a batch"
        for index, (one, many) in enumerate(zip(alone.layers, batch.layers, strict=True)):
            close(many[row, :frames], one[0], f"clip {row}, layer {index}, in a batch and alone")
        if alone.local is not None and batch.local is not None:
            close(batch.local[row, :frames], alone.local[0], f"clip {row}, local features")


def check_silence(make: Make) -> None:
    """Digital silence gives finite states."""
    out = run(make(), [torch.zeros(16000), noise(8000)])
    for index, state in enumerate(out.layers):
        assert bool(state.isfinite().all()), f"layer {index} is not finite on silence"


def check_clicks(make: Make) -> str | None:
    """A click moves exactly the local features of the frames whose span holds it.

    Normalisation makes every frame depend on every sample, so it is held still on both sides.
    Over the input: the click is made by exchanging two samples, far apart, so mean and variance
    stay what they are; frames that hold either may move. Inside (group norm, over time): the
    first pass's statistics are kept for the second. A frame has moved if it moved by more than a
    ten-thousandth of what the most moved frame did.

    An encoder without local features mixes all frames before it shows any, so less can be asked:
    a click in the middle of a frame's span must move the first state of that frame, or of its
    neighbour, more than that of any other. An encoder of one frame per clip has nothing to check.
    """
    encoder = make()
    grid = encoder.grid
    if grid.hop == 0:
        return "it gives one frame for a whole clip"
    frames = min(40, grid.frames(longest(encoder)))
    wave = noise(grid.samples(frames))
    if run(encoder, [wave]).local is None:
        _check_clicks_roughly(encoder, frames)
        return None
    first = grid.offset + 20 * grid.hop  # the first sample of frame 20's span
    held = grid.offset + 4 * grid.hop + grid.field // 2
    wave[held] = 0.9
    for sample in (first, first + grid.field // 2, first + grid.field - 1, first + grid.field):
        moved = _moved(encoder, wave, held, sample)
        for frame in range(frames):
            start, end = (round(second * grid.sample_rate) for second in grid.span(frame))
            inside = start <= held < end or start <= sample < end
            assert (moved[frame] > TOLERANCE * max(moved)) == inside, (
                f"a click at sample {sample} moved frame {frame} by {moved[frame]:.2g}, "
                f"but the grid says that it sees samples {start} to {end - 1}"
            )
    return None


def _check_clicks_roughly(encoder: Encoder, frames: int) -> None:
    grid = encoder.grid
    wave = noise(grid.samples(frames))
    before = run(encoder, [wave]).layers[0][0]
    for frame in range(2, frames - 2, max(1, frames // 8)):
        clicked = wave.clone()
        clicked[round(grid.centre(frame) * grid.sample_rate)] = 0.9
        moved = (run(encoder, [clicked]).layers[0][0] - before).norm(dim=-1)
        most = int(moved.argmax())
        assert abs(most - frame) <= 1, (
            f"a click at {grid.centre(frame):.3f} s, the centre of frame {frame}, moved frame "
            f"{most} the most, by {float(moved[most]):.2g}"
        )


def check_mask(make: Make) -> str | None:
    """A mask changes the states of its clip, and leaves the local features as they are.

    An encoder that can't be masked says so with a BabError.
    """
    encoder = make()
    clip = noise(encoder.grid.samples(12))
    plain = run(encoder, [clip])
    mask = torch.zeros(1, encoder.grid.frames(len(clip)), dtype=torch.bool)
    try:
        empty = run(encoder, [clip], mask=mask)
    except BabError as error:
        return str(error)
    close(empty.layers[-1], plain.layers[-1], "an empty mask")
    mask[:, mask.shape[1] // 2] = True
    masked = run(encoder, [clip], mask=mask)
    change = float((masked.layers[-1] - plain.layers[-1]).abs().max())
    assert change > TOLERANCE, f"masking a frame changed the last state by {change:.2g} only"
    if plain.local is not None and masked.local is not None:
        close(masked.local, plain.local, "local features under a mask")
    return None


def check_determinism(make: Make) -> None:
    """In eval mode the same input gives the same bits, and another copy of the encoder does too."""
    clip = noise(9000)
    encoder = make()
    first, second, copy = (run(one, [clip]) for one in (encoder, encoder, make()))
    for index, state in enumerate(first.layers):
        assert torch.equal(state, second.layers[index]), f"layer {index} differs on a second run"
        assert torch.equal(state, copy.layers[index]), f"layer {index} differs after reloading"


def check_fingerprint(make: Make) -> None:
    """The fingerprint is a printable string, and stable over reloads."""
    first, second = make().fingerprint, make().fingerprint
    assert isinstance(first, str) and first.isprintable() and first, f"fingerprint {first!r}"
    assert first == second, f"two loads of the same weights: {first} and {second}"


def check_identity(make: Make, other: Make) -> None:
    """Encoders with other output have other fingerprints."""
    one, two, clip = make(), other(), noise(9000)
    a, b = run(one, [clip]).layers[-1], run(two, [clip]).layers[-1]
    assert a.shape != b.shape or not torch.equal(a, b), "`other` gives the same output as `make`"
    assert one.fingerprint != two.fingerprint, "another output under the same fingerprint"


def check_state(make: Make) -> None:
    """The state dict reloads, in float32, and holds no tensor twice; no buffer holds doubles."""
    encoder = make()
    state = encoder.state_dict()
    places: dict[int, str] = {}
    for name, tensor in state.items():
        if tensor.is_floating_point():
            assert tensor.dtype == torch.float32, f"{name} is {tensor.dtype}, not float32"
        if tensor.numel():
            twin = places.setdefault(tensor.data_ptr(), name)
            assert twin == name, f"{name} and {twin} are the same tensor under two names"
    for name, tensor in encoder.named_buffers():
        assert tensor.dtype != torch.float64, (
            f"buffer {name} is float64: a module with one can't be moved to Apple's GPUs"
        )
    make().load_state_dict(state)


def check_groups(make: Make) -> None:
    """groups() holds every parameter exactly once."""
    encoder = make()
    names = {id(parameter): name for name, parameter in encoder.named_parameters()}
    seen: dict[int, str] = {}
    for group, parameters in encoder.groups().items():
        for parameter in parameters:
            name = names.get(id(parameter))
            assert name is not None, f"group {group} holds a parameter that is not the encoder's"
            assert id(parameter) not in seen, f"{name} is in {seen[id(parameter)]} and in {group}"
            seen[id(parameter)] = group
    missing = [name for key, name in names.items() if key not in seen]
    assert not missing, f"in no group: {', '.join(missing[:5])}"


def check_gradients(make: Make) -> str | None:
    """In training mode every parameter gets a gradient, mask or no mask, as DDP demands."""
    encoder = make().train()
    if not any(parameter.requires_grad for parameter in encoder.parameters()):
        return "it has nothing to train"
    out = encoder(waves([noise(6000), noise(9000, 1)]))
    torch.autograd.backward([state.square().mean() for state in out.layers])
    missing = [n for n, p in encoder.named_parameters() if p.requires_grad and p.grad is None]
    assert not missing, f"without a gradient: {', '.join(missing[:5])}"
    return None


CHECKS: tuple[Callable[[Make], str | None], ...] = (
    check_attributes,
    check_shapes,
    check_batch,
    check_silence,
    check_clicks,
    check_mask,
    check_determinism,
    check_fingerprint,
    check_state,
    check_groups,
    check_gradients,
)  # of forward passes, for encoders that are tried with many settings
ALL = (*CHECKS, *loading.CHECKS, threads.check_concurrent)


@dataclass(frozen=True)
class EncoderCase:
    """Loads an encoder as a run does. weights: what stands after the colon."""

    cls: type[Encoder]
    weights: str
    options: Any

    def __call__(self) -> Encoder:
        made = self.cls.load(self.weights, self.options, offline=True)
        identify(made, self.options)
        return made


class EncoderContract(Contract):
    """`component` is the class, `weights` what stands after the colon ("": the default), `options`
    what it is built with (None: its defaults). Small ones keep this fast."""

    checks: ClassVar = ALL
    component: ClassVar[type[Encoder]]
    weights: ClassVar[str] = ""
    options: ClassVar[Any] = None

    def subject(self, folder: Path) -> Make:
        cls = self.component
        return EncoderCase(cls, self.weights or cls.default, self.options or standard(cls))


# ------------------------------------------------------------------------------ tools


def _moved(encoder: Encoder, wave: Tensor, held: int, sample: int) -> list[float]:
    """How far each frame's local features move when two samples are exchanged."""
    swapped = wave.clone()
    swapped[held], swapped[sample] = wave[sample], wave[held]
    with _statistics_kept(encoder):
        before, after = (run(encoder, [one]).local for one in (wave, swapped))
    assert before is not None and after is not None
    moved: list[float] = (after - before).abs().amax(-1)[0].tolist()
    return moved


@contextmanager
def _statistics_kept(encoder: Encoder) -> Iterator[None]:
    """Every group norm uses, from its second pass on, the mean and variance of its first."""
    kept: dict[nn.Module, tuple[Tensor, Tensor]] = {}

    def hook(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
        assert isinstance(module, nn.GroupNorm)
        x = inputs[0].reshape(inputs[0].shape[0], module.num_groups, -1)
        if module not in kept:
            kept[module] = (x.mean(-1, keepdim=True), x.var(-1, unbiased=False, keepdim=True))
        mean, variance = kept[module]
        normed: Tensor = ((x - mean) / (variance + module.eps).sqrt()).reshape(inputs[0].shape)
        if module.affine:
            shape = (1, -1) + (1,) * (normed.dim() - 2)
            normed = torch.addcmul(module.bias.view(shape), normed, module.weight.view(shape))
        return normed

    norms = [module for module in encoder.modules() if isinstance(module, nn.GroupNorm)]
    handles = [norm.register_forward_hook(hook) for norm in norms]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
