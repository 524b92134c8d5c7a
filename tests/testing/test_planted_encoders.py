"""Forty ways to write a wrong encoder: the suite finds each, by the check that is for it."""

from __future__ import annotations

import random
import time

import numpy as np
import pytest
import torch
from good_parts import GoodEncoder
from pydantic import Field
from torch import nn

import bab
from bab import Encoded, Grid
from bab.testing.encoders import ALL
from bab.testing.suite import name_of, run_checks


def broken(**members):
    """The good encoder with other members."""
    return type("Broken", (GoodEncoder,), {"__doc__": "Broken.", **members})


def built(change):
    """The good encoder, changed once it is built."""

    def init(self, options):
        GoodEncoder.__init__(self, options)
        change(self)

    return broken(__init__=init)


def forward(change):
    """The good encoder, with another answer: change(self, waves, mask, layers, its own answer)."""

    def call(self, waves, mask=None, layers="all"):
        return change(self, waves, mask, layers, GoodEncoder.forward(self, waves, mask, layers))

    return broken(forward=call)


def states(change):
    return forward(
        lambda self, w, m, how, out: Encoded(
            tuple(change(s, out) for s in out.layers), out.lengths, out.local
        )
    )


def loads(change):
    def load(cls, weights, options, *, offline=False, trust_code=False):
        made = super(broken_class[0], cls).load(weights, options)
        return change(made, weights) or made

    broken_class = [None]
    broken_class[0] = broken(load=classmethod(load))
    return broken_class[0]


def prepared(change):
    return broken(prepared=lambda self, waves: change(self, waves))


def whole_batch(self, waves):
    samples = GoodEncoder.prepared(self, waves)
    return (samples - samples.mean()) / (samples.std() + 1e-5)


def with_padding(self, waves):
    samples = waves.samples * self.options.gain
    samples = nn.functional.pad(samples, (0, max(0, 400 - samples.shape[1])))
    return samples - samples.mean(1, keepdim=True)


def spoil_input(self, waves):
    waves.samples.mul_(0.5)
    return GoodEncoder.prepared(self, waves)


def spoil_lengths(self, waves, mask, layers, out):
    waves.lengths.clamp_(max=5000)
    return out


def spoil_mask(self, waves, mask, layers, out):
    if mask is not None:
        mask.zero_()
    return out


def drifting(self, waves, mask, layers, out):
    seen = getattr(self, "seen", 0.0)
    self.seen = float(out.layers[-1].mean())
    return Encoded(tuple(s + seen for s in out.layers), out.lengths, out.local)


def remembered(self, waves, mask=None, layers="all"):
    self.out = GoodEncoder.forward(self, waves, mask, layers)
    time.sleep(0.002)
    return self.out


def seed_all(self, waves, mask, layers, out):
    torch.manual_seed(0)
    return out


def masked_everywhere(self, waves, mask=None, layers="all"):
    out = GoodEncoder.forward(self, waves, mask, layers)
    if mask is None:
        return out
    local = out.local.masked_fill(mask[..., None], 0.0)
    return Encoded(out.layers, out.lengths, local)


def forget_extras(self, folder, extras, dtype="float32"):
    GoodEncoder.export(self, folder, {}, dtype)


def scaled_export(self, folder, extras, dtype="float32"):
    with torch.no_grad():
        self.first.weight.mul_(2.0)
    GoodEncoder.export(self, folder, extras, dtype)
    with torch.no_grad():
        self.first.weight.div_(2.0)


def littering(self, folder, extras, dtype="float32"):
    GoodEncoder.export(self, folder, extras, dtype)
    (folder / ".model.tmp").write_text("")


class Undescribed(bab.Options):
    width: int = 8
    gain: float = Field(1.0, gt=0, description="a factor")


class NoGain:
    """identify() without one option."""

    def identify(self):
        self.fingerprint = bab.fingerprint(self, "good 1", {"width": self.options.width})


def fewer(frames):
    def change(self, waves, mask, layers, out):
        kept = [s[:, : s.shape[1] + frames] for s in out.layers]
        if frames > 0:
            kept = [torch.cat([s, s[:, -frames:]], 1) for s in out.layers]
        local = None if out.local is None else out.local[:, : kept[0].shape[1]]
        return Encoded(tuple(kept), out.lengths + frames, local)

    return forward(change)


FAULTS = {
    # the answer's shape
    "a state too few": (built(lambda e: setattr(e, "depth", 4)), "shapes"),
    "one frame fewer than the grid": (fewer(-1), "shapes"),
    "one frame more": (fewer(1), "shapes"),
    "half precision": (states(lambda s, out: s.half()), "shapes"),
    "double precision": (states(lambda s, out: s.double()), "shapes"),
    "another width": (built(lambda e: setattr(e, "dim", 7)), "shapes"),
    "last gives all": (
        forward(lambda s, w, m, how, out: GoodEncoder.forward(s, w, m, "all")),
        "shapes",
    ),
    "last gives the first": (
        forward(
            lambda s, w, m, how, out: (
                out
                if how == "all"
                else Encoded(GoodEncoder.forward(s, w, m).layers[:1], out.lengths, out.local)
            )
        ),
        "shapes",
    ),
    "layers in a list": (
        forward(lambda s, w, m, h, out: Encoded([*out.layers], out.lengths, out.local)),
        "answer",
    ),
    "lengths as floats": (
        forward(lambda s, w, m, h, out: Encoded(out.layers, out.lengths.float(), out.local)),
        "answer",
    ),
    "lengths of the padded batch": (
        forward(
            lambda s, w, m, h, out: Encoded(
                out.layers, torch.full_like(out.lengths, int(out.lengths.max())), out.local
            )
        ),
        "batch",
    ),
    "a tuple, no Encoded": (forward(lambda s, w, m, h, out: (out.layers, out.lengths)), "answer"),
    # the grid
    "frames an offset too late": (
        built(lambda e: setattr(e, "grid", Grid(16000, 320, 400, -160))),
        "clicks",
    ),
    "a field too short": (built(lambda e: setattr(e, "grid", Grid(16000, 320, 320))), "shapes"),
    "another hop": (built(lambda e: setattr(e, "grid", Grid(16000, 160, 400))), "shapes"),
    "another sample rate": (built(lambda e: setattr(e, "sample_rate", 8000)), "attributes"),
    "frames in another order": (states(lambda s, out: s.flip(1)), "batch"),
    # batches
    "normalised over the batch": (prepared(whole_batch), "batch"),
    "the padding is heard": (prepared(with_padding), "batch"),
    "the batch's mean is subtracted": (states(lambda s, out: s - s.mean(0, keepdim=True)), "batch"),
    # side effects
    "samples changed in place": (prepared(spoil_input), "input"),
    "lengths changed in place": (forward(spoil_lengths), "input"),
    "the mask changed in place": (forward(spoil_mask), "input"),
    "loading seeds torch": (loads(lambda e, w: torch.manual_seed(0) and None), "generators"),
    "loading seeds numpy": (loads(lambda e, w: np.random.seed(0)), "generators"),
    "loading seeds random": (loads(lambda e, w: random.seed(0)), "generators"),
    "a forward pass seeds": (forward(seed_all), "generators"),
    "dropout in eval mode": (states(lambda s, out: nn.functional.dropout(s)), "determinism"),
    "what was heard before": (forward(drifting), "memory"),
    "one thread's pass is told by another": (
        broken(forward=remembered, concurrent=True),
        "concurrent",
    ),
    "deaf": (states(lambda s, out: torch.ones_like(s)), "memory"),
    # numbers
    "silence is no number": (
        prepared(lambda e, w: (p := GoodEncoder.prepared(e, w)) / p.abs().amax(1, keepdim=True)),
        "silence",
    ),
    # masks and local features
    "the mask is ignored": (
        forward(lambda s, w, m, how, out: GoodEncoder.forward(s, w, None, how)),
        "mask",
    ),
    "the mask gets into local": (broken(forward=masked_everywhere), "mask"),
    "local_dim of another width": (built(lambda e: setattr(e, "local_dim", 6)), "local"),
    # weights, identity, loading
    "one constant fingerprint": (
        broken(identify=lambda e: setattr(e, "fingerprint", "x")),
        "options",
    ),
    "an option is left out of it": (broken(identify=NoGain.identify), "options"),
    "a fingerprint of the moment": (
        broken(identify=lambda e: setattr(e, "fingerprint", str(time.monotonic_ns()))),
        "fingerprint",
    ),
    "random weights at each load": (
        built(lambda e: nn.init.normal_(e.first.weight)),
        "determinism",
    ),
    "training mode": (loads(lambda e, w: e.train()), "attributes"),
    "any weights will do": (broken(read=lambda self, place: None), "weights"),
    "a default that isn't there": (broken(default="base"), "weights"),
    "a parameter in no group": (
        broken(groups=lambda e: {"layers": list(e.layers.parameters())}),
        "groups",
    ),
    "a parameter in two groups": (
        broken(groups=lambda e: {"a": list(e.parameters()), "b": [e.masked]}),
        "groups",
    ),
    "a parameter without a use": (
        built(lambda e: e.register_parameter("unused", nn.Parameter(torch.zeros(2)))),
        "gradients",
    ),
    "a tensor under two names": (
        built(lambda e: e.register_buffer("twin", e.masked.data)),
        "state",
    ),
    "weights in half precision": (
        built(lambda e: e.register_buffer("table", torch.zeros(2).half())),
        "state",
    ),
    "export drops extras": (broken(export=forget_extras), "export"),
    "export writes other weights": (broken(export=scaled_export), "export"),
    "export leaves a file behind": (broken(export=littering), "export"),
    # what is said of it
    "an option without a word": (broken(Options=Undescribed), "described"),
    "no docstring": (broken(__doc__=None), "described"),
    "no name": (built(lambda e: setattr(e, "resolved", "")), "attributes"),
    "no longest clip": (built(lambda e: setattr(e, "max_seconds", 0)), "attributes"),
}


def run(cls, checks=ALL):
    """The failed checks, by name."""
    outcomes = run_checks(checks, lambda: cls.load("random", cls.Options()))
    return {one.name: one.told for one in outcomes if one.verdict == "failed"}


def test_the_good_one_passes():
    assert run(GoodEncoder) == {}


def test_there_are_more_than_were_planted_in_the_trial():
    assert len(FAULTS) > 31


@pytest.mark.parametrize("fault", FAULTS)
def test_found(fault):
    cls, check = FAULTS[fault]
    failed = run(cls, [one for one in ALL if name_of(one) == check])
    assert check in failed, f"caught by {run(cls) or 'nothing'}"
    assert len(failed[check]) > 15, "and it says in what"
