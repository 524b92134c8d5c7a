"""Several processes of one run, and one that stands alone."""

from __future__ import annotations

import os
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import torch

from bab.core import checkpoint
from bab.core.errors import BabError


class Alone:
    """Accelerate's handle, as far as it is used, for one process on its CPU in fp32.

    Pooled heads train on it beside a GPU that encodes: their steps are launches and little else.
    """

    device = torch.device("cpu")
    num_processes, process_index, is_main_process, scaler = 1, 0, True, None
    mixed_precision = "no"

    def no_sync(self, model: Any) -> AbstractContextManager[None]:
        return nullcontext()

    def wait_for_everyone(self) -> None:
        pass


def share_cpus(world: int) -> None:
    """Beside GPUs, let each process of a group compute on its share of this machine's CPUs, and
    not on one, as torchrun has it."""
    local = int(os.environ.get("LOCAL_WORLD_SIZE", str(world)))
    if local > 1 and torch.get_num_threads() == 1 and torch.cuda.is_available():
        torch.set_num_threads(max(1, (os.cpu_count() or 1) // local))


def same_checkpoint(folder: Path, accelerator: Any) -> None:
    """Before a run goes on: the first process says from which step, and all must have it.

    Raises:
        BabError: one of them hasn't. Going on from different steps, they would never meet.
    """
    if accelerator.num_processes == 1:
        return
    from accelerate.utils import broadcast_object_list, gather_object

    own = checkpoint.latest(folder)
    name = own.name if own else None
    (wanted,) = broadcast_object_list([name])
    if any(gather_object([name != wanted])):
        raise BabError(
            f"the processes don't see the same checkpoints (the first one: {wanted or 'none'}) in "
            f"{folder}: --runs must name a folder that all machines share"
        )
