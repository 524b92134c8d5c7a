"""The contract of a task, as checks that the author of a plugin runs.

    from bab.testing import TaskContract

    class TestMine(TaskContract):
        def make(self):
            return Mine(Mine.Options())

        def corpus(self):
            return bab.load("datasets", "rttm")(FOLDER, ...)    # left out: the task's own sample

A model's outputs are planted: right ones are made of the task's own targets, so that what they must
score is known. Each check takes a `TaskCase`.
"""

from __future__ import annotations

import json
import math
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import ClassVar, get_args

import torch
from torch import Tensor

from bab.core import registry
from bab.core.interfaces import Corpus, Level, Task
from bab.core.types import Clip, Output, Prediction
from bab.testing.declared import described
from bab.testing.suite import Contract
from bab.testing.taskcase import GRID, TaskCase, better, frames_of

_TOO_SMALL = 1e-9
_NEAR_BEST = 0.1  # of a metric's range: how far a perfect output may be from the best value


def check_described(case: TaskCase) -> None:
    """Documentation, options, and the facts that a run reads are what they may be.

    To do: `needs` is a frozenset of str; `primary` one of `units`; head, objective and corpus are
    names that `bab list` shows; version is text.
    """
    task = case.task
    described(type(task))
    assert task.level in get_args(Level), f"level {task.level!r} is none of {get_args(Level)}"
    for name in ("version", "primary", "head", "objective", "corpus"):
        value = getattr(task, name)
        assert isinstance(value, str) and value, f"{name} is {value!r}"
    assert isinstance(task.needs, frozenset), f"needs is {task.needs!r}, no frozenset"
    names = task.presets
    assert isinstance(names, tuple) and names, f"presets is {names!r}, no tuple of names"
    assert task.primary in task.units, f"primary '{task.primary}' has no unit: {dict(task.units)}"
    chosen = task.select or task.primary
    assert chosen in task.units, f"select '{chosen}' has no unit: {dict(task.units)}"
    for kind, name in (("heads", task.head), ("objectives", task.objective)):
        registry.find(kind, name)
    head = registry.load("heads", task.head)
    assert task.level in head.level, f"its head '{task.head}' is for {head.level}"


def check_labels(case: TaskCase) -> None:
    """`fit` gives label groups of class names, each once, whatever the order of the clips; they can
    be kept as JSON. `refuses` gives text, `check` accepts the corpus's own dev and test.

    To do: return {"kind": tuple(sorted(names))}.
    """
    labels = case.labels
    assert isinstance(labels, Mapping) and labels, f"fit gives {labels!r:.60}"
    for key, names in labels.items():
        assert isinstance(names, tuple) and names, f"labels of '{key}' are {names!r:.60}, no tuple"
        strange = [name for name in names if not isinstance(name, str)]
        assert not strange, f"labels of '{key}' that are no text: {strange[:3]}"
        assert len(set(names)) == len(names), f"labels of '{key}' stand twice: {names[:9]}"
    assert json.loads(json.dumps({key: list(names) for key, names in labels.items()}))
    again = case.task.fit(case.train[::-1])
    assert again == labels, "the clips in another order give other labels, or another order of them"
    for clip in case.all[:50]:
        why = case.task.refuses(clip)
        assert isinstance(why, str), f"refuses gives {why!r}, no text"
    for split, clips in (("dev", case.dev), ("test", case.test)):
        case.task.check(labels, clips, split)


def check_targets(case: TaskCase) -> None:
    """Targets have the shape, the type and the range of their level, the same each time.

    To do: f32 or i64 [frames, C] (frame), i64[G] (clip, pair), i64[U] (sequence); see bab.Task.
    """
    task = case.task
    sizes = [len(names) for names in case.labels.values()]
    for clip in case.regions(case.train)[:20]:
        frames = frames_of(clip)
        target = task.targets(clip, GRID, frames, case.labels)
        where = f"targets of {clip.id}"
        assert isinstance(target, Tensor), f"{where}: {type(target).__name__}, no tensor"
        assert target.dtype in (torch.float32, torch.int64), f"{where} are {target.dtype}"
        again = task.targets(clip, GRID, frames, case.labels)
        assert torch.equal(again, target), f"{where} differ when asked twice"
        assert bool(target.isfinite().all()), f"{where} are not finite"
        if task.level == "frame":
            assert len(target) == frames, f"{where}: {len(target)} rows for {frames} frames"
        if target.dtype == torch.float32:
            inside = float(target.min()) >= 0.0 and float(target.max()) <= 1.0
            assert inside, f"{where} reach from {float(target.min())} to {float(target.max())}"
            assert target.shape[-1] == sum(sizes), f"{where}: {tuple(target.shape)}, sizes {sizes}"
            continue
        if task.one_target:
            assert target.shape == (len(sizes),), f"{where}: {tuple(target.shape)}, not [G]"
            outside = [int(t) for t, n in zip(target, sizes, strict=True) if not -1 <= int(t) < n]
            assert not outside, f"{where}: {outside} are no class of {sizes}"
        if task.in_order:
            assert target.ndim == 1, f"{where}: {tuple(target.shape)}, not [U]"
            inside = all(0 < int(t) < sizes[0] for t in target)
            assert inside, f"{where}: a label is the blank, or none of {sizes[0]}"


def check_tuning(case: TaskCase) -> None:
    """`tune` gives something for each preset, which can be kept as JSON; the same each time, and
    it leaves the outputs as they were.

    To do: {preset: {...} for preset in self.presets}; float(x) and list(x) of numpy values.
    """
    outputs = case.outputs(case.dev, "right")
    before = [output.values.copy() for output in outputs]
    tuned = case.task.tune(outputs, GRID, case.labels)
    assert set(tuned) == set(case.task.presets), f"{sorted(tuned)} for {case.task.presets}"
    try:
        text = json.dumps(tuned, sort_keys=True)
    except (TypeError, ValueError) as error:
        raise AssertionError(f"what tune gives can't be kept as JSON: {error}") from error
    again = case.task.tune(outputs, GRID, case.labels)
    assert json.dumps(again, sort_keys=True) == text, "the same outputs are tuned otherwise"
    for one, output in zip(before, outputs, strict=True):
        assert (one == output.values).all(), f"tune changed the output of {output.clip.id}"


def check_decoding(case: TaskCase) -> None:
    """`decode` gives a prediction of its clip: segments sorted, inside it, with labels; finite
    scores. The same each time, and the output stays as it was.

    To do: Prediction(output.clip.id, ...); times are seconds from the start of the FILE.
    """
    task = case.task
    for output in case.outputs(case.test, "right"):
        before = output.values.copy()
        one, two = (task.decode(output, GRID, case.labels, case.tuned) for _ in range(2))
        clip = output.clip
        assert isinstance(one, Prediction), f"decode gives {type(one).__name__}"
        assert one.id == clip.id, f"decode of '{clip.id}' gives a prediction of '{one.id}'"
        assert one == two, f"{clip.id}: decoded twice, it differs"
        assert (before == output.values).all(), f"decode changed the output of {clip.id}"
        for segment in one.segments:
            inside = clip.start - 1e-3 <= segment.start < segment.end <= clip.end + 1e-3
            assert inside, f"{clip.id} ({clip.start} to {clip.end} s): {segment}"
            assert segment.label, f"{clip.id}: {segment} has no label"
        starts = [segment.start for segment in one.segments]
        assert starts == sorted(starts), f"{clip.id}: segments are not sorted"
        numbers = [*one.scores.values(), *one.vector]
        assert all(math.isfinite(x) for x in numbers), f"{clip.id}: scores are not finite"


def check_planted(case: TaskCase) -> None:
    """A model that is right scores (nearly) the best there is, one that is wrong scores worse.

    To do: follow one planted output through tune, decode, statistics and metrics; compare the
    label order of `fit`, `targets` and `decode`.
    """
    task, right, wrong = case.task, case.scores("right"), case.scores("wrong")
    name = task.primary
    assert name in right, f"right outputs have no '{name}': {sorted(right)[:6]}"
    good, bad = right[name], wrong.get(name)
    unit = task.units[name]
    if unit in ("", "%"):
        whole = 1.0 if unit == "" else 100.0
        best = whole if task.higher_is_better else 0.0
        far = abs(good - best)
        assert far <= _NEAR_BEST * whole, f"right outputs have {name} {good:.4g}, best is {best:g}"
    if bad is not None:
        assert better(task, good, bad), (
            f"right outputs have {name} {good:.4g}, wrong ones {bad:.4g}"
        )


def check_missing(case: TaskCase) -> str | None:
    """A clip without a prediction counts as missed: leaving predictions out makes nothing better.

    To do: statistics(reference, None) counts all of the reference as missed.
    """
    task = case.task
    if task.pairs:
        return "every clip of a trial must have a vector"
    predictions = case.predictions("right")
    all_of = task.score(case.test, {p.id: p for p in predictions})
    none_of = task.score(case.test, {})
    half = task.score(case.test, {p.id: p for p in predictions[::2]})
    name = task.primary
    for told, less in (("half", half), ("none", none_of)):
        if name in less:
            assert not better(task, less[name], all_of[name]) or len(predictions) < 2, (
                f"with {told} of the right predictions {name} is {less[name]:.4g}, with all of "
                f"them {all_of[name]:.4g}"
            )
    assert name in none_of, f"without any prediction there is no {name}: missed clips are left out"
    worse = better(task, all_of[name], none_of[name])
    assert worse, f"without any prediction {name} is {none_of[name]:.4g}, as with right ones"
    return None


def check_bounds(case: TaskCase) -> None:
    """Metrics are finite numbers; a share ("" as its unit) lies in [0, 1], per cent in [0, 100]
    unless `rates` names it. The primary metric is among them, and each has a unit.

    To do: units = {"f1": "", "eer": "%"}; rates = frozenset({"wer"}).
    """
    task = case.task
    for kind in ("right", "wrong", "noise"):
        for name, value in case.scores(kind).items():
            told = f"of {kind} outputs, {name} is {value!r}"
            number = isinstance(value, float) and math.isfinite(value)
            assert number, f"{told}: no finite float"
            base = name if name in task.units else name.partition("/")[0]
            unit = task.units.get(base)
            if unit is None:
                continue
            if unit == "":
                assert -_TOO_SMALL <= value <= 1 + _TOO_SMALL, f"{told}, which is no share"
            if unit == "%" and base not in task.rates:
                assert -_TOO_SMALL <= value <= 100 + 1e-6, f"{told}, which is no per cent"


def check_additive(case: TaskCase) -> str | None:
    """Metrics follow from summed statistics: `score` gives the same, and sums of nothing or of
    zeros are no error. Statistics are finite numbers, the same each time.

    To do: additive = False, and a `score` of your own, for what isn't a function of sums.
    """
    task = case.task
    if task.pairs:
        return "trials are scored by `compare` and `rate`"
    predictions = {p.id: p for p in case.predictions("noise")}
    scores = task.score(case.test, predictions)
    if not task.additive:
        return "it says that its metrics don't follow from sums"
    totals: dict[str, float] = {}
    for clip in case.test[::-1]:
        one = task.statistics(clip, predictions.get(clip.id))
        assert one == task.statistics(clip, predictions.get(clip.id)), f"{clip.id}: asked twice"
        strange = [k for k, v in one.items() if not math.isfinite(v)]
        assert not strange, f"{clip.id}: statistics {strange[:3]} are not finite"
        for key, value in one.items():
            totals[key] = totals.get(key, 0.0) + value
    summed = task.metrics(totals)
    assert set(summed) == set(scores), f"from sums {sorted(summed)[:5]}, score {sorted(scores)[:5]}"
    for name, value in summed.items():
        near = math.isclose(value, scores[name], rel_tol=1e-6, abs_tol=1e-9)
        assert near, f"{name} is {scores[name]:.6g} by score, {value:.6g} from summed statistics"
    for nothing in ({}, dict.fromkeys(totals, 0.0)):
        try:
            empty = task.metrics(nothing)
        except Exception as error:
            raise AssertionError(f"metrics of nothing raises {type(error).__name__}") from error
        assert all(math.isfinite(v) for v in empty.values()), f"metrics of nothing: {empty}"
    amounts = task.amounts(case.test[0])
    fine = all(isinstance(k, str) and v >= 0 for k, v in amounts.items())
    assert fine, f"amounts {amounts}: names and numbers from 0"
    return None


def check_pieces(case: TaskCase) -> str | None:
    """Where `cut` says that an output may be cut, both pieces decode to what the whole does.

    To do: return 0 where that isn't so; `decode` heeds output.first.
    """
    task = case.task
    cut = False
    for output in case.outputs(case.test, "right") if not task.one_target else ():
        place = task.cut(output, GRID, case.labels, case.tuned)
        frames = len(output.values)
        assert isinstance(place, int) and 0 <= place <= frames, f"cut gives {place!r} of {frames}"
        if not 0 < place < frames:
            continue
        cut = True
        at = output.clip.start + float(GRID.edges(frames, output.clip.duration)[place])
        whole = task.decode(output, GRID, case.labels, case.tuned)
        parts = [
            Output(_narrowed(output.clip, end=at), output.values[:place]),
            Output(output.clip, output.values[place:], first=place),
        ]
        pieces = [task.decode(part, GRID, case.labels, case.tuned) for part in parts]
        joined = [(s.start, s.end, s.label) for p in pieces for s in p.segments]
        wanted = [(s.start, s.end, s.label) for s in whole.segments]
        assert sorted(joined) == sorted(wanted), (
            f"{output.clip.id}, cut at frame {place}: {len(joined)} segments, {len(wanted)} in one"
        )
    return None if cut else "it can't be cut"


def check_write(case: TaskCase) -> None:
    """`write` leaves files in the folder, whole, and nothing else.

    To do: bab.write_text, bab.write_segments or bab.atomic_path write whole files.
    """
    with tempfile.TemporaryDirectory(prefix="bab-check-") as name:
        folder = Path(name) / "predictions"
        case.task.write(case.predictions("right"), folder)
        files = [path for path in folder.rglob("*") if path.is_file()] if folder.exists() else []
        assert files, "write left no file in the folder that it was given"
        hidden = [path.name for path in files if path.name.startswith(".")]
        assert not hidden, f"write left {hidden} behind"
        empty = [path.name for path in files if not path.stat().st_size and len(files) == 1]
        assert not empty, f"write left {empty}, an empty file"


CHECKS: tuple[Callable[[TaskCase], str | None], ...] = (
    check_described,
    check_labels,
    check_targets,
    check_tuning,
    check_decoding,
    check_planted,
    check_missing,
    check_bounds,
    check_additive,
    check_pieces,
    check_write,
)


class TaskContract(Contract):
    """`make` gives the task, `corpus` clips that it can be learned from and tested on."""

    checks: ClassVar = CHECKS

    def make(self) -> Task:
        raise NotImplementedError

    def corpus(self) -> Corpus | None:
        """None: the sample of the task's own corpus."""
        return None

    def subject(self, folder: Path) -> TaskCase:
        return TaskCase.of(self.make(), self.corpus())


def _narrowed(clip: Clip, end: float) -> Clip:
    return clip.within(clip.start, end, tuple(s for s in clip.segments if s.start < end))
