"""What commands print, to the letter, on files that are made up here.

Words and columns can't be right or wrong by themselves; somebody reads them. What was read is in
tests/cli/transcripts.txt: `python tests/transcripts.py` writes it again, after a change that was
read as well.
"""

from __future__ import annotations

import contextlib
import io
import os
import re
import shlex
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
from format_files import EAF, ITS
from made_models import made
from made_records import CONFIG, kept, make, put

import bab
from bab.cli import main

PACKAGE = Path(bab.__file__).parent
FILE = Path(__file__).parent / "cli" / "transcripts.txt"
COMPONENTS = (
    *("fbank", "hubert", "s3prl", "clap", "pyannet", "frames", "pooled", "xvector", "masked"),
    *("vtc", "sv", "asr", "addressee", "manifest", "kaldi", "hf", "textgrid", "its", "local"),
    *("slurm", "jsonl", "segma", "run", "pretrain"),
)
COMMANDS = (
    *("list", "list encoders", "list tasks", "list datasets", "list formats", "list nothing"),
    *(f"info {name}" for name in COMPONENTS),
    *("info nobody", "info fbank+hubert"),
    *("table", "table runs/vtc --format csv", "table --format latex", "table --baseline wavlm"),
    *("table --format json runs/gender", "table --compare fbank wavlm", "table --subgroups"),
    *("table --compare fbank wavlm --format csv", "table --per-recording", "table nowhere"),
    *("table --subgroups --format csv", "table --per-recording --format latex"),
    *("table --superb superb.csv", "table --superb superb.csv --format csv", "table --audit"),
    *("table runs/vtc/rttm/fbank/v00 --detail", "table runs/gender/rttm/fbank/g-fbank --detail"),
    *(
        "table runs/vtc/rttm/hubert/failed --detail",
        "table --per-layer",
        "table layers --per-layer",
    ),
    *("convert in/a.eaf b.rttm", "convert in out --to rttm", "convert in/b.its out --to csv"),
    *(
        "convert in/a.eaf in/a.eaf",
        "convert in/none.rttm x.csv",
        "convert in out2 --to its",
        "convert in/a.eaf o.TextGrid",
    ),
    *("data check manifest:good.csv --jobs 1", "data check manifest:bad.csv --jobs 1"),
    *("data check manifest:none.csv", "data check nothing:x"),
    *("predict vtc in --out said --quiet", "predict gender in/c.wav --out said2"),
    *("predict vtc in/c.wav --out said3 --format its", "predict vtc none --out x"),
    *("explain vtc --layers --out e1", "explain sv in/c.wav --out e2", "explain vtc --out e3"),
    *("run --encoder fbank --task nothing", "run --encoder fbank --task vtc --set train.step=3"),
    *("run --encoder fbank", "pretrain --encoder fbank --objective masked --corpus rttm"),
    *("bench --encoders fbank --tasks vtc@", "bench --encoders fbank --tasks vtc --lr 0"),
    *("export vtc x --to nothing", "export nowhere x", "embed fbank none --out x"),
    *("new nothing my-plugin", "new encoder My", "new head my-head", "check nobody"),
)


def files(here: Path) -> None:
    """Records, annotations, audio, manifests and models."""
    runs = here / "runs"
    for seed, value in enumerate((0.61, 0.65, 0.66)):
        put(
            runs,
            make(f"v0{seed}", value, seed=seed, config=CONFIG | {"seed": seed}, **_parts(value)),
        )
        put(runs, make(f"w0{seed}", value + 0.1, encoder="wavlm", seed=seed,
                       config=CONFIG | {"seed": seed}, jackknife=kept([value] * 4),
                       **_parts(value + 0.1)))  # fmt: skip
    failed = {"status": "failed", "reason": "no space", "metrics": {}, "intervals": {}}
    put(runs, make("failed", encoder="hubert", jackknife={}, **failed))
    gender: dict[str, Any] = {"task": "gender", "primary": "accuracy", "head": "pooled"}
    gender |= {"units": {"accuracy": ""}, "labels": {"gender": ["female", "male"]}}
    for name, value in (("fbank", 0.5), ("wavlm", 0.875)):
        scores: dict[str, Any] = {"metrics": {"accuracy": value}, "intervals": {}}
        own = {"jackknife": {}, "encoder": name, "leakage": True}
        put(runs, make(f"g-{name}", **gender, **scores, **own))
    for layer, value in enumerate((0.3, 0.5, 0.4)):
        known = CONFIG | {"layers": layer}
        put(here / "layers", make(f"l{layer}", value, config=known, encoder="hubert"))
    rows = ["model,PR,KS,IC,SID,ER,ASR,QbE,SF F1,SF CER,SV,SD"]
    rows += ["fbank,82.01,41.38,9.65,20.06,48.24,23.18,0.0058,69.64,52.94,9.56,10.05"]
    rows += ["big,3.53,96.66,98.76,90.33,67.62,3.62,0.0353,89.81,21.76,5.98,5.75"]
    (here / "superb.csv").write_text("\n".join(rows) + "\n")
    given = here / "in"
    given.mkdir()
    (given / "a.eaf").write_text(EAF)
    (given / "b.its").write_text(ITS)
    (given / "bad.rttm").write_text("SPEAKER a 1 x 1 <NA> <NA> FEM <NA> <NA>\n")
    (given / "e.wav").write_text("no sound")
    noise = np.random.default_rng(0).normal(0, 0.1, 48000)
    soundfile.write(given / "c.wav", noise, 16000)
    soundfile.write(given / "d.wav", noise[:32000] * 0, 16000)
    head = "path,start,end,split,group,gender\n"
    lines = [f"more/{i}.wav,{i},{i + 1},{s},g{i},female" for i, s in enumerate(("train", "dev"))]
    (here / "good.csv").write_text(head + "\n".join([*lines, "in/d.wav,0,2,test,g9,male"]) + "\n")
    (here / "more").mkdir()
    for number in range(2):
        soundfile.write(here / "more" / f"{number}.wav", np.roll(noise, 100 * number + 7), 16000)
    worse = [
        "in/c.wav,0,9,train,g0,female",
        "in/e.wav,0,1,dev,g0,male",
        "in/none.wav,0,1,test,g2,x",
    ]
    (here / "bad.csv").write_text(head + "\n".join(worse) + "\n")
    for task in ("vtc", "gender", "sv"):
        made(here / task, task, encoder="fbank")


def _parts(value: float) -> dict[str, Any]:
    ages = {"young": {"f1": value - 0.2}, "old": {"f1": value + 0.1}}
    groups = {f"home{i:02}": {"f1": value + 0.01 * i} for i in range(3)}
    confusion = {"voice": {"KCHI": {"KCHI": 30.0, "FEM": 1.5}, "FEM": {"FEM": 20.0}}}
    return {"subgroups": {"age": ages}, "groups": groups, "confusion": confusion}


def said(here: Path) -> Iterator[str]:
    """Each command, its exit status and what it says."""
    for command in COMMANDS:
        out, err = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            status = main(shlex.split(command))
        yield f"$ bab {command}   # {status}"
        for name, stream in (("", out), ("! ", err)):
            for line in stream.getvalue().splitlines():
                yield f"{name}{_plain(line, here)}".rstrip()


def _plain(line: str, here: Path) -> str:
    """Without what differs from place to place, and from machine to machine."""
    for name, place in (("HERE", here.resolve()), ("HERE", here), ("BAB", PACKAGE)):
        line = line.replace(str(place), name)
    line = re.sub(r"\b[\d.]+ (s|min|x|MB|GB|MiB)\b(?= |$|,|\))", r"# \1", line)
    line = re.sub(r"\b(?=[0-9a-f]*[a-f])[0-9a-f]{12,}\b", "ID", line)
    return re.sub(r"(\.\d{6})\d+", r"\1", line)


def lines(here: Path) -> list[str]:
    """In an empty folder, which is made the current one."""
    before = Path.cwd()
    os.chdir(here)
    try:
        files(here)
        return list(said(here))
    finally:
        os.chdir(before)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        os.environ |= {"BAB_CACHE": f"{folder}/cache", "COLUMNS": "100"}
        (Path(folder) / "here").mkdir()
        FILE.write_text("\n".join(lines(Path(folder) / "here")) + "\n", encoding="utf-8")
