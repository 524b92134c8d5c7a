"""Training examples -> the micro-batches of each step."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection

from bab.core.errors import ConfigError, CorpusError, counted
from bab.core.interfaces import Objective
from bab.core.seeds import derive
from bab.core.types import Batch, Item, Labels
from bab.data.batches import Collator
from bab.data.sampling import Counted, Order, Share
from bab.data.windows import Examples
from bab.running.context import Context


def trainable(
    context: Context, objective: Objective, labels: Labels, train: Examples, pooled: bool
) -> tuple[set[int], dict[str, int]]:
    """Indices of the examples that can be trained on; why the others can't be, and how many.

    pooled: the head gets one frame of each.

    Raises:
        CorpusError: where that leaves nothing.
    """
    parts = context.parts
    least = parts.view.train_minimum

    def reason(item: Item) -> str:
        if least and item.clip.duration <= least:
            return f"no longer than {least:g} s"
        if not parts.task.in_order:
            return ""
        frames = 1 if pooled else train.frames(item)
        target = parts.task.targets(item.clip, parts.encoder.grid, frames, labels)
        return objective.refuses(target, frames)

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
