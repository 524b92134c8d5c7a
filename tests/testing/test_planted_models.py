"""Wrong readers of other tools' models: the suite finds each, by the check for it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import bab
from bab.core.types import Batch
from bab.running.published import Reference
from bab.testing import models
from bab.testing.models import CHECKS, ModelCase, check_model
from bab.testing.suite import name_of, run_checks

RATE, FRAME = 100, 10
SECONDS = 3.0


class Reader(bab.ModelReader):
    """Of a made-up tool."""


def frames(samples: Tensor) -> Tensor:
    """f32[B, S] -> f32[B, T, 2]: the mean of each frame, and its double."""
    means = samples.unfold(1, FRAME, FRAME).mean(-1)
    return torch.stack([means, 2 * means], -1)


class Saved:
    """A model as it was read. batches: what it was asked."""

    def __init__(self, **more: Any) -> None:
        self.encoder = SimpleNamespace(sample_rate=RATE)
        self.labels: Any = {"voice": ("A", "B")}
        self.tuned: Any = {"f1": {"thresholds": {"A": 0.5, "B": 0.6}}, "bare": {}}
        self.task = SimpleNamespace(pairs=False)
        self.name, self.digest = "theirs:it", "d1"
        self.batches: list[Batch] = []
        self.says: Callable[[Tensor], Tensor] = frames
        self.model: Any = self.called
        vars(self).update(more)

    def called(self, batch: Batch) -> tuple[Tensor, None]:
        self.batches.append(batch)
        return self.says(batch.inputs.samples), None


@pytest.fixture
def case(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., ModelCase]:
    def made(*saved: Any, where: str = "it", says: Any = None, **reading: Any) -> ModelCase:
        given = list(saved or (Saved(),))
        asked: list[Reference] = []

        def read(reference: Reference, offline: bool, trust_code: bool) -> None:
            assert (offline, trust_code) == (True, False)
            asked.append(reference)
            raise reading.get("error", bab.BabError("no model there"))

        def load(name: str) -> Any:
            assert name == f"theirs:{where}"
            return given.pop(0) if len(given) > 1 else given[0]

        monkeypatch.setattr(models, "load_saved", load)
        monkeypatch.setattr(models, "read_published", reading.get("read", read))
        monkeypatch.setattr("bab.core.registry.load", lambda kind, name: reading.get("cls", Reader))
        made.asked = asked  # type: ignore[attr-defined]
        return ModelCase("theirs", where, tmp_path / "work", says or answer)

    return made


def answer(samples: Any) -> Any:
    return frames(torch.from_numpy(samples)[None])[0].numpy()


def failed(case: ModelCase) -> dict[str, str]:
    return {one.name: one.told for one in run_checks(CHECKS, case) if one.verdict == "failed"}


def test_a_good_reader_passes(case: Any, tmp_path: Path) -> None:
    saved = Saved()
    assert failed(case(saved)) == {}
    work = tmp_path / "work"
    places = ["", str(work / "nowhere"), str(work / "empty")]
    assert case.asked == [Reference("theirs", place) for place in places]
    assert not (work / "nowhere").exists() and list((work / "empty").iterdir()) == []
    assert failed(case(saved)) == {}  # again, in the same folder
    vectors = Saved(task=SimpleNamespace(pairs=True), labels={}, tuned={})
    vectors.model = SimpleNamespace(embed=lambda batch: batch.inputs.samples[:, :3])
    assert failed(case(vectors, says=lambda x: x[:3])) == {}
    assert check_model("theirs", "it", work, lambda x: x[:3], 1.0) is vectors


def test_a_model_is_asked_alone_and_beside_a_longer_clip(case: Any) -> None:
    """3 s of faint noise, and the same beside a second more, of which nothing may be heard."""
    saved, heard = Saved(), []
    failed(case(saved, says=lambda x: heard.append(x) or answer(x)))
    one, two = (batch.inputs for batch in saved.batches)
    (samples,) = heard
    assert samples.dtype == np.float32 and len(samples) == RATE * SECONDS
    assert 0.08 < samples.std() < 0.12
    assert one.samples.numpy().tolist() == [samples.tolist()] and one.lengths.tolist() == [300]
    assert two.lengths.tolist() == [300, 400] and two.samples.shape == (2, 400)
    assert two.samples[0].tolist() == [*samples.tolist(), *[0.0] * 100]
    assert two.samples[1].tolist() == pytest.approx([0.1] * 400)
    brief = ModelCase("theirs", "it", Path(), lambda x: heard.append(x) or answer(x), 0.5)
    models.check_answers(brief)
    assert len(heard[1]) == 50


def beside(samples: Tensor) -> Tensor:
    """Off where there is a second clip."""
    return frames(samples) + 0.5 * (len(samples) - 1)


FAULTS: dict[str, tuple[list[Saved], str, str]] = {
    "no labels": ([Saved(labels={}, tuned={})], "parts", "a model without labels"),
    "a label twice": ([Saved(labels={"voice": ("A", "B", "A")})], "parts",
                      "labels of 'voice' stand twice: ('A', 'B', 'A')"),
    "a class without a threshold": ([Saved(tuned={"f1": {"thresholds": {"A": 0.5}}})], "parts",
                                    "preset f1: thresholds of ['A']"),
    "a threshold of no class": (
        [Saved(tuned={"f1": {}, "x": {"thresholds": {"A": 0.5, "B": 0.5, "C": 0.5}}})], "parts",
        "preset x: thresholds of ['A', 'B', 'C']",
    ),
    "another answer": ([Saved(says=lambda x: frames(x) + 1.1e-4)], "answers",
                       "alone: off by 0.00011 from the tool's own answer"),
    "another answer in a batch": ([Saved(says=beside)], "answers",
                                  "beside a longer clip: off by 0.5"),
    "a class too many": ([Saved(says=lambda x: frames(x).repeat(1, 1, 2))], "answers",
                         "alone: [30, 4], not [30, 2]"),
    "another digest": ([Saved(), Saved(), Saved(), Saved(digest="d2")], "same_again",
                       "two readings have two digests"),
    "another name": ([Saved(), Saved(), Saved(), Saved(name="theirs:other")], "same_again", ""),
    "a name of its own": ([Saved(name="it")], "same_again", ""),
}  # fmt: skip


@pytest.mark.parametrize("fault", FAULTS)
def test_a_models_fault_is_found(case: Any, fault: str) -> None:
    saved, check, said = FAULTS[fault]
    told = failed(case(*saved))
    assert list(told) == [check] and told[check].startswith(said)


def test_answers_may_differ_by_rounding(case: Any) -> None:
    assert failed(case(Saved(says=lambda x: frames(x) + 0.9e-4))) == {}


def test_what_is_no_model_is_refused_in_words(case: Any) -> None:
    taken = case(read=lambda *given: None)
    assert failed(taken) == {"refusals": "theirs: was read; it must be a BabError"}
    for empty in (True, False):

        def only(reference: Reference, *more: Any, empty: bool = empty) -> None:
            if reference.where.endswith("empty") != empty:
                raise bab.BabError("no")

        told = failed(case(read=only))["refusals"]
        assert told.endswith(" was read; it must be a BabError") and ("empty" in told) is empty
    assert failed(case(error=bab.BabError(""))) == {"refusals": "theirs:: an error without a word"}
    told = failed(case(error=KeyError("x")))
    assert list(told) == ["refusals"] and "KeyError" in told["refusals"]


def test_a_reader_alone_is_asked_less(case: Any) -> None:
    alone = case(where="")
    outcomes = {one.name: (one.verdict, one.told) for one in run_checks(CHECKS, alone)}
    none = ("not applicable", "no model was named: bab check NAME:WHERE")
    asked = (
        "not applicable",
        "what the tool itself answers isn't known here: run the pytest class",
    )
    assert outcomes == {
        "refusals": ("ok", ""), "parts": none, "answers": asked, "same_again": none,
        "described": ("ok", ""),
    }  # fmt: skip
    assert [name_of(check) for check in CHECKS] == list(outcomes)
    silent = ModelCase("theirs", "it", alone.folder)
    assert models.check_answers(silent) == asked[1]
    bare = type("Bare", (bab.ModelReader,), {})
    assert "class Bare has no docstring" in failed(case(cls=bare))["described"]
    assert "same_again" in failed(case(where="", cls=type("No", (), {"__doc__": "x"})))
