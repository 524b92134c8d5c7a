"""What a launched bench does from look to look, whatever becomes of its workers: no job runs."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from bench_scene import GENDER, VTC, Scene, Turn
from filelock import FileLock
from made_records import make

from bab.benching.grid import Cell, Result
from bab.benching.requests import Request, RunKey, run_file
from bab.core.atomic import write_json
from bab.core.errors import BabError, BusyError, InterruptedRunError
from bab.results.record import save


@pytest.fixture
def scene(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Scene:
    return Scene(tmp_path, monkeypatch)


def test_there_are_as_many_workers_as_there_is_work_for(scene: Scene) -> None:
    scene.open(VTC, GENDER)

    def begin() -> None:
        assert len(scene.workers) == 2  # of three
        for number in (0, 1):
            one = scene.take(number)
            event = {"event": "progress", "stage": "training", "done": number, "of": one.name}
            write_json(scene.requests.now / f"{scene.workers[number]}.json", event)
        stray = {"event": "progress", "done": 5, "of": "00000"}
        write_json(scene.requests.now / "w0009-ab.json", stray)

    def work() -> None:
        late = {"event": "progress", "done": 6, "of": "00009"}  # of what it was at before
        write_json(scene.requests.now / f"{scene.workers[1]}.json", late)
        for one, who in scene.requests.taken():
            scene.end(one, reason=who)

    done = scene.run(begin, work)
    assert scene.naps == [0.5, 0.5]
    for number, work_ in enumerate(scene.engine.works, 1):
        assert re.fullmatch(rf"w000{number}-[0-9a-f]{{4}}", work_.name)
        asked = json.loads((scene.folder / "jobs" / f"{work_.name}.json").read_text())
        assert asked["argv"] == ["-m", "bab.benching.pulling", str(scene.folder), work_.name]
    labels = ["fbank vtc, seed 0", "fbank gender, seed 0"]
    progress = [(slot, label) for slot, label, event in scene.told if event["event"] == "progress"]
    # The first worker's is told again, as it stands; the second's is of another request by then.
    assert progress == [(0, labels[0]), (1, labels[1]), (0, labels[0])]
    ended = [(slot, label, e["reason"]) for slot, label, e in scene.told if e["event"] == "ended"]
    assert ended == [(0, label, who) for label, who in zip(labels, scene.workers, strict=True)]
    assert [(cell, one.reason) for cell, one in done.failures] == [
        (VTC, scene.workers[0]),
        (GENDER, scene.workers[1]),
    ]
    assert scene.said == []
    assert {path.name for path in scene.folder.iterdir()} == {"jobs", ".lock"}


def test_no_more_workers_than_were_asked_for(scene: Scene) -> None:
    scene.most = 1
    scene.open(VTC, GENDER)
    scene.run(lambda: None, scene.whole)
    assert len(scene.workers) == 1 and scene.naps == [0.5, 0.5]


def test_a_place_among_the_shown_is_free_again_with_its_worker(scene: Scene) -> None:
    scene.most = 2
    scene.open(VTC, GENDER)

    def begin() -> None:
        scene.take(0), scene.take(1)
        scene.die(1, place=0)

    def tell() -> None:
        one = scene.take(2)
        write_json(
            scene.requests.now / f"{scene.workers[2]}.json",
            {"event": "progress", "done": 1, "of": one.name},
        )

    def work() -> None:
        for one, _ in scene.requests.taken():
            scene.end(one)

    scene.run(begin, tell, work)
    assert [slot for slot, _, event in scene.told if event["event"] == "progress"] == [0, 0]


def test_of_several_free_places_the_first_is_taken(scene: Scene) -> None:
    scene.open(VTC, GENDER, Cell("fbank", "valence"))

    def begin() -> None:
        for place in range(3):
            scene.take(place)
        for place in (0, 1):
            scene.die(1, place=place)

    def tell() -> None:
        for place in (3, 4):
            event = {"event": "progress", "done": place, "of": scene.take(place).name}
            write_json(scene.requests.now / f"{scene.workers[place]}.json", event)

    def work() -> None:
        for one, _ in scene.requests.taken():
            scene.end(one)

    scene.run(begin, tell, work)
    shown = {e["done"]: slot for slot, _, e in scene.told if e["event"] == "progress"}
    assert shown == {3: 0, 4: 1}


def test_a_lost_run_begins_again_twice_and_is_then_only_recorded(scene: Scene) -> None:
    lost: list[int] = []

    def begin_and_die() -> None:
        lost.append(scene.take().lost)
        scene.die(-9 if len(lost) == 1 else 1)

    def record() -> None:
        one = scene.take()
        assert one.lost == 3
        assert one.body["failed"] == (
            "its worker was lost 3 times; the last time: status 1 on node3"
        )
        scene.end(one, reason=one.body["failed"])

    scene.run(begin_and_die, begin_and_die, begin_and_die, record)
    assert lost == [0, 1, 2] and len(scene.workers) == 4
    first, second, third, _ = scene.workers
    assert scene.said == [
        f"worker {first}: killed by signal 9 on node3 (out of memory?); its run begins again",
        f"worker {second}: status 1 on node3; its run begins again",
        f"worker {third}: status 1 on node3; its run begins again",
    ]


def test_runs_that_were_lost_together_are_tried_apart_the_second_time(scene: Scene) -> None:
    scene.open(seeds=(3, 4))
    asked: list[list[tuple[str, int, list[RunKey]]]] = []

    def begin_and_die() -> None:
        scene.take()
        scene.die()

    def look(then: Turn) -> Turn:
        def turn() -> None:
            asked.append([(one.name, one.lost, one.runs) for one in scene.requests.open()])
            then()

        return turn

    scene.run(look(begin_and_die), look(begin_and_die), look(scene.whole))
    runs = [RunKey(0, 3, None), RunKey(0, 4, None)]
    assert asked == [
        [("00000", 0, runs)],
        [("00000", 1, runs)],
        [("00000.0000", 2, runs[:1]), ("00000.0001", 2, runs[1:])],
    ]


@pytest.mark.parametrize("ended", [(3,), (4, 5), (3, 4, 5)])
def test_only_runs_that_have_not_ended_are_tried_again(
    scene: Scene, ended: tuple[int, ...]
) -> None:
    scene.open(seeds=(3, 4, 5))
    left: list[list[int]] = []

    def begin_and_die() -> None:
        scene.end(scene.take(), seeds=ended)
        scene.die()

    def look() -> None:
        left.append([run.seed for one in scene.requests.open() for run in one.runs])
        scene.whole()

    if len(ended) == 3:
        scene.run(begin_and_die)
        left.append([])
    else:
        scene.run(begin_and_die, look)
    assert left == [[seed for seed in (3, 4, 5) if seed not in ended]]
    assert sorted(label for _, label, _ in scene.told) == [
        f"fbank vtc, seed {s}" for s in (3, 4, 5)
    ]


@pytest.mark.parametrize(("status", "interrupted"), [(0, False), (130, True)])
def test_what_a_worker_held_that_was_stopped_is_no_loss(
    scene: Scene, status: int, interrupted: bool
) -> None:
    def begin_and_stop() -> None:
        scene.take()
        scene.die(status, interrupted)

    def look() -> None:
        (one,) = scene.requests.open()
        assert (one.name, one.lost) == ("00000", 0)
        scene.whole()

    scene.run(begin_and_stop, look)
    assert scene.said == [] and len(scene.workers) == 2


@pytest.mark.parametrize("printed", ["", "line 1\nno module\n"])
def test_three_workers_in_turn_that_did_nothing_are_an_error(scene: Scene, printed: str) -> None:
    def die() -> None:
        (scene.folder / "jobs" / f"{scene.workers[-1]}.log").write_text(printed)
        scene.die(1)

    with pytest.raises(BabError) as raised:
        scene.run(die, die, die)
    log = scene.folder / "jobs" / f"{scene.workers[-1]}.log"
    assert str(raised.value) == (
        "3 jobs in turn ended before they did anything (status 1 on node3). The last lines of "
        f"{log}:\n{printed.strip() or '(empty)'}"
    )
    assert scene.said == [f"worker {name}: status 1 on node3" for name in scene.workers]


def test_workers_that_did_nothing_are_counted_from_the_last_run_that_ended(scene: Scene) -> None:
    scene.open(VTC, GENDER)
    scene.most = scene.bench.most = 1

    def die() -> None:
        scene.die(1)

    def one_run() -> None:
        one = scene.take()
        scene.end(one)
        scene.finish(one)

    with pytest.raises(BabError, match="3 jobs in turn"):
        scene.run(die, die, one_run, die, die, die)
    assert not scene.turns and len(scene.workers) == 5


def test_a_run_that_another_holds_is_asked_for_twenty_times_again(scene: Scene) -> None:
    scene.open(seeds=(3, 4))
    names: list[str] = []

    def held() -> None:
        one = scene.take()
        names.append(one.name)
        for run in one.runs:
            status = "busy" if run.seed == 4 else "not-applicable"
            scene.end(one, status, [run.seed], reason="at work")
        scene.finish(one)

    done = scene.run(*[held] * 21)
    assert names == ["00000", *["00000.0001"] * 20]
    assert [(label, event["status"]) for _, label, event in scene.told] == [
        ("fbank vtc, seed 3", "not-applicable"),
        ("fbank vtc, seed 4", "busy"),
    ]
    assert [(one.seed, one.status) for _, one in done.failures] == [(4, "busy")]


def test_of_several_cells_only_what_is_held_is_asked_for_again(scene: Scene) -> None:
    scene.most = 1
    scene.open(VTC, GENDER, seeds=(3,))
    names: list[str] = []

    def held() -> None:
        while (one := scene.requests.take(scene.workers[0])) is not None:
            names.append(one.name)
            last = one.cell == 1 and names.count("00001") + names.count("00001.0000") < 3
            scene.end(one, "busy" if last else "failed")
            scene.finish(one)

    done = scene.run(held, held, held, held)
    assert names == ["00000", "00001", "00001.0000", "00001.0000"]
    assert [(cell, one.status) for cell, one in done.failures] == [
        (VTC, "failed"), (GENDER, "failed"),
    ]  # fmt: skip
    assert scene.bench.held == {RunKey(1, 3, None): 2}  # each time told, it was asked for once


def test_what_failed_is_tried_again_and_what_is_done_is_not(scene: Scene, tmp_path: Path) -> None:
    scene.open(seeds=(3, 4, 5))
    folder = tmp_path / "done"
    save(make("r", seed=3), folder)
    scene.requests.make()
    (whole,) = scene.bench.wanted
    scene.end(whole, "done", [3], folder=str(folder))
    scene.end(whole, "failed", [4])
    scene.end(whole, "busy", [5])
    asked: list[RunKey] = []

    def look() -> None:
        asked.extend(run for one in scene.requests.open() for run in one.runs)
        scene.whole(reason="again")

    done = scene.run(look)
    assert [run.seed for run in asked] == [4, 5]
    assert [record.id for record in done.records] == ["r"]
    assert [(one.seed, one.reason) for _, one in done.failures] == [(4, "again"), (5, "again")]


def test_jobs_left_at_work_are_found_again(scene: Scene) -> None:
    scene.open(VTC, GENDER)

    def leave() -> None:
        scene.take(0), scene.take(1)
        raise KeyboardInterrupt

    with pytest.raises(InterruptedRunError) as raised:
        scene.run(leave)
    assert str(raised.value) == (
        "2 jobs left at work under here (1, 2). The same command picks them up; with "
        "--cancel-jobs it ends them"
    )
    scene.open()

    def work() -> None:
        for one, _ in scene.requests.taken():
            assert one.lost == 0
            scene.end(one)

    scene.run(work)
    assert scene.said == ["2 jobs of an earlier call still at work"] and len(scene.workers) == 2


def test_a_worker_that_was_lost_while_nobody_watched_is_no_mystery(scene: Scene) -> None:
    scene.requests.make()
    (one,) = scene.bench.wanted
    lost = Request(one.name, one.cell, one.features, one.body, 2)
    scene.requests.ask(lost)
    assert scene.requests.take("w0001-dead") is not None

    def look() -> None:
        (again,) = scene.requests.open()
        assert again.body["failed"] == (
            "its worker was lost 3 times; the last time: it was lost while nobody watched"
        )
        scene.whole()

    scene.run(look)
    assert scene.said == []


def test_files_that_went_away_are_asked_for_again(scene: Scene) -> None:
    def lose() -> None:
        (scene.requests.todo / "00000.json").unlink()
        scene.die(0)

    scene.run(lose, lambda: None, lambda: None, scene.whole)
    assert scene.naps == [0.5, 2.0, 0.5, 0.5] and len(scene.workers) == 2


def test_one_bench_watches_at_a_time(scene: Scene) -> None:
    scene.folder.mkdir(parents=True)
    with FileLock(scene.folder / ".lock"), pytest.raises(BusyError) as raised:
        scene.run()
    assert str(raised.value) == (
        f"another bab bench watches these jobs ({scene.folder}): wait for it"
    )
    scene.run(scene.whole)  # and the next may


def test_jobs_are_cancelled_and_nothing_else_is_done(scene: Scene) -> None:
    def leave() -> None:
        raise KeyboardInterrupt

    with pytest.raises(InterruptedRunError):
        scene.run(leave)
    scene.way = {"cancel": True}
    scene.open()
    assert scene.run() == Result((), ())
    assert scene.said == ["1 job cancelled; what was finished stands"]
    assert scene.engine.cancelled == ["1"] and scene.told == []
    assert [one.name for one in scene.requests.open()] == ["00000"]
    scene.way = {}
    scene.open()
    scene.run(scene.whole)  # the lock was let go


def test_stopped_without_jobs_it_says_so(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(*given: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(scene.engine, "submit", stop)
    with pytest.raises(InterruptedRunError) as raised:
        scene.run()
    assert str(raised.value) == (
        "stopped; what was finished stands, and the same command goes on from here"
    )


def test_the_same_command_has_the_same_folder(scene: Scene) -> None:
    first = scene.folder
    assert first.parent == scene.top / "runs" / ".bench" and len(first.name) == 12
    scene.open()
    assert scene.folder == first
    others = [{"seeds": (1,)}, {"rates": (0.1,)}, {"sets": ("a=1",)}, {"force": True}]
    for change in [*others, {"keys": {"mode": "finetune"}}]:
        scene.open(**{"seeds": (0,), **change})
        assert scene.folder not in (first, None), change
    scene.open(GENDER, seeds=(0,))
    assert scene.folder != first
    assert [run_file(run) for one in scene.bench.wanted for run in one.runs] == ["0_0_None.json"]
