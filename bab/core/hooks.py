"""Events of a run, as pluggy hook specifications. Fire and forget: no return value, no order.

An observer is a class with methods of these names, marked with `hookimpl`; any argument may be
left out. An observer that raises is reported once, by its distribution's name, and dropped: a
watcher never stops a run. All times are seconds.
"""

from __future__ import annotations

from collections.abc import Mapping

import pluggy

from bab.core.records import Record, RunInfo

hookspec = pluggy.HookspecMarker("bab")
hookimpl = pluggy.HookimplMarker("bab")


class Events:
    """The specifications that pluggy checks every observer against."""

    @hookspec
    def bab_run_start(self, run: RunInfo) -> None:
        """A run begins, or resumes. The run's folder exists."""

    @hookspec
    def bab_progress(self, run: RunInfo, stage: str, done: float, total: float, unit: str) -> None:
        """`done` of `total` units ("s" of audio, "files", "steps") of a stage are finished."""

    @hookspec
    def bab_step(self, run: RunInfo, step: int, values: Mapping[str, float]) -> None:
        """An optimizer step ended. values: loss, lr, grad_norm, audio_seconds, seconds, ..."""

    @hookspec
    def bab_evaluated(
        self, run: RunInfo, step: int, split: str, metrics: Mapping[str, float], best: bool
    ) -> None:
        """A split was scored. best: this is the best dev score so far."""

    @hookspec
    def bab_checkpoint(self, run: RunInfo, step: int, path: str) -> None:
        """A checkpoint was written, atomically, and can be resumed from."""

    @hookspec
    def bab_notice(self, run: RunInfo, message: str) -> None:
        """Something that the user should know and that is not an error."""

    @hookspec
    def bab_run_end(self, run: RunInfo, record: Record | None, error: str) -> None:
        """The run ended. record: None where it failed or was interrupted; error says why."""
