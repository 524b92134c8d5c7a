"""What dev and test said is kept for the weights that said it, once, and for no others."""

from __future__ import annotations

from typing import Any

from bab.core.record import RunInfo
from bab.running.answers import Answers


def info(name: str, fold: int = 0) -> RunInfo:
    given: dict[str, Any] = dict.fromkeys(RunInfo.__dataclass_fields__, "")
    return RunInfo(**given | {"id": name, "fold": fold})


def test_what_the_best_weights_tuned_is_kept() -> None:
    answers, run = Answers(), info("a")
    assert answers.tuned(run, 1) is None
    answers.tune(run, 1, 0.5, {"x": 1})
    answers.tune(run, 2, 0.5, {"x": 2})  # a tie: the first stays, as of checkpoints
    answers.tune(run, 3, 0.4, {"x": 3})
    answers.tune(info("a", 1), 3, 0.1, {"x": 4})
    answers.tune(info("b"), 3, 0.1, {"x": 5})
    assert answers.tuned(run, 1) == {"x": 1} and answers.tuned(run, 1) is None
    assert answers.tuned(info("a", 1), 3) == {"x": 4} and answers.tuned(info("b"), 2) is None
    answers.tune(run, 1, 0.5, {"x": 1})
    answers.tune(run, 2, 0.6, {"x": 2})
    assert answers.tuned(run, 2) == {"x": 2}


def test_what_weights_say_of_test_is_theirs() -> None:
    answers, run = Answers(), info("a")
    said: Any = ["an output"]
    assert answers.tested(run, 1) is None
    answers.test(run, 2, said)
    assert answers.tested(run, 1) is None and answers.tested(run, 2) is None
    answers.test(run, 2, said)
    assert answers.tested(info("a", 1), 2) is None and answers.tested(run, 2) is said
