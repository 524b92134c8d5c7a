"""What corpora and encoders may hand over wrongly, in turn: what is said of it, to the letter."""

from __future__ import annotations

import math
from dataclasses import replace
from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch
from breaches import clip, said
from train_worker import Small

from bab.checking.clips import check_clips, checked_clips, refuse_same_ids, same_ids
from bab.checking.encoders import check_made, encode, not_finite
from bab.core import registry
from bab.core.errors import CorpusError
from bab.core.types import Batch, Features, Segment, Waves

# ------------------------------------------------------------------------------- clips


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"id": ""}, "a clip ('') whose id is ''"),
        ({"path": 3}, "a clip ('c') whose path is 3"),
        ({"group": None}, "a clip ('c') whose group is None"),
        ({"start": "0"}, "clip 'c' from '0' to 2.0: finite seconds expected"),
        ({"end": math.inf}, "clip 'c' from 0.0 to inf: finite seconds expected"),
        ({"start": -0.5}, "clip 'c' from -0.5 to 2 s"),
        ({"start": 2.5}, "clip 'c' from 2.5 to 2 s"),
        ({"labels": {"age": 3}}, "clip 'c' with label 'age' = int 3: labels are texts"),
        ({"labels": {3: "a"}}, "clip 'c' with label 3 = str 'a': labels are texts"),
        ({"speaker": 3}, "clip 'c' whose speaker is 3: a text, or None, expected"),
        ({"text": b"a"}, "clip 'c' whose text is b'a': a text, or None, expected"),
        ({"voices": ["a"]}, "clip 'c' whose voices or segments are no tuple"),
        ({"segments": [Segment(0, 1, "a")]}, "clip 'c' whose voices or segments are no tuple"),
        ({"segments": ((0, 1, "a"),)},
         "clip 'c' with segment (0, 1, 'a'): bab.Segment(start, end, label) expected"),
        ({"segments": (Segment(0, 1, 5),)},  # type: ignore[arg-type]
         "clip 'c' with segment Segment(start=0, end=1, label=5): bab.Segment(start, end, label) "
         "expected"),
        ({"segments": (Segment(1.5, 1.0, "a"),)}, "clip 'c' with a segment from 1.5 to 1.0 s"),
        ({"segments": (Segment(0, math.nan, "a"),)}, "clip 'c' with a segment from 0 to nan s"),
    ],
)  # fmt: skip
def test_a_clip_that_is_wrong_is_told(changes: dict[str, Any], told: str) -> None:
    corpus = cast(Any, SimpleNamespace())
    assert said(list, check_clips(corpus, [clip(), clip(**changes)])) == f"clips gives {told}"


def test_clips_that_are_right_pass_one_by_one() -> None:
    corpus = cast(Any, SimpleNamespace())
    right = [
        clip(end=0.0), clip(start=1, end=1), clip(speaker="s", text="", labels={"a": ""}),
        clip(segments=(Segment(1.0, 1.0, ""),)),
    ]  # fmt: skip
    assert list(check_clips(corpus, iter(right))) == checked_clips(corpus, right) == right
    assert said(list, check_clips(corpus, ["c"])) == "clips gives str, not bab.Clip"  # type: ignore[list-item]
    told = said(list, check_clips(corpus, cast(Any, 5)))
    assert told == "clips gives int: clips, one by one, expected"


def test_ids_that_two_clips_share() -> None:
    one, other = clip(id="a"), clip(id="a", path="d.wav", start=1.0)
    where = "the id 'a': c.wav 0-2 s and d.wav 1-2 s"
    assert list(same_ids({"train": [one, other]})) == [f"two clips of train have {where}"]
    assert list(same_ids({"train": [one], "dev": [other]})) == [
        f"two clips of train and dev have {where}"
    ]
    # One clip in two splits is leakage, which is looked for by itself; in one split it is none.
    assert list(same_ids({"train": [one], "dev": [clip(id="a")]})) == []
    assert len(list(same_ids({"train": [one, clip(id="a")]}))) == 1
    assert list(same_ids({"train": [one, clip(id="b")]})) == []
    corpus = cast(Any, SimpleNamespace(root="/r"))
    refuse_same_ids(corpus, {"train": [one, clip(id="b")]})

    def many(count: int) -> str:
        pairs = [clip(id=f"a{i}", path=f"{j}.wav") for i in range(count) for j in (1, 2)]
        with pytest.raises(CorpusError) as error:
            refuse_same_ids(corpus, {"train": pairs})
        return str(error.value)

    rest = "A clip's id stands for it in predictions and scores: each needs one of its own"
    assert many(1) == (
        f"/r: two clips of train have the id 'a0': 1.wav 0-2 s and 2.wav 0-2 s. {rest}"
    )
    assert many(5).count("two clips") == 5 and "more" not in many(5)
    assert many(7).count("two clips") == 5 and f"; and 2 more. {rest}" in many(7)


# ------------------------------------------------------------------------------- encoders


@pytest.mark.parametrize(
    ("name", "value", "told"),
    [
        ("sample_rate", 16000.0, "sample_rate = 16000.0: int expected"),
        ("dim", 0, "dim = 0: int expected"),
        ("depth", None, "depth = None: int expected"),
        ("grid", (1, 2), "grid = (1, 2): Grid expected"),
        ("resolved", "", "resolved = '': str expected"),
        ("fingerprint", 5, "fingerprint = 5: str expected"),
        ("sample_rate", 50, "grid.sample_rate = 100, sample_rate = 50"),
        ("max_seconds", -1, "max_seconds = -1: seconds, or None, expected"),
    ],
)
def test_what_an_encoder_says_of_itself(name: str, value: Any, told: str) -> None:
    encoder = Small()
    assert check_made(encoder) is encoder
    setattr(encoder, name, value)
    assert said(check_made, encoder) == f"load leaves {told}"
    delattr(encoder, name)
    if name != "max_seconds":
        assert said(check_made, encoder).startswith(f"load leaves {name} = None: ")
    else:
        assert said(check_made, encoder) == (
            "load leaves max_seconds = 'missing': seconds, or None, expected"
        )


def test_groups_of_parameters_are_lists_by_name() -> None:
    encoder: Any = Small()
    for given in ([1, 2], {"a": (1, 2)}, {"a": [], "b": None}):
        encoder.groups = lambda given=given: given
        told = f"groups gives {given!r:.60}: lists of parameters by name expected"
        assert said(check_made, encoder) == told
    encoder.groups = dict
    check_made(encoder)


def test_nobody_poses_as_another_encoder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "_loaded", {})
    encoder = Small()
    encoder.resolved = "hubert:base"
    check_made(encoder)  # nobody knows whose it is
    registry.claim(encoder, registry.Entry("mine", "encoders", "m:C", "mine", "1"))
    told = said(check_made, encoder)
    assert told.startswith("load leaves resolved = 'hubert:base', the name of the encoder 'hubert'")
    for name in ("mine:base", "nothing:base", "hubert+fbank", "hubert+fbank:x"):
        encoder.resolved = name
        check_made(encoder)


def answers(**changes: Any) -> tuple[Small, Waves]:
    encoder = Small()
    waves = Waves(torch.rand(2, 40), torch.tensor([40, 25]))
    right = encoder(waves)
    changed = replace(right, **{k: v(right) for k, v in changes.items()})
    encoder.forward = lambda *given, **more: changed  # type: ignore[method-assign]
    return encoder, waves


@pytest.mark.parametrize(
    ("layers", "told"),
    [
        (lambda r: r.layers[:1], "1 states: depth = 2"),
        (lambda r: (*r.layers, r.layers[0]), "3 states: depth = 2"),
        (lambda r: tuple(x[0] for x in r.layers),
         "a state of shape [4, 8]: [2, T, 8] (batch, frames, dim) expected"),
        (lambda r: tuple(x[:1] for x in r.layers),
         "a state of shape [1, 4, 8]: [2, T, 8] (batch, frames, dim) expected"),
        (lambda r: (r.layers[0], r.layers[1][..., :7]),
         "a state of shape [2, 4, 7]: [2, T, 8] (batch, frames, dim) expected"),
        (lambda r: (r.layers[0], r.layers[1][:, :3]),
         "2 lengths up to 4 with states of [3] frames for 2 clips"),
    ],
)  # fmt: skip
def test_states_are_as_many_and_as_wide_as_it_says(layers: Any, told: str) -> None:
    assert said(encode, *answers(layers=layers)) == f"forward gives {told}"


def test_one_state_is_given_where_one_is_asked_for() -> None:
    encoder, waves = answers()
    told = "forward gives 2 states: layers='last' asks for one"
    assert said(encode, encoder, waves, None, "last") == told
    encode(encoder, waves)
    nothing: Any = Small()
    nothing.forward = lambda *given, **more: [1]
    assert said(encode, nothing, waves) == "forward gives list, not bab.Encoded"


@pytest.mark.parametrize(
    ("given", "told"), [(lambda r: r.lengths.int(), "torch.int32"), (lambda r: [4, 2], "list")]
)
def test_lengths_are_whole_numbers_in_a_tensor(given: Any, told: str) -> None:
    told = f"forward gives lengths as {told}: an int64 tensor expected"
    assert said(encode, *answers(lengths=given)) == told


def test_there_is_a_length_for_each_clip() -> None:
    told = "forward gives 1 lengths up to 4 with states of [] frames for 2 clips"
    assert said(encode, *answers(lengths=lambda r: r.lengths[:1])) == told


@pytest.mark.parametrize("what", ["samples", "lengths"])
def test_the_audio_stays_as_it_was_handed_over(what: str) -> None:
    class Alters(Small):
        def forward(self, waves: Waves, *given: Any, **more: Any) -> Any:
            out = super().forward(waves, *given, **more)
            getattr(waves, what).add_(1)
            return out

    waves = Waves(torch.rand(1, 40), torch.tensor([38]))
    told = "forward alters the audio it is handed: it must work on a copy"
    assert said(encode, Alters(), waves) == told


def test_numbers_are_looked_at_once_for_each_way_to_ask() -> None:
    encoder, looks = Small(), 0
    right = encoder.forward

    def infinite(waves: Waves, mask: Any = None, layers: str = "all") -> Any:
        out = right(waves, mask, layers)
        return replace(out, layers=tuple(x / 0 for x in out.layers)) if looks else out

    encoder.forward = infinite  # type: ignore[method-assign]
    waves = Waves(torch.rand(1, 40), torch.tensor([40]))
    encode(encoder, waves)
    looks = 1
    encode(encoder, waves)  # asked so before
    told = "forward gives values that are not finite (state 0) for finite audio"
    assert said(encode, encoder, waves, None, "last") == told
    assert said(encode, encoder.eval(), waves) == told
    waves.samples[0, 0] = math.inf
    encode(encoder, waves)  # such audio gives anything


def features(*values: float) -> Batch:
    clips = tuple(clip(id=f"c{i}") for i in range(len(values)))
    states = torch.tensor(values)[:, None, None, None]
    return Batch(Features(states, torch.ones(len(values))), torch.ones(1), torch.ones(1), clips, 0)


def waves(count: int, value: float = 0.5) -> Batch:
    clips = tuple(clip(id=f"c{i}") for i in reversed(range(count)))
    inputs = Waves(torch.full((count, 40), value), torch.full((count,), 40))
    return Batch(inputs, torch.ones(1), torch.ones(1), clips, 0)


def test_whose_fault_a_loss_without_end_is() -> None:
    assert not_finite(None, "it", [features(1.0), features(2.0)]) == ""
    assert not_finite(None, "it", [features(1.0), features(2.0, math.inf)]) == (
        "it gives values that are not finite (clips: c0, c1)"
    )
    assert not_finite(None, "it", [waves(1)]) == ""
    encoder: Any = Small(dropout=0.5).train()
    assert not_finite(encoder, "", [waves(2), waves(2, math.nan)]) == "" and encoder.training
    with torch.no_grad():
        encoder.conv.weight.fill_(math.nan)
    who = "train_worker:Small gives values that are not finite (clips: c0, c1, c2, c3, c4)"
    assert not_finite(encoder, "", [waves(7)]) == (
        f"{who}; where only training made it so, a lower train.lr helps"
    )
    assert not_finite(encoder.requires_grad_(False).eval(), "", [waves(7)]) == who
    assert not encoder.training
