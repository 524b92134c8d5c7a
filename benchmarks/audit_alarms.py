"""How often `bab audit` says SHORTCUT where traits say nothing of the class.

    python benchmarks/audit_alarms.py --groups 10 --draws 100 --classes even

Made-up traits: a draw for each group (its device), twice as wide as that of each of its ten clips.
Classes are drawn by clip, as frequent in every group (even) or by group (skewed: Beta(.5, .5)).
"""

from __future__ import annotations

import argparse
from types import SimpleNamespace

import numpy as np

from bab.auditing import audit as auditing
from bab.auditing.traits import TRAITS
from bab.config.resolve import run_config
from bab.core.components import build_task
from bab.core.types import Clip
from bab.data import splits
from bab.results.audit import NAMES, control, gap
from bab.results.audit import TRAITS as HEARD
from bab.running.data import Data

EACH = 10


def draw(seed: int, groups: int, skewed: bool) -> tuple[list[Clip], np.ndarray]:
    """Clips, and their traits f64[N, traits]."""
    generator = np.random.default_rng([seed, groups])
    clips, rows = [], []
    for group in range(groups):
        device = 2 * generator.normal(size=len(TRAITS))
        share = generator.beta(0.5, 0.5) if skewed else 0.5
        for i in range(EACH):
            label = "ab"[int(generator.random() < share)]
            name = f"{group}-{i}"
            clips.append(Clip(name, f"{name}.wav", 0, 1, f"g{group}", labels={"w": label}))
            rows.append(device + generator.normal(size=len(TRAITS)))
    return clips, np.array(rows)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--groups", type=int, default=10)
    parser.add_argument("--draws", type=int, default=100)
    parser.add_argument("--classes", choices=["even", "skewed"], default="even")
    parser.add_argument("--metric", default="uar")
    given = parser.parse_args()
    sets = ["protocol=kfold", "folds=4", "task.labels=[w]", f"task.metric={given.metric}"]
    config = run_config(None, {"encoder": "fbank", "task": "classify", "corpus": "manifest"}, sets)
    corpus = SimpleNamespace(version="1", unit="group", notices=[])
    auditing._traits = lambda *asked: []  # which trait it is plays no part here
    alarms = {HEARD: 0, NAMES: 0}
    for seed in range(given.draws):
        clips, rows = draw(seed, given.groups, given.classes == "skewed")
        auditing._measured = lambda *asked, rows=rows: rows
        data = Data(splits.kfold(clips, 4, 0), clips, {}, {}, {}, "made up")
        task = build_task("classify", config.task.options)
        made = auditing._made(config, task, corpus, data, "made up", lambda *told: None)
        for name in alarms:
            alarms[name] += gap(made.rows[name], made.rows[control(made)]).above
    print(f"{given.classes}, {given.groups} groups, {given.metric}: of {given.draws}: {alarms}")


if __name__ == "__main__":
    main()
