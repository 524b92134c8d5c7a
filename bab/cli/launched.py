"""`--launcher` and what goes with it, of the commands whose work other machines can do."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from bab.cli.complete import named

if TYPE_CHECKING:
    from bab.cli.display import Ticker
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


def jobs_of(launch: Launch | None, jobs: int | None) -> int:
    """How many jobs a launcher may have at a time, by default 1.

    Raises:
        ConfigError: they are asked for where there is no launcher, and would mean nothing.
    """
    if jobs is not None and launch is None:
        from bab.core.errors import ConfigError

        raise ConfigError(f"--jobs {jobs}: name whose jobs: --launcher slurm")
    return jobs or 1


def own_arguments() -> list[str]:
    """The command line that is being run, without what goes with `--launcher` and without --jobs:
    what each of the jobs is given."""
    rest: list[str] = []
    given = iter(click.get_current_context().find_root().obj or ())
    for text in given:
        name, equals, value = text.partition("=")
        if text == "--":
            return [*rest, text, *given]
        if name in ("--launcher", "--on-interrupt", "--jobs"):
            if not equals:
                next(given, None)
        elif name == "--set":
            value = value if equals else next(given, "")
            rest += [] if value.startswith("launcher.") else ["--set", value]
        elif text != "--cancel-jobs":
            rest.append(text)
    return rest


def in_shards(
    launch: Launch,
    place: Path,
    most: int,
    stages: Sequence[tuple[str, Sequence[str], int]],
    shown: Ticker,
    fine: tuple[int, ...] = (0, 1),
) -> bool:
    """Have a command done in shards, by jobs; False where they were only to be cancelled.

    Args:
        place: where the jobs keep their state.
        most: jobs in the queue at a time.
        stages: one after the other: name, further arguments, shards; 0: one job for the whole.
        shown: where progress is told.
        fine: exit statuses of jobs that did what can be done.
    """
    from bab.launching.jobs import Wanted, folder_of, run_jobs

    command, *rest = own_arguments()
    for name, more, shards in stages:
        marks = [f"{number}/{shards}" for number in range(1, shards + 1)] if shards else [""]
        commands = {}
        for mark in marks:
            shard = ["--shard", mark] if mark else []
            called = f"{name}-{mark.replace('/', '-of-')}" if mark else name
            commands[called] = ["-m", "bab", command, *more, *shard, *rest]
        folder = folder_of(place, [name, str(shards), command, *rest])
        wanted = Wanted(commands, most, name, fine)
        if not run_jobs(launch, folder, wanted, shown.tell, shown.say):
            return False
    return True


def as_job(launch: Launch, place: Path) -> None:
    """Have the command done by one job over the launcher's layout, and show what it prints."""
    from bab.cli.echo import echo
    from bab.launching.jobs import Wanted, folder_of, run_jobs

    arguments = own_arguments()
    folder = folder_of(place, arguments)
    name = f"{arguments[0]}-{folder.name}"  # the port of its processes comes of it
    commands = {name: ["-m", "bab", *arguments]}
    wanted = Wanted(commands, 1, "job", (0,), spread=True, follow=True)
    run_jobs(launch, folder, wanted, lambda *told: None, lambda line: echo(line, err=True))


def shard_option(function: F) -> F:
    """`--shard I/N`, which jobs are given; `shard` is a `bab.data.shards.Shard` or None."""

    def parsed(context: click.Context, option: click.Parameter, value: str | None) -> Any:
        if value is None:
            return None
        from bab.data.shards import Shard

        return Shard.parse(value)

    option = click.option(
        "--shard", metavar="I/N", callback=parsed, help="A share of the work, as jobs do it."
    )
    return option(function)
