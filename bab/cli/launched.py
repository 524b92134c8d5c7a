"""`--launcher` and what goes with it, of the commands whose work other machines can do."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import TYPE_CHECKING, Any, TypeVar

import click

from bab.cli.complete import named

if TYPE_CHECKING:
    from bab.launching.asked import Launch

F = TypeVar("F", bound=Callable[..., Any])


def takes_launcher(function: F) -> F:
    """Give a command the options; it is called with `launch`, a `bab.launching.asked.Launch`, or
    None where none is named. Its `sets` are then those that are no launcher's."""

    @wraps(function)
    def called(
        *args: Any,
        launcher: str | None,
        on_interrupt: str,
        cancel_jobs: bool,
        sets: tuple[str, ...],
        **kwargs: Any,
    ) -> Any:
        launch, rest = _launch(launcher, on_interrupt, cancel_jobs, sets)
        return function(*args, sets=rest, launch=launch, **kwargs)

    options = (
        click.option(
            "--launcher",
            metavar="NAME",
            help="Where the work is done: local, slurm, ray; --set launcher.KEY=VALUE.",
            shell_complete=named("launchers"),
        ),
        click.option(
            "--on-interrupt",
            type=click.Choice(["ask", "leave", "cancel"]),
            default="ask",
            help="Ctrl-C: what becomes of a launcher's jobs; ask: leave, without a terminal.",
        ),
        click.option(
            "--cancel-jobs", is_flag=True, help="End the jobs that this command has left at work."
        ),
    )
    given: Any = called
    for option in reversed(options):
        given = option(given)
    return given  # type: ignore[no-any-return]


def _launch(
    launcher: str | None, on_interrupt: Any, cancel: bool, sets: tuple[str, ...]
) -> tuple[Launch | None, tuple[str, ...]]:
    if launcher is None and not cancel and not any(s.startswith("launcher.") for s in sets):
        return None, sets
    from bab.core.errors import ConfigError
    from bab.launching.asked import Launch, split_sets

    own, rest = split_sets(sets)
    if launcher is None:
        given = "--cancel-jobs" if cancel else f"--set {own[0]}"
        raise ConfigError(f"{given}: name the launcher: --launcher slurm")
    return Launch(launcher, own, on_interrupt, cancel), tuple(rest)
