"""CPU time of the light commands over that of importing what they can't do without.

    python benchmarks/import_time.py [TRIES]

Prints the best user + system seconds of TRIES (default 20) for each command, and its ratio to
`python -c "import click, importlib.metadata"`. The aim is 1.5 at most.
"""

from __future__ import annotations

import resource
import subprocess
import sys

BASELINE = ["-c", "import click, importlib.metadata"]
MAIN = "import sys; from bab.cli import main; sys.exit(main({}))"


def cpu(arguments: list[str]) -> float:
    """User + system seconds of one `python ARGUMENTS`."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, *arguments], check=True, stdout=subprocess.DEVNULL)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime


def main() -> None:
    tries = int(sys.argv[1]) if len(sys.argv) > 1 else 20
    commands = {
        "import click, importlib.metadata": BASELINE,
        "bab --help": ["-c", MAIN.format(["--help"])],
        "bab list": ["-c", MAIN.format(["list"])],
    }
    best = dict.fromkeys(commands, float("inf"))
    for _ in range(tries):  # in turn, so that a busy moment hits all of them
        for name, arguments in commands.items():
            best[name] = min(best[name], cpu(arguments))
    baseline = best["import click, importlib.metadata"]
    for name, seconds in best.items():
        print(f"{name:<34} {seconds * 1000:6.1f} ms   ratio {seconds / baseline:.2f}")


if __name__ == "__main__":
    main()
