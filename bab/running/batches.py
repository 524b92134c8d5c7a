"""Training examples -> the micro-batches of each step."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection

from torch import Tensor

from bab.checking.tasks import checked_targets
from bab.core.errors import ConfigError, CorpusError, counted
from bab.core.interfaces import Objective
from bab.core.seeds import derive
from bab.core.types import Batch, Clip, Item, Labels
from bab.data.batches import Collator, Targets
from bab.data.sampling import Counted, Order, Share
from bab.data.windows import Examples
from bab.running.context import Context


def targets_of(context: Context, labels: Labels) -> Targets:
    """The task's targets of a clip and so many frames, checked."""
    task, grid = context.parts.task, context.parts.encoder.grid

    def targets(clip: Clip, frames: int) -> Tensor:
        return task.targets(clip, grid, frames, labels)

    return checked_targets(task, targets, labels)


def refuse_short(context: Context) -> None:
    """What `trainable` would say of clips that are all too short, before features are computed.

    Raises:
        CorpusError: naming the key and the longest clip.
    """
    least = context.parts.view.train_minimum
    for fold in context.data.folds if context.config.mode != "evaluate" else ():
        longest = max((clip.duration for clip in fold.train), default=0.0)
        if least and longest <= least:
            raise CorpusError(
                f"no training clip is longer than view.train_minimum = {least:g} s (the longest "
                f"is {longest:.2f} s): lower it (--set view.train_minimum=0 trains on all)"
            )


def trainable(
    context: Context, objective: Objective, labels: Labels, train: Examples, pooled: bool
) -> tuple[set[int], dict[str, int]]:
    """Indices of the examples that can be trained on; why the others can't be, and how many.

    pooled: the head gets one frame of each.

    Raises:
        CorpusError: where that leaves nothing.
    """
    parts = context.parts
    least, look = parts.view.train_minimum, targets_of(context, labels)

    def reason(item: Item) -> str:
        if least and item.clip.duration <= least:
            return f"no longer than {least:g} s"
        if not parts.task.in_order:
            return ""
        frames = 1 if pooled else train.frames(item)
        return objective.refuses(look(item.clip, frames), frames)

    reasons = [reason(item) for item in train.items]
    untrained = Counter(filter(None, reasons))
    if reasons and all(reasons):
        told = ", ".join(f"{why} ({count})" for why, count in untrained.items())
        raise CorpusError(f"no training clip can be trained on: {told}")
    for why, count in untrained.items():
        context.watchers.bab_notice(
            run=context.info, message=f"{counted(count, 'clip')} left out of training: {why}"
        )
    return {i for i, why in enumerate(reasons) if not why}, dict(untrained)


def make_batches(
    context: Context, collate: Collator, train: Examples, chosen: Collection[int], index: int
) -> Callable[[int], list[Batch]]:
    """step -> this process's micro-batches.

    chosen: indices of the examples of `train` to take; index: of the fold.

    Raises:
        ConfigError: there is no example.
    """
    config, parts = context.config, context.parts
    rounds = [i for i in train.rounds() if i in chosen]
    lengths = [train.frames(train.items[i]) for i in rounds]
    if not lengths:
        raise ConfigError("there is nothing to train on: the training split has no audio")
    order = Order(lengths, derive(config.seed, "order", index), Counted(config.train.batch))
    share = Share(
        context.accelerator.process_index,
        context.accelerator.num_processes,
        config.train.accumulation,
    )

    def example(place: int, epoch: int) -> Item:
        i, seed = rounds[place], (config.seed, "crop", epoch, place)
        if parts.task.in_order:
            return train.items[i]
        if config.mode == "probe":
            return train.cropped(i, seed)
        if train.whole:
            return train.trimmed(i, seed)
        return train.moved(i, seed) if parts.view.crop else train.items[i]

    def batches(step: int) -> list[Batch]:
        epoch, places = order.at(step)
        return [collate([example(i, epoch) for i in part], step) for part in share.cut(places)]

    return batches
