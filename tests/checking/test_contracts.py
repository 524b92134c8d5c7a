"""What is known of a class before one is made: methods, what they take, levels."""

from __future__ import annotations

import functools
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch

import bab
from bab.checking.clips import check_trials
from bab.checking.contracts import contract_fault
from bab.checking.encoders import check_made, encode
from bab.checking.heads import check_fitted, check_linear, check_output
from bab.checking.tasks import check_predictions, check_tuned, checked_targets
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


def test_what_has_no_signature_to_read_is_taken_as_it_is():
    """As is what is written in C."""

    def forward(self):
        return None

    forward.__signature__ = object()
    assert contract_fault(bab.Head, given(Head, forward=forward)) == ""


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
    encoder = fbank()
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


def fbank():
    encoder = registry.load("encoders", "fbank")
    return encoder.load("", encoder.Options())


def faulty(call, *args):
    with pytest.raises(bab.PluginError) as caught:
        call(*args)
    return str(caught.value)


@pytest.mark.parametrize("longest", [0, -1.0, "30"])
def test_seconds_that_an_encoder_takes_in(longest):
    encoder = fbank()
    encoder.max_seconds = longest
    assert f"leaves max_seconds = {longest!r}: seconds, or None" in faulty(check_made, encoder)
    encoder.max_seconds = 0.5
    assert check_made(encoder) is encoder
    encoder.groups = lambda: {"all": tuple(encoder.parameters())}
    assert "groups" in faulty(check_made, encoder)


def test_what_an_encoder_gives_is_looked_at():
    encoder = fbank()
    waves = bab.Waves(torch.rand(2, 16000), torch.tensor([16000, 8000]))
    right = encoder(waves)
    two = [encoder.grid.frames(n) for n in (16000, 8000)]
    assert right.lengths.tolist() == two

    def said(**change):
        changed = replace(right, **change)
        encoder.forward = lambda *given, **more: changed
        return faulty(encode, encoder, waves)

    whole = right.layers[0]
    assert "gives torch.float64: torch.float32 expected" in said(layers=(whole.double(),))
    told = f"gives {two[1] - 1} frames for 8000 samples: its grid says {two[1]}"
    assert told in said(lengths=right.lengths - torch.tensor([0, 1]))
    cut = tuple(state[:, :-1] for state in right.layers)
    assert f"with states of [{two[0] - 1}" in said(layers=cut)
    bad = whole.clone()
    bad[1, two[1] - 1] = torch.nan  # the last frame that counts
    assert "not finite (state 0) for finite audio" in said(layers=(bad,))
    after = whole.clone()
    after[1, two[1] :] = torch.nan  # padding
    encoder.forward = lambda *given, **more: replace(right, layers=(after,))
    encode(encoder, waves)
    encoder = fbank()  # numbers are looked at once
    encoder.local_dim = 5
    assert "gives local of width 4: local_dim=5" in said(local=torch.zeros(2, two[0], 4))
    encoder.forward = lambda *given, **more: replace(right, local=torch.zeros(2, two[0], 5))
    encode(encoder, waves)


class Linear(bab.Head):
    """A head that says it is linear."""

    level, linear, closed_form = ("clip",), True, True

    def __init__(self, power=1.0):
        super().__init__(3, 2, None)
        self.outputs, self.power = 2, power
        self.weight = torch.nn.Parameter(torch.ones(3, 2))

    def forward(self, x, lengths):
        inside = (torch.arange(x.shape[1]) < lengths[:, None])[..., None]
        return ((x * inside).sum(1) / lengths[:, None]) ** self.power @ self.weight


def test_what_a_head_gives_is_looked_at():
    x = torch.rand(2, 6, 3)
    for output in (torch.zeros(2, 2, dtype=torch.long), None):
        told = faulty(check_output, Linear(), "clip", x, output)
        assert f"gives {type(output).__name__}: floating-point expected" in told
    check_output(Linear(), "clip", x, torch.zeros(2, 2))
    check_output(Linear(), "frame", x, torch.zeros(2, 6, 2))
    told = faulty(check_output, Linear(), "frame", x, torch.zeros(2, 2))
    assert "shape [2, 2] for an input of [2, 6, 3]: [2, 6, 2] expected" in told
    check_linear(Linear(), 3)
    assert "is not the mean of its outputs, and the head says" in faulty(
        check_linear, Linear(power=2.0), 3
    )


def test_what_fitting_leaves_is_looked_at():
    head, x = Linear(), torch.rand(2, 1, 3)
    before = {name: value.clone() for name, value in head.state_dict().items()}
    assert "left the weights as they were" in faulty(check_fitted, head, before, x)
    with torch.no_grad():
        head.weight[0] = 2.0
    check_fitted(head, before, x)
    with torch.no_grad():
        head.weight[0] = torch.inf
    assert "left weights whose output is not finite" in faulty(check_fitted, head, before, x)


def test_what_a_task_and_an_objective_give_is_looked_at():
    task = registry.load("tasks", "vtc")
    task = task(task.Options())
    told = faulty(check_tuned, task, [("default", {})])
    assert "gives list, not a dict" in told
    first, *_ = task.presets
    tuned = {name: {"x": 1} for name in task.presets}
    assert check_tuned(task, tuned) == tuned
    assert f"gives no values for preset '{first}'" in faulty(check_tuned, task, tuned | {first: 3})


def test_trials_are_of_clips_that_are_there():
    clips = [
        bab.Clip(name, "a.wav", 0.0, 1.0, "g", speaker=who) for name, who in ("ax", "bx", "cy")
    ]
    corpus = registry.load("datasets", "manifest")
    corpus = object.__new__(corpus)
    corpus.root, trial = "there", bab.Trial
    check_trials(corpus, "dev", [trial("a", "b", True), trial("a", "c", False)], clips)
    assert "gives ('a', 'b', True): bab.Trial(id, id, bool) expected" in faulty(
        check_trials, corpus, "dev", [("a", "b", True)], clips
    )
    assert "bool) expected" in faulty(check_trials, corpus, "dev", [trial("a", "b", 1)], clips)
    for wrong, said in (
        (trial("a", "b", False), "'a' 'b' of dev is said to be of two speakers, but its clips are"),
        (trial("a", "c", True), "'a' 'c' of dev is said to be of the same speaker, but its clips"),
        (trial("a", "z", True), "'z'"),
        (trial("z", "a", True), "'z'"),
    ):
        with pytest.raises(bab.CorpusError) as caught:
            check_trials(corpus, "dev", [wrong], clips)
        assert said in str(caught.value)


def test_what_a_task_makes_of_a_clip_and_of_outputs_is_looked_at():
    kind = registry.load("tasks", "vtc")
    task = kind(kind.Options())
    clip = bab.Clip("c", "a.wav", 0.0, 1.0, "g")

    def targets(given, labels=None, **change):
        for name, value in {"one_target": False, "in_order": False, **change}.items():
            monkey.setattr(kind, name, value)
        look = checked_targets(task, lambda clip, frames: given, labels or {"x": ("a", "b")})
        try:
            return "" if look(clip, 3) is given else "another"
        except bab.PluginError as error:
            return str(error)

    with pytest.MonkeyPatch.context() as monkey:
        zeros = torch.zeros
        assert "gives list, not a tensor (clip 'c')" in targets([1, 2, 3])
        assert targets(zeros(3, 2)) == targets(zeros(3, dtype=torch.long)) == ""
        rows = "float32 or int64 [3, C], a row per frame, expected (clip 'c')"
        assert f"gives torch.float32 [2, 2]: {rows}" in targets(zeros(2, 2))
        assert f"gives torch.float32 [3, 2, 1]: {rows}" in targets(zeros(3, 2, 1))
        assert "a row per frame, expected" in targets(zeros(3, 2, dtype=torch.int32))
        assert "gives torch.float64: float32 expected" in targets(zeros(3, 2).double())
        assert "values that are not finite" in targets(zeros(3, 2) / 0)
        one = {"one_target": True}
        assert targets(torch.tensor([-1]), **one) == targets(torch.tensor([1]), **one) == ""
        for wrong in (-2, 2):
            assert f"[{wrong}] for [2] classes" in targets(torch.tensor([wrong]), **one)
        for given in (torch.tensor([0, 1]), torch.tensor([0.0]), torch.tensor(0)):
            assert "int64 [1], a class per group, expected" in targets(given, **one)
        order = {"in_order": True}
        assert targets(torch.tensor([0, 1, 1]), **order) == targets(zeros(0).long(), **order) == ""
        assert "[0, 2] for 2 classes" in targets(torch.tensor([0, 2]), **order)
        assert "[-1] for 2 classes" in targets(torch.tensor([-1]), **order)
        for given in (torch.tensor([0.0]), torch.tensor([[0]])):
            assert "int64 [U], the labels in order, expected" in targets(given, **order)


def test_what_decoding_gives_is_looked_at():
    kind = registry.load("tasks", "vtc")
    task = kind(kind.Options())
    output = SimpleNamespace(clip=bab.Clip("c", "a.wav", 0.0, 1.0, "g"))
    said, segment = bab.Prediction, bab.Segment

    def told(*predictions):
        return faulty(check_predictions, task, [output] * len(predictions), predictions)

    fine = said("c", (segment(1.0, 1.0, "x"),), {"a": "b"}, {"a": 0.5}, text="x", vector=(1.0, 2))
    assert check_predictions(task, [output], (fine,)) == [fine]
    assert check_predictions(task, [output], [said("c")]) == [said("c")]
    assert "gives NoneType, not bab.Prediction" in told(fine, None)
    assert "gives id 'd' for clip 'c'" in told(said("d"))
    assert "bab.Segment(start, end, label) expected (clip 'c')" in told(
        said("c", (segment(0.0, 1.0, "x"), segment(1.5, 1.0, "x")))
    )
    assert "bab.Segment(start, end, label) expected" in told(said("c", ((0.0, 1.0, "x"),)))
    assert "label 'a' = 3: texts expected" in told(said("c", labels={"a": 3}))
    assert "label 3 = 'a': texts expected" in told(said("c", labels={3: "a"}))
    for wrong in (said("c", scores={"a": float("nan")}), said("c", vector=(1.0, float("inf")))):
        assert "scores or a vector that are not finite numbers" in told(wrong)
    assert "gives text 3 (clip 'c')" in told(said("c", text=3))
