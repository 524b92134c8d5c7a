"""What is written of all recordings that a model has done: tables, the summary, speaker scores."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from importlib.util import find_spec
from itertools import combinations
from pathlib import Path

import numpy as np

from bab.core.atomic import atomic_path
from bab.core.errors import BabError
from bab.core.types import Prediction, Trial
from bab.predicting.outputs import Done, annotation_of
from bab.results.cells import CsvWriter
from bab.results.timeline import draw_timeline
from bab.results.vocalisations import write_summary
from bab.running.saved import Saved

PICTURES = ("png", "svg")
# What names of enrolment recordings begin with, and no other name does.
ENROLLED = ".enrolled/"
MOST_PAIRS = 1_000_000


def voices_of(saved: Saved) -> tuple[str, ...]:
    """The classes of a task that finds segments frame by frame; () of others."""
    if saved.task.whole_clips:
        return ()
    return tuple(name for group in saved.labels.values() for name in group)


def refuse_pictures(saved: Saved, kinds: Sequence[str]) -> None:
    """Raises BabError: pictures that can't be drawn here, said before any work."""
    for kind in kinds:
        if kind not in PICTURES:
            raise BabError(f"--timeline {kind}: a timeline is drawn as {' or '.join(PICTURES)}")
    if kinds and not voices_of(saved):
        task = saved.spec["task"]["name"]
        raise BabError(f"--timeline: task '{task}' doesn't say who speaks when")
    if kinds and find_spec("matplotlib") is None:
        raise BabError("--timeline needs matplotlib: pip install 'bab[plots]'")


def draw(done: Done, voices: Sequence[str], paths: Sequence[Path]) -> None:
    """Who speaks when, as a picture in each of some files."""
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
    draw_timeline(annotation_of(done), *paths, voices=voices)


def write_voices(results: Iterable[Done], voices: Sequence[str], path: Path) -> None:
    """The summary: seconds, counts and turns, by recording, hour and hour of the day."""
    write_summary(map(annotation_of, results), path, voices)


def write_scores(saved: Saved, results: Iterable[Done], path: Path) -> str:
    """How much recordings sound like one speaker: with an enrolment folder each recording beside
    each enrolled speaker, else each beside each. Gives what there is to say, or ""."""
    vectors: dict[str, Prediction] = {}
    enrolled: dict[str, list[Prediction]] = defaultdict(list)
    for done in results:
        if done.name.startswith(ENROLLED):
            enrolled[_speaker(done.name)].append(done.prediction)
        else:
            vectors[done.name] = done.prediction
    if enrolled:
        sides = [(speaker, name) for name in vectors for speaker in enrolled]
        head = ("enrolled", "recording", "score")
    else:
        if len(vectors) * (len(vectors) - 1) // 2 > MOST_PAIRS:
            return f"no scores of {len(vectors)} recordings with each other: name --enrol FOLDER"
        sides = list(combinations(vectors, 2))
        head = ("first", "second", "score")
    known = dict(vectors)
    known |= {ENROLLED + name: _centre(name, many) for name, many in enrolled.items()}
    prefix = ENROLLED if enrolled else ""
    trials = [Trial(prefix + one, other, False) for one, other in sides]
    scores = saved.task.compare(trials, known) if trials else np.zeros(0)
    with atomic_path(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = CsvWriter(file)
        writer.writerow(head)
        writer.writerows((*pair, f"{s:.4f}") for pair, s in zip(sides, scores, strict=True))
    return ""


def _speaker(name: str) -> str:
    """`.enrolled/ann/1` and `.enrolled/ann` -> "ann"."""
    return name.removeprefix(ENROLLED).split("/", 1)[0]


def _centre(name: str, predictions: Sequence[Prediction]) -> Prediction:
    """The mean of a speaker's vectors, of length 1 as they are."""
    mean = np.mean([p.vector for p in predictions], axis=0)
    length = float(np.linalg.norm(mean)) or 1.0
    return Prediction(name, vector=tuple((mean / length).tolist()))
