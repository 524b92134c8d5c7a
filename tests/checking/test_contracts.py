"""What is known of a class before one is made: methods, what they take, levels."""

from __future__ import annotations

import functools
from dataclasses import replace

import pytest
import torch

import bab
from bab.checking.contracts import contract_fault
from bab.checking.encoders import encode
from bab.core import registry
from bab.core.errors import lasting, sized


class Head(bab.Head):
    level = ("clip",)

    def forward(self, x, lengths):
        return x


class Format(bab.Format):
    writes = False

    def read(self, path):
        return []


class Corpus(bab.Corpus):
    def __init__(self, root, options):
        super().__init__(root, options)

    def clips(self, split=None):
        return ()


class Encoder(bab.Encoder):
    @classmethod
    def load(cls, weights, options, **more):
        return cls()

    def forward(self, *given, **more):
        return None


@pytest.mark.parametrize("cls", [Head, Format, Corpus, Encoder])
def test_what_can_be_called_is_sound(cls):
    assert contract_fault(cls.__bases__[0], cls) == ""


def given(cls: type, **parts: object) -> type:
    return type("Changed", (cls,), parts)


@pytest.mark.parametrize(
    ("base", "cls", "said"),
    [
        (bab.Head, given(Head, level=()), "its level is not said"),
        (bab.Head, given(Head, level="clip"), "its level is 'clip': tuple expected"),
        (bab.Head, given(Head, linear="yes"), "its linear is 'yes': bool expected"),
        (bab.Encoder, given(Encoder, weights=["base"]), "its weights is ['base']: dict expected"),
        (bab.Corpus, given(Corpus, provides="gender"), "its provides is 'gender': frozenset"),
        (bab.Head, given(Head, level=("clips",)), "its level is 'clips': it may be 'frame'"),
        (bab.Head, given(Head, closed_form=True), "no method fit"),
        (bab.Head, given(Head, level=("pair",)), "no method embed"),
        (bab.Head, given(Head, forward=lambda self, x: x), "forward(self, x) can't be called as"),
        (bab.Head, given(Head, __init__=lambda self, dim: None), "__init__(self, dim) can't"),
        (bab.Format, given(Format, writes=True), "no method write"),
        (bab.Corpus, given(Corpus, clips=lambda self: ()), "clips(self) can't be called as clips"),
        (bab.Encoder, given(Encoder, load=lambda weights, options: None), "must be a classmethod"),
        (bab.Encoder, given(Encoder, load=classmethod(lambda cls, weights, options: cls)),
         "load(weights, options) can't be called as load(weights, options, *, offline=False"),
    ],
)  # fmt: skip
def test_a_class_that_cannot_be_called_as_its_contract_is_named(base, cls, said):
    assert said in contract_fault(base, cls)


def test_a_decorated_method_is_read_through():
    def silent(function):
        @functools.wraps(function)
        def call(*given, **more):
            return function(*given, **more)

        return call

    assert contract_fault(bab.Head, given(Head, forward=silent(Head.forward))) == ""


def test_every_built_in_is_sound():
    checked = 0
    for entry in registry.entries():
        base = registry.KINDS[entry.kind][1]
        if entry.built_in and base:
            assert contract_fault(getattr(bab, base), registry.imported(entry)) == ""
            checked += 1
    assert checked > 40


@pytest.mark.parametrize(
    "lengths", [torch.tensor([49.0]), [49], torch.tensor([49], dtype=torch.int32)]
)
def test_lengths_that_are_not_int64_are_told(lengths):
    encoder = bab.load("encoders", "fbank")
    encoder = encoder.load("", encoder.Options())
    waves = bab.Waves(torch.zeros(1, 16000), torch.tensor([16000]))
    right = encoder(waves)
    assert encode(encoder, waves).lengths.dtype == torch.int64
    encoder.forward = lambda *given, **more: replace(right, lengths=lengths)
    with pytest.raises(bab.PluginError, match="int64 tensor expected"):
        encode(encoder, waves)


def test_counts_and_lengths_in_words():
    assert sized(33984, "parameter") == "33,984 parameters"
    assert sized(1, "parameter") == "1 parameter"
    assert sized(1_700_000, "parameter") == "1.7 million parameters"
    assert [lasting(s) for s in (5, 600, 7200)] == ["5.0 s", "10.0 min", "2.00 h"]
