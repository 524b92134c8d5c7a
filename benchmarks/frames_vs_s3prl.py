"""Probes on frames with bab and with s3prl, side by side: SUPERB's diarization and recognition.

    python benchmarks/frames_vs_s3prl.py [--steps 200] [--keep FOLDER]

The encoder of probe_vs_s3prl.py (random weights, 2 million parameters); 80 recordings of 8 s in
which two voices take turns and overlap. `sd`: who of the two speaks when (s3prl's SuperbSD: an LSTM
of 512; bab: task vtc with two classes, a BiLSTM of 2 x 256). `asr`: which voice comes after which,
as text, by character (s3prl's SuperbASR and bab's asr, both: Linear 256, two BiLSTMs of 128,
dropout .2, no SpecAugment). Batches of 8, every layer weighed, a rate of 1e-3, dev once at the end.
Each run has a process of its own, timed from the lists on, with nothing cached; what it imports is
imported before. bab's time includes its test and intervals; of s3prl's diarization the test is
left out (its scorer is a shell script). The seconds of a step are s3prl's mean over its steps.

What has to be installed is that of probe_vs_s3prl.py.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import probe_vs_s3prl as other

SECONDS, SPLITS = 8, {"train": 56, "dev": 12, "test": 12}
VOICES = {"FEM": 220.0, "MAL": 110.0}
_SHORT = 3


def make_corpus(folder: Path) -> None:
    """Recordings in the layouts that each system reads."""
    import numpy as np
    import soundfile

    draw = np.random.default_rng(0)
    for name in ("wav", "rttm"):
        (folder / name).mkdir(parents=True)
    rows = ["path,split,group,text"]
    for split, count in SPLITS.items():
        sd = ["record_id,duration,wav_path,utt_id,speaker,start_sec,end_sec"]
        asr = ["id,wav_path,transcription"]
        names = [f"{split}{index:03d}" for index in range(count)]
        for name in names:
            wave, turns = _recording(draw)
            path = folder / "wav" / f"{name}.wav"
            soundfile.write(path, wave, other.RATE, subtype="PCM_16")
            lines = [
                f"SPEAKER {name} 1 {a:.2f} {b - a:.2f} <NA> <NA> {v} <NA> <NA>" for v, a, b in turns
            ]
            (folder / "rttm" / f"{name}.rttm").write_text("\n".join(lines) + "\n")
            sd += [
                f"{name},{SECONDS},{path},{name}-{i},{name}{v},{a:.2f},{b:.2f}"
                for i, (v, a, b) in enumerate(turns)
            ]
            text = " ".join(v.lower() for v, _, _ in turns)
            asr.append(f"{name},{path},{text}")
            rows.append(f"wav/{name}.wav,{split},{name},{text}")
        (folder / f"{split}.txt").write_text("\n".join(names) + "\n")
        (folder / f"sd-{split}.csv").write_text("\n".join(sd) + "\n")
        (folder / f"asr-{split}.csv").write_text("\n".join(asr) + "\n")
    (folder / "manifest.csv").write_text("\n".join(rows) + "\n")


def _recording(draw: Any) -> tuple[Any, list[tuple[str, float, float]]]:
    """A wave, and who speaks from when to when: both voices, each after the other."""
    import numpy as np

    wave = 0.02 * draw.standard_normal(other.RATE * SECONDS)
    turns, at = [], 0.3
    while at < SECONDS - 1.5:
        voice = list(VOICES)[len(turns) % 2]
        begin, end = round(at, 2), round(at + draw.uniform(0.5, 1.2), 2)
        span = slice(int(begin * other.RATE), int(end * other.RATE))
        seconds = np.arange(span.stop - span.start) / other.RATE
        pitch = VOICES[voice] * draw.uniform(0.9, 1.1)
        wave[span] += 0.1 * np.sign(np.sin(2 * np.pi * pitch * seconds))
        turns.append((voice, begin, end))
        at = end + draw.uniform(-0.2, 0.4)
    return np.clip(wave, -1, 1), turns


def run_bab(kind: str, work: Path, steps: int) -> dict[str, Any]:
    """One `bab run`, with no cached feature."""
    from bab.config.resolve import run_config
    from bab.running.runner import run

    head = {
        "sd": ["task.classes=[FEM, MAL]", "head.rnn=bilstm", "head.hidden=256", "head.layers=1",
               f"view.window={SECONDS}"],
        "asr": ["head.widths=[256]", "head.rnn=bilstm", "head.hidden=128", "head.dropout=0.2"],
    }[kind]  # fmt: skip
    shared = [one for one in other.sets(steps) if not one.startswith("head.")]
    given = other.options(work) | {
        "task": {"sd": "vtc", "asr": "asr"}[kind],
        "corpus": f"{'rttm' if kind == 'sd' else 'manifest'}:{work / 'corpus'}",
    }
    began, cpu = time.perf_counter(), time.process_time()
    record, _ = run(run_config(None, given, [*shared, *head, f"train.lr={other.LR}"]))
    spent = {"seconds": time.perf_counter() - began, "cpu": time.process_time() - cpu}
    return {**spent, "train": record.cost.get("train_seconds", 0.0)}


def run_s3prl(kind: str, work: Path, steps: int) -> dict[str, Any]:
    """s3prl's own recipe on the same files."""
    import torch
    from s3prl.problem.asr.superb_asr import SuperbASR
    from s3prl.problem.diarization.superb_sd import SuperbSD
    from s3prl.upstream.hf_hubert import hubconf  # noqa: F401

    marks: list[float] = []
    clip = torch.nn.utils.clip_grad_norm_

    def marked(*args: Any, **named: Any) -> Any:  # called once in each step
        marks.append(time.process_time())
        return clip(*args, **named)

    torch.nn.utils.clip_grad_norm_ = marked
    recipe: Any = {"sd": SuperbSD, "asr": SuperbASR}[kind]

    class Probe(recipe):  # type: ignore[misc]
        """Reads the lists that are there already."""

        def default_config(self) -> dict[str, Any]:
            config: dict[str, Any] = super().default_config()
            config["build_batch_sampler"]["train"] = {"batch_size": 8, "shuffle": True}
            if kind == "asr":
                shape = config["build_downstream"]
                shape["model_conf"] |= {"proj_size": 256, "hidden_size": [128, 128]}
                shape["specaug_conf"] = None
            return config

        def prepare_data(
            self, prepare_data: Any, target_dir: str, cache_dir: str, get_path_only: bool = False
        ) -> tuple[str, str, list[str]]:
            train, dev, test = (str(work / "corpus" / f"{kind}-{name}.csv") for name in SPLITS)
            return train, dev, [test]

    out = work / f"s3prl-{kind}-{steps}"
    place = "{'data_dir':'x'}" if kind == "sd" else "{'dataset_root':'x'}"
    arguments = {
        "target_dir": out, "device": "cpu", "num_workers": 0,
        "build_upstream.name": "hf_hubert_custom", "build_upstream.path_or_url": work / "hubert",
        "prepare_data": place, "build_optimizer.conf.lr": other.LR,
        "train.total_steps": steps, "train.eval_step": steps, "train.save_step": steps,
        "train.log_step": steps, "train.gradient_accumulate": 1,
    }  # fmt: skip
    if kind == "sd":
        arguments["stop"] = 1
    flat = [text for key, value in arguments.items() for text in (f"--{key}", str(value))]
    began, cpu = time.perf_counter(), time.process_time()
    with contextlib.suppress(SystemExit):  # how a `stop` ends
        Probe().main(flat)
    spent = {"seconds": time.perf_counter() - began, "cpu": time.process_time() - cpu}
    return {**spent, "step": (marks[-1] - marks[0]) / (len(marks) - 1)}


def child(what: str, kind: str, work: Path, steps: int) -> None:
    """What one process does; what it measured is the last line that it prints."""
    known = work / f"modules-{what}-{kind}.json"
    if what == "s3prl":
        from bab.plugins.encoders.shared import s3prl

        s3prl.mend_torchaudio()  # it asks torchaudio for functions that are gone
    if known.exists():
        other.import_all(json.loads(known.read_text()))
    measured = (run_bab if what == "bab" else run_s3prl)(kind, work, steps)
    if not known.exists():
        known.write_text(json.dumps(list(sys.modules)))
    print("\n" + json.dumps(measured))


def measure(what: str, kind: str, work: Path, steps: int) -> dict[str, Any]:
    """Run a child, with a feature cache of its own that is empty."""
    log = work / f"{what}-{kind}-{steps}.log"
    command = [sys.executable, __file__, "--child", what, "--kind", kind, "--work", str(work)]
    environment = {**os.environ, "BAB_CACHE": str(work / f"cache-{kind}-{steps}")}
    with log.open("w") as errors:
        done = subprocess.run(
            [*command, "--steps", str(steps)],
            stdout=subprocess.PIPE, stderr=errors, text=True, env=environment, cwd=work,
        )  # fmt: skip
    if done.returncode:
        raise SystemExit(f"{what} {kind} failed:\n{log.read_text()[-2000:]}")
    measured: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    told = f"{measured['seconds']:7.1f} s, {measured['cpu']:7.1f} s of CPU"
    print(
        f"  {kind} {what:<6} {steps:>5} steps: {told} (load {os.getloadavg()[0]:.1f})", flush=True
    )
    return measured


def compare(work: Path, steps: int) -> None:
    """Measure everything and print it."""
    threads = os.environ.get("OMP_NUM_THREADS", "not set")
    print(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}, OMP_NUM_THREADS {threads}")
    print(f"{other.make_encoder(work / 'hubert'):,} parameters")
    make_corpus(work / "corpus")
    for kind in ("sd", "asr"):
        for what in ("bab", "s3prl"):  # for what they import
            measure(what, kind, work, _SHORT)
        ours, theirs = (measure(what, kind, work, steps) for what in ("bab", "s3prl"))
        cpu, wall = theirs["cpu"] / ours["cpu"], theirs["seconds"] / ours["seconds"]
        print(f"{kind}, {steps} steps: {cpu:.1f} times less CPU time, {wall:.1f} by the clock")
        print(f"s3prl takes {1000 * theirs['step']:.0f} ms of CPU a step")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--keep", type=Path, help="a new folder to work in, left as it is")
    for name in ("--child", "--kind"):
        parser.add_argument(name, help=argparse.SUPPRESS)
    parser.add_argument("--work", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.child:
        child(given.child, given.kind, given.work, given.steps)
        return
    for name in other.NEEDED:
        if other.importlib.util.find_spec(name) is None:
            raise SystemExit(f"{name} is not installed; this needs pip install {other.INSTALL}")
    if given.keep:
        given.keep.mkdir(parents=True)
        compare(given.keep.resolve(), given.steps)
        return
    with tempfile.TemporaryDirectory() as work:
        compare(Path(work).resolve(), given.steps)


if __name__ == "__main__":
    main()
