"""Valid files of every kind that bab reads, broken in a thousand ways. What reads them may succeed,
or raise a BabError; anything else, and what takes over 5 s, is a fault of bab.

`make fuzz` runs 20,000 cases and prints the outcomes; tests/cli/test_fuzz.py runs some hundred.
"""

from __future__ import annotations

import json
import os
import random
import re
import shutil
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import format_files
import numpy as np
import pyarrow
import soundfile
import torch
from made_models import made
from made_records import edit as edit_record
from made_records import make as made_record

from bab.benching import asked
from bab.config.resolve import pretrain_config, run_config
from bab.core.errors import BabError
from bab.core.sealed import read as read_sealed
from bab.core.sealed import write_tensors
from bab.data.annotations import open_format
from bab.data.sealed import write_json, write_parquet
from bab.plugins.datasets.manifest import Manifest
from bab.plugins.datasets.rttm import Rttm
from bab.results import breakdown
from bab.results.detail import detail
from bab.results.record import load as load_record
from bab.results.record import save as save_record
from bab.results.table import table
from bab.running.saved import load_saved
from bab.targets.store import TargetStore

TOKENS = [
    *(
        b"",
        b"\x00",
        b"\xff\xfe",
        b"\n",
        b"\r",
        b"\t",
        b" ",
        b'"',
        b"'",
        b"{",
        b"]",
        b"<",
        b"&x;",
        b"*",
    ),
    *(b"-1", b"0", b"nan", b"inf", b"-inf", b"1e999", b"9" * 5000, b"null", b"true", b"[]", b"{}"),
    *(b"[" * 3000, b"{a: " * 2000, b"&a [*a]", b"!!bool maybe", b"!!float ''", b"!!int x", b".inf"),
    *("é".encode(), "\u202e".encode(), b"\x1b[31m", b"=1+1", b"a" * 300, b"\x7f\xff\xff\xff"),
]


def mutated(data: bytes, draw: random.Random) -> bytes:
    """`data` with one to four faults."""
    out = bytearray(data)
    for _ in range(draw.choice((1, 1, 1, 2, 4))):
        at = (
            draw.randrange(len(out) + 1)
            if draw.random() < 0.6
            else draw.randrange(min(len(out), 100) + 1)
        )
        kind = draw.choice((0, 0, 0, 1, 2, 3, 4, 5, 5, 6))
        if kind == 0 and at < len(out):
            out[at] ^= 1 << draw.randrange(8)
        elif kind == 1:
            del out[at:]
        elif kind == 2:
            del out[at : at + draw.choice((1, 2, 4, 16, 100))]
        elif kind == 3:
            out[at:at] = draw.choice(TOKENS)
        elif kind == 4:
            out[at:at] = out[draw.randrange(len(out) + 1) :][: draw.choice((4, 40, 400))]
        elif kind == 5:  # another value for a word
            words = [m.span() for m in re.finditer(rb"[\w.+-]+", bytes(out[:20_000]))]
            if words:
                begin, end = draw.choice(words)
                out[begin:end] = draw.choice(TOKENS)
        else:
            out[at : at + 4] = draw.choice((b"\0\0\0\0", b"\xff\xff\xff\xff", draw.randbytes(4)))
    return bytes(out)


FORMATS = ("markdown", "csv", "json", "latex")


@dataclass(frozen=True)
class Fuzzer:
    """path: of the file that is broken, whose content is `data`; read: what reads it."""

    name: str
    path: Path
    data: bytes
    read: Callable[[], object]

    def case(self, seed: int) -> str:
        """read | refused | unnamed (refused, and the message names another thing) | FAULT and
        where."""
        draw = random.Random(f"{self.name} {seed}")
        self.path.write_bytes(mutated(self.data, draw))
        began = time.perf_counter()
        try:
            self.read()
            if time.perf_counter() - began > 5:
                return "FAULT: over 5 s"
        except BabError as error:
            return "refused" if self.path.name in str(error) else "unnamed"
        except Exception as error:
            frame = traceback.extract_tb(error.__traceback__)[-1]
            place = f"{Path(frame.filename).name}:{frame.lineno}"
            return f"FAULT {type(error).__name__} at {place}: {error!s:.80}"
        finally:
            self.path.write_bytes(self.data)
        return "read"


def fuzzers(folder: Path) -> list[Fuzzer]:
    """One for each kind of file, at work in a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    return [
        *_audio(folder),
        *_annotations(folder),
        *_corpora(folder),
        *_made(folder),
        *_asked(folder),
    ]


def _audio(folder: Path) -> list[Fuzzer]:
    from bab.audio import reading

    noise = np.random.default_rng(0).normal(0, 0.1, 8000).astype(np.float32)
    kinds = {
        "wav": ("WAV", "PCM_16"), "rf64": ("RF64", "PCM_16"), "flac": ("FLAC", "PCM_16"),
        "ogg": ("OGG", "VORBIS"), "opus": ("OGG", "OPUS"), "mp3": ("MP3", "MPEG_LAYER_III"),
    }  # fmt: skip
    listed = []
    for name, (form, subtype) in kinds.items():
        path = folder / f"{name}.wav"
        soundfile.write(path, noise, 16000, format=form, subtype=subtype)

        def read(path: Path = path) -> None:
            reading.info(path)
            reading.read(path)

        listed.append(Fuzzer(name, path, path.read_bytes(), read))
    return listed


def _annotations(folder: Path) -> list[Fuzzer]:
    listed = []
    for name in ("rttm", "csv", "textgrid", "eaf", "audacity", "cha", "its"):
        form = open_format(name, {})
        path = folder / f"a{form.suffixes[0]}"
        if form.writes:
            form.write([format_files.DAY], path)
        else:
            path.write_text(format_files.ITS)
        listed.append(Fuzzer(name, path, path.read_bytes(), lambda f=form, p=path: f.read(p)))
    return listed


def _corpora(folder: Path) -> list[Fuzzer]:
    listed = []
    homes = Path(shutil.copytree(Rttm.sample, folder / "homes"))
    for name in ("rttm/home09.rttm", "train.txt", "uem/home09.uem"):
        path = homes / name
        if path.exists():

            def read() -> None:
                corpus = Rttm(homes, Rttm.Options())
                [corpus.clips(split) for split in corpus.splits()]

            listed.append(Fuzzer(f"corpus {path.name}", path, path.read_bytes(), read))
    rows = [
        ("a.wav", 0.0, 1.0, "train", "g1"),
        ("a.wav", 1.5, 2.0, "dev", "g2"),
        ("b.wav", 0, 1, "test", "g3"),
    ]
    names = ("path", "start", "end", "split", "group")
    tables = {
        "csv": "\n".join(",".join(map(str, row)) for row in (names, *rows)),
        "tsv": "\n".join("\t".join(map(str, row)) for row in (names, *rows)),
        "jsonl": "\n".join(json.dumps(dict(zip(names, row, strict=True))) for row in rows),
    }
    for suffix, text in tables.items():
        (folder / f"m.{suffix}").write_text(text)
    columns = {name: [type(rows[0][i])(row[i]) for row in rows] for i, name in enumerate(names)}
    write_parquet(folder / "m.parquet", pyarrow.table(columns), {b"bab.prepare": b"{}"})
    pyarrow.parquet.write_table(pyarrow.table(columns), folder / "plain.parquet")
    for path in (*(folder / f"m.{s}" for s in (*tables, "parquet")), folder / "plain.parquet"):

        def read(path: Path = path) -> None:
            Manifest(path, Manifest.Options()).clips()

        listed.append(Fuzzer(f"manifest {path.name}", path, path.read_bytes(), read))
    return listed


def _shown(file: Path) -> None:
    """All that is made of a record: tables, and its details."""
    record = load_record(file)
    for form in FORMATS:
        table([record], form)
        detail(record, form)
    for view in ("subgroups", "recordings"):
        with suppress(BabError):  # it has none
            breakdown.show([record], view, "markdown")


def _made(folder: Path) -> list[Fuzzer]:
    parts = {"groups": {"home1": {"f1": 0.5}, "home2": {"f1": 0.7}}, "dev": {"f1": 0.6}}
    parts |= {"subgroups": {"age": {"young": {"f1": 0.5}, "old": {"f1": 0.7}}}}
    parts |= {"confusion": {"voice": {"KCHI": {"KCHI": 3, "FEM": 1}, "FEM": {"FEM": 2}}}}
    shown = {"metrics": {"f1": 0.6, "f1/KCHI": 0.8}, "intervals": {"f1": [0.5, 0.7]}}
    record = save_record(made_record(presets={"f1": shown}, **parts), folder)
    edit_record(record)  # without its checksum, which would stop most of the faults
    run = made(folder / "run", "vtc", encoder="fbank") / "model"
    spec = json.loads((run / "model.json").read_text())
    del spec["checksum"], spec["weights"]
    (run / "model.json").write_text(json.dumps(spec))
    tensors = folder / "x.safetensors"
    write_tensors(tensors, {"a": torch.arange(9.0), "b": torch.ones(3, 2)}, "k", more="y")
    store = folder / "targets"
    store.mkdir()
    meta = {"format": 1, "clusters": 3, "fingerprint": "x", "plan": "p", "features": "mfcc"}
    (store / "targets.json").write_text(json.dumps(meta))
    write_tensors(store / "centroids.safetensors", {"centroids": torch.ones(3, 2)}, "p/centroids")
    index = {"ids": torch.zeros(2, 16, dtype=torch.uint8)}
    index |= {n: torch.zeros(2, dtype=torch.int64) for n in ("shard", "offset", "first", "frames")}
    write_tensors(store / "index.safetensors", index, "p/index")
    write_json(folder / "unused.json", {})
    jobs: list[tuple[Path, Callable[[], object]]] = [
        (record, lambda: _shown(record)),
        (run / "model.json", lambda: load_saved(run.parent)),
        (run / "model.safetensors", lambda: load_saved(run.parent)),
        (tensors, lambda: read_sealed(tensors)),
        (store / "targets.json", lambda: TargetStore(store)),
        (store / "index.safetensors", lambda: TargetStore(store)),
    ]
    return [Fuzzer(path.name, path, path.read_bytes(), read) for path, read in jobs]


RECIPE = """
encoder: hubert:tiny
task: {name: vtc, options: {fill_gaps: 0.1}}
corpus: rttm
train: {steps: 10, lr: 1e-3, batch: 4, warmup: 2, clip: 1.0, workers: 1}
view: {window: 4.0, hop: null}
observers: [jsonl]
seed: 1
mode: probe
layers: mix
cache: {budget_gb: 1.0, dtype: float32}
"""
GRID = """
encoders: [fbank, hubert:tiny]
tasks: [vtc, vtc@rttm]
seeds: [0, 1]
lr: [1e-3, 1e-4]
jobs: 2
runs: runs
set: {train.steps: 20}
"""
PRETRAIN = """
encoder: wav2vec2:random-tiny
objective: {name: contrastive}
corpus: [rttm]
train: {steps: 10, seconds: 20, lr: 1e-3}
crop: {max_seconds: 4.0}
"""


def _asked(folder: Path) -> list[Fuzzer]:
    recipe, toml, sets = folder / "r.yaml", folder / "bab.toml", folder / "set"
    lines = re.sub(
        r"[{}]", "", "encoder = 'fbank'\ntask = 'vtc'\nseed = 1\n[train]\nsteps = 10\nlr = 1e-3\n"
    )
    pretrain, grid = folder / "p.yaml", folder / "grid.yaml"
    empty = folder / "empty"
    empty.mkdir(exist_ok=True)

    def by_set() -> None:
        text = sets.read_bytes().decode("utf-8", "replace")
        try:
            run_config(None, {"encoder": "fbank", "task": "vtc"}, text.split("\n"), folder=empty)
        except BabError as error:
            raise BabError(f"set: {error}") from error

    jobs: list[tuple[Path, bytes, Callable[[], object]]] = [
        (recipe, RECIPE.encode(), lambda: run_config(recipe, folder=empty)),
        (pretrain, PRETRAIN.encode(), lambda: pretrain_config(pretrain, folder=empty)),
        (grid, GRID.encode(), lambda: asked.asked_grid(grid, {}, (), False)),
        (toml, lines.encode(), lambda: run_config(None, {}, folder=folder)),
        (sets, b"train.lr=1e-3\ncorpus.root=-1\ntask.fill_gaps=0.1\nobservers=[jsonl]", by_set),
    ]
    return [Fuzzer(path.name, path, data, read) for path, data, read in jobs]


def campaign(folder: Path, cases: int, first: int = 0) -> dict[str, Counter[str]]:
    """Outcomes by kind of file; as many cases of each, from the seed `first` on."""
    every = fuzzers(folder)
    each = range(first, first + -(-cases // len(every)))
    return {one.name: Counter(one.case(seed) for seed in each) for one in every}


def main() -> int:
    """Cases from the command line, on folders of their own; the number of faults."""
    cases, first = (*map(int, sys.argv[1:]), *(20_000, 0)[len(sys.argv) - 1 :])
    with tempfile.TemporaryDirectory() as folder:
        os.environ["BAB_CACHE"] = f"{folder}/cache"
        outcomes = campaign(Path(folder) / "files", cases, first)
    whole: Counter[str] = Counter()
    for name, counts in outcomes.items():
        whole.update({k.partition(" ")[0].rstrip(":"): n for k, n in counts.items()})
        kinds = ", ".join(
            f"{n} {kind}" for kind, n in sorted(counts.items()) if "FAULT" not in kind
        )
        print(f"{name:24} {kinds}")
        for kind, n in counts.items():
            if "FAULT" in kind:
                print(f"    {n} {kind}")
    print(f"{sum(whole.values()):,} cases:", ", ".join(f"{n:,} {k}" for k, n in whole.items()))
    return min(1, whole["FAULT"])


if __name__ == "__main__":
    sys.exit(main())
