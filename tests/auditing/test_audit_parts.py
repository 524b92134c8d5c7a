"""The parts of an audit with a made-up task: folds, shuffles, what is lost, whose are made."""

from __future__ import annotations

import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from made_records import make

from bab.auditing import audit as module
from bab.auditing import traits, trees
from bab.auditing.audit import audits_of
from bab.auditing.folds import Question
from bab.core.components import build_task
from bab.core.errors import BabError, NotApplicableError
from bab.core.seeds import derive
from bab.core.types import Clip

WORDS = ("no", "yes")


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """One tree in the place of a hundred."""
    monkeypatch.setattr(trees, "boosted", trees.single)


def clip(number: int, word: str, group: str) -> Clip:
    return Clip(f"c{number}", f"{number}.wav", 0.0, 1.0, group, labels={"word": word})


def asked(folds: int = 2, **options: Any) -> tuple[Question, Any]:
    """48 clips of which trait 0 says the class, and trait 1 says it upside down in test."""
    task = build_task("classify", {"labels": ["word"], "metric": "uar", **options})
    clips = [clip(i, WORDS[i % 2], f"g{i // 4}") for i in range(48)]
    draw = np.random.default_rng(0)
    x = draw.normal(size=(48, 4))
    x[:, 0] = [i % 2 for i in range(48)]
    x[:, 1] = x[:, 0] + draw.normal(0, 0.1, 48)
    x[:, 3] = 7.0
    made = []
    for number in range(folds):
        test = clips[number * 24 : number * 24 + 8]
        dev = clips[number * 24 + 8 : number * 24 + 16]
        train = [c for c in clips if c not in test and c not in dev]
        made.append(SimpleNamespace(train=train, dev=dev, test=test))
    data = SimpleNamespace(folds=made, clips=clips)
    return Question(task, data, x), data  # type: ignore[arg-type]


def test_a_question_lays_out_its_folds() -> None:
    question, data = asked()
    assert [c.id for c in question.tested] == [c.id for f in data.folds for c in f.test]
    assert question.labels == [{"word": WORDS}] * 2
    assert question.y[0].tolist() == [[i % 2] for i in range(48)] and question.y[0] is question.y[1]


def test_trees_find_what_says_the_class() -> None:
    question, _ = asked()
    steps: list[int] = []
    answers = question.trees([0, 2], lambda: steps.append(1))
    assert question.score(answers.predictions) == 1.0 and len(steps) == 2 * 2
    assert [p.id for p in answers.predictions] == [c.id for c in question.tested]
    assert len(answers.fitted) == len(answers.tuned) == 2 and set(answers.weights) <= {
        "balanced",
        None,
    }
    assert list(answers.columns) == [0, 2] and answers.weights == ["balanced"] * 2  # as good
    blind = question.trees([3], lambda: None)
    assert question.score(blind.predictions) == 0.5
    assert question.score(question.alone(0, answers.weights).predictions) == 1.0
    assert question.score(question.alone(3, answers.weights).predictions) == 0.5
    alone = question.alone(0, ["balanced", None])
    assert alone.columns == [0] and alone.weights == ["balanced", None]


def test_what_is_most_frequent(monkeypatch: pytest.MonkeyPatch) -> None:
    question, data = asked()
    tuned: list[Any] = []
    real = question.task.tune

    def tune(outputs: Any, *given: Any) -> Any:
        tuned.append([(o.clip.id, o.values.tolist()) for o in outputs])
        return real(outputs, *given)

    monkeypatch.setattr(question.task, "tune", tune)
    base = question.majority()
    assert base.weights == [None, None] and len(base.predictions) == 16
    said = {p.labels["word"] for p in base.predictions}
    assert len(said) == 1 and question.score(base.predictions) == 0.5
    assert base.predictions[0].scores == pytest.approx({"word=no": 0.5, "word=yes": 0.5})
    even = pytest.approx([math.log(0.5)] * 2)
    assert tuned == [[(c.id, even) for c in fold.dev] for fold in data.folds]
    tuned.clear()
    question.alone(0, [None, None])
    assert [[name for name, _ in one] for one in tuned] == [
        [c.id for c in f.dev] for f in data.folds
    ]


def test_shuffled_labels_are_drawn_by_seed(monkeypatch: pytest.MonkeyPatch) -> None:
    question, _ = asked()
    steps: list[int] = []

    def scores(seed: int) -> list[float]:
        made = question.shuffled([0, 1, 2], [None, None], seed, lambda: steps.append(1))
        assert len(made.predictions) == 16 and list(made.columns) == [0, 1, 2]
        return [p.scores["word=yes"] for p in made.predictions]

    assert scores(0) == scores(0) != scores(1) and len(steps) == 3 * 2
    orders: list[Any] = []
    fit = question._fit

    def fitted(number: int, columns: Any, make: Any, order: Any) -> Any:
        orders.append((number, order.bit_generator.state["state"]))
        return fit(number, columns, make, order)

    monkeypatch.setattr(question, "_fit", fitted)
    scores(4)
    assert orders == [
        (number, np.random.default_rng(derive("shuffled", 4, number)).bit_generator.state["state"])
        for number in (0, 1)
    ]


def test_a_shuffled_trait_loses_what_it_says() -> None:
    question, _ = asked()
    answers = question.trees([0, 2], lambda: None)
    before = question.x.copy()
    lost = question.without(answers, 0, np.random.default_rng(0))
    assert (question.x == before).all() and [p.id for p in lost] == [c.id for c in question.tested]
    assert question.score(lost) < 0.9
    order = np.random.default_rng(0).permutation([question.place[c.id] for c in question.tested])
    words = [WORDS[int(question.x[i, 0])] for i in order]
    assert [p.labels["word"] for p in lost] == words  # what the shuffled trait says
    kept = question.without(answers, 2, np.random.default_rng(0))
    assert question.score(kept) == 1.0
    unused = question.without(question.trees([2], lambda: None), 0, np.random.default_rng(0))
    assert [p.id for p in unused] == [c.id for c in question.tested]


def test_traits_in_order_of_what_they_say(monkeypatch: pytest.MonkeyPatch) -> None:
    question, _ = asked()
    monkeypatch.setattr(traits, "TRAITS", {"a": "A", "b": "B", "c": "C", "d": "D"})
    monkeypatch.setattr(module, "_HEARD", [0, 2, 3])
    answers = question.trees([0, 2, 3], lambda: None)
    steps: list[int] = []
    listed = module._traits(question, answers, question.x, lambda: steps.append(1))
    assert {t.name for t in listed[:2]} == {"a", "b"}
    by = {t.name: t for t in listed}
    assert by["a"].alone == 1.0 and by["a"].drop is not None and by["a"].drop > 0.2
    lost = [
        1.0 - question.score(question.without(
            answers, 0, np.random.default_rng(derive("trait", "a", draw))))
        for draw in range(3)
    ]  # fmt: skip
    assert by["a"].drop == pytest.approx(np.mean(lost)) and len(set(lost)) > 1
    assert by["b"].drop is None and by["d"].drop == 0.0 and len(steps) == 4 + 3 * 3
    assert [by[n].constant for n in "abcd"] == [False, False, False, True]
    assert by["a"].meaning == "A" and by["a"].classes == {"no": 0.0, "yes": 1.0}
    question.task.higher_is_better = False  # type: ignore[misc]
    try:
        worst = module._traits(question, answers, question.x, lambda: None)
        assert worst[-1].alone == 1.0
        assert {t.name: t for t in worst}["a"].drop == -by["a"].drop
    finally:
        del question.task.higher_is_better


def test_medians_of_few_classes_alone() -> None:
    question, _ = asked()
    values = np.arange(48.0)
    assert module._medians(question, values) == {"no": 23.0, "yes": 24.0}
    question.labels[0] = {"word": ("no", "yes", "never")}
    assert module._medians(question, values) == {"no": 23.0, "yes": 24.0}
    question.labels[0] = {"word": tuple("abcdefgh")}
    assert module._medians(question, values) == {"a": 23.0, "b": 24.0}
    question.labels[0] = {"word": tuple("abcdefghi")}
    assert module._medians(question, values) == {}


def test_dev_chooses_by_what_the_task_selects() -> None:
    question, data = asked()
    dev = data.folds[0].dev
    right = [SimpleNamespace(id=c.id, labels={"word": c.labels["word"]}, scores={}) for c in dev]
    assert question._dev(dev, right) == 1.0  # type: ignore[arg-type]
    question.task.higher_is_better = False  # type: ignore[misc]
    try:
        assert question._dev(dev, right) == -1.0  # type: ignore[arg-type]
    finally:
        del question.task.higher_is_better
    question.task.select = "nothing"  # type: ignore[misc]
    try:
        assert question._dev(dev, right) == -math.inf  # type: ignore[arg-type]
    finally:
        del question.task.select


# --- whose audits -------------------------------------------------------------------------------


def test_audits_of_a_table(monkeypatch: pytest.MonkeyPatch) -> None:
    from bab.results import audit as results

    config = {"encoder": {"name": "fbank"}, "head": {"name": "x"}, "objective": {"name": "x"},
              "task": {"name": "classify"}, "corpus": {"name": "rttm"},
              "runs": "here/.search"}  # fmt: skip
    runs = [
        make("a", task="age", status="failed", config=config),
        make("b", task="gender", config=config),
        make("c", task="vtc", config=config),
        make("d", task="sv", config={"encoder": 3}),
    ]
    calls: list[Any] = []

    def audit(config: Any, tell: Any) -> Any:
        calls.append(config.task.name)
        assert config.runs == "here"  # where the table looks, not where rates were searched
        if len(calls) == 2:
            raise BabError("why not")
        return f"audit {len(calls)}", Path("x")

    monkeypatch.setattr(module, "audit", audit)
    monkeypatch.setattr(results, "fitting", lambda one, members: None)
    made, why = audits_of(runs, "here", lambda *told: None)
    assert made == ["audit 1"] and why == [
        "gender@rttm: the corpus has changed since: repeat its runs",
        "sv@rttm: its record is another version's: repeat the run",
        "vtc@rttm: why not",
    ]
    monkeypatch.setattr(results, "fitting", lambda one, members: one[0])
    calls.clear()
    made, why = audits_of(runs[:2], "here", lambda *told: None)
    assert (made, why) == (["audit 1"], [])


@pytest.mark.parametrize(
    ("level", "said"),
    [("frame", "labels moments, and what a recording's traits say is the same for all of them"),
     ("pair", "compares two clips"), ("sequence", "writes what is said"), ("clip", "")],
)  # fmt: skip
def test_tasks_that_have_no_audit(level: str, said: str) -> None:
    task: Any = SimpleNamespace(level=level)
    if not said:
        module.refuse(task, "x")
        return
    with pytest.raises(NotApplicableError) as caught:
        module.refuse(task, "x")
    assert str(caught.value) == (
        f"task 'x' {said}: the audit is of tasks that give whole clips a class (classify, gender, "
        "accent, addressee, valence)"
    )


def test_kept_traits_are_found_again_or_measured_anew(tmp_path: Path) -> None:
    file = tmp_path / "x.npz"
    assert module._recalled(file) == {}
    file.write_bytes(b"not sealed")
    assert module._recalled(file) == {}


def test_what_is_put_together(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows, traits, notices and progress of an audit of two folds."""

    class Asked:
        def __init__(self, task: Any, data: Any, x: Any) -> None:
            self.given = (task, data, x)

        def trees(self, columns: list[int], step: Any) -> Any:
            step(2)
            return SimpleNamespace(columns=columns, weights=["w"])

        def majority(self) -> str:
            return "base"

        def shuffled(self, columns: list[int], weights: Any, seed: int, step: Any) -> str:
            step()
            return f"shuffled {len(columns)} {weights} {seed}"

    monkeypatch.setattr(module, "Question", Asked)
    monkeypatch.setattr(module, "_measured", lambda data, tell, clips: "x")
    monkeypatch.setattr(module, "_record", lambda *given: given[5:])
    monkeypatch.setattr(module, "_traits", lambda asked, answers, x, step: [answers.columns, x])
    told: list[Any] = []
    data: Any = SimpleNamespace(
        folds=[1, 2], clips="clips", leakage="leaks", skipped={"a": 1, "b": 2}
    )
    corpus: Any = SimpleNamespace(notices=["of the corpus"])
    made = module._made("c", "t", corpus, data, "name", lambda *one: told.append(one))  # type: ignore[arg-type]
    heard, named = list(range(20)), list(range(20, 26))
    assert made.id == "name" and list(made.rows) == ["traits", "names", "majority", "shuffled"]
    assert [r[0].columns for r in (made.rows["traits"][0], made.rows["names"][0])] == [heard, named]
    assert made.rows["traits"][0][1] == "traits" and made.rows["majority"] == [("base", "majority")]
    assert made.rows["shuffled"] == [
        (f"shuffled 20 ['w'] {seed}", "shuffled", seed) for seed in range(5)
    ]
    assert made.traits == [heard, "x"]
    assert made.notices == ["leaks", "of the corpus", "2 unreadable files left out"]
    total = 2 * (4 + 5) + 26 * 4
    counts = [2, 4, 5, 6, 7, 8, 9, total]
    assert told == [("fitting trees", count, total, "steps") for count in counts]
    data.leakage, data.skipped, corpus.notices = "", {}, []
    assert module._made("c", "t", corpus, data, "n", lambda *one: None).notices == []  # type: ignore[arg-type]
