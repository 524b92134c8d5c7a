"""What an author's test class leaves out: a task's corpus, a model, its tool's answer."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from good_parts import GoodCorpus, GoodTask, make_corpus

import bab
from bab.testing import ModelContract, TaskContract
from bab.testing.taskcase import TaskCase


def test_a_task_is_tried_on_its_own_sample_unless_another_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = GoodCorpus(make_corpus(tmp_path), GoodCorpus.Options())
    task = GoodTask(GoodTask.Options())
    asked: list[object] = []
    monkeypatch.setattr("bab.testing.taskcase.sample_of", lambda one: asked.append(one) or given)

    class Own(TaskContract):
        def make(self) -> bab.Task:
            return task

    class Other(Own):
        def corpus(self) -> bab.Corpus:
            return given

    case = Own().subject(tmp_path)
    assert isinstance(case, TaskCase) and case.task is task and asked == [task]
    other = Other().subject(tmp_path)
    assert other.task is task and asked == [task]
    assert [clip.id for clip in other.all] == [clip.id for clip in case.all]


def test_a_models_folder_and_answer_are_the_authors(tmp_path: Path) -> None:
    class Mine(ModelContract):
        name = "hf"

    with pytest.raises(NotImplementedError):
        Mine().subject(tmp_path)
    with pytest.raises(NotImplementedError):
        Mine().says(np.zeros(3, np.float32))
    assert Mine().seconds == 3.0
