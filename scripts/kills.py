"""Kill bab at random moments, go on with the same command, and compare: `python scripts/kills.py`.

Each job is run once without a break; then again in another folder, where it is stopped (SIGKILL to
it and its children, or SIGTERM or SIGHUP to it alone, after which it must end by itself and leave
no child) after random times, and at last left to its end. What both wrote must be equal
to the byte: weights, predictions, manifests, targets, and a record's scores. Needs no more than
the shipped recordings; prints a line for each job, and the counts.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SAMPLE = ROOT / "bab" / "plugins" / "datasets" / "samples" / "rttm"
BAB = [sys.executable, "-m", "bab.cli"]
TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
TRAIN = "train.steps=120 train.eval_every=40 train.save_every=10 train.lr=0.01"
TUNE = (
    "mode=finetune train.steps=12 train.eval_every=4 train.save_every=2 train.batch=2 "
    "train.accumulation=1 view.train_seconds=1.0"
)
SMALL = (
    "{hidden_size: 32, num_hidden_layers: 2, num_attention_heads: 2, intermediate_size: 64, "
    "conv_dim: [32, 32, 32, 32, 32, 32, 32], num_conv_pos_embeddings: 16, "
    "num_conv_pos_embedding_groups: 4}"
)
PRETRAIN = (
    f"encoder.size={SMALL}|encoder.dropout=0|audio.crop=1.0|train.batch=8|train.steps=60|"
    "train.eval_every=20|train.save_every=5|train.lr=1e-3|dev_seconds=8"
)


def run(more: str, encoder: str = "fbank") -> list[str]:
    return ["run", "--encoder", encoder, "--task", "vtc", *_sets(f"{TRAIN} {more}".split())]


def pretrain(encoder: str, objective: str, own: str) -> list[str]:
    named = ["pretrain", "--encoder", encoder, "--objective", objective, "--corpus", "rttm"]
    return [*named, *_sets(f"{PRETRAIN}|{own}".split("|"))]


def _sets(pairs: list[str]) -> list[str]:
    return [word for pair in pairs for word in ("--set", pair)]


SIGNALS = (signal.SIGKILL, signal.SIGTERM, signal.SIGHUP)
_PATIENCE = 120.0  # seconds in which a signal must end it, on a busy machine
# Name -> the command; MODEL stands for a finished run's folder.
JOBS: dict[str, list[str]] = {
    "run": [*BAB, *run("")],
    "fine-tune": [*BAB, *run(TUNE, "hubert:random-tiny")],
    "k-fold": [*BAB, *run("protocol=kfold folds=3")],
    "torchrun": [*TORCHRUN, "-m", "bab.cli", *run("train.accumulation=2")],
    "contrastive": [*BAB, *pretrain("wav2vec2:random-tiny", "contrastive", "objective.codes=16")],
    "masked": [
        *BAB,
        *pretrain("hubert:random-tiny", "masked", "targets.encoder=mfcc|targets.clusters=12"),
    ],
    "bench": [
        *BAB, "bench", "--encoders", "fbank", "--tasks", "vtc,gender@commonvoice", "--seeds", "0,1",
        "--jobs", "2", *_sets(["train.steps=40", "train.eval_every=20"]),
    ],
    "prepare": [
        *BAB, "prepare", "--corpus", f"rttm:{SAMPLE}", "--vad", "energy", "--jobs", "2",
        "--out", "segments.parquet",
    ],
    "targets": [*BAB, "targets", "--corpus", "rttm", "--clusters", "12", "--out", "targets"],
    "predict": [*BAB, "predict", "MODEL", str(SAMPLE / "wav"), "--jobs", "2", "--out", "said"],
}  # fmt: skip
# What is a matter of the moment, or of the way there.
NOT_COMPARED = (".log", ".jsonl", ".lock", ".used", "model.json", "overview.json", "sweep.json")


def outcome(folder: Path) -> dict[str, str]:
    """File -> what it holds; of records, the scores."""
    held: dict[str, str] = {}
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        name = str(path.relative_to(folder))
        hidden = any(part.startswith(".") for part in path.relative_to(folder).parts)
        if hidden or name.startswith("cache") or name.endswith(NOT_COMPARED):
            continue
        if path.suffix == ".json":
            values = json.loads(path.read_text(encoding="utf-8"))
            kept = ("metrics", "dev", "tuned", "labels", "jackknife", "corpus_digest", "losses")
            values = {k: values[k] for k in kept if k in values} if isinstance(values, dict) else 0
            held[name] = json.dumps(values, sort_keys=True)
        else:
            held[name] = hashlib.blake2b(path.read_bytes()).hexdigest()
    return held


def start(command: list[str], folder: Path) -> subprocess.Popen[bytes]:
    environment = os.environ | {"BAB_CACHE": str(folder / "cache"), "OMP_NUM_THREADS": "1"}
    environment["PYTHONPATH"] = str(ROOT)
    with (folder / "said.log").open("ab") as said:
        return subprocess.Popen(
            command,
            cwd=folder,
            env=environment,
            stdout=said,
            stderr=said,
            start_new_session=True,
            # Where this script is run by nohup it would be ignored.
            preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_DFL),
        )


def whole(command: list[str], folder: Path) -> float:
    """Run a command to its end; the seconds it took."""
    folder.mkdir(parents=True, exist_ok=True)
    began = time.monotonic()
    if status := start(command, folder).wait():
        said = (folder / "said.log").read_text(errors="replace")[-2000:]
        raise SystemExit(f"exit {status}: {' '.join(command)}\n{said}")
    return time.monotonic() - began


def stop(process: subprocess.Popen[bytes], how: signal.Signals) -> str:
    """Stop it; what it did then that it shouldn't, or ""."""
    if how is signal.SIGKILL:
        os.killpg(process.pid, how)
        process.wait()
        return ""
    process.send_signal(how)
    said = ""
    try:
        # 130: it saved what it had; so does Python end that was interrupted in an import (by
        # SIGINT, which shells call 130). Before that nobody listens; torchrun ends with 1.
        if process.wait(_PATIENCE) not in (130, -signal.SIGINT, -how, 1):
            said = f"exit {process.returncode} after {how.name}"
    except subprocess.TimeoutExpired:
        said = f"still there {_PATIENCE} s after {how.name}"
    for _ in range(60):  # its children see that it has gone, one after the other
        try:
            os.killpg(process.pid, 0)
        except ProcessLookupError:
            return said
        time.sleep(0.5)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    return said or f"a child was left by {how.name}"


def killed(
    command: list[str], folder: Path, most: float, kills: int, draw: random.Random
) -> tuple[Counter[str], list[str]]:
    """Stop it so many times, unless it ends before; then let it end. How often by which signal, and
    what was wrong."""
    folder.mkdir(parents=True)
    counts: Counter[str] = Counter()
    wrong: list[str] = []
    for _ in range(kills):
        process = start(command, folder)
        try:
            process.wait(draw.uniform(0.1 * most, 0.6 * most))
            break
        except subprocess.TimeoutExpired:
            how = draw.choices(SIGNALS, (2, 1, 1))[0]
            wrong += filter(None, [stop(process, how)])
            counts[how.name] += 1
    whole(command, folder)
    return counts, wrong


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--jobs", default=",".join(JOBS), help=f"of: {', '.join(JOBS)}")
    parser.add_argument("--rounds", type=int, default=3, help="times that each job is gone through")
    parser.add_argument("--kills", type=int, default=3, help="most kills in each round")
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    draw, kills = random.Random(asked.seed), Counter[str]()
    unequal, odd_ends, rounds = [], [], 0
    with tempfile.TemporaryDirectory(prefix="bab-kills-") as top:
        model = ""
        for name in asked.jobs.split(","):
            if name == "predict" and not model:
                whole([*BAB, *run("")], Path(top) / "model")
                model = str(next((Path(top) / "model").rglob("record.json")).parent)
            command = [model if word == "MODEL" else word for word in JOBS[name]]
            seconds = whole(command, Path(top) / name / "whole")
            expected = outcome(Path(top) / name / "whole")
            for number in range(asked.rounds):
                folder = Path(top) / name / str(number)
                counts, wrong = killed(command, folder, seconds, asked.kills, draw)
                got = outcome(folder)
                odd = sorted(k for k in expected | got if expected.get(k) != got.get(k))
                kills, rounds = kills + counts, rounds + 1
                unequal += [f"{name} {number}: {', '.join(odd[:5])}"] if odd else []
                odd_ends += wrong
                told = f"UNEQUAL: {', '.join(odd[:5])}" if odd else f"{len(got)} files equal"
                told = "; ".join([told, *wrong])
                print(f"{name} ({seconds:.0f} s): {_listed(counts)}: {told}", flush=True)
    print(f"\n{_listed(kills)} in {rounds} rounds; {rounds - len(unequal)} ended equal")
    print(f"{len(odd_ends)} didn't end as they should" if odd_ends else "all ended as they should")
    return 1 if unequal or odd_ends else 0


def _listed(counts: Counter[str]) -> str:
    each = ", ".join(f"{count} {name}" for name, count in sorted(counts.items()))
    return f"{counts.total()} kills ({each})" if counts else "0 kills"


if __name__ == "__main__":
    sys.exit(main())
