"""A probe with bab and the same with s3prl, side by side: time, accuracy, and what a grid costs.

    python benchmarks/probe_vs_s3prl.py [--steps 1000] [--quick] [--keep FOLDER]

A small HuBERT (random weights, 2 million parameters) is saved with transformers. 240 clips of 2 s
in six classes are synthesised: 120 train, 60 dev, 60 test. Both systems get the same files, batches
of 8, a softmax-weighted sum of the layers, SUPERB's utterance-level head (Linear 256, mean,
Linear), a constant learning rate of 1e-3, gradients clipped to a norm of 1. Each run has a process
of its own, timed from the lists to the test score; bab has nothing cached then. Imports are not
timed: a short run of each system is made first, and what it had imported at its end (much of it on
the way) is imported before the clock of the others starts.

What differs: s3prl takes Adam and bab AdamW, which without weight decay is the same update. Order
and initial weights come from each system's own generator. Both score dev once, at the end. s3prl
keeps the encoder beside the head in its checkpoints, as it always does.

--quick takes 100 steps instead of 1,000, and 500 instead of 5,000. The longer run of s3prl is
extrapolated from its mean time per step. The grid (5 learning rates x 3 seeds), and the single run
it is compared with, go through `bab bench`'s pool: start of the worker included, nothing cached.

What has to be installed is said where it is missing.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import importlib.util
import json
import math
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

NEEDED = ("transformers", "scipy", "s3prl", "omegaconf", "pandas", "librosa", "sklearn",
          "tensorboard", "editdistance", "tensorboardX", "sed_eval", "more_itertools")  # fmt: skip
INSTALL = (
    "'bab[dev,s3prl]' pandas librosa tensorboard editdistance tensorboardX sed_eval more_itertools"
)
RATE = 16_000
SECONDS = 2
CLASSES = 6
LR = 1e-3
SPLITS = {"train": 120, "dev": 60, "test": 60}
RATES = (1e-4, 3e-4, 1e-3, 3e-3, 1e-2)
SEEDS = (0, 1, 2)
_SHORT = 10  # steps of the runs that show what has to be imported
WIDTHS: dict[str, Any] = {
    "conv_dim": [96] * 7,
    "hidden_size": 192,
    "num_hidden_layers": 4,
    "num_attention_heads": 3,
    "intermediate_size": 768,
    "num_conv_pos_embeddings": 32,
    "num_conv_pos_embedding_groups": 16,
}


# --- what both are given ------------------------------------------------------------------------


def make_encoder(folder: Path) -> int:
    """A random HuBERT as transformers saves it, and its number of parameters."""
    import torch
    from transformers import HubertConfig, HubertModel, Wav2Vec2FeatureExtractor

    torch.manual_seed(0)
    model = HubertModel(HubertConfig(**WIDTHS))
    model.save_pretrained(folder)
    extractor = Wav2Vec2FeatureExtractor(do_normalize=True, return_attention_mask=False)
    extractor.save_pretrained(folder)
    return sum(p.numel() for p in model.parameters())


def make_corpus(folder: Path) -> None:
    """Voices of six classes that differ in two resonances, by about as much as speakers vary."""
    import numpy as np
    import soundfile
    from scipy.signal import lfilter

    draw = np.random.default_rng(0)
    folder.mkdir(parents=True)
    rows, lists = ["path,split,group,word"], {}
    for split, count in SPLITS.items():
        lists[split] = ["id,wav_path,label"]
        for index in range(count):
            kind = index % CLASSES
            pitch = draw.uniform(90, 260)
            time_ = np.arange(RATE * SECONDS) / RATE
            phase = 2 * np.pi * np.cumsum(pitch * (1 + 0.05 * np.sin(2 * np.pi * 3 * time_))) / RATE
            wave = (np.diff(np.floor(phase / (2 * np.pi)), prepend=0) > 0).astype(float)
            wave += 0.03 * draw.standard_normal(len(wave))
            for low, step in ((400, 70), (1200, 180)):
                centre = (low + step * kind) * draw.lognormal(0, 0.10)
                radius = np.exp(-np.pi * 120 / RATE)
                poles = [1, -2 * radius * np.cos(2 * np.pi * centre / RATE), radius**2]
                wave = lfilter([1 - radius], poles, wave)
            wave = 0.1 * wave / wave.std() + 0.02 * draw.standard_normal(len(wave))
            name = f"{split}-{index:03d}"
            soundfile.write(folder / f"{name}.wav", np.clip(wave, -1, 1), RATE, subtype="PCM_16")
            rows.append(f"{name}.wav,{split},{name},w{kind}")
            lists[split].append(f"{name},{folder / name}.wav,w{kind}")
    (folder / "manifest.csv").write_text("\n".join(rows) + "\n")
    for split, lines in lists.items():
        (folder / f"{split}.csv").write_text("\n".join(lines) + "\n")


# --- the systems, each in a process of its own ---------------------------------------------------


def run_bab(work: Path, steps: int) -> dict[str, Any]:
    """One `bab run`, with no cached feature."""
    from bab.config.resolve import run_config
    from bab.running.runner import run

    began, cpu = time.perf_counter(), time.process_time()
    config = run_config(None, options(work), [*sets(steps), f"train.lr={LR}"])
    record, _ = run(config)
    return {
        "seconds": time.perf_counter() - began,
        "cpu": time.process_time() - cpu,
        "accuracy": record.metrics["accuracy"],
    }


def run_s3prl(work: Path, steps: int) -> dict[str, Any]:
    """s3prl's own SuperbSID on the same files."""
    import torch
    import yaml
    from s3prl.problem.common.superb_sid import SuperbSID
    from s3prl.upstream.hf_hubert import hubconf  # noqa: F401

    marks: list[tuple[float, float]] = []
    clip = torch.nn.utils.clip_grad_norm_

    def marked(*args: Any, **named: Any) -> Any:  # called once in each step
        marks.append((time.perf_counter(), time.process_time()))
        return clip(*args, **named)

    torch.nn.utils.clip_grad_norm_ = marked

    class Probe(SuperbSID):
        """Reads the lists that are there already."""

        def prepare_data(
            self, prepare_data: Any, target_dir: str, cache_dir: str, get_path_only: bool = False
        ) -> tuple[str, str, list[str]]:
            train, dev, test = (str(work / "corpus" / f"{split}.csv") for split in SPLITS)
            return train, dev, [test]

    out = work / f"s3prl-{steps}"
    arguments = {
        "target_dir": out, "device": "cpu", "num_workers": 0,
        "build_upstream.name": "hf_hubert_custom", "build_upstream.path_or_url": work / "hubert",
        "prepare_data": "{'dataset_root':'x'}", "build_optimizer.conf.lr": LR,
        "train.total_steps": steps, "train.eval_step": steps, "train.save_step": steps,
        "train.log_step": steps, "train.gradient_accumulate": 1,
    }  # fmt: skip
    flat = [text for key, value in arguments.items() for text in (f"--{key}", str(value))]
    began, cpu = time.perf_counter(), time.process_time()
    Probe().main(flat)
    seconds, cpu = time.perf_counter() - began, time.process_time() - cpu
    result = next(out.glob("evaluate/*/test/result.yaml"))
    step, cpu_step = ((b - a) / (len(marks) - 1) for a, b in zip(marks[0], marks[-1], strict=True))
    return {
        "seconds": seconds,
        "cpu": cpu,
        "step": step,
        "cpu_step": cpu_step,
        "accuracy": yaml.safe_load(result.read_text())["accuracy"],
    }


def run_grid(work: Path, steps: int, rates: Sequence[float], seeds: Sequence[int]) -> float:
    """Seconds of `bab bench` over one cell, with no cached feature."""
    from bab.benching.grid import Cell, RunGrid
    from bab.benching.pool import Pool

    given = options(work)
    cell = Cell(given["encoder"], given["task"], given["corpus"])
    keys = {"device": given["device"]}
    runs = str(work / f"bench-{len(rates)}x{len(seeds)}")
    grid = RunGrid((cell,), tuple(seeds), tuple(rates), keys, tuple(sets(steps)), runs)
    began = time.perf_counter()
    found = Pool(grid, 1, lambda line: None).run(lambda slot, job, event: None)
    if found.failures or len(found.records) != len(seeds):
        raise SystemExit(f"the grid failed: {found.failures}")
    return time.perf_counter() - began


def import_all(names: Sequence[str]) -> None:
    """Import modules that a run of the same kind had at its end, in its order."""
    for name in names:
        # Some are put together by others, and can't be imported by name.
        with contextlib.suppress(Exception):
            importlib.import_module(name)


def child(what: str, work: Path, steps: int) -> None:
    """What one process does; its findings are the last line that it prints."""
    found: dict[str, Any]
    known = work / f"modules-{what}.json"
    if what == "s3prl":
        from bab.plugins.encoders.shared import s3prl

        s3prl.mend_torchaudio()  # it asks torchaudio for functions that are gone
    if known.exists():
        import_all(json.loads(known.read_text()))
    if what == "bab":
        found = run_bab(work, steps)
    elif what == "s3prl":
        found = run_s3prl(work, steps)
    else:
        one = what == "one"
        seconds = run_grid(work, steps, (LR,) if one else RATES, (0,) if one else SEEDS)
        used = os.times()  # of this process and, now that they have ended, its workers
        found = {"seconds": seconds, "cpu": sum(used[:4])}
    if not known.exists():
        known.write_text(json.dumps(list(sys.modules)))
    print("\n" + json.dumps(found))


def options(work: Path) -> dict[str, Any]:
    """What a bab run is given by name."""
    return {
        "encoder": f"hubert:{work / 'hubert'}",
        "task": "classify",
        "corpus": f"manifest:{work / 'corpus'}",
        "runs": str(work / "runs"),
        "quiet": True,
        "observers": ["jsonl"],
        "device": "cpu",
    }


def sets(steps: int) -> list[str]:
    """bab's settings, as s3prl's are."""
    return [
        "train.batch=8",
        f"train.steps={steps}",
        f"train.eval_every={steps}",
        f"train.save_every={steps}",
        "train.weight_decay=0.0",
        "train.schedule=constant",
        "train.clip=1.0",
        "head.hidden=256",
    ]


# --- the comparison -------------------------------------------------------------------------------


def measure(what: str, work: Path, steps: int) -> dict[str, Any]:
    """Run a child, with a feature cache of its own that is empty."""
    cache, log = work / f"cache-{what}-{steps}", work / f"{what}-{steps}.log"
    command = [sys.executable, __file__, "--child", what, "--work", str(work)]
    with log.open("w") as errors:
        done = subprocess.run(
            [*command, "--steps", str(steps)],
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            env={**os.environ, "BAB_CACHE": str(cache)},
            cwd=work,
        )
    if done.returncode:
        raise SystemExit(f"{what} failed:\n{log.read_text()[-2000:]}")
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    told = f"{found['seconds']:7.1f} s, {found['cpu']:7.1f} s of CPU"
    load = os.getloadavg()[0]
    print(f"  {what:<6} {steps:>5} steps: {told} (load {load:.1f})", flush=True)
    return found


def interval(share: float, count: int) -> str:
    """A share with its 95 % interval (Wilson 1927)."""
    z = 1.96
    middle = (share + z * z / (2 * count)) / (1 + z * z / count)
    half = z * math.sqrt(share * (1 - share) / count + z * z / (4 * count * count))
    half /= 1 + z * z / count
    return f"{share:.3f} [{middle - half:.3f}, {middle + half:.3f}]"


def compare(work: Path, steps: int) -> None:
    """Measure everything and print it."""
    load = ", ".join(f"{value:.1f}" for value in os.getloadavg())
    threads = os.environ.get("OMP_NUM_THREADS", "not set")
    print(f"{os.cpu_count()} cores, load {load}, OMP_NUM_THREADS {threads}")
    print(f"{make_encoder(work / 'hubert'):,} parameters")
    make_corpus(work / "corpus")
    print("short runs, for what they import:")
    for what in ("bab", "s3prl"):
        measure(what, work, _SHORT)
    print("the runs:")
    ours, long = measure("bab", work, steps), measure("bab", work, 5 * steps)
    one, grid = measure("one", work, steps), measure("grid", work, steps)
    theirs = measure("s3prl", work, steps)
    further = theirs["seconds"] + 4 * steps * theirs["step"]
    cpu = theirs["cpu"] + 4 * steps * theirs["cpu_step"]
    print(f"\ns3prl takes {1000 * theirs['step']:.0f} ms a step: {5 * steps} steps would take")
    print(f"{further:.0f} s (extrapolated)\n")
    print(f"{steps} steps: {theirs['seconds'] / ours['seconds']:.1f} times less (aim: 15 at 1,000)")
    print(f"{5 * steps} steps: {further / long['seconds']:.1f} times less (aim: 60 at 5,000)")
    print(f"CPU time, {steps} steps: {theirs['cpu'] / ours['cpu']:.1f} times less")
    print(f"CPU time, {5 * steps} steps: {cpu / long['cpu']:.1f} times less (of {cpu:.0f} s)")
    for name, found in (("bab", ours), ("s3prl", theirs)):
        print(f"test accuracy, {name}: {interval(found['accuracy'], SPLITS['test'])}")
    ratio = grid["seconds"] / one["seconds"]
    print(f"grid of {len(RATES)} x {len(SEEDS)} over one run: {ratio:.2f} (aim: at most 1.5)")
    print(f"the same in CPU time: {grid['cpu'] / one['cpu']:.2f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--quick", action="store_true", help="100 steps")
    parser.add_argument("--keep", type=Path, help="a new folder to work in, left as it is")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    parser.add_argument("--work", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.child:
        child(given.child, given.work, given.steps)
        return
    for name in NEEDED:
        if importlib.util.find_spec(name) is None:
            raise SystemExit(f"{name} is not installed; this needs pip install {INSTALL}")
    steps = 100 if given.quick else given.steps
    if given.keep:
        given.keep.mkdir(parents=True)
        compare(given.keep.resolve(), steps)
        return
    with tempfile.TemporaryDirectory() as work:
        compare(Path(work).resolve(), steps)


if __name__ == "__main__":
    main()
