"""Observer `tensorboard`: losses and scores as TensorBoard event files in the run's folder.

Look at them with `tensorboard --logdir runs`. Needs the extra: pip install 'bab[tensorboard]'.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from bab import BabError, Record, RunInfo, hookimpl


class TensorBoard:
    """One writer per fold, opened at its first step.

    Raises:
        BabError: TensorBoard is not installed.
    """

    def __init__(self) -> None:
        if find_spec("tensorboard") is None:
            raise BabError(
                "the observer 'tensorboard' needs TensorBoard: pip install 'bab[tensorboard]'"
            )
        self._writers: dict[int, Any] = {}

    @hookimpl
    def bab_step(self, run: RunInfo, step: int, values: Mapping[str, float]) -> None:
        writer = self._writer(run, step)
        for name, value in values.items():
            writer.add_scalar(f"train/{name}", value, step)

    @hookimpl
    def bab_evaluated(
        self, run: RunInfo, step: int, split: str, metrics: Mapping[str, float]
    ) -> None:
        writer = self._writer(run, step)
        for name, value in metrics.items():
            writer.add_scalar(f"{split}/{name}", value, step)
        writer.flush()

    @hookimpl
    def bab_run_end(self, record: Record | None) -> None:
        for writer in self._writers.values():
            writer.close()
        self._writers.clear()

    def _writer(self, run: RunInfo, step: int) -> Any:
        if run.fold not in self._writers:
            from torch.utils.tensorboard import SummaryWriter

            folder = Path(run.folder) / "tensorboard"
            if run.folds > 1:
                folder /= str(run.fold)
            # What a killed attempt wrote from this step on is not shown.
            self._writers[run.fold] = SummaryWriter(str(folder), purge_step=step)
        return self._writers[run.fold]
