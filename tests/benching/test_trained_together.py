"""A cell's runs trained together, on real audio, against the same runs made one by one."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from made_records import make

from bab.benching import together
from bab.config.resolve import run_config
from bab.config.run import RunConfig
from bab.core.errors import BusyError
from bab.features.source import FeatureSource
from bab.results.record import save
from bab.running import fold
from bab.running.runner import life_of, open_run, run
from bab.running.session import Session
from bab.starting.folders import locked

ASKED = {"encoder": "fbank", "task": "vtc", "quiet": True, "observers": [], "device": "cpu"}
SETS = ["train.steps=4", "train.eval_every=2", "train.batch=2"]


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def here(tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("BAB_CACHE", str(cache))
    return tmp_path


def configs(folder: Path, *grid: tuple[float, int], **more: Any) -> list[RunConfig]:
    return [
        run_config(
            None, {**ASKED, **more, "runs": str(folder), "seed": seed}, [*SETS, f"train.lr={rate}"]
        )
        for rate, seed in grid
    ]


def test_a_task_of_frames_is_swept_as_its_runs_are_made(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Dev and test say what they say of runs made one by one, and are not asked again."""
    grid = ((1e-3, 0), (30.0, 1))
    asked: list[str] = []
    restored: list[int] = []
    answer, restore = together.answered, together.restore_best

    def answered(context: Any, model: Any, part: Any, split: Any) -> Any:
        asked.append(split)
        return answer(context, model, part, split)

    def restore_best(folder: Path, bundle: Any, step: int, name: str) -> Any:
        restored.append(step)
        return restore(folder, bundle, step, name)

    session = Session()
    swept = configs(here / "swept", *grid)
    with monkeypatch.context() as patched:
        patched.setattr(together, "answered", answered)
        patched.setattr(together, "restore_best", restore_best)
        assert together.train(swept, session, False, None) == ("", set())
        assert asked == ["test"]
        assert restored == [2]  # one of the two was best before its last step
        patched.setattr(fold, "answered", answered)
        made = [run(one, session=session) for one in swept]
        assert asked == ["test"]
    for (record, folder), one in zip(made, configs(here / "alone", *grid), strict=True):
        alone, place = run(one)
        assert record.id == alone.id
        assert record.metrics == pytest.approx(alone.metrics, abs=1e-3)
        assert record.dev == pytest.approx(alone.dev, abs=1e-3)
        assert sorted(p.name for p in folder.iterdir()) == sorted(p.name for p in place.iterdir())


@pytest.mark.parametrize(
    ("options", "sets", "why"),
    [
        ({}, [], ""),
        ({"head": {"name": "frames", "rnn": "bilstm"}}, [], ""),  # `unfit` tries it
        ({"task": "gender", "head": "pooled"}, [], ""),
        ({"task": "gender", "head": "logistic"}, [], "linear"),
        ({"task": "gender", "head": {"name": "pooled", "hidden": 4}}, [], ""),
        ({"task": "sv"}, [], ""),
        ({"task": "gender", "head": "xvector"}, [], "linear"),
        ({"mode": "finetune"}, [], "linear"),
        ({}, ["train.patience=2"], "early"),
        ({}, ["train.precision=bf16"], "early"),
        ({"mode": "finetune"}, ["train.precision=bf16"], "linear"),
    ],
)
def test_what_can_not_be_trained_together_is_known_before(
    here: Path, options: dict[str, Any], sets: list[str], why: str
) -> None:
    config = run_config(None, {**ASKED, **options}, ["train.precision=fp32", *sets])
    assert (
        together.objection(config)
        == {
            "": "",
            "linear": "only linear heads on frozen features are trained together",
            "early": "runs that stop early or compute in half precision are trained one by one",
        }[why]
    )


class Sweeps:
    """Stands where runs are trained together: which, and what stands in their folders."""

    def __init__(self, reason: str = "") -> None:
        self.asked: list[list[int]] = []
        self.left: list[list[bool]] = []
        self.reason = reason

    def __call__(self, runs: Any, session: Any) -> str:
        self.asked.append([one.config.seed for one in runs])
        self.left.append([(one.folder / "record.json").exists() for one in runs])
        for one in runs:
            with pytest.raises(BusyError), locked(one.folder, True):
                pass  # they are held meanwhile
        return self.reason


def test_only_runs_that_are_left_are_trained_and_never_one_alone(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sweeps = Sweeps()
    monkeypatch.setattr(together, "_train", sweeps)
    session = Session()
    runs = configs(here, *((1e-3, seed) for seed in (0, 1, 2)))

    def train(asked: list[RunConfig], force: bool = False) -> tuple[str, set[Path]]:
        return together.train(asked, session, force, None)

    assert train(runs) == ("", set())
    assert train([runs[0], runs[0]]) == ("", set())  # the same run twice is one
    assert sweeps.asked == [[0, 1, 2]]
    folders = sorted(here.glob("vtc/*/*/*"))
    assert len(folders) == 3
    (done,) = [f for f in folders if f.name == run_folder_of(runs[1], session)]
    save(make(done.name), done)
    assert train(runs) == ("", set()) and sweeps.asked[1:] == [[0, 2]]
    assert train(runs[:2]) == ("", set()) and sweeps.asked[2:] == []
    assert train(runs, force=True) == ("", set(folders))
    assert sweeps.asked[2:] == [[0, 1, 2]] and sweeps.left[2] == [False] * 3
    with locked(done, True):
        assert train(runs, force=True) == ("", set(folders) - {done})
        assert sweeps.asked[3:] == [[0, 2]]
    sweeps.reason = "no way"
    assert train(runs) == ("no way", set())
    with locked(done, True):  # they were let go
        pass


def run_folder_of(config: RunConfig, session: Session) -> str:
    with life_of(config, [], []) as life:
        return open_run(config, life, session).folder.name


def test_frames_lie_as_a_sweep_wants_them_while_it_goes_through_them() -> None:
    features: Any = object.__new__(FeatureSource)
    features.by_frame = False
    with pytest.raises(KeyError), together._read_by_frame(features):
        assert features.by_frame
        raise KeyError
    assert not features.by_frame
    other: Any = SimpleNamespace()  # an ensemble's, whose members lie as they are
    with together._read_by_frame(other):
        assert vars(other) == {}


def test_runs_that_stand_at_one_step_are_trained_together(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those that an interruption left at another step, or at their end, go by themselves."""
    fitted: list[list[str]] = []

    class Fits:
        def __init__(self, members: Any) -> None:
            fitted.append([str(one.config.lr) for one in members])

        def fit(self) -> list[None]:
            return [None] * len(fitted[-1])

    monkeypatch.setattr(together, "FrameSweep", Fits)
    at = {0.1: 0, 0.2: 2, 0.3: 2, 0.4: 0, 0.5: 3, 0.6: 4, 0.7: 4}

    def newest(folder: Path, name: str) -> tuple[Path | None, list[str]]:
        step = steps.pop(0)
        return (folder / f"step-{step:06}.safetensors" if step else None), []

    steps = list(at.values())
    monkeypatch.setattr(together, "newest", newest)
    runs = configs(here, *((rate, 0) for rate in at))
    assert together.train(runs, Session(), False, None) == ("", set())
    assert fitted == [["0.1", "0.4"], ["0.2", "0.3"]]  # of four steps, none is left at 4
