"""Where a task's suite says yes and where no, with what is told of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from good_parts import GoodCorpus, GoodTask, make_corpus

import bab
from bab import Prediction, Segment
from bab.testing import tasks
from bab.testing.taskcase import TaskCase, frames_of


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return GoodCorpus(make_corpus(tmp_path_factory.mktemp("corpus")), GoodCorpus.Options())


def task(**members: Any) -> Any:
    return type("It", (GoodTask,), {"__doc__": "x", **members})


def said(check: str, cls: Any, corpus: Any) -> str:
    try:
        case = TaskCase.of(cls(cls.Options()), corpus)
        return getattr(tasks, f"check_{check}")(case) or ""
    except AssertionError as error:
        return str(error)


def decoded(**changes: Any) -> Any:
    """Predictions with these fields besides; a callable is handed the clip."""

    def decode(self: Any, output: Any, grid: Any, labels: Any, tuned: Any) -> Any:
        one = GoodTask.decode(self, output, grid, labels, tuned)
        told = {k: v(output.clip) if callable(v) else v for k, v in changes.items()}
        return Prediction(**{"id": one.id, "labels": one.labels, **told})

    return task(decode=decode)


def scored(**values: float) -> Any:
    """The same values whatever was predicted, over what was counted."""

    def metrics(self: Any, totals: Any) -> Any:
        plain = GoodTask.metrics(self, totals)
        return plain | values if plain else {}

    return task(metrics=metrics)


def counted(unit: str, change: Any, **members: Any) -> Any:
    """The share of clips that are right, in another unit."""

    def metrics(self: Any, totals: Any) -> Any:
        plain = GoodTask.metrics(self, totals)
        return {**plain, "accuracy": change(plain["accuracy"])} if plain else {}

    return task(units={"accuracy": unit, "recall": ""}, metrics=metrics, **members)


def gains(by: float, when: int = 0) -> Any:
    """What wasn't predicted counts for more, where more than so many clips weren't."""

    def statistics(self: Any, reference: Any, prediction: Any) -> Any:
        lacks = 0.0 if prediction else 1.0
        return {**GoodTask.statistics(self, reference, prediction), "lacking": lacks}

    def metrics(self: Any, totals: Any) -> Any:
        missed = totals["lacking"] if totals.get("lacking", 0.0) >= when else 0.0
        return {"accuracy": (totals["right"] + by * missed) / totals["clips"]}

    return task(statistics=statistics, metrics=metrics)


def targets(value: Any) -> Any:
    return task(targets=lambda self, clip, grid, frames, labels: value)


def labelled(value: Any) -> Any:
    return task(fit=lambda self, clips: value)


@pytest.mark.parametrize(
    ("check", "cls", "told"),
    [
        ("described", GoodTask, ""),
        ("described", task(level="word"), "level 'word' is none of "),
        ("described", task(version=""), "version is ''"),
        ("described", task(head=None), "head is None"),
        ("described", task(corpus=3), "corpus is 3"),
        ("described", task(needs={"mood"}), "needs is {'mood'}, no frozenset"),
        ("described", task(presets=()), "presets is (), no tuple of names"),
        ("described", task(presets=["a"]), "presets is ['a'], no tuple of names"),
        ("described", task(primary="eer"), "primary 'eer' has no unit: "),
        ("described", task(select="eer"), "select 'eer' has no unit: "),
        ("described", task(select="recall"), ""),
        ("described", task(head="frames"), "its head 'frames' is for ('frame',)"),
        ("labels", GoodTask, ""),
        ("labels", labelled({}), "fit gives {}"),
        ("labels", labelled([1]), "fit gives [1]"),
        ("labels", labelled({"mood": ()}), "labels of 'mood' are (), no tuple"),
        ("labels", labelled({"mood": ("a", 3)}), "labels of 'mood' that are no text: [3]"),
        ("labels", labelled({"mood": ("a", "a")}), "labels of 'mood' stand twice: ('a', 'a')"),
        ("labels", task(refuses=lambda self, clip: 0), "refuses gives 0, no text"),
        ("targets", GoodTask, ""),
        ("targets", targets([1]), "targets of clip00: list, no tensor"),
        ("targets", targets(torch.tensor([1], dtype=torch.int32)),
         "targets of clip00 are torch.int32"),
        ("targets", targets(torch.tensor([0, torch.inf])), "targets of clip00 are not finite"),
        ("targets", targets(torch.tensor([0.0, 1.0])), ""),
        ("targets", targets(torch.tensor([0.0, 1.1])), "targets of clip00 reach from 0.0 to 1.1"),
        ("targets", targets(torch.tensor([-0.1, 1.0])), "targets of clip00 reach from -0.1"),
        ("targets", targets(torch.tensor([0.5])), "targets of clip00: (1,), sizes [2]"),
        ("targets", targets(torch.tensor([-1])), ""),
        ("targets", targets(torch.tensor([1])), ""),
        ("targets", targets(torch.tensor([2])), "targets of clip00: [2] are no class of [2]"),
        ("targets", targets(torch.tensor([-2])), "targets of clip00: [-2] are no class of [2]"),
        ("targets", targets(torch.tensor([0, 1])), "targets of clip00: (2,), not [G]"),
        ("decoding", GoodTask, ""),
        ("decoding", decoded(id="x"), " gives a prediction of 'x'"),
        ("decoding", decoded(scores={"a": float("inf")}), ": scores are not finite"),
        ("decoding", decoded(vector=(1.0, float("nan"))), ": scores are not finite"),
        ("decoding", decoded(segments=(Segment(-0.0009, 2.0009, "a"),)), ""),
        ("decoding", decoded(segments=(Segment(-0.0011, 1.0, "a"),)),
         "clip12 (0.0 to 2.0 s): Segment(start=-0.0011, end=1.0, label='a'"),
        ("decoding", decoded(segments=(Segment(1.0, 2.0011, "a"),)), "clip12 (0.0 to 2.0 s): "),
        ("decoding", decoded(segments=(Segment(1.0, 1.0, "a"),)), "clip12 (0.0 to 2.0 s): "),
        ("decoding", decoded(segments=(Segment(0.0, 1.0, ""),)), " has no label"),
        ("decoding", decoded(segments=(Segment(1.0, 2.0, "a"), Segment(0.5, 1.0, "a"))),
         ": segments are not sorted"),
        ("decoding", task(decode=lambda self, *given: "x"), "decode gives str"),
        ("planted", GoodTask, ""),
        ("planted", scored(accuracy=0.95), "right outputs have accuracy 0.95, wrong ones 0.95"),
        ("planted", scored(accuracy=0.89), "right outputs have accuracy 0.89, best is 1"),
        ("planted", task(higher_is_better=False), "right outputs have accuracy 1, best is 0"),
        ("planted", counted("%", lambda share: 100 * share), ""),
        ("planted", counted("%", lambda share: 91 * share), ""),
        ("planted", counted("%", lambda share: 89 * share),
         "right outputs have accuracy 89, best is 100"),
        ("planted", counted("%", lambda share: 100 - 100 * share, higher_is_better=False), ""),
        ("planted", counted("%", lambda share: 100 - 89 * share, higher_is_better=False),
         "right outputs have accuracy 11, best is 0"),
        ("planted", counted("s", lambda share: 7 * share), ""),
        ("planted", counted("s", lambda share: 7.0), "right outputs have accuracy 7, wrong ones 7"),
        ("planted", counted("s", lambda share: 7 - share), "right outputs have accuracy 6, wrong"),
        ("missing", GoodTask, ""),
        ("missing", scored(accuracy=0.5), "without any prediction accuracy is 0.5, as with right"),
        ("missing", gains(2.0), "with half of the right predictions accuracy is 1.5, with all of "),
        ("missing", gains(2.0, when=6), "with none of the right predictions accuracy is 2, with"),
        ("bounds", GoodTask, ""),
        ("bounds", scored(recall=1 + 1e-10), ""),
        ("bounds", scored(recall=1 + 1e-8),
         "of right outputs, recall is 1.00000001, which is no share"),
        ("bounds", scored(recall=-1e-8), "of right outputs, recall is -1e-08, which is no share"),
        ("bounds", scored(other=5.0, recall=2.0),
         "of right outputs, recall is 2.0, which is no share"),
        ("bounds", scored(other=5.0), ""),
        ("bounds", scored(recall=1), "of right outputs, recall is 1: no finite float"),
        ("bounds", scored(recall=float("nan")), "of right outputs, recall is nan: no finite float"),
        ("additive", GoodTask, ""),
        ("additive", task(additive=False), "it says that its metrics don't follow from sums"),
        ("additive", task(amounts=lambda self, clip: {"a": -1.0}), "amounts {'a': -1.0}: names"),
        ("additive", task(amounts=lambda self, clip: {3: 1.0}), "amounts {3: 1.0}: names"),
        ("pieces", GoodTask, "it can't be cut"),
        ("write", GoodTask, ""),
        ("write", task(write=lambda self, said, folder: bab.write_text(folder / "a", "")),
         "write left ['a'], an empty file"),
        ("write", task(write=lambda self, said, folder: bab.write_text(folder / ".a", "x")),
         "write left ['.a'] behind"),
        ("write", task(write=lambda self, said, folder: (folder / "a").mkdir(parents=True)),
         "write left no file in the folder that it was given"),
        ("write", task(write=lambda self, said, folder: None),
         "write left no file in the folder that it was given"),
    ],
)  # fmt: skip
def test_the_edge_of_each_rule(check: str, cls: Any, told: str, corpus: Any) -> None:
    got = said(check, cls, corpus)
    assert (got == "") if not told else (got.startswith(told) or got.endswith(told)), got


def percents(rates: frozenset[str] = frozenset(), **values: float) -> Any:
    return task(
        units={"accuracy": "", "recall": "", "per": "%"}, rates=rates,
        metrics=lambda self, totals: {**GoodTask.metrics(self, totals), **values},
    )  # fmt: skip


def test_per_cents_may_pass_a_hundred_where_they_are_rates(corpus: Any) -> None:
    assert said("bounds", percents(per=100.0), corpus) == ""
    assert said("bounds", percents(per=100.1), corpus) == (
        "of right outputs, per is 100.1, which is no per cent"
    )
    assert said("bounds", percents(per=-0.1), corpus).endswith("per is -0.1, which is no per cent")
    assert said("bounds", percents(frozenset({"per"}), per=100.1), corpus) == ""
    assert said("bounds", percents(frozenset({"per"}), **{"per/a": 100.1}), corpus) == ""


def test_what_a_task_is_tried_on(corpus: Any, tmp_path: Path) -> None:
    with pytest.raises(AssertionError) as raised:
        TaskCase.of(GoodTask(GoodTask.Options()), type("No", (), {"provides": frozenset()})())  # type: ignore[arg-type]
    assert str(raised.value) == "the corpus does not provide mood"
    nobody = task(refuses=lambda self, clip: "no" if clip.speaker in ("s2", "s3") else "")
    assert said("labels", nobody, corpus) == (
        "the corpus's dev split holds no clip that the task takes"
    )
    homeless = task(corpus="hf")
    with pytest.raises(AssertionError) as raised:
        TaskCase.of(homeless(homeless.Options()))
    assert str(raised.value) == "corpus 'hf' ships no sample: name one, --corpus NAME:ROOT"


@pytest.mark.parametrize("shape", [(-1,), (-1, 1)])
def test_a_model_that_is_right_says_the_class_of_each_frame(corpus: Any, shape: Any) -> None:
    """Of a task of frames whose targets are numbers of classes; -1 is none."""

    def numbers(self: Any, clip: Any, grid: Any, frames: int, labels: Any) -> torch.Tensor:
        return (torch.arange(frames) % 3 - 1).reshape(shape)

    framed = task(level="frame", head="frames", targets=numbers)
    case = TaskCase.of(framed(framed.Options()), corpus)
    output = case.outputs(case.test, "right")[0]
    frames = len(output.values)
    wanted = [[-6.0, -6.0], [6.0, -6.0], [-6.0, 6.0]]
    assert output.values.tolist() == [wanted[t % 3] for t in range(frames)]
    wrong = case.outputs(case.test, "wrong")[0]
    assert (wrong.values == -output.values).all()


def test_a_model_that_says_nothing_has_the_shape_of_one_that_does(corpus: Any) -> None:
    from bab.plugins.tasks.asr import SpeechRecognition, SpeechRecognitionOptions

    case = TaskCase.of(SpeechRecognition(SpeechRecognitionOptions()), corpus)
    right, wrong = (case.outputs(case.test, kind)[0].values for kind in ("right", "wrong"))
    assert wrong.shape == right.shape and wrong.shape[1] == len(case.labels["char"])
    assert (wrong.argmax(1) == 0).all() and right.argmax(1).any()


def test_a_model_of_pairs_says_who_speaks_or_something_else(corpus: Any) -> None:
    from bab.plugins.tasks.sv import SpeakerVerification

    case = TaskCase.of(SpeakerVerification(bab.Options()), corpus)
    names = sorted({clip.speaker for clip in corpus.clips()})
    assert case.speakers == {name: number for number, name in enumerate(names)}
    for output in case.outputs(case.test, "right"):
        own = [1.0 if name == output.clip.speaker else -1.0 for name in names]
        assert output.values.tolist() == own
    for output in case.outputs(case.test, "wrong"):
        place = sum(output.clip.id.encode()) % 2
        own = [1.0 if number == place else -1.0 for number in range(len(names))]
        assert output.values.tolist() == own
    noise = [output.values for output in case.outputs(case.test, "noise")]
    assert len({values.tobytes() for values in noise}) == len(noise) > 1


def test_a_model_that_is_right_says_labels_one_after_the_other(corpus: Any) -> None:
    """A blank before each of them and behind the last, up to the clip's end."""
    ordered = task(
        level="sequence", head="ctc", fit=lambda self, clips: {"x": ("_", "a", "b")},
        targets=lambda self, clip, grid, frames, labels: torch.tensor([2, 2, 1]),
    )  # fmt: skip
    case = TaskCase.of(ordered(ordered.Options()), corpus)
    output = case.outputs(case.test, "right")[0]
    path = [0, 2, 0, 2, 0, 1, *[0] * (len(output.values) - 6)]
    rows = [[6.0 if column == label else -6.0 for column in range(3)] for label in path]
    assert output.values.tolist() == rows and len(rows) == frames_of(output.clip)
    wrong = case.outputs(case.test, "wrong")[0]
    assert wrong.values.tolist() == [[6.0, -6.0, -6.0]] * len(rows)
