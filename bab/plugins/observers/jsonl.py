"""Observer `jsonl`: every event of a run as one line of JSON in the run's `log.jsonl`.

Each line is an object with `event`, `time` (UTC, ISO 8601) and, where there are several folds,
`fold` (from 0). The file stays readable across kills: a resumed run first drops a half-written
last line and writes `resumed`, and its first event with a step then removes what the killed
attempt had logged beyond that step. So each step of a fold stands in the file once, in order.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TextIO

from bab import Record, RunInfo, hookimpl, write_text

NAME = "log.jsonl"


class Jsonl:
    """Appends to the log; each line reaches the file before the next event."""

    def __init__(self) -> None:
        self._path: Path | None = None
        self._file: TextIO | None = None
        self._stale: set[int] = set()  # folds that a killed attempt may have logged too far

    @hookimpl
    def bab_run_start(self, run: RunInfo) -> None:
        self._close()
        self._path = Path(run.folder) / NAME
        old = self._lines()
        if old:
            self._rewrite(old)
            self._stale = set(range(run.folds))
        self._open()
        config = dict(run.config)
        facts = {"id": run.id, "task": run.task, "corpus": run.corpus, "encoder": run.encoder}
        event = "resumed" if old else "started"
        self._write(run, event, {**facts, "steps": run.steps, "config": config}, folded=False)

    @hookimpl
    def bab_progress(self, run: RunInfo, stage: str, done: float, total: float, unit: str) -> None:
        if done >= total:  # a line per stage, not per file
            self._write(run, "stage", {"stage": stage, "total": total, "unit": unit})

    @hookimpl
    def bab_step(self, run: RunInfo, step: int, values: Mapping[str, float]) -> None:
        self._write(run, "step", {"step": step, **values})

    @hookimpl
    def bab_evaluated(
        self, run: RunInfo, step: int, split: str, metrics: Mapping[str, float], best: bool
    ) -> None:
        facts = {"step": step, "split": split, "best": best, "metrics": dict(metrics)}
        self._write(run, "evaluated", facts)

    @hookimpl
    def bab_checkpoint(self, run: RunInfo, step: int, path: str) -> None:
        self._write(run, "checkpoint", {"step": step, "path": path})

    @hookimpl
    def bab_notice(self, run: RunInfo, message: str) -> None:
        self._write(run, "notice", {"message": message}, folded=False)

    @hookimpl
    def bab_run_end(self, run: RunInfo, record: Record | None, error: str) -> None:
        facts: dict[str, Any] = {
            "status": record.status if record else "stopped" if error else "done"
        }
        facts |= {"metrics": dict(record.metrics)} if record else {"error": error}
        self._write(run, "ended", facts, folded=False)
        self._close()

    def _write(
        self, run: RunInfo, event: str, facts: Mapping[str, Any], folded: bool = True
    ) -> None:
        if self._file is None:  # before the run's folder is known
            return
        step = facts.get("step")
        if step is not None and run.fold in self._stale:
            self._forget(run.fold, event, step)
        time = datetime.now(UTC).isoformat(timespec="milliseconds")
        line: dict[str, Any] = {"event": event, "time": time}
        if folded and run.folds > 1:
            line["fold"] = run.fold
        line |= facts
        try:
            text = json.dumps(line, default=str, allow_nan=False)
        except ValueError:  # rare, and looking for it costs more than writing
            text = json.dumps(_finite(line), default=str)
        self._file.write(text + "\n")
        self._file.flush()

    def _forget(self, fold: int, event: str, step: int) -> None:
        """Remove what the killed attempt logged of this fold at and beyond `step`."""
        self._stale.discard(fold)
        kept = []
        for text in self._lines():
            line = json.loads(text)
            old = line.get("step", -1)
            beyond = old > step or (old == step and line["event"] == event)
            if not (beyond and line.get("fold", 0) == fold):
                kept.append(text)
        self._close()
        self._rewrite(kept)
        self._open()

    def _lines(self) -> list[str]:
        """The whole lines of the log; one cut short, or damaged, is left out."""
        if self._path is None or not self._path.exists():
            return []
        text = self._path.read_text(encoding="utf-8", errors="replace")
        return [line for line in text.splitlines() if _whole(line)]

    def _rewrite(self, lines: list[str]) -> None:
        assert self._path is not None
        write_text(self._path, "".join(line + "\n" for line in lines))

    def _open(self) -> None:
        assert self._path is not None
        self._file = self._path.open("a", encoding="utf-8")

    def _close(self) -> None:
        if self._file is not None:
            self._file.close()
        self._file = None


def _whole(line: str) -> bool:
    try:
        return isinstance(json.loads(line), dict)
    except ValueError:
        return False


def _finite(value: Any) -> Any:
    """JSON has no NaN: such numbers become "nan", "inf" and "-inf"."""
    if isinstance(value, Mapping):
        return {str(key): _finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(item) for item in value]
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value
