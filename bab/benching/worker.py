"""One worker of a bench: requests come in as lines of JSON, events go out. See bab.benching.pool.

Run as `python -m bab.benching.worker`. It ends when its input ends, saving what it is at.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import queue
import shutil
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bab.benching import together
from bab.config.resolve import run_config
from bab.config.run import RunConfig
from bab.core import registry
from bab.core.errors import BabError, BusyError, InterruptedRunError, NotApplicableError
from bab.core.observers import hookimpl
from bab.core.record import Record, RunInfo
from bab.launching.job import CHANGED
from bab.results.record import load, save
from bab.running.runner import run
from bab.running.session import Session

Say = Callable[[Mapping[str, Any]], None]
_OFTEN = 0.5  # seconds between two events of progress
_WAIT = 30.0  # seconds that another process may take to leave a run's folder (a bench just killed)


@dataclass(frozen=True, slots=True)
class RunRequest:
    """One run of a request."""

    options: Mapping[str, Any]
    sets: tuple[str, ...]
    seed: int
    rate: float | None
    runs: str
    search: str
    force: bool

    def config(self) -> tuple[RunConfig, bool]:
        """The run, and whether its learning rate is one of several.

        Raises:
            BabError: see bab.config.resolve.
        """
        if self.rate is not None:
            config = self._config([*self.sets, f"train.lr={self.rate!r}"], self.search)
            if not registry.load("heads", config.head.name).closed_form:
                return config, True
        return self._config(self.sets, self.runs), False

    def _config(self, sets: Iterable[str], runs: str) -> RunConfig:
        options = {**self.options, "seed": self.seed, "runs": runs}
        return run_config(None, options, list(sets))

    def select(self) -> str:
        """What the task chooses checkpoints by, where that isn't its headline metric."""
        return str(getattr(_class("tasks", _named(self.options, "task")), "select", ""))

    def misfit(self) -> Path:
        """Where the record of a run that has no folder of its own is kept."""
        facts = [self.options, self.sets, self.seed, self.rate]
        text = json.dumps(facts, sort_keys=True, default=str)
        name = hashlib.blake2b(text.encode(), digest_size=6).hexdigest()
        top = self.runs if self.rate is None else self.search
        return Path(top) / "failed" / name


class Reporter:
    """The observer through which a bench hears how far a run is."""

    def __init__(self, say: Say) -> None:
        self.say = say
        self.info: RunInfo | None = None
        self._told = 0.0

    @hookimpl
    def bab_run_start(self, run: RunInfo) -> None:
        self.info = run

    @hookimpl
    def bab_progress(self, stage: str, done: float, total: float, unit: str) -> None:
        self._tell(stage, done, total, unit)

    @hookimpl
    def bab_step(self, run: RunInfo, step: int) -> None:
        self._tell("training", step, run.steps, "steps")

    def _tell(self, stage: str, done: float, total: float, unit: str) -> None:
        now = time.monotonic()
        if now - self._told >= _OFTEN:
            self._told = now
            event = {"event": "progress", "stage": stage, "done": done, "total": total}
            self.say(event | {"unit": unit})


def serve(request: Mapping[str, Any], say: Say) -> None:
    """Make the runs of a request: trained together where that may be, else one after the other. A
    request of several runs that can't be trained together is given back ("apart").

    Raises:
        InterruptedRunError: SIGTERM; what the current runs had is saved.
    """
    head = (request["options"], tuple(request["sets"]))
    tail = (request["runs"], request["search"], request["force"])
    wanted = [RunRequest(*head, s, r, *tail) for s in request["seeds"] for r in request["rates"]]
    session = Session()
    fresh: set[Path] = set()
    if len(wanted) > 1:
        reason, fresh = _together(wanted, session, say)
        if reason:
            print(f"one by one: {reason}", file=sys.stderr)
            say({"event": "apart"})
            return
    for one in wanted:
        failed = request.get("failed", "")
        status, folder, reason, searched = _attempt(one, failed, say, session, fresh)
        event = {"event": "ended", "status": status, "folder": str(folder or ""), "reason": reason}
        rest = {"seed": one.seed, "rate": one.rate, "searched": searched, "select": one.select()}
        say({**event, **rest})


def _together(wanted: Sequence[RunRequest], session: Session, say: Say) -> tuple[str, set[Path]]:
    """Train what can be trained together: why it can't be, if so, and folders that were cleared.
    What goes wrong is each run's own to report."""
    try:
        configs = [one.config()[0] for one in wanted]
        reason = together.objection(configs[0])
        if reason:
            return reason, set()
        cleared: set[Path] = set()
        for cell in _cells(configs):
            reason, fresh = together.train(cell, session, wanted[0].force, Reporter(say))
            cleared |= fresh
            if reason:
                return reason, set()
        return "", cleared
    except InterruptedRunError:
        raise
    except Exception as error:
        if not isinstance(error, BabError):
            traceback.print_exc()
        return f"{type(error).__name__}: {error}", set()


def _cells(configs: Sequence[RunConfig]) -> list[list[RunConfig]]:
    """Runs with one encoder together: an untrained one is another for each seed."""
    cells: dict[str, list[RunConfig]] = {}
    for config in configs:
        cells.setdefault(config.encoder.model_dump_json(), []).append(config)
    return list(cells.values())


def _attempt(
    wanted: RunRequest, failed: str, say: Say, session: Session, fresh: Collection[Path]
) -> tuple[str, Path | None, str, bool]:
    """Make a run: its status, folder, why it failed, and whether its rate is searched.

    failed: why it is not to be tried at all (it killed a worker), only recorded. fresh: folders
    that were cleared already, of runs to be repeated.
    """
    reporter = Reporter(say)
    searched = wanted.rate is not None
    config: RunConfig | None = None
    try:
        config, searched = wanted.config()
        if failed:
            raise BabError(failed)
        record, folder = _run(config, wanted.force, reporter, session, fresh)
        if reporter.info is not None:  # made now, not found
            _note_code(record, folder)
    except InterruptedRunError:
        raise
    except BusyError as error:
        return "busy", None, str(error), searched
    except Exception as error:
        status = "not-applicable" if isinstance(error, NotApplicableError) else "failed"
        reason = str(error)
        if not isinstance(error, BabError):
            traceback.print_exc()
            reason = f"{type(error).__name__}: {error}"
        return status, _record(wanted, config, reporter.info, status, reason), reason, searched
    _forget_failures(wanted)
    return record.status, folder, "", searched


def _note_code(record: Record, folder: Path) -> None:
    """Say in the record where a launcher's job began with other code than was submitted."""
    note = os.environ.get(CHANGED, "")
    if note:
        record.notices.append(note)
        save(record, folder)


def _forget_failures(wanted: RunRequest) -> None:
    """Remove what failed attempts at the cell of a run left that is done now, before their options
    could be understood: they may have been other options, mistyped."""
    shutil.rmtree(wanted.misfit(), ignore_errors=True)
    for top in (wanted.runs, wanted.search):
        for folder in (Path(top) / "failed").glob("*"):
            with contextlib.suppress(BabError):
                old = load(folder)
                if old.seed == wanted.seed and _place(old.config) == _place(wanted.options):
                    shutil.rmtree(folder, ignore_errors=True)


def _place(options: Mapping[str, Any]) -> tuple[str, ...]:
    """The encoder, task and corpus that were asked for, as far as can be told."""
    corpus = options.get("corpus")
    where = corpus.get("root") if isinstance(corpus, Mapping) else None
    spec = str(options.get("encoder") or "")
    return spec, _named(options, "task"), str(where or corpus or "")


def _run(
    config: RunConfig,
    force: bool,
    reporter: Reporter,
    session: Session,
    fresh: Collection[Path],
) -> tuple[Record, Path]:
    """A run; a folder that another process is about to leave is waited for."""
    _forget_peak()
    deadline = time.monotonic() + _WAIT
    while True:
        try:
            return run(config, force, [reporter], session, fresh)
        except BusyError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.5)


def _forget_peak() -> None:
    """Let this run's peak memory be its own: Linux can reset the mark (proc(5), clear_refs)."""
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def _record(
    wanted: RunRequest, config: RunConfig | None, info: RunInfo | None, status: str, reason: str
) -> Path:
    """Write the record of a run that failed, into the run's folder if it came so far."""
    folder = Path(info.folder) if info else wanted.misfit()
    if info and wanted.misfit().exists():
        shutil.rmtree(wanted.misfit())
    options = wanted.options
    if config is None:
        names = {key: _named(options, key) for key in ("task", "corpus")}
        encoder, whole = str(options["encoder"]), dict(options)
    else:
        names = {"task": config.task.name, "corpus": config.corpus_name}
        encoder, whole = config.encoder.spec, config.model_dump(mode="json")
    task_class = _class("tasks", names["task"])
    corpus = names["corpus"] or str(getattr(task_class, "corpus", ""))
    record = Record.failed(
        status,
        reason,
        id=info.id if info else folder.name,
        task=names["task"],
        corpus=corpus,
        encoder=info.encoder if info else encoder,
        seed=wanted.seed,
        config=whole,
        head=config.head.name if config else "",
        objective=config.objective.name if config else "",
        mode=config.mode if config else str(options.get("mode", "probe")),
        protocol="given" if config is None else config.rounds,
        task_class=task_class,
        corpus_class=_class("datasets", corpus),
    )
    save(record, folder)
    return folder


def _named(options: Mapping[str, Any], key: str) -> str:
    """The name of the component that an option gives, alone or with its own options."""
    said = options.get(key, "")
    name = said.get("name", "") if isinstance(said, Mapping) else said
    return str(name).partition(":")[0]


def _class(kind: str, name: str) -> Any:
    """A component's class; None where it can't be loaded, which is why the run failed."""
    try:
        return registry.load(kind, name)
    except BabError:
        return None


def main() -> int:
    """Serve requests until the input ends."""
    with os.fdopen(os.dup(1), "w", encoding="utf-8") as replies:
        os.dup2(2, 1)  # what libraries print goes to the log, never among the events

        def say(event: Mapping[str, Any]) -> None:
            with contextlib.suppress(BrokenPipeError):
                replies.write(json.dumps(event) + "\n")
                replies.flush()

        lines: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        threading.Thread(target=_read, args=(lines,), name="bab-requests", daemon=True).start()
        while (line := lines.get()) is not None:
            try:
                serve(json.loads(line), say)
            except InterruptedRunError as error:
                print(error, file=sys.stderr)
                return error.exit_code
    return 0


def _read(lines: queue.SimpleQueue[str | None]) -> None:
    """Requests into the queue. An input that ends means that the bench is gone, however it went:
    the run at work saves itself and stops."""
    for line in sys.stdin:
        lines.put(line)
    lines.put(None)
    signal.raise_signal(signal.SIGTERM)


if __name__ == "__main__":
    sys.exit(main())
