"""What every run goes through, of a task as of pretraining: device, stop, observers, lock."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any, TypeVar

from bab.core.device import accelerator
from bab.core.errors import InterruptedRunError
from bab.core.observers import Watchers, observers
from bab.core.record import Record, RunInfo
from bab.core.types import Tell
from bab.starting.folders import locked

Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class Lifecycle:
    """A run that has a device and observers, and can be stopped; it need not have a folder yet.

    accelerator: Accelerate's handle on device and processes. main: is this the process that
    writes and tells? stop: has the user asked for a stop?
    """

    accelerator: Any
    watchers: Watchers
    stop: Callable[[], bool]
    main: bool

    def before(self, task: str, corpus: str, encoder: str, quiet: bool) -> Tell:
        """Tells of what happens before the run's id, and so its folder, is known.

        Raises:
            InterruptedRunError: when called after the user asked for a stop.
        """
        info = RunInfo("", "", task, corpus, encoder, 0, {"quiet": quiet})

        def tell(stage: str, done: float, total: float, unit: str) -> None:
            if self.stop():
                raise InterruptedRunError(f"stopped while {stage}; nothing was begun")
            self.watchers.bab_progress(run=info, stage=stage, done=done, total=total, unit=unit)

        return tell

    def work(
        self,
        info: RunInfo,
        folder: Path,
        clear: Callable[[], None],
        opening: Callable[[], Iterable[str]],
        do: Callable[[], Result],
    ) -> Result:
        """Do a run between the events of its start and end, and hold its folder meanwhile;
        whatever happens, the observers are told of it.

        clear: removes what an earlier run left (by the main process). opening: what was
        understood, line by line, told before anything slow begins.
        """
        with locked(folder, self.main):
            if self.main:
                clear()
            self.accelerator.wait_for_everyone()
            self.watchers.bab_run_start(run=info)
            try:
                for line in opening():
                    self.watchers.bab_notice(run=info, message=line)
                result = do()
            except BaseException as error:
                told = f"{type(error).__name__}: {error}"
                self.watchers.bab_run_end(run=info, record=None, error=told)
                raise
            record = result if isinstance(result, Record) else None
            self.watchers.bab_run_end(run=info, record=record, error="")
            return result


_ERRORS = 2  # the file descriptor of stderr
_HEARD = b"\nstopping at the next safe place (Ctrl-C again: at once)\n"


@contextmanager
def lifecycle(
    device: str, precision: str, unused: bool, names: Sequence[str], joining: Sequence[object] = ()
) -> Iterator[Lifecycle]:
    """Begin a run.

    Args:
        device, precision, unused: see `bab.core.device.accelerator`.
        names: of the observers.
        joining: further observers, objects of the calling program.
    """
    with stopper() as stop:
        handle = accelerator(device, precision, unused)
        main = bool(handle.is_main_process)
        watchers = observers(names if main else [])
        for one in joining if main else ():
            watchers.join(one)
        yield Lifecycle(handle, watchers, stop, main)


@contextmanager
def stopper() -> Iterator[Callable[[], bool]]:
    """Ctrl-C, SIGTERM and SIGHUP ask for a stop at the next safe place; Ctrl-C again: at once."""
    asked: list[int] = []

    def ask(number: int, frame: FrameType | None) -> None:
        if asked and number == signal.SIGINT:
            raise KeyboardInterrupt
        asked.append(number)
        if number == signal.SIGINT and os.isatty(_ERRORS):  # a step may take half a minute
            os.write(_ERRORS, _HEARD)  # which may interrupt a print, as sys.stderr may not

    try:
        heard = {signal.SIGINT, signal.SIGTERM, getattr(signal, "SIGHUP", signal.SIGTERM)}
        heard = {n for n in heard if n == signal.SIGINT or signal.getsignal(n) != signal.SIG_IGN}
        before = {n: signal.signal(n, ask) for n in heard}  # one that is ignored (nohup) stays so
    except ValueError:  # not the main thread (a notebook's worker): signals are not ours
        yield lambda: False
        return
    try:
        yield lambda: bool(asked)
    except KeyboardInterrupt:
        raise InterruptedRunError("stopped at once; the last checkpoint stands") from None
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
