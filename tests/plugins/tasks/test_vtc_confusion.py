"""What is taken for what, and the published script's conventions, against pyannote's metrics."""

from __future__ import annotations

import numpy as np
import pytest
from pyannote.core import Annotation, Timeline
from pyannote.core import Segment as Span
from pyannote.metrics.detection import DetectionErrorRate, DetectionPrecisionRecallFMeasure
from pyannote.metrics.identification import IdentificationErrorRate
from sklearn.metrics import f1_score

from bab import Clip, Grid, Output, Prediction, Segment
from bab.kit.confusion import SILENCE
from bab.kit.segments import multi_hot
from bab.plugins.tasks.shared import segma
from bab.plugins.tasks.shared.voices import VOICES, VoiceTypeOptions
from bab.plugins.tasks.vtc import VoiceType
from bab.results.confusion import rates
from bab.running.scores import Scorecard

TASK = VoiceType(VoiceTypeOptions())
PUBLISHED = VoiceType(VoiceTypeOptions(convention="segma"))


def voices(seed: int, count: int = 40, seconds: float = 60.0) -> tuple[Segment, ...]:
    rng = np.random.default_rng(seed)
    starts = np.sort(rng.uniform(0, seconds - 4, count))
    rows = [(a, a + rng.uniform(0.2, 4), VOICES[rng.integers(4)]) for a in starts]
    return tuple(Segment(round(a, 3), round(b, 3), v) for a, b, v in rows)


def annotation(segments: tuple[Segment, ...]) -> Annotation:
    made = Annotation()
    for voice in VOICES:  # a voice that overlaps with itself is on once
        spans = Timeline([Span(s.start, s.end) for s in segments if s.label == voice]).support()
        for i, span in enumerate(spans):
            made[span, f"{voice}{i}"] = voice
    return made


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_the_matrix_adds_up_to_pyannotes_errors(seed: int) -> None:
    reference, said = voices(seed), voices(seed + 10)
    uem = ((3.0, 21.5), (30.0, 58.25))
    clip = Clip("r", "r.wav", 0.0, 60.0, "r", segments=reference, scored=uem)
    card = Scorecard(TASK, [clip], [Prediction("r", said)])
    matrices = card.confusion([clip])
    seconds, speech = matrices["seconds"], matrices["speech"]
    spans = Timeline([Span(*span) for span in uem])
    whole = IdentificationErrorRate().compute_components(
        annotation(reference), annotation(said), uem=spans
    )
    off = [seconds[a].get(b, 0) for a in VOICES for b in VOICES if a != b]
    assert sum(off) == pytest.approx(whole["confusion"])
    assert sum(seconds[v][SILENCE] for v in VOICES) == pytest.approx(whole["missed detection"])
    assert sum(seconds[SILENCE].values()) == pytest.approx(whole["false alarm"])
    assert sum(seconds[v][v] for v in VOICES) == pytest.approx(whole["correct"])
    for name, one in rates(seconds).items():
        sides = (annotation(tuple(s for s in x if s.label == name)) for x in (reference, said))
        parts = DetectionErrorRate().compute_components(*sides, uem=spans)
        assert one.total == pytest.approx(parts["total"])
        assert one.missed == pytest.approx(parts["miss"] / parts["total"])
        assert one.false_alarm == pytest.approx(parts["false alarm"] / parts["total"])
    error = DetectionErrorRate()(annotation(reference), annotation(said), uem=spans)
    assert rates(speech)["speech"].error == pytest.approx(error)
    for name, segments in (("overlap annotated", reference), ("overlap marked", said)):
        both = matrices[name]
        sides = [annotation(segments).label_timeline(v).support() for v in ("KCHI", "FEM")]
        shared = sides[0].crop(sides[1]).crop(spans).duration()
        assert both["KCHI"]["FEM"] == both["FEM"]["KCHI"] == pytest.approx(shared)
        assert both["KCHI"]["KCHI"] == pytest.approx(sides[0].crop(spans).duration())


def test_who_is_taken_for_whom() -> None:
    """One instant after the other: taken for one, for two, beside another, for nobody, invented."""
    reference = (Segment(0, 1, "KCHI"), Segment(1, 2, "KCHI"), Segment(2, 3, "FEM"),
                 Segment(3, 4, "MAL"))  # fmt: skip
    said = (Segment(0, 2, "OCH"), Segment(1, 2, "FEM"), Segment(2, 3, "FEM"), Segment(2, 3, "MAL"),
            Segment(4, 5, "KCHI"))  # fmt: skip
    clip = Clip("r", "r.wav", 0.0, 6.0, "r", segments=reference)
    card = Scorecard(TASK, [clip], [Prediction("r", said)])
    seconds = card.confusion([clip])["seconds"]
    assert seconds["KCHI"] == {"FEM": 0.5, "KCHI": 0, "MAL": 0, "OCH": 1.5, "silence": 0}
    assert seconds["FEM"]["FEM"] == 1 and seconds["MAL"]["silence"] == 1
    # Of two voices for one, half of each is left; a voice beside a right one; one in silence.
    assert seconds["silence"] == {"FEM": 0.5, "KCHI": 1, "MAL": 1, "OCH": 0.5}
    silent = Scorecard(TASK, [clip], []).confusion([clip])["seconds"]
    assert silent["KCHI"] == {"FEM": 0, "KCHI": 0, "MAL": 0, "OCH": 0, "silence": 2}


def test_segmas_score_is_its_scripts() -> None:
    """Recordings in which nothing was found are skipped, no UEM, absent classes are 1."""
    uem = ((0.0, 30.0),)
    three = [
        Clip(f"r{i}", f"{i}.wav", 0.0, 60.0, f"r{i}", scored=uem,
             segments=tuple(s for s in voices(i) if s.label != "OCH"))
        for i in range(3)
    ]  # fmt: skip
    said = [
        Prediction("r0", tuple(s for s in voices(20) if s.label != "OCH")),
        Prediction("r1", tuple(s for s in voices(21) if s.label != "OCH")),
        Prediction("r2", ()),
    ]
    card = Scorecard(PUBLISHED, three, said)
    scores = card.of(three)
    wanted = {}
    for voice in VOICES:
        metric = DetectionPrecisionRecallFMeasure()
        for clip, one in zip(three[:2], said[:2], strict=True):
            sides = [tuple(s for s in x.segments if s.label == voice) for x in (clip, one)]
            both = [*clip.segments, *one.segments]
            extent = Timeline([Span(min(s.start for s in both), max(s.end for s in both))])
            metric(*(annotation(side) for side in sides), uem=extent)
        wanted[voice] = abs(metric)
    assert wanted["OCH"] == 1
    for voice, value in wanted.items():
        assert scores[f"segma_f1/{voice}"] == pytest.approx(value)
    assert scores["segma_f1"] == pytest.approx(np.mean(list(wanted.values())))
    assert "f1/OCH" not in scores and scores["f1"] < scores["segma_f1"]
    own = Scorecard(TASK, three, said).of(three)
    assert {k: v for k, v in scores.items() if "segma" not in k} == own
    assert not any("segma" in key for key in Scorecard(PUBLISHED, three, []).of(three))


def test_segmas_thresholds_are_the_best_of_its_frames() -> None:
    grid = Grid(16000, 320, 320)
    clip = Clip("r", "r.wav", 0.0, 20.0, "r", segments=voices(3, 12, 20.0))
    frames = 1000
    rng = np.random.default_rng(0)
    times = (np.arange(frames) + 0.5) * 0.02
    truth = multi_hot(clip.segments, times, VOICES)
    logits = (truth * 2 - 1 + rng.normal(0, 1.2, truth.shape)).astype(np.float32)
    chosen = segma.thresholds([Output(clip, logits)], grid, VOICES)
    shares = 1 / (1 + np.exp(-logits.astype(np.float64)))
    touched = np.zeros_like(truth, dtype=bool)
    for s in clip.segments:
        touched[int(s.start / 0.02) : int(np.ceil(s.end / 0.02)), VOICES.index(s.label)] = True
    for column, name in enumerate(VOICES):
        scores = [f1_score(touched[:, column], shares[:, column] > t, zero_division=1.0)
                  for t in segma.RASTER]  # fmt: skip
        assert chosen[name] == pytest.approx(segma.RASTER[int(np.argmax(scores))])
    tuned = PUBLISHED.tune([Output(clip, logits)], grid, {"voice": VOICES})
    assert tuned["segma"] == {"thresholds": chosen} and set(tuned) == set(PUBLISHED.presets)
    assert TASK.presets == ("f1", "high-precision")
