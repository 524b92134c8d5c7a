"""Who a test set is made of, its scores without each of them, and the intervals that follow."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np

from bab.core.interfaces import Task
from bab.core.types import Clip, Trial
from bab.results import jackknife
from bab.running.scores import References, Scorecard

RARE = 3  # groups; a class that fewer hold varies more than its interval says


class Groups:
    """The groups of a test set, in the order of their names.

    members: what is scored as a group's own; a trial belongs to the group of its enrolment.
    amounts: class -> how much of it each group holds; of trials, how many enrol one of its clips.
    """

    def __init__(self, task: Task, tested: References, clips: Sequence[Clip]) -> None:
        group = {clip.id: clip.group for clip in clips}
        self.task = task
        self.members: dict[str, list[Clip | Trial]] = defaultdict(list)
        self._places: dict[str, dict[int, None]] = defaultdict(dict)
        self.tested = list(tested)
        sums: dict[str, dict[str, float]] = defaultdict(lambda: defaultdict(float))
        for place, one in enumerate(tested):
            sides = [one.id] if isinstance(one, Clip) else [one.enrol, one.test]
            own = group[sides[0]]
            self.members[own].append(one)
            # A trial goes with either of its speakers: what is left knows nothing of one left out.
            for side in sides:
                self._places[group[side]][place] = None
            held = task.amounts(one) if isinstance(one, Clip) else {"": 1.0}
            for name, amount in held.items():
                sums[name][own] += amount
        self.names = sorted(self._places)
        self.amounts = {n: [by.get(g, 0.0) for g in self.names] for n, by in sorted(sums.items())}

    def sizes(self, metric: str) -> list[float]:
        """How much each group holds of what a metric is of: of its class or kind, or in all."""
        _, _, own = metric.partition("/")
        of = [a for n, a in self.amounts.items() if own and (n == own or n.startswith(f"{own}/"))]
        return [math.fsum(one) for one in zip(*(of or self.amounts.values()), strict=True)]

    @property
    def rare(self) -> dict[str, int]:
        """Classes that fewer than three groups hold, and how many do."""
        held = {name: sum(x > 0 for x in amounts) for name, amounts in self.amounts.items()}
        return {n: count for n, count in held.items() if n and count < RARE}

    def left_out(self, card: Scorecard, metrics: Iterable[str]) -> dict[str, list[float]]:
        """Each metric without each group, NaN where it is undefined: also where a class of the test
        set goes with the group, in that class's scores and the means over classes."""
        rows = card.without(self.tested, [list(self._places[name]) for name in self.names])
        gone = {n: int(np.count_nonzero(a)) == 1 for n, a in self.amounts.items() if n}
        values: dict[str, list[float]] = {}
        for metric in metrics:
            base, _, own = metric.partition("/")
            mean = base in self.task.means
            lost = [
                self.amounts[n]
                for n in gone
                if gone[n] and (n == own or (mean and (not own or n.startswith(f"{own}/"))))
            ]
            values[metric] = [
                math.nan if any(one[i] for one in lost) else row.get(metric, math.nan)
                for i, row in enumerate(rows)
            ]
        return values


def scale(task: Task, metric: str, values: Sequence[float]) -> jackknife.Scale:
    """What a metric's interval is made on, as its unit says."""
    base = metric.partition("/")[0]
    unit = task.units.get(metric, task.units.get(base, ""))
    if base in task.rates:
        return "rate"
    top = {"": 1.0, "%": 100.0}.get(unit, 0.0)
    inside = top and all(0 <= x <= top for x in values if math.isfinite(x))
    return ("percent" if unit == "%" else "share") if inside else "plain"


class Scores(NamedTuple):
    """One preset's metrics; their 95 % intervals, or why there are none; and each metric without
    each group, in the order of the groups' names."""

    metrics: dict[str, float]
    intervals: dict[str, jackknife.Interval]
    no_interval: dict[str, str]
    left_out: dict[str, list[float]]

    def shown(self) -> dict[str, Any]:
        """As a record's `presets` have it."""
        names = ("metrics", "intervals", "no_interval")
        return {name: getattr(self, name) for name in names}


def scored(card: Scorecard, groups: Groups) -> Scores:
    """The scores of the test set, and how far they can be trusted."""
    metrics = card.of(groups.tested)
    left_out = groups.left_out(card, metrics)
    spans: dict[str, jackknife.Interval] = {}
    none: dict[str, str] = {}
    for metric, value in metrics.items():
        without = left_out[metric]
        on = scale(groups.task, metric, [value, *without])
        if why := jackknife.why_not(value, without, on):
            none[metric] = why
            continue
        df = jackknife.freedom(groups.sizes(metric))
        variance = jackknife.variance(np.array(without), value)
        low, high = jackknife.bounds(value, variance, df, on)
        spans[metric] = float(low), float(high)
    return Scores(metrics, spans, none, left_out)


def kept(groups: Groups, unit: str, metric: str, scores: Scores) -> dict[str, Any]:
    """What a record keeps, so that a table can compare it with others (docs/records.md)."""
    sizes = groups.sizes(metric)
    left_out = scores.left_out.get(metric, [])
    return {
        "unit": unit,
        "groups": groups.names,
        "sizes": [float(f"{x:.7g}") for x in sizes],
        "effective": round(jackknife.effective(sizes), 2),
        "metric": metric,
        "scale": scale(groups.task, metric, [*left_out, scores.metrics.get(metric, math.nan)]),
        "left_out": left_out,
        "rare": groups.rare,
    }
