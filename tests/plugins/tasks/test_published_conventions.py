"""segma's conventions and valence's counts on a few frames and clips, counted by hand."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from bab.core.grid import Grid
from bab.core.types import Clip, Output, Prediction, Segment
from bab.plugins.tasks.shared import segma
from bab.plugins.tasks.sv import SpeakerVerification
from bab.plugins.tasks.valence import Valence
from bab.plugins.tasks.vtc import VoiceType, VoiceTypeOptions

GRID = Grid(1000, 100, 100)  # frames of .1 s


def recording(*spans: tuple[float, float], start: float = 0.0) -> Clip:
    segments = tuple(Segment(a, b, "FEM") for a, b in spans)
    return Clip("r", "r.wav", start, start + 0.4, "r", segments=segments)


def logits(*shares: float) -> np.ndarray:
    p = np.array(shares)
    return np.log(p / (1 - p)).astype(np.float32)[:, None]


@pytest.mark.parametrize(
    ("spans", "start", "first", "shares", "chosen"),
    [
        # What a segment touches is true; the first threshold with the best F1 is taken.
        (((0.0, 0.05),), 0.0, 0, (0.9, 0.505, 0.2, 0.1), 0.51),
        (((0.1, 0.101),), 0.0, 0, (0.1, 0.9, 0.505, 0.2), 0.51),
        (((0.1, 0.2),), 0.0, 0, (0.1, 0.9, 0.205, 0.2), 0.21),  # one that ends there ends there
        (((0.15, 0.21),), 0.0, 0, (0.1, 0.9, 0.305, 0.195), 0.2),
        (((-1.0, 0.05),), 0.0, 0, (0.9, 0.505, 0.2, 0.1), 0.51),  # it began before
        (((5.0, 5.05),), 5.0, 0, (0.9, 0.505, 0.2, 0.1), 0.51),
        (((0.3, 0.35),), 0.0, 3, (0.9, 0.505, 0.2, 0.1), 0.51),  # rows from frame 3 on
        # Nothing is true: the first threshold that nothing exceeds.
        (((9.0, 9.5),), 0.0, 0, (0.9, 0.505, 0.2, 0.1), 0.91),
        # Everything is true: the first.
        (((0.0, 0.4),), 0.0, 0, (0.9, 0.505, 0.2, 0.1), 0.0),
    ],
)  # fmt: skip
def test_the_first_of_the_best_thresholds(
    spans: Any, start: float, first: int, shares: tuple[float, ...], chosen: float
) -> None:
    output = Output(recording(*spans, start=start), logits(*shares), first)
    assert segma.thresholds([output], GRID, ["FEM"]) == {"FEM": pytest.approx(chosen)}


def test_frames_of_all_recordings_are_one_count() -> None:
    one = Output(recording((0.0, 0.1)), logits(0.6, 0.395))
    two = Output(recording((0.0, 0.2)), logits(0.3, 0.8))
    # Over .4: two right of two marked, of three true: F1 .8. Over .3 but not .4: 6/7 x ... less.
    f1 = {0.3: 2 * 2 / (3 + 3), 0.4: 2 * 2 / (2 + 3), 0.6: 2 * 1 / (1 + 3), 0.0: 2 * 3 / (4 + 3)}
    assert max(f1, key=lambda t: f1[t]) == 0.0
    assert segma.thresholds([one, two], GRID, ["FEM"]) == {"FEM": 0.0}
    both = [one, Output(recording((0.1, 0.2)), logits(0.3, 0.8))]
    assert segma.thresholds(both, GRID, ["FEM"]) == {"FEM": pytest.approx(0.4)}


def test_a_recording_in_which_nothing_was_found_is_skipped() -> None:
    clip = recording((0.0, 2.0))
    assert segma.statistics(clip, None, ["FEM"]) == {}
    assert segma.statistics(clip, Prediction("r"), ["FEM"]) == {}
    said = Prediction("r", (Segment(1.0, 5.0, "FEM"), Segment(0.0, 1.0, "MAL")))
    assert segma.statistics(clip, said, ["FEM", "MAL", "OCH"]) == {
        "segma/FEM/tp": 1.0, "segma/FEM/fp": 3.0, "segma/FEM/fn": 1.0,
        "segma/MAL/tp": 0.0, "segma/MAL/fp": 1.0, "segma/MAL/fn": 0.0,
        "segma/OCH/tp": 0.0, "segma/OCH/fp": 0.0, "segma/OCH/fn": 0.0,
    }  # fmt: skip
    totals = segma.statistics(clip, said, ["FEM", "MAL", "OCH"])
    # FEM: precision 1/4, recall 1/2; MAL: nothing right; OCH: neither said nor meant.
    assert segma.shares(totals, ["FEM", "MAL", "OCH"]) == pytest.approx(
        {"segma_f1": (1 / 3 + 0 + 1) / 3, "segma_f1/FEM": 1 / 3, "segma_f1/MAL": 0.0,
         "segma_f1/OCH": 1.0}
    )  # fmt: skip
    assert segma.shares({}, ["FEM"]) == segma.shares({"f1/FEM/tp": 1.0}, ["FEM"]) == {}


def test_the_convention_is_there_where_it_is_asked_for() -> None:
    plain = VoiceType(VoiceTypeOptions(classes=("FEM",)))
    both = VoiceType(VoiceTypeOptions(classes=("FEM",), convention="segma"))
    assert both.presets == (*plain.presets, "segma") and "segma" not in plain.presets
    clip = recording((0.0, 2.0))
    said = Prediction("r", (Segment(1.0, 5.0, "FEM"),))
    more = both.statistics(clip, said).keys() - plain.statistics(clip, said).keys()
    assert more == {"segma/FEM/tp", "segma/FEM/fp", "segma/FEM/fn"}
    assert both.metrics(both.statistics(clip, said))["segma_f1"] == pytest.approx(1 / 3)
    assert not any("segma" in k for k in plain.metrics(plain.statistics(clip, said)))
    outputs = [Output(clip, logits(0.9, 0.8, 0.2, 0.1))]
    labels = {"voice": ("FEM",)}
    assert both.tune(outputs, GRID, labels).keys() == {*plain.tune(outputs, GRID, labels), "segma"}


def valence(*rows: tuple[str, str | None, float]) -> dict[str, float]:
    """(what it is, what was said, the share of positive)."""
    clips, said = [], {}
    for number, (truth, guess, share) in enumerate(rows):
        clips.append(Clip(str(number), "x.wav", 0.0, 1.0, "g", labels={"valence": truth}))
        if guess is not None:
            scores = {"valence=positive": share, "valence=distress": 1 - share}
            labels = {"valence": guess}
            said[str(number)] = Prediction(str(number), labels=labels, scores=scores)
    return Valence(Valence.Options()).score(clips, said)


def test_valence_counts_what_was_said_and_what_was_not() -> None:
    p, d = "positive", "distress"
    rows = [(p, p, 0.9), (p, d, 0.3), (p, None, 0.0), (d, d, 0.1), (d, p, 0.6), (d, None, 0.0),
            (d, d, 0.3)]  # fmt: skip
    scores = valence(*rows)
    recall, other = 1 / 3, 2 / 4
    precision, back = 1 / 2, 2 / 3
    f1 = [2 * a * b / (a + b) for a, b in ((precision, recall), (back, other))]
    # Of 2 x 3 pairs that have both answers, .9 beats all, .3 beats .1 and ties with .3.
    assert scores == pytest.approx(
        {"balanced_accuracy": (recall + other) / 2, "positive_recall": recall,
         "positive_precision": precision, "macro_f1": sum(f1) / 2, "auc": (3 + 1.5) / 6}
    )  # fmt: skip
    assert "auc" not in valence((p, p, 0.9), (d, None, 0.0))  # of one kind alone
    assert "auc" not in valence((d, d, 0.2), (d, p, 0.9))
    assert valence() == {}


def test_two_speakers_are_enough_and_one_is_not() -> None:
    from bab.core.errors import CorpusError
    from bab.core.options import Options

    task = SpeakerVerification(Options())

    def clip(speaker: str | None) -> Clip:
        return Clip(str(speaker), "x.wav", 0.0, 1.0, "g", speaker)

    clips = [clip("b"), clip("a"), clip(None), clip("b")]
    labels = task.fit(clips)
    assert labels == {"speaker": ("a", "b")}
    assert [task.refuses(one) for one in clips] == ["", "", "no speaker", ""]
    assert [task.targets(one, GRID, 1, labels).tolist() for one in clips[:2]] == [[1], [0]]
    with pytest.raises(CorpusError) as raised:
        task.fit(clips[2:])
    assert str(raised.value) == (
        "the training clips have 1 speaker: at least two are needed, to learn to tell them apart"
    )
    silent = task.decode(Output(clip("a"), np.zeros(3, np.float32)), GRID, labels, {})
    assert silent.vector == (0.0, 0.0, 0.0)
    said = task.decode(Output(clip("a"), np.array([3.0, 4.0], np.float32)), GRID, labels, {})
    assert said.vector == pytest.approx((0.6, 0.8))
    same = np.array([True, False, True])
    assert task.rate(same[:1], np.ones(1)) == task.rate(~same[:1], np.ones(1)) == {}
    assert task.rate(same, np.array([0.9, 0.1, 0.8])) == {
        "eer": 0.0, "min_dcf_05": 0.0, "min_dcf_01": 0.0,
    }  # fmt: skip
