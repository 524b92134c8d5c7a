"""What a bench's worker says of each run and writes of failed ones; the runs are stand-ins."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import made_records
import pytest

from bab.benching import together, worker
from bab.config.run import RunConfig
from bab.core.errors import (
    BabError,
    BusyError,
    ConfigError,
    InterruptedRunError,
    NotApplicableError,
)
from bab.core.record import Record, RunInfo
from bab.plugins.datasets.rttm import Rttm
from bab.plugins.tasks.vtc import VoiceType
from bab.results.record import load, save

OPTIONS = {"encoder": "fbank:40", "task": "vtc", "corpus": None, "quiet": True, "observers": []}
Run = Callable[[RunConfig, Any], tuple[Record, Path]]


def request(
    seeds: tuple[int, ...] = (3,), rates: tuple[float | None, ...] = (None,), **more: Any
) -> dict[str, Any]:
    return {
        "options": OPTIONS, "sets": [], "seeds": list(seeds), "rates": list(rates),
        "runs": "runs", "search": "runs/.search", "force": False, "failed": "", **more,
    }  # fmt: skip


def info(folder: Path | str = "runs/own", **more: Any) -> RunInfo:
    return RunInfo("id1", str(folder), "vtc", "rttm", "fbank:80", 50, {}, **more)


class Runs:
    """Stands where runs are made."""

    def __init__(self) -> None:
        self.asked: list[tuple[RunConfig, bool, Any, Any]] = []
        self.act: Callable[[RunConfig, worker.Reporter], None] = lambda config, reporter: None
        self.record = made_records.make()

    def __call__(
        self, config: RunConfig, force: bool, watching: Any, session: Any, fresh: Any
    ) -> tuple[Record, Path]:
        self.asked.append((config, force, session, fresh))
        (reporter,) = watching
        self.act(config, reporter)
        return self.record, Path(config.runs) / "own"


@pytest.fixture
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Runs:
    monkeypatch.chdir(tmp_path)
    made = Runs()
    monkeypatch.setattr(worker, "run", made)
    return made


def serve(asked: dict[str, Any]) -> list[dict[str, Any]]:
    said: list[dict[str, Any]] = []
    worker.serve(asked, lambda event: said.append(dict(event)))
    return said


def fails(error: BaseException, begun: RunInfo | None = None) -> Any:
    def act(config: RunConfig, reporter: worker.Reporter) -> None:
        if begun is not None:
            reporter.bab_run_start(begun)
        raise error

    return act


# --- one run


@pytest.mark.parametrize(
    ("rate", "head", "folder", "lr", "searched"),
    [
        (None, "pooled", "runs/own", 1e-3, False),
        (0.25, "pooled", "runs/.search/own", 0.25, True),
        (0.25, "logistic", "runs/own", 1e-3, False),  # solved in closed form: no rate
    ],
)
def test_a_run_is_told_with_its_folder_seed_and_rate(
    runs: Runs, rate: float | None, head: str, folder: str, lr: float, searched: bool
) -> None:
    asked = request(rates=(rate,), sets=["train.steps=7"], force=True)
    asked["options"] = {**OPTIONS, "task": "gender", "head": head}
    assert serve(asked) == [
        {
            "event": "ended", "status": "done", "folder": folder, "reason": "", "seed": 3,
            "rate": rate, "searched": searched, "select": "",
        }
    ]  # fmt: skip
    ((config, force, session, fresh),) = runs.asked
    assert (config.seed, config.train.steps, config.train.lr) == (3, 7, lr)
    assert force and fresh == set() and isinstance(session, worker.Session)


def test_the_metric_that_chooses_checkpoints_is_told_where_it_is_not_the_headline(
    runs: Runs,
) -> None:
    for task in ("asr", {"name": "asr", "lexicon": None}):
        (event,) = serve({**request(), "options": {**OPTIONS, "task": task}})
        assert event["select"] == "cer"


def test_seeds_come_rate_by_rate_and_share_what_they_can(
    runs: Runs, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(together, "objection", lambda config: "")
    seen: list[tuple[list[tuple[int, float]], bool]] = []

    def train(configs: Any, session: Any, force: bool, watcher: Any) -> tuple[str, set[Path]]:
        seen.append(([(one.seed, one.train.lr) for one in configs], force))
        assert isinstance(watcher, worker.Reporter)
        return "", {Path(f"cleared-{len(seen)}")}

    monkeypatch.setattr(together, "train", train)
    asked = request((3, 4), (0.1, 0.2), force=True)
    events = serve(asked)
    grid = [(3, 0.1), (3, 0.2), (4, 0.1), (4, 0.2)]
    assert [(event["seed"], event["rate"]) for event in events] == grid
    assert seen == [(grid, True)]
    assert [fresh for *_, fresh in runs.asked] == [{Path("cleared-1")}] * 4
    assert len({id(session) for _, _, session, _ in runs.asked}) == 1


def test_an_untrained_encoder_of_each_seed_is_trained_with_its_own(
    runs: Runs, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(together, "objection", lambda config: "")
    seen: list[list[tuple[int, float]]] = []
    cleared = iter([{Path("a")}, {Path("b")}])

    def train(configs: Any, *rest: Any) -> tuple[str, set[Path]]:
        seen.append([(one.seed, one.train.lr) for one in configs])
        return "", next(cleared)

    monkeypatch.setattr(together, "train", train)
    asked = request((3, 4), (0.1, 0.2))
    serve({**asked, "options": {**OPTIONS, "encoder": "hubert:random"}})
    assert seen == [[(3, 0.1), (3, 0.2)], [(4, 0.1), (4, 0.2)]]
    assert runs.asked[0][3] == {Path("a"), Path("b")}


@pytest.mark.parametrize("stage", ["objection", "train", "configuration", "crash"])
def test_what_has_nothing_to_gain_together_is_given_back(
    runs: Runs, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], stage: str
) -> None:
    def train(*given: Any) -> Any:
        if stage == "crash":
            raise ValueError("odd")
        return ("no way" if stage == "train" else ""), set()

    monkeypatch.setattr(
        together, "objection", lambda config: "never" if stage == "objection" else ""
    )
    monkeypatch.setattr(together, "train", train)
    sets = ["train.stepz=1"] if stage == "configuration" else []
    assert serve(request((3, 4), sets=sets)) == [{"event": "apart"}]
    said = capsys.readouterr().err
    why = {
        "objection": "one by one: never\n",
        "train": "one by one: no way\n",
        "configuration": "one by one: ConfigError: ",
        "crash": "one by one: ValueError: odd\n",
    }[stage]
    assert why in said
    assert ("Traceback" in said) == (stage == "crash") and runs.asked == []


def test_stopped_together_all_stop(runs: Runs, monkeypatch: pytest.MonkeyPatch) -> None:
    def train(*given: Any) -> Any:
        raise InterruptedRunError("stopped")

    monkeypatch.setattr(together, "train", train)
    with pytest.raises(InterruptedRunError, match="stopped"):
        serve(request((3, 4)))
    runs.act = fails(InterruptedRunError("stopped alone"))
    with pytest.raises(InterruptedRunError, match="alone"):
        serve(request())


@pytest.mark.parametrize(
    ("error", "status", "reason", "traced"),
    [
        (BabError("bad file"), "failed", "bad file", False),
        (NotApplicableError("no segments"), "not-applicable", "no segments", False),
        (ValueError("odd"), "failed", "ValueError: odd", True),
    ],
)
def test_a_run_that_fails_leaves_a_record_in_its_folder(
    runs: Runs, capsys: pytest.CaptureFixture[str], error: Exception, status: str, reason: str,
    traced: bool,
) -> None:  # fmt: skip
    runs.act = fails(error, info())
    (event,) = serve(request())
    assert event == {
        "event": "ended", "status": status, "folder": "runs/own", "reason": reason, "seed": 3,
        "rate": None, "searched": False, "select": "",
    }  # fmt: skip
    assert ("Traceback" in capsys.readouterr().err) == traced
    one = load("runs/own")
    assert (one.status, one.reason, one.id, one.encoder) == (status, reason, "id1", "fbank:80")
    assert (one.task, one.task_version, one.primary) == ("vtc", VoiceType.version, "f1")
    assert (one.corpus, one.seed, one.head, one.objective) == ("rttm", 3, "frames", "multilabel")
    assert (one.mode, one.protocol) == ("probe", "given")
    assert one.config["task"]["name"] == "vtc" and one.corpus_version == Rttm.version


def test_one_that_has_no_folder_yet_leaves_its_record_beside_the_runs(runs: Runs) -> None:
    runs.act = fails(ConfigError("nothing there"))
    folders = set()
    for rate, top in ((None, "runs"), (0.1, "runs/.search")):
        for seed in (3, 4):
            (event,) = serve(request((seed,), (rate,)))
            folder = Path(event["folder"])
            assert folder.parent == Path(top) / "failed" and len(folder.name) == 12
            one = load(folder)
            assert (one.id, one.encoder, one.seed) == (folder.name, "fbank:40", seed)
            folders.add(folder)
    assert len(folders) == 4


@pytest.mark.parametrize(
    ("options", "names"),
    [
        ({}, ("vtc", "rttm", "probe")),
        ({"corpus": "childproject:/x", "mode": "finetune"}, ("vtc", "childproject", "finetune")),
        ({"task": {"name": "gender"}, "corpus": {"name": "kaldi"}}, ("gender", "kaldi", "probe")),
        ({"task": "nothing", "corpus": None}, ("nothing", "", "probe")),
    ],
)
def test_options_that_nobody_understands_are_recorded_as_they_were_given(
    runs: Runs, options: dict[str, Any], names: tuple[str, str, str]
) -> None:
    given = {k: v for k, v in {**OPTIONS, **options}.items() if v is not None}
    (event,) = serve({**request(), "options": given, "sets": ["train.stepz=3"]})
    assert event["status"] == "failed" and runs.asked == []
    one = load(event["folder"])
    assert (one.task, one.corpus, one.mode) == names
    assert (one.encoder, one.head, one.objective, one.protocol) == ("fbank:40", "", "", "given")
    assert one.config == given
    if names[0] == "nothing":
        assert (one.task_version, one.primary, one.corpus_version) == ("", "", "")


def test_what_killed_a_worker_is_only_recorded(runs: Runs) -> None:
    (event,) = serve(request(failed="the worker was killed"))
    assert (event["status"], event["reason"]) == ("failed", "the worker was killed")
    assert load(event["folder"]).reason == "the worker was killed" and runs.asked == []


def test_a_run_that_came_further_than_before_leaves_one_record(runs: Runs) -> None:
    runs.act = fails(BabError("early"))
    (first,) = serve(request())
    runs.act = fails(BabError("late"), info())
    (second,) = serve(request())
    assert not Path(first["folder"]).exists() and load(second["folder"]).reason == "late"


def test_what_another_process_is_at_is_waited_for(
    runs: Runs, monkeypatch: pytest.MonkeyPatch
) -> None:
    naps: list[float] = []
    now = [1000.0]

    def nap(seconds: float) -> None:
        naps.append(seconds)
        now[0] += 6

    monkeypatch.setattr("time.sleep", nap)
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    busy = fails(BusyError("at work"))
    runs.act = lambda config, reporter: busy(config, reporter) if len(naps) < 2 else None
    (event,) = serve(request())
    assert event["status"] == "done" and naps == [0.5, 0.5]
    runs.act, naps[:] = busy, []
    (event,) = serve(request())
    assert naps == [0.5] * 6  # not sooner than after 30 s
    assert (event["status"], event["folder"], event["reason"]) == ("busy", "", "at work")
    assert not Path("runs").exists()


def test_a_run_that_was_made_by_other_code_than_was_submitted_says_so(
    runs: Runs, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BAB_CODE_CHANGED", "bab was changed meanwhile")
    (event,) = serve(request())  # found done: nothing was made
    assert event["status"] == "done" and not Path("runs/own").exists()
    runs.act = lambda config, reporter: reporter.bab_run_start(info())
    runs.record = replace(runs.record, notices=["first"])
    serve(request())
    assert load("runs/own").notices == ["first", "bab was changed meanwhile"]
    monkeypatch.setenv("BAB_CODE_CHANGED", "")
    runs.record = replace(runs.record, notices=[])
    serve(request())
    assert load("runs/own").notices == ["first", "bab was changed meanwhile"]  # not written anew


def test_failures_of_a_cell_are_forgotten_when_it_has_run(runs: Runs) -> None:
    corpus = {"name": "rttm", "root": "homes"}
    options = {**OPTIONS, "corpus": corpus}

    def failed(top: str, name: str, **changes: Any) -> Path:
        whole = {**options, **changes.pop("options", {})}
        values = {"status": "failed", "seed": 3, "config": whole, **changes}
        save(replace(made_records.make(name), **values), Path(top) / "failed" / name)
        return Path(top) / "failed" / name

    going = [failed("runs", "a"), failed("runs/.search", "b", options={"mode": "finetune"})]
    staying = [
        failed("runs", "c", seed=4),
        failed("runs", "d", options={"encoder": "fbank:80"}),
        failed("runs", "e", options={"task": "gender"}),
        failed("runs", "f", options={"corpus": {"name": "rttm", "root": "other"}}),
        failed("runs", "g", options={"corpus": {"name": "rttm"}}),
        failed("elsewhere", "h"),
    ]
    odd = Path("runs/failed/odd")
    odd.mkdir()
    serve({**request(), "options": options})
    assert [path.exists() for path in going] == [False, False]
    assert [path.exists() for path in (*staying, odd)] == [True] * 7
    named = failed("runs", "i", options={"corpus": "rttm", "task": {"name": "vtc"}})
    serve({**request(), "options": {**OPTIONS, "corpus": "rttm"}})
    assert not named.exists()


# --- how far it is


def test_progress_is_told_twice_a_second_at_most(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [50.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    said: list[Any] = []
    reporter = worker.Reporter(said.append)
    assert reporter.info is None
    for seconds, done in ((50.0, 1), (50.4, 2), (50.5, 3), (50.9, 4)):
        now[0] = seconds
        reporter.bab_progress("features", done, 9, "clips")
    now[0] = 51.0
    reporter.bab_step(info(), 20)
    progress = {"event": "progress", "stage": "features", "total": 9, "unit": "clips"}
    training = {"stage": "training", "done": 20, "total": 50, "unit": "steps"}
    assert said == [{**progress, "done": 1}, {**progress, "done": 3}, {**progress, **training}]
