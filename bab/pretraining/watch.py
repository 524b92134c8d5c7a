"""What tells a pretraining run that learns from one that doesn't: dev loss, collapse, probes."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from bab.config.pretrain import PretrainConfig
from bab.core.errors import BabError
from bab.core.interfaces import Objective, Scorer
from bab.core.observers import Watchers, hookimpl
from bab.core.record import RunInfo
from bab.core.trainer import Logs
from bab.core.types import Batch

# A quantiser that uses one code of each group has a perplexity of the number of groups: 2. So much
# over it is a collapse; for clusters that are predicted, of which one alone is left, twice as much.
_COLLAPSED = 1.25
PROBES = "probes"  # a folder of a pretraining run, with a folder for each probe
_SAID = "said.log"  # what a probe said of what went wrong
_PATIENCE = 50  # steps in a row


def collapsed(values: Mapping[str, float], groups: int) -> bool:
    """Is the perplexity that of a code or two? groups: of the quantiser; 0 where there is none."""
    return values.get("perplexity", math.inf) < _COLLAPSED * (groups or 2)


def dev_losses(
    scorer: Scorer, objective: Objective, batches: Sequence[Batch], accelerator: Any
) -> dict[str, float]:
    """The loss over some batches, its weighted terms, each a sum over its count; and the logs.

    Each process takes its share of the batches, and all get the same numbers.
    """
    rank, world = accelerator.process_index, accelerator.num_processes
    sums: Logs = {}
    names: set[str] = set()
    with torch.no_grad(), accelerator.autocast():
        for batch in batches[rank::world]:
            loss = objective(scorer, batch.to(accelerator.device))
            for name, term in loss.terms.items():
                names.add(f"loss/{name}")
                _add(sums, f"loss/{name}", term.weight * float(term.total), term.count)
            for name, pair in loss.logs.items():
                _add(sums, name, float(pair[0]), pair[1])
    if world > 1:
        sums, names = _gathered(sums, names)
    means = {name: total / count for name, (total, count) in sums.items() if count}
    return {"loss": sum(means.get(name, 0.0) for name in sorted(names)), **means}


def _add(sums: Logs, name: str, total: float, count: float) -> None:
    before = sums.get(name, (0.0, 0.0))
    sums[name] = (before[0] + total, before[1] + count)


def _gathered(sums: Logs, names: set[str]) -> tuple[Logs, set[str]]:
    from accelerate.utils import gather_object

    whole: Logs = {}
    every: set[str] = set()
    for one, named in gather_object([(sums, names)]):
        every |= named
        for name, pair in one.items():
            _add(whole, name, *pair)
    return whole, every


class Watch:
    """Watches a run: warns of a collapse, and probes the encoder on a downstream task."""

    def __init__(
        self,
        config: PretrainConfig,
        folder: Path,
        watchers: Watchers,
        export: Callable[[Path], None],
        groups: int,
        beside: bool = False,
    ) -> None:
        """folder: the run's; watchers: are told; export: writes the encoder as it is now; groups:
        of the quantiser, 0 where there is none; beside: training goes on while a probe runs on the
        CPU, and its score comes later."""
        self.config = config
        self.groups = groups
        self.folder = folder
        self.watchers = watchers
        self.export = export
        self.low = 0
        self.beside = beside
        self.probes: list[tuple[int, Path, subprocess.Popen[bytes]]] = []

    @hookimpl
    def bab_step(self, run: RunInfo, step: int, values: Mapping[str, float]) -> None:
        self.low = self.low + 1 if collapsed(values, self.groups) else 0
        if self.low == _PATIENCE:
            what = (
                "one code per group: a higher objective.diversity_weight,"
                if self.groups
                else ("a cluster or two:")
            )
            told = (
                f"step {step}: the perplexity has been {values['perplexity']:.2f}: it has "
                f"collapsed to {what} a lower train.lr or a longer train.warmup may help"
            )
            self.watchers.bab_notice(run=run, message=told)
        every = self.config.probe.every
        if every and step % every == 0:
            self._probe(step)
        self.told(run, wait=not self.beside)

    def told(self, run: RunInfo, wait: bool) -> None:
        """Tell of the probes that have ended; wait: for all of them."""
        for probe in [one for one in self.probes if wait or one[2].poll() is not None]:
            self.probes.remove(probe)
            try:
                self._score(run, *probe)
            except BabError as error:
                self.watchers.bab_notice(run=run, message=f"step {probe[0]}: {error}")

    def leave(self) -> None:
        """End the probes that still run: nobody waits for them any more."""
        for _, _, process in self.probes:
            process.kill()
            process.wait()

    def _probe(self, step: int) -> None:
        config = self.config.probe
        place = self.folder / PROBES / f"step-{step:09d}"
        self.export(place / "model")
        place.mkdir(parents=True, exist_ok=True)
        command = [sys.executable, "-m", "bab", "run", "--task", config.task, "--quiet"]
        command += ["--encoder", f"{self.config.encoder.name}:{place / 'model'}"]
        command += ["--corpus", config.corpus] if config.corpus else []
        command += [part for text in config.sets for part in ("--set", text)]
        command += ["--runs", str(place / "runs"), "--offline", "--device", "cpu"]
        # A file, not a pipe: nobody reads while the probe runs, and a full pipe would stop it.
        with (place / _SAID).open("wb") as said:
            process = subprocess.Popen(
                command, stdout=subprocess.DEVNULL, stderr=said, env=_alone()
            )
        self.probes.append((step, place, process))

    def _score(
        self, run: RunInfo, step: int, place: Path, process: subprocess.Popen[bytes]
    ) -> None:
        config = self.config.probe
        process.wait()
        records = list((place / "runs").rglob("record.json"))
        if process.returncode or not records:
            said = (place / _SAID).read_text(encoding="utf-8", errors="replace")
            last = (said.strip().splitlines() or ["no message"])[-1]
            raise BabError(f"the probe on '{config.task}' failed: {last}")
        record = json.loads(records[0].read_text(encoding="utf-8"))
        metrics = {record["primary"]: record["metrics"][record["primary"]]}
        self.watchers.bab_evaluated(
            run=run, step=step, split=f"probe/{config.task}", metrics=metrics, best=False
        )


def _alone() -> dict[str, str]:
    """The environment without what torchrun put there: a probe is one process of its own."""
    own = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
    return {
        k: v for k, v in os.environ.items() if k not in own and not k.startswith("TORCHELASTIC")
    }
