"""A bench's requests as files: what each of them is called and holds, whoever comes too late."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from bab.benching.requests import (
    Request,
    Requests,
    RunKey,
    features_key,
    run_file,
    uncovered,
)


def request(name: str = "00001", features: str = "f", cell: int = 1, **body: Any) -> Request:
    return Request(name, cell, features, {"seeds": [3, 4], "rates": [0.1, None], **body})


@pytest.fixture
def requests(tmp_path: Path) -> Requests:
    made = Requests(tmp_path / "bench")
    made.make()
    made.make()  # again, nothing happens
    return made


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_runs_of_a_request_come_rate_by_rate() -> None:
    one = request(more="x")
    runs = [RunKey(1, 3, 0.1), RunKey(1, 4, 0.1), RunKey(1, 3, None), RunKey(1, 4, None)]
    assert one.runs == runs
    parts = Request("00001", 1, "f", one.body, 2).apart()
    assert [part.name for part in parts] == [f"00001.{n:04}" for n in range(4)]
    for part, run in zip(parts, runs, strict=True):
        assert part.runs == [run] and (part.features, part.lost) == ("f", 2)
        assert part.body == {"seeds": [run.seed], "rates": [run.rate], "more": "x"}


def test_names_of_files() -> None:
    assert run_file(RunKey(2, 3, None)) == "2_3_None.json"
    assert run_file(RunKey(2, 3, 1e-05)) == "2_3_1e-05.json"
    assert features_key("a b") == hashlib.blake2b(b"a b", digest_size=6).hexdigest()


def test_a_request_stands_in_one_place_at_a_time(requests: Requests) -> None:
    assert names(requests.folder) == ["at", "ended", "now", "todo", "warm"]
    one = request()
    requests.ask(one)
    values = {"name": "00001", "cell": 1, "features": "f", "body": one.body, "lost": 0}
    assert json.loads((requests.todo / "00001.json").read_text()) == values
    assert requests.waiting() and requests.open() == [one] and requests.taken() == []
    assert requests.take("w1") == one
    assert (names(requests.todo), names(requests.at)) == ([], ["00001@w1.json"])
    assert not requests.waiting() and requests.open() == [one] and requests.taken() == [(one, "w1")]
    requests.back(one, "w1")
    requests.back(one, "w1")  # it isn't there any more
    assert (names(requests.todo), names(requests.at)) == (["00001.json"], [])
    assert requests.take("w2") == one
    requests.finish(one, "w2")
    requests.finish(one, "w2")
    assert (names(requests.todo), names(requests.at), names(requests.warm)) == ([], [], ["f"])
    requests.clear()
    assert names(requests.folder) == []
    assert requests.open() == [] and not requests.waiting() and requests.events(set()) == []
    assert requests.take("w1") is None and requests.progress() == {} and requests.employed() == 0


def test_how_runs_ended_is_told_but_for_those_that_are_known(requests: Requests) -> None:
    one = request(cell=5)
    for seed, rate in ((4, None), (3, 0.1)):
        requests.end_run(one, {"seed": seed, "rate": rate, "status": "done"})
    (requests.ended / "0_bad.json").write_text("{")
    told = [
        ("5_3_0.1.json", {"seed": 3, "rate": 0.1, "status": "done", "cell": 5}),
        ("5_4_None.json", {"seed": 4, "rate": None, "status": "done", "cell": 5}),
    ]
    assert requests.events(set()) == told
    assert requests.events({"5_3_0.1.json"}) == told[1:]
    requests.forget("5_3_0.1.json")
    requests.forget("5_3_0.1.json")
    assert requests.events(set()) == told[1:]


def test_a_faster_worker_has_it(requests: Requests, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("00001", "00002"):
        requests.ask(request(name, features=name))
    rename = Path.rename

    def late(self: Path, target: Path) -> Any:
        if self.name == "00001.json":
            self.unlink()
            raise FileNotFoundError(self)
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", late)
    taken = requests.take("w1")
    assert taken is not None and taken.name == "00002"


def test_damaged_and_hidden_files_are_nobodys(requests: Requests) -> None:
    requests.ask(request("00002"))
    for place in (requests.todo, requests.at, requests.now):
        (place / "00001.json").write_text("{")
        (place / ".tmp-00001.json").write_text("{}")
        (place / "00001.txt").write_text("{}")
    assert requests.open() == [request("00002")] and requests.progress() == {}
    taken = requests.take("w1")
    assert taken == request("00002")


def test_what_needs_the_same_features_waits_for_them_unless_it_is_its_own(
    requests: Requests,
) -> None:
    for name, features in (("1", "a"), ("2", "a"), ("3", "b"), ("4", "b"), ("5", "c")):
        requests.ask(request(name, features))
    assert requests.employed() == 3  # one for each of a, b, c
    first = requests.take("w1")
    again = requests.take("w1")  # its own features are no reason to wait
    assert first and again and (first.name, again.name) == ("1", "2")
    third = requests.take("w2")
    assert third and third.name == "3"
    assert requests.employed() == 3 + 1  # at work, and c
    requests.heat(third)
    requests.heat(third)
    assert names(requests.warm) == ["b"] and requests.employed() == 3 + 2
    fourth = requests.take("w3")
    assert fourth and fourth.name == "4"


def test_a_worker_that_is_gone_loses_its_requests_and_its_progress(requests: Requests) -> None:
    for name in ("1", "2", "3"):
        requests.ask(request(name, name))
        requests.take("w1" if name != "2" else "w2")
    for who in ("w1", "w2"):
        (requests.now / f"{who}.json").write_text('{"done": 1}')
    assert requests.progress() == {"w1": {"done": 1}, "w2": {"done": 1}}
    assert [one.name for one in requests.drop("w1")] == ["1", "3"]
    assert requests.progress() == {"w2": {"done": 1}} and names(requests.at) == ["2@w2.json"]
    assert requests.drop("w1") == [] and requests.drop("nobody") == []


def test_what_is_lacking_is_asked_for_whole_or_run_by_run(requests: Requests) -> None:
    one, two = request("1", cell=1), request("2", cell=2)
    assert uncovered([one, two], requests) == [one, two]
    requests.ask(one)
    assert uncovered([one, two], requests) == [two]
    requests.end_run(two, {"seed": 3, "rate": 0.1})
    assert uncovered([one, two], requests) == two.apart()[1:]
    requests.take("w1")
    assert uncovered([one], requests) == []
    for run in two.runs:
        requests.end_run(two, {"seed": run.seed, "rate": run.rate})
    assert uncovered([one, two], requests) == []
    requests.drop("w1")
    requests.ask(one.apart()[2])
    assert uncovered([one, two], requests) == [one.apart()[i] for i in (0, 1, 3)]
