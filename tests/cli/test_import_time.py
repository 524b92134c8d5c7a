"""Light commands import nothing heavy (benchmarks/import_time.py measures what that saves)."""

from __future__ import annotations

import subprocess
import sys

import pytest

HEAVY = {"torch", "transformers", "numpy", "pydantic", "rich", "yaml", "pluggy"}

PROBE = """
import sys
from bab.cli import main
status = main({arguments!r})
assert status == 0, status
print("MODULES", *sorted(name.partition(".")[0] for name in sys.modules))
"""


def imported(arguments: list[str]) -> set[str]:
    command = [sys.executable, "-c", PROBE.format(arguments=arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return set(done.stdout.rsplit("MODULES", 1)[1].split())


@pytest.mark.parametrize(
    "arguments",
    [["--help"], ["--version"], ["list"], ["list", "heads"], ["run", "--help"], ["table", "-h"]],
    ids=" ".join,
)  # fmt: skip
def test_light_commands_import_nothing_heavy(arguments):
    assert imported(arguments) & HEAVY == set()


def test_the_probe_sees_what_a_heavy_command_imports():
    assert {"torch", "numpy", "pydantic"} <= imported(["info", "frames"])


def test_the_package_itself_is_light():
    script = "import sys, bab; bab.__version__; print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert set(done.stdout.split()) & (HEAVY | {"click"}) == set()
