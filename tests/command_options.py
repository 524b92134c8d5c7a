"""What each command takes: its arguments and options, what they may be, and what they are where
nobody says anything. One line each, as tests/cli/options.txt has them.

`python tests/command_options.py` writes that file: after a change that is meant, which CHANGELOG
tells of.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import click

from bab.cli import cli
from bab.core import registry

FILE = Path(__file__).parent / "cli" / "options.txt"
FACTS = ("required", "multiple", "is_flag", "hidden", "show_default", "is_eager")


def lines(command: click.Command = cli, name: str = "bab") -> Iterator[str]:
    """`bab bench --jobs (jobs): IntRange ...`, in the order of the help."""
    context = click.Context(command)
    for one in command.params:
        yield f"{name} {'/'.join(one.opts)} ({one.name}): {', '.join(_facts(one, context))}"
    for key, below in getattr(command, "commands", {}).items():
        yield from lines(below, f"{name} {key}")


def _facts(one: click.Parameter, context: click.Context) -> Iterator[str]:
    yield _type(one.type)
    if one.nargs != 1:
        yield f"nargs {one.nargs}"
    yield from (fact for fact in FACTS if getattr(one, fact, None))
    if not one.expose_value:
        yield "not handed on"
    if isinstance(meant := getattr(one, "flag_value", None), str):
        yield f"means {meant!r}"
    default = one.get_default(context)
    if isinstance(default, (bool, int, float, str, Path)):
        yield f"default {str(default)!r}"
    offered = {item.value for item in one.shell_complete(context, "")} - {""}
    completes = [k for k in registry.KINDS if offered and {*registry.names(k)} <= offered]
    if completes:
        yield f"completes {' and '.join(completes)}"


def _type(kind: click.ParamType) -> str:
    if isinstance(kind, click.Path):
        asked = {
            "there": kind.exists,
            "no file": not kind.file_okay,
            "no folder": not kind.dir_okay,
        }
        words = [word for word, holds in asked.items() if holds]
        return " ".join(["text" if kind.type is None else kind.type.__name__, *words])
    if isinstance(kind, click.Choice):
        return " | ".join(map(str, kind.choices))
    if isinstance(kind, (click.IntRange, click.FloatRange)):
        low = f"{'>' if kind.min_open else '>='} {kind.min}"
        return f"{kind.name} {low}" + ("" if kind.max is None else f", at most {kind.max}")
    return kind.name


if __name__ == "__main__":
    FILE.write_text("\n".join(lines()) + "\n", encoding="utf-8")
