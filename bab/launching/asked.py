"""What a command line and bab.toml ask of a launcher, checked; and what Ctrl-C does to its jobs."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from bab.core import registry
from bab.core.errors import ConfigError, InterruptedRunError, counted, did_you_mean
from bab.core.launchers import Launcher

SECTION = "launcher"  # of bab.toml, and of --set
OnInterrupt = Literal["ask", "leave", "cancel"]


@dataclass(frozen=True, slots=True)
class Launch:
    """name: of the launcher; sets: texts of `--set launcher.KEY=VALUE`; cancel: end the jobs that
    an earlier such command has left, and do nothing else."""

    name: str
    sets: Sequence[str] = ()
    on_interrupt: OnInterrupt = "ask"
    cancel: bool = False

    def open(self) -> Launcher:
        """The launcher, with its options from bab.toml and, before it, the command line.

        Raises:
            PluginError: there is none of this name, or it can't be loaded.
            ConfigError: an unknown key, or a value that isn't of its type.
        """
        return open_launcher(self.name, self.sets)


def split_sets(sets: Sequence[str]) -> tuple[list[str], list[str]]:
    """Those of `--set KEY=VALUE` that are a launcher's, and the others."""
    own = [text for text in sets if text.partition("=")[0].strip().startswith(f"{SECTION}.")]
    return own, [text for text in sets if text not in own]


def open_launcher(name: str, sets: Sequence[str] = (), folder: Path | None = None) -> Launcher:
    """A launcher by name; arguments and errors as of `Launch.open`. folder: where bab.toml may
    be."""
    from pydantic import ValidationError

    from bab.config.files import assignment, merged, read

    cls = registry.load("launchers", name)
    asked: dict[str, Any] = {}
    sources: dict[str, str] = {}
    toml = (folder or Path()) / "bab.toml"
    if toml.is_file():
        there = read(toml)[1].get(SECTION, {})
        if not isinstance(there, Mapping):
            raise ConfigError(f"{toml}: [{SECTION}] holds keys of a launcher, and is {there!r:.60}")
        # [launcher.slurm] is for that launcher alone; what is a launcher's name is no key.
        tables = registry.names("launchers")
        asked = {k: v for k, v in there.items() if k not in tables}
        asked = merged(asked, there.get(name, {}))
        sources = dict.fromkeys(asked, f"{toml}: {SECTION}")
    for text in sets:
        given = assignment(text)[SECTION]
        asked = merged(asked, given)
        sources |= dict.fromkeys(given, f"--set {SECTION}")
    for key in asked:
        if key not in cls.Options.model_fields:
            near = did_you_mean(key, cls.Options.model_fields)
            raise ConfigError(f"{sources[key]}.{key}: launcher '{name}' has no such key: {near}")
    try:
        launcher: Launcher = cls(cls.Options(**_typed(cls.Options, asked)))
    except ValidationError as error:
        first = error.errors()[0]
        key = str(first["loc"][0]) if first["loc"] else ""
        where = f"{sources.get(key, SECTION)}.{key}"
        raise ConfigError(f"{where}: {first['msg']}, not {asked.get(key)!r:.60}") from None
    return launcher


def _typed(options: Any, asked: Mapping[str, Any]) -> dict[str, Any]:
    """Numbers where a text is wanted are text: time=30, account=1234."""
    texts = {k for k, field in options.model_fields.items() if field.annotation is str}
    return {
        k: str(v) if k in texts and isinstance(v, (int, float)) and not isinstance(v, bool) else v
        for k, v in asked.items()
    }


def interrupted(fleet: Any, launch: Launch, what: str) -> InterruptedRunError:
    """Ctrl-C came: leave the jobs running or cancel them, as asked; what is to be said.

    fleet: a `bab.launching.fleet.Fleet`.
    """
    if not fleet.jobs:
        return InterruptedRunError(f"stopped; {what}, and the same command goes on from here")
    many, ids = counted(len(fleet.jobs), "job"), ", ".join(fleet.ids[:20])
    way = launch.on_interrupt
    if way == "ask":
        way = _answer(many)
    if way == "cancel":
        fleet.cancel()
        have = "has" if len(fleet.jobs) == 1 else "have"
        left = f"; {counted(len(fleet.jobs), 'job')} {have} yet to end" if fleet.jobs else ""
        return InterruptedRunError(
            f"{many} cancelled{left}; {what}, and the same command goes on from here"
        )
    return InterruptedRunError(
        f"{many} left at work under {launch.name} ({ids}). The same command picks them up; with "
        "--cancel-jobs it ends them"
    )


def _answer(many: str) -> Literal["leave", "cancel"]:
    """What a person at a terminal wants; without one, the jobs stay."""
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        return "leave"
    try:
        print(
            f"\nCancel {many}, or leave them running? [c/L] ", end="", file=sys.stderr, flush=True
        )
        said = sys.stdin.readline().strip().lower()
    except KeyboardInterrupt:
        return "leave"
    return "cancel" if said in ("c", "cancel") else "leave"
