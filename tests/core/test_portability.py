"""Nothing needs a POSIX system: Python's modules that only such a system has are taken away."""

from __future__ import annotations

import ast
import os
import subprocess
import sys

import forks
import pytest
from places import ROOT

# The standard library's pages say "Availability: Unix" of these.
POSIX_ONLY = (
    "crypt", "curses", "fcntl", "grp", "nis", "ossaudiodev", "pty", "pwd", "resource", "spwd",
    "syslog", "termios", "tty",
)  # fmt: skip
WITHOUT = f"""
import sys
import types
sys.modules.update(dict.fromkeys({POSIX_ONLY!r}))  # importing one raises ImportError
# psutil's own Linux half needs `resource`; on Windows it has the peak at hand.
memory = types.SimpleNamespace(peak_wset=123_000_000)
sys.modules["psutil"] = types.ModuleType("psutil")
sys.modules["psutil"].Process = lambda: types.SimpleNamespace(memory_info=lambda: memory)
from bab.cli import main
sys.exit(main(sys.argv[1:]))
"""


def bab(cwd, *arguments):
    own = {"BAB_CACHE": str(cwd / "cache"), "OMP_NUM_THREADS": "1"}
    environment = {**os.environ, **own, "USERNAME": "somebody"}  # which Windows sets
    command = [sys.executable, "-c", WITHOUT, *arguments]
    return forks.run(command, cwd, environment)


def test_no_file_imports_a_module_that_only_posix_has_but_in_a_try():
    def bare(tree):
        """Imports outside of any `try`."""
        for node in ast.iter_child_nodes(tree):
            if isinstance(node, ast.Try):
                continue
            if isinstance(node, ast.Import):
                yield from (alias.name.split(".")[0] for alias in node.names)
            elif isinstance(node, ast.ImportFrom):
                yield (node.module or "").split(".")[0]
            yield from bare(node)

    paths = sorted((ROOT / "bab").rglob("*.py"))
    assert len(paths) > 100
    for path in paths:
        names = set(bare(ast.parse(path.read_text(encoding="utf-8"))))
        assert not names & set(POSIX_ONLY), path
    assert set(bare(ast.parse("def f():\n    import fcntl\n"))) == {"fcntl"}


def test_a_run_and_its_model(tmp_path):
    few = ("--set", "train.steps=2", "--set", "train.batch=2")
    ran = bab(tmp_path, "run", "--encoder", "fbank", "--task", "gender", "--quiet", *few)
    assert ran.returncode == 0, ran.stderr
    (record,) = tmp_path.glob("runs/*/*/*/*/record.json")
    assert '"peak_memory_gb": 0.123' in record.read_text()


def test_a_folder_is_held_where_flock_is_missing(tmp_path):
    """filelock falls back on a lock file that says who holds it."""
    source = (
        "import sys; sys.modules['fcntl'] = None\n"
        "from pathlib import Path\n"
        "from bab.core.errors import BusyError\n"
        "from bab.starting.folders import locked\n"
        "with locked(Path('x'), True):\n"
        "    try:\n"
        "        with locked(Path('x'), True): print('both')\n"
        "    except BusyError: print('one')\n"
        "with locked(Path('x'), True): print('again')\n"
    )
    said = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", source], cwd=tmp_path, capture_output=True, text=True
    )
    assert said.stdout.split() == ["one", "again"], said.stderr


@pytest.mark.parametrize("system", ["posix", "nt"])
def test_a_worker_is_asked_to_leave_in_the_way_of_its_system(system, monkeypatch):
    from bab.benching import pool

    told = []

    class Pipe:
        def close(self):
            told.append("closed")

    class Process:
        stdin = Pipe()

        def terminate(self):
            told.append("terminated")

    worker = object.__new__(pool.Worker)
    worker.process = Process()
    monkeypatch.setattr(pool.os, "name", system)
    worker.leave()
    assert told == [{"posix": "terminated", "nt": "closed"}[system]]
