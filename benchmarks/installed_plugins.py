"""CPU time of `bab list` with 200 installed dummy plugins, against none.

    python benchmarks/installed_plugins.py [COUNT]

The dummies are distributions as pip leaves them (a .dist-info folder and a module each) in a folder
on the module path. Both commands are run in turns; the least CPU time of each counts.
"""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import tempfile
from pathlib import Path

TURNS = 15


def install(site: Path, count: int) -> None:
    for i in range(count):
        info = site / f"bab_dummy_{i:03}-1.0.dist-info"
        info.mkdir(parents=True)
        metadata = f"Metadata-Version: 2.1\nName: bab-dummy-{i:03}\nVersion: 1.0\n\nA dummy.\n"
        (info / "METADATA").write_text(metadata)
        (info / "entry_points.txt").write_text(
            f"[bab.encoders]\ndummy{i} = bab_dummy_{i:03}:Dummy\n"
        )
        (site / f"bab_dummy_{i:03}.py").write_text("raise RuntimeError('imported')\n")


def seconds(path: str) -> float:
    """CPU time of one `bab list`."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(
        [sys.executable, "-m", "bab", "list"],
        env=os.environ | {"PYTHONPATH": path},
        stdout=subprocess.DEVNULL,
        check=True,
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main() -> None:
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 200
    with tempfile.TemporaryDirectory() as name:
        full, empty = Path(name) / "full", Path(name) / "empty"
        empty.mkdir()
        install(full, count)
        here = str(Path(__file__).parents[1])
        paths = [os.pathsep.join([str(site), here]) for site in (empty, full)]
        times = [[seconds(path) for path in paths] for _ in range(TURNS)]
    none, some = (min(column) for column in zip(*times, strict=True))
    print(f"bab list: {none:.3f} s with none, {some:.3f} s with {count}: {some / none:.2f} times")


if __name__ == "__main__":
    main()
