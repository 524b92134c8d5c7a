"""What a manifest of millions of clips costs before a run begins: time and memory.

    python benchmarks/big_corpus.py [--clips 10000000] [--form csv] [--per-file 1000] [--audio]

Makes a manifest (path, start, end, speaker, text and a label; no splits, so that they are made by
speaker) in a temporary folder. A process of its own then lists it, splits it, looks for what is
wrong with the lists (types, times, ids that stand twice, what splits share) and takes the digest
that the run's id depends on. Without --audio the files are only names.

--audio makes the files, too (short and all different), and measures all that `bab run` does with
the corpus before its id is known, twice (what was seen of files is remembered), and `bab data
check`. --per-file 1 gives each clip a file of its own.
"""

from __future__ import annotations

import argparse
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

HEADER = ("path", "start", "end", "speaker", "text", "mood")
RATE, SECONDS = 8000, 2  # of the files


def row(i: int, per: int) -> tuple[str, str, str, str, str, str]:
    at = (i % per) * 0.001
    home = f"homes/h{i // per:07d}.wav"
    return home, f"{at:.3f}", f"{at + 1:.3f}", f"s{i // 2000:05d}", f"said {i % 9973}", f"m{i % 5}"


def write(path: Path, count: int, per: int) -> None:
    if path.suffix == ".csv":
        with path.open("w") as file:
            file.write(",".join(HEADER) + "\n")
            file.writelines(",".join(row(i, per)) + "\n" for i in range(count))
        return
    import pyarrow as pa
    from pyarrow import parquet

    kinds = [pa.float64() if name in ("start", "end") else pa.string() for name in HEADER]
    schema = pa.schema(list(zip(HEADER, kinds, strict=True)))
    with parquet.ParquetWriter(path, schema) as table:
        for first in range(0, count, 1 << 18):
            rows = [row(i, per) for i in range(first, min(first + (1 << 18), count))]
            cells = [list(map(float, c)) if 0 < k < 3 else c for k, c in enumerate(zip(*rows))]  # noqa: B905 - of one length
            arrays = [pa.array(c, kind) for c, kind in zip(cells, kinds, strict=True)]
            table.write_table(pa.table(arrays, schema=schema))


def sounds(folder: Path, count: int) -> None:
    """Short files of noise, all different, old enough to be remembered."""
    import numpy as np
    import soundfile

    (folder / "homes").mkdir()
    noise = np.random.default_rng(0).normal(0, 0.1, RATE * SECONDS + count)
    for i in range(count):
        path = folder / "homes" / f"h{i:07d}.wav"
        soundfile.write(path, noise[i : i + RATE * SECONDS], RATE, "PCM_U8")
        os.utime(path, (1e9, 1e9))


@contextmanager
def timed(what: str) -> Iterator[None]:
    began, wall = time.process_time(), time.perf_counter()
    yield
    spent, passed = time.process_time() - began, time.perf_counter() - wall
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(f"| {what} | {spent:.1f} | {passed:.1f} | {peak:.2f} |", flush=True)


def lists(path: Path) -> None:
    """Measure what is done with the lists alone."""
    with timed("imports"):
        from bab.checking.clips import checked_clips, refuse_same_ids
        from bab.columns.ask import paths_of
        from bab.data.content import corpus_digest
        from bab.data.splits import Fold, check_disjoint
        from bab.plugins.datasets.manifest import Manifest
    with timed("list"):
        corpus = Manifest(path, Manifest.Options())
    with timed("split"):
        parts = {split: corpus.clips(split) for split in corpus.splits()}
    with timed("check"):
        parts = {split: checked_clips(corpus, clips) for split, clips in parts.items()}
        refuse_same_ids(corpus, parts)
        check_disjoint(parts)
    with timed("digest"):
        clips = corpus.clips()
        content = dict.fromkeys(paths_of(clips), "0" * 32)
        digest = corpus_digest(clips, [Fold(**parts)], {}, content)
    print(f"{len(clips)} clips: {', '.join(f'{n} {len(c)}' for n, c in parts.items())}; {digest}")


def runs(path: Path) -> None:
    """Measure all that a run does before its id is known."""
    from bab.config.resolve import run_config
    from bab.running.data import read_data
    from bab.running.parts import build_question

    asked = {"task": "classify", "encoder": "fbank", "corpus": f"manifest:{path}"}
    config = run_config(None, asked, ["task.labels=[mood]"])
    with timed("a run, until its id is known"):
        data = read_data(config, *build_question(config), lambda *_: None)
    print(f"digest {data.digest}")


def check(path: Path) -> None:
    """Measure `bab data check`, which reads every file."""
    from bab.config.corpora import open_corpus, tasks_for
    from bab.config.resolve import corpus_config
    from bab.data.check import check_corpus, render

    with timed("bab data check"):
        corpus = open_corpus(corpus_config(f"manifest:{path}"))
        report = check_corpus(corpus, 1, None, tasks_for(None, [], corpus.provides))
    print(render(report).splitlines()[-1])


STAGES: dict[str, Callable[[Path], None]] = {
    "lists": lists,
    "runs": runs,
    "again": runs,
    "check": check,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--clips", type=int, default=10_000_000)
    parser.add_argument("--form", choices=("csv", "parquet"), default="csv")
    parser.add_argument("--per-file", type=int, default=1000)
    parser.add_argument("--audio", action="store_true")
    parser.add_argument("--measure", choices=tuple(STAGES), help=argparse.SUPPRESS)
    parser.add_argument("--path", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.measure:
        STAGES[args.measure](args.path)
        return
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"manifest.{args.form}"
        write(path, args.clips, args.per_file)
        if args.audio:
            sounds(Path(folder), -(-args.clips // args.per_file))
        size = path.stat().st_size / 1e6
        print(f"{args.clips} clips, {args.per_file} in a file; {args.form}, {size:.0f} MB")
        print(f"load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores\n")
        print("| | CPU s | wall s | peak GB |\n|---|--:|--:|--:|", flush=True)
        environment = {**os.environ, "BAB_CACHE": f"{folder}/cache", "OMP_NUM_THREADS": "1"}
        for what in STAGES if args.audio else ("lists",):
            command = [sys.executable, __file__, "--measure", what, "--path", str(path)]
            subprocess.run(command, check=True, env=environment)
        print(f"load {os.getloadavg()[0]:.1f}")


if __name__ == "__main__":
    main()
