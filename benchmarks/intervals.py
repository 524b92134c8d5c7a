"""How often bab's intervals hold the truth, and how often its marks accuse equal encoders.

    python benchmarks/intervals.py [--draws 2000] [--groups 3 5 8 10 20 30] [--metrics f1 uar ...]
        [--seed 0] [--noisy]

Test sets are drawn from populations whose truth is known (the metric of 100,000 groups; of 1,000
speakers). Groups differ in size and difficulty, encoders in how they take each group; under the
null all encoders are exchangeable. What judges a draw is bab's own code (`bab.results.jackknife`).

Prints, for each metric and number of groups: coverage of the 95 % interval and its median width;
coverage of the percentile bootstrap over groups that bab had before (400 resamples; metrics of sums
alone); false positives of a pair of equals; tables of six equals in which any is marked as worse;
and the share of draws without an interval, which count in none of these.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from bab.results import jackknife

Floats = NDArray[np.float64]
ENCODERS = 6
RESAMPLES = 400
POPULATION = 100_000


class Draws(NamedTuple):
    """Test sets: metrics f64[D, K], without each group f64[D, K, G], sizes of groups f64[D, G]; and
    where the metric is a function of sums, the sums f64[D, K, G, S]."""

    values: Floats
    left_out: Floats
    sizes: Floats
    sums: Floats | None = None


class Design(NamedTuple):
    scale: jackknife.Scale
    draw: Callable[[np.random.Generator, int, int, int], Draws]  # draws, encoders, groups
    truth: Callable[[np.random.Generator], float]


def expit(x: Floats) -> Floats:
    return np.asarray(1 / (1 + np.exp(-x)))


def effects(
    rng: np.random.Generator, shape: tuple[int, int, int, int], shared: float, own: float
) -> Floats:
    """Random effects f64[D, K, G, C]: of the group, and of how an encoder takes it."""
    d, k, g, c = shape
    both = rng.normal(0, shared, (d, 1, g, c)) + rng.normal(0, own, (d, k, g, c))
    return np.asarray(both)


# --- metrics of sums ----------------------------------------------------------------------------


def additive(
    make: Callable[[np.random.Generator, int, int, int], tuple[Floats, Floats]],
    metric: Callable[[Floats], Floats],
    scale: jackknife.Scale,
) -> Design:
    """make: -> sums f64[D, K, G, S] and sizes f64[D, G]; metric: f64[..., S] -> f64[...]."""

    def draw(rng: np.random.Generator, draws: int, encoders: int, groups: int) -> Draws:
        sums, sizes = make(rng, draws, encoders, groups)
        total = sums.sum(axis=2, keepdims=True)
        return Draws(metric(total[:, :, 0]), metric(total - sums), sizes, sums)

    def truth(rng: np.random.Generator) -> float:
        sums, _ = make(rng, 1, 1, POPULATION)
        return float(metric(sums.sum(axis=2))[0, 0])

    return Design(scale, draw, truth)


def voices(rng: np.random.Generator, d: int, k: int, g: int) -> tuple[Floats, Floats]:
    """Four voices' seconds in homes of some ten minutes: true positive, false positive, missed."""
    seconds = 600 * rng.lognormal(0, 0.6, (d, 1, g, 1))
    shares = np.array([0.45, 0.10, 0.15, 0.30]) * rng.gamma(1.5, 1, (d, 1, g, 4))
    spoken = seconds * shares / shares.sum(-1, keepdims=True)
    spoken = np.broadcast_to(spoken, (d, k, g, 4))
    recall = expit(np.array([1.2, -0.3, 0.2, 0.8]) + effects(rng, (d, k, g, 4), 0.6, 0.4))
    alarms = seconds * np.array([0.08, 0.06, 0.05, 0.08])
    alarms = alarms * np.exp(effects(rng, (d, k, g, 4), 0.5, 0.3))
    right = spoken * recall
    return np.concatenate([right, alarms, spoken - right], -1), spoken[:, 0].sum(-1)


def macro_f1(sums: Floats) -> Floats:
    right, alarms, missed = np.split(sums, 3, axis=-1)
    return np.asarray((2 * right / (2 * right + alarms + missed)).mean(-1))


def clips(
    shares: Sequence[float], recalls: Sequence[float]
) -> Callable[[np.random.Generator, int, int, int], tuple[Floats, Floats]]:
    """Clips of some classes per speaker, 5 to some 80 of them: clips, and those that are right."""
    classes = len(shares)
    base = np.log(np.asarray(recalls) / (1 - np.asarray(recalls)))

    def make(rng: np.random.Generator, d: int, k: int, g: int) -> tuple[Floats, Floats]:
        many = 5 + rng.poisson(20 * rng.lognormal(0, 0.6, (d, g)))
        mix = np.asarray(shares) * rng.gamma(2, 1, (d, g, classes))
        number = rng.multinomial(many, mix / mix.sum(-1, keepdims=True)).astype(np.float64)
        number = np.broadcast_to(number[:, None], (d, k, g, classes))
        chance = expit(base + effects(rng, (d, k, g, classes), 0.7, 0.4))
        right = rng.binomial(number.astype(np.int64), chance).astype(np.float64)
        return np.concatenate([number, right], -1), many.astype(np.float64)

    return make


def uar(sums: Floats) -> Floats:
    """NaN where a class is missing: its recall is undefined, and so is the mean of all classes."""
    number, right = np.split(sums, 2, axis=-1)
    with np.errstate(invalid="ignore"):
        return np.asarray((right / np.where(number > 0, number, np.nan)).mean(-1))


def accuracy(sums: Floats) -> Floats:
    number, right = np.split(sums, 2, axis=-1)
    return np.asarray(right.sum(-1) / number.sum(-1))


def words(rng: np.random.Generator, d: int, k: int, g: int) -> tuple[Floats, Floats]:
    """Words per speaker, and errors in them, more of them than words here and there."""
    many = np.round(20 + 150 * rng.lognormal(0, 0.8, (d, g)))
    rate = 0.3 * np.exp(effects(rng, (d, k, g, 1), 0.5, 0.25)[..., 0])
    errors = rng.poisson(many[:, None] * rate).astype(np.float64)
    both = np.stack([np.broadcast_to(many[:, None], errors.shape), errors], -1)
    return both, many


def error_rate(sums: Floats) -> Floats:
    return np.asarray(100 * sums[..., 1] / sums[..., 0])


# --- metrics of ranks ---------------------------------------------------------------------------


def equal_error(same: NDArray[np.bool_], scores: Floats) -> float:
    from bab.kit.verification import equal_error_rate, operating_points

    return 100 * equal_error_rate(*operating_points(same, scores))


def trials(rng: np.random.Generator, k: int, g: int) -> tuple[Floats, ...]:
    """Trials among g speakers: (enrolled, tested, same, scores f64[K, N]). A speaker is hard to
    know again, and like others, to a degree that is his own; each encoder adds something."""
    many = 4 + rng.poisson(8 * rng.lognormal(0, 0.5, g))
    enrolled = np.repeat(np.arange(g), 2 * many)
    own = np.tile([True, False], many.sum())
    other = (enrolled + rng.integers(1, g, len(enrolled))) % g
    tested = np.where(own, enrolled, other)
    hard = rng.normal(0, 0.5, g) + rng.normal(0, 0.3, (k, g))
    like = rng.normal(0, 0.35, g) + rng.normal(0, 0.2, (k, g))
    noise = rng.normal(0, 0.8, len(own)) + rng.normal(0, 0.6, (k, len(own)))
    apart = like[:, enrolled] + like[:, tested]
    return enrolled, tested, own, np.where(own, 2.2 + hard[:, enrolled], apart) + noise


def verification(rng: np.random.Generator, draws: int, encoders: int, groups: int) -> Draws:
    values, left_out = np.empty((draws, encoders)), np.empty((draws, encoders, groups))
    sizes = np.empty((draws, groups))
    for d in range(draws):
        enrolled, tested, own, scores = trials(rng, encoders, groups)
        sizes[d] = np.bincount(enrolled.astype(int), minlength=groups)
        kept = [(enrolled != g) & (tested != g) for g in range(groups)]
        for k, row in enumerate(scores):
            values[d, k] = equal_error(own, row)
            left_out[d, k] = [equal_error(own[keep], row[keep]) for keep in kept]
    return Draws(values, left_out, sizes)


def eer_truth(rng: np.random.Generator) -> float:
    rates = []
    for _ in range(20):
        _, _, own, scores = trials(rng, 1, 1000)
        rates.append(equal_error(own, scores[0]))
    return float(np.mean(rates))


def ranked(rng: np.random.Generator, k: int, g: int) -> tuple[Floats, ...]:
    """Clips of two classes per child: (child, positive, scores f64[K, N])."""
    many = 6 + rng.poisson(25 * rng.lognormal(0, 0.6, g))
    child = np.repeat(np.arange(g), many)
    share = expit(rng.normal(-0.3, 0.7, g))
    positive = rng.random(len(child)) < share[child]
    level = rng.normal(0, 0.4, g) + rng.normal(0, 0.25, (k, g))
    clear = 0.9 + rng.normal(0, 0.4, g) + rng.normal(0, 0.25, (k, g))
    noise = rng.normal(0, 0.8, len(child)) + rng.normal(0, 0.6, (k, len(child)))
    return child, positive, level[:, child] + clear[:, child] * positive + noise


def area(positive: NDArray[np.bool_], scores: Floats) -> float:
    from bab.plugins.tasks.valence import area_under_roc

    return area_under_roc(positive, scores) if 0 < positive.sum() < len(positive) else math.nan


def auc(rng: np.random.Generator, draws: int, encoders: int, groups: int) -> Draws:
    values, left_out = np.empty((draws, encoders)), np.empty((draws, encoders, groups))
    sizes = np.empty((draws, groups))
    for d in range(draws):
        child, positive, scores = ranked(rng, encoders, groups)
        sizes[d] = np.bincount(child.astype(int), minlength=groups)
        for k, row in enumerate(scores):
            values[d, k] = area(positive, row)
            left_out[d, k] = [area(positive[child != g], row[child != g]) for g in range(groups)]
    return Draws(values, left_out, sizes)


def auc_truth(rng: np.random.Generator) -> float:
    _, positive, scores = ranked(rng, 1, POPULATION)
    return area(positive, scores[0])


DESIGNS = {
    "f1": additive(voices, macro_f1, "share"),
    "uar": additive(clips((0.5, 0.4, 0.1), (0.75, 0.7, 0.5)), uar, "share"),
    "accuracy": additive(clips((0.6, 0.4), (0.8, 0.7)), accuracy, "share"),
    "uar near 1": additive(clips((0.6, 0.4), (0.97, 0.95)), uar, "share"),
    "wer": additive(words, error_rate, "rate"),
    "eer": Design("percent", verification, eer_truth),
    "auc": Design("share", auc, auc_truth),
}


# --- what becomes of them -----------------------------------------------------------------------


class Figures(NamedTuple):
    """Shares of draws, and the median width of an interval; NaN where nothing was counted."""

    coverage: float
    width: float
    bootstrap: float
    pair: float
    marked: float
    without: float


def usable(one: Draws, d: int, k: int, scale: jackknife.Scale) -> bool:
    return not jackknife.why_not(float(one.values[d, k]), one.left_out[d, k].tolist(), scale)


def percentile_coverage(
    design: Design, one: Draws, truth: float, rng: np.random.Generator, metric: str
) -> float:
    """Of the interval that bab had before; of metrics of sums alone."""
    if one.sums is None:
        return math.nan
    function = {"f1": macro_f1, "uar": uar, "accuracy": accuracy, "wer": error_rate}[
        metric.split(" ")[0]
    ]
    hits = []
    groups = one.sums.shape[2]
    for sums in one.sums[:500, 0]:
        times = rng.multinomial(groups, np.full(groups, 1 / groups), RESAMPLES)
        values = function(times @ sums)
        values = values[np.isfinite(values)]
        if len(values) >= RESAMPLES / 2:
            low, high = np.percentile(values, [2.5, 97.5])
            hits.append(low <= truth <= high)
    return float(np.mean(hits))


def uneven(one: Draws) -> Draws:
    """Three of the six encoders three times as far from the mean of all, group by group."""
    times = np.array([1.0, 1.0, 1.0, 3.0, 3.0, 3.0])
    middle, rest = one.values.mean(1, keepdims=True), one.left_out.mean(1, keepdims=True)
    values = middle + (one.values - middle) * times
    return one._replace(values=values, left_out=rest + (one.left_out - rest) * times[:, None])


def simulate(metric: str, groups: int, draws: int, seed: int = 0, noisy: bool = False) -> Figures:
    """The figures of one metric at one number of groups. noisy: see `uneven`; then coverage, which
    is of the encoders as they were drawn, says nothing."""
    design = DESIGNS[metric]
    truth = design.truth(np.random.default_rng([seed, 1]))
    rng = np.random.default_rng([seed, 2, groups])
    hits, widths, pairs, tables, without = [], [], [], [], 0
    one = design.draw(rng, draws, ENCODERS, groups)
    one = uneven(one) if noisy else one
    up = 1 if design.scale in ("share", "plain") else -1
    for d in range(draws):
        if not all(usable(one, d, k, design.scale) for k in range(ENCODERS)):
            without += 1
            continue
        df = jackknife.freedom(one.sizes[d])
        variance = jackknife.variance(one.left_out[d], one.values[d])
        low, high = jackknife.bounds(one.values[d], variance, df, design.scale)
        hits.append((low <= truth) & (truth <= high))
        widths.append(high - low)
        gaps = one.values[d][:, None] - one.values[d]
        apart = one.left_out[d][:, None] - one.left_out[d][None]
        between = jackknife.variance(apart, gaps)
        same = [(i, i + 1) for i in range(0, ENCODERS, 2)]
        pairs += [abs(gaps[p]) > float(jackknife.student(df)) * between[p] ** 0.5 for p in same]
        dfs = np.full_like(between, df)
        tables.append(bool(jackknife.step_down(up * one.values[d], between, dfs)))
    old = percentile_coverage(design, one, truth, rng, metric)
    width = float(np.median(widths)) if widths else math.nan
    means = [float(np.mean(x)) if x else math.nan for x in (hits, pairs, tables)]
    return Figures(means[0], width, old, means[1], means[2], without / draws)


def seeded(groups: int, seeds: int, draws: int, seed: int = 0, deviation: float = 0.03) -> float:
    """False positives of a pair of equal encoders (metric f1) whose training adds noise of its own:
    each model is `deviation` better or worse than its encoder's mean. As `bab table` judges it."""
    rng = np.random.default_rng([seed, 3, groups, seeds])
    one = DESIGNS["f1"].draw(rng, draws, 2, groups)
    luck = rng.normal(0, deviation, (draws, 2, seeds))
    wrong = 0
    for d in range(draws):
        gap = float(np.diff(one.values[d])[0] + np.diff(luck[d].mean(-1))[0])
        apart = np.diff(one.left_out[d], axis=0)[0] + np.diff(luck[d].mean(-1))[0]
        parts = [(float(jackknife.variance(apart, gap)), jackknife.freedom(one.sizes[d]))]
        if seeds > 1:
            parts += [(float(x) / seeds, seeds - 1.0) for x in luck[d].var(-1, ddof=1)]
        variance, df = jackknife.satterthwaite(parts)
        wrong += abs(gap) > float(jackknife.student(df)) * math.sqrt(variance)
    return wrong / draws


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--draws", type=int, default=2000)
    parser.add_argument("--groups", type=int, nargs="+", default=[3, 5, 8, 10, 20, 30])
    parser.add_argument("--metrics", nargs="+", choices=DESIGNS, default=list(DESIGNS))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--noisy", action="store_true", help="three of six encoders vary threefold")
    args = parser.parse_args()
    print("| metric | groups | coverage | width | bootstrap | pair | marked | no interval |")
    print("|---|---|---|---|---|---|---|---|")
    for metric in args.metrics:
        for groups in args.groups:
            figures = simulate(metric, groups, args.draws, args.seed, args.noisy)
            print(f"| {metric} | {groups} | " + " | ".join(f"{x:.3f}" for x in figures) + " |")
    if "f1" in args.metrics:
        for seeds in (1, 3, 5):
            wrong = seeded(10, seeds, args.draws, args.seed)
            print(
                f"f1, 10 groups, {seeds} seed(s) that deviate by .03: a pair differs in {wrong:.3f}"
            )


if __name__ == "__main__":
    main()
