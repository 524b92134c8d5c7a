"""Training examples as the micro-batches of each step: which are taken, when, and in what form."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch

from bab.config.resolve import run_config
from bab.core.errors import ConfigError, CorpusError, PluginError
from bab.core.grid import Grid
from bab.core.seeds import derive
from bab.core.types import Clip, Features, View
from bab.data.sampling import Counted, Order
from bab.data.splits import Fold
from bab.data.windows import Examples
from bab.running.batches import make_batches, refuse_short, targets_of, trainable
from bab.running.context import Context, FoldResult

GRID, PLAIN = Grid(100, 10, 20), View()


def clip(name: str, seconds: float = 4.0) -> Clip:
    return Clip(name, f"{name}.wav", 0.0, seconds, name)


class Objective:
    """Refuses as many labels as it is told, and notes how many frames each has."""

    def __init__(self, *reasons: str) -> None:
        self.reasons, self.asked = iter(reasons), list[tuple[list[int], int]]()

    def refuses(self, targets: torch.Tensor, frames: int) -> str:
        self.asked.append((targets.tolist(), frames))
        return next(self.reasons)


def context(
    level: str = "clip",
    view: View = PLAIN,
    mode: str = "probe",
    batch: int = 4,
    accumulation: int = 1,
    rank: tuple[int, int] = (0, 1),
    folds: Any = (),
) -> Any:
    said: list[str] = []
    train = SimpleNamespace(batch=batch, accumulation=accumulation)
    in_order = level == "sequence"

    def targets(clip: Clip, grid: Grid, frames: int, labels: Any) -> torch.Tensor:
        assert grid is GRID and labels == {"k": ("a", "b", "c")}
        return torch.tensor([0, 2, 1]) if in_order else torch.tensor([int(clip.id[-1]) % 3])

    task = SimpleNamespace(in_order=in_order, targets=targets, one_target=not in_order)
    return SimpleNamespace(
        config=SimpleNamespace(mode=mode, seed=7, train=train),
        parts=SimpleNamespace(task=task, view=view, encoder=SimpleNamespace(grid=GRID)),
        accelerator=SimpleNamespace(process_index=rank[0], num_processes=rank[1]),
        watchers=SimpleNamespace(bab_notice=lambda run, message: said.append(message)),
        data=SimpleNamespace(folds=folds),
        info="info",
        said=said,
    )


LABELS = {"k": ("a", "b", "c")}


def examples(seconds: list[float], view: View = PLAIN, whole: bool = True) -> Examples:
    clips = [clip(f"c{i}", s) for i, s in enumerate(seconds)]
    return Examples(clips, view, GRID, None, whole)


def test_nothing_to_train_on_is_an_error() -> None:
    given = SimpleNamespace(
        config=run_config(None, {"encoder": "fbank", "task": "vtc"}), parts=None
    )
    nothing = Examples([], View(), Grid(16000, 320, 400), None)
    with pytest.raises(ConfigError) as error:
        make_batches(given, None, nothing, set(), 0)  # type: ignore[arg-type]
    told = "there is nothing to train on: the training split has no audio"
    assert str(error.value) == told


@pytest.mark.parametrize("longest", [1.0, 1.99, 2.0, 2.01])
def test_clips_that_are_all_too_short_are_told_at_once(longest: float) -> None:
    folds = [Fold([clip("a", 0.5), clip("b", longest), clip("c", 0.1)], [], [])]
    given = context(view=View(train_minimum=2.0), folds=folds)
    if longest > 2:
        refuse_short(given)
    else:
        with pytest.raises(CorpusError) as error:
            refuse_short(given)
        assert str(error.value) == (
            "no training clip is longer than view.train_minimum = 2 s (the longest is "
            f"{longest:.2f} s): lower it (--set view.train_minimum=0 trains on all)"
        )
    refuse_short(context(view=View(train_minimum=2.0), folds=folds, mode="evaluate"))
    refuse_short(context(folds=[Fold([], [], [])]))
    with pytest.raises(CorpusError, match=r"the longest is 0\.00 s"):
        refuse_short(context(view=View(train_minimum=2.0), folds=[Fold([], [], [])]))


def test_what_is_left_out_of_training_is_told_by_reason() -> None:
    given = context(view=View(train_minimum=2.0))
    train = examples([1.0, 2.0, 2.5, 9.0])
    chosen, why = trainable(given, Objective(), LABELS, train, False)  # type: ignore[arg-type]
    assert chosen == {2, 3} and why == {"no longer than 2 s": 2}
    assert given.said == ["2 clips left out of training: no longer than 2 s"]
    every = context()
    assert trainable(every, Objective(), LABELS, train, False) == ({0, 1, 2, 3}, {})  # type: ignore[arg-type]
    assert every.said == []
    with pytest.raises(CorpusError) as error:
        trainable(given, Objective(), LABELS, examples([1.0, 2.0]), False)  # type: ignore[arg-type]
    assert str(error.value) == "no training clip can be trained on: no longer than 2 s (2)"
    assert trainable(given, Objective(), LABELS, examples([]), False) == (set(), {})  # type: ignore[arg-type]


@pytest.mark.parametrize("pooled", [False, True])
def test_labels_in_order_have_to_fit_their_frames(pooled: bool) -> None:
    given = context("sequence", View(train_minimum=1.0))
    objective = Objective("", "too long", "", "too long")
    train = examples([0.9, 1.2, 4.0, 2.0, 3.0])
    chosen, why = trainable(given, objective, LABELS, train, pooled)  # type: ignore[arg-type]
    assert chosen == {1, 3} and why == {"no longer than 1 s": 1, "too long": 2}
    frames = [1] * 4 if pooled else [11, 39, 19, 29]
    assert objective.asked == [([0, 2, 1], count) for count in frames]
    assert given.said == [
        "1 clip left out of training: no longer than 1 s", "2 clips left out of training: too long",
    ]  # fmt: skip


def test_targets_are_the_tasks_and_checked() -> None:
    given = context()
    assert targets_of(given, LABELS)(clip("c5"), 3).tolist() == [2]
    given.parts.task.targets = lambda *asked: [0]
    with pytest.raises(PluginError, match="list, not a tensor"):
        targets_of(given, LABELS)(clip("c5"), 3)


def collate(items: Any, step: int) -> Any:
    return items, step


def steps(given: Any, train: Examples, count: int, chosen: Any = None, index: int = 0) -> Any:
    taken = range(len(train)) if chosen is None else chosen
    batches = make_batches(given, collate, train, taken, index)  # type: ignore[arg-type]
    return [batches(step) for step in range(count)]


def names(parts: Any) -> list[list[str]]:
    return [[item.clip.id for item in items] for items, _ in parts]


def test_each_step_takes_a_batch_of_the_chosen_in_the_seeds_order() -> None:
    train, chosen = examples([1.0 + i for i in range(9)]), {0, 2, 3, 4, 6, 7, 8}
    order = Order(
        [train.frames(train.items[i]) for i in sorted(chosen)], derive(7, "order", 3), Counted(3)
    )
    expected = [[[f"c{sorted(chosen)[i]}" for i in order.at(step)[1]]] for step in range(5)]
    got = steps(context(batch=3), train, 5, chosen, index=3)
    assert [names(parts) for parts in got] == expected
    assert [step for parts in got for _, step in parts] == list(range(5))
    other = steps(context(batch=3), train, 5, chosen, index=4)
    assert [names(parts) for parts in other] != expected  # each fold has an order of its own


def test_a_batch_is_cut_over_processes_and_accumulation() -> None:
    train = examples([1.0 + i for i in range(8)])
    (whole,) = names(steps(context(batch=8), train, 1)[0])
    parts = []
    for rank in (0, 1):
        one = names(steps(context(batch=8, accumulation=2, rank=(rank, 2)), train, 1)[0])
        assert [len(part) for part in one] == [2, 2]
        parts += [name for part in one for name in part]
    assert sorted(parts) == sorted(whole)


SHORT = View(train_seconds=1.0)


@pytest.mark.parametrize(
    ("level", "mode", "whole", "view", "form"),
    [
        ("sequence", "finetune", True, SHORT, "as it is"),
        ("clip", "probe", True, SHORT, "cropped"),
        ("clip", "probe", True, View(), "as it is"),
        ("clip", "finetune", True, SHORT, "trimmed"),
        ("frame", "finetune", False, View(window=2.0, crop=True), "moved"),
        ("frame", "finetune", False, View(window=2.0), "as it is"),
    ],
)
def test_in_what_form_an_example_is_trained_on(
    level: str, mode: str, whole: bool, view: View, form: str
) -> None:
    """Drawn from the run's seed, the epoch and the place in it."""
    train = examples([5.0, 5.0, 5.0], view, whole)
    given = context(level, view, mode, batch=len(train.rounds()))
    ((first, _),), ((second, _),) = steps(given, train, 2)
    ways = {"cropped": train.cropped, "trimmed": train.trimmed, "moved": train.moved}
    rounds = train.rounds()
    for epoch, items in enumerate((first, second)):
        if form == "as it is":
            assert all(item in train.items for item in items)
            continue
        seeds = [("crop", epoch, place) for place in range(len(rounds))]
        drawn = [ways[form](rounds[seed[2]], (7, *seed)) for seed in seeds]
        assert all(item in drawn for item in items) and len(items) == len(rounds)
    assert (first != second and sorted(map(repr, first)) != sorted(map(repr, second))) is (
        form != "as it is"
    )


def test_a_folds_examples_are_made_once() -> None:
    made: list[Any] = []
    folds = [Fold([], [], []), Fold([], [], [])]
    task = SimpleNamespace(pairs=False)
    parts = SimpleNamespace(examples=lambda clips: made.append(clips) or len(made), task=task)
    data = SimpleNamespace(folds=folds)
    given: Any = Context(None, parts, data, None, None, None)  # type: ignore[arg-type]
    clips, same = [clip("a")], [clip("a")]
    assert (given.examples(clips), given.examples(same), given.examples(clips)) == (1, 2, 1)
    assert given.references(clips, "dev") is clips and given.asked(clips, "dev") is clips
    assert isinstance(FoldResult({}, {}, {}, {}, 1, 2, 3.0, {}).parameters, dict)


def test_features_where_there_are_some() -> None:
    features: Any = Features(torch.zeros(1), torch.ones(1))
    given: Any = Context(None, None, None, None, None, None, features)  # type: ignore[arg-type]
    assert given.source() is features
