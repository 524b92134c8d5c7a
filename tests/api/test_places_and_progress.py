"""Paths below a home, progress and its quiet, and options that functions hand on one by one."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from made_records import make, put

import bab
from bab.core.errors import BabError

WORKS = {
    "predict": (
        "bab.predicting.predict.predict",
        ("model", "a.wav", "out"),
        "done",
        ("tell", "say"),
    ),
    "embed": ("bab.predicting.embed.embed", ("fbank", "a.wav", "out"), "done", ("tell", "say")),
    "explain": (
        *("bab.explaining.explain.explain", ("model", "a.wav", "out")),
        *(("done", ["x"]), ("say", "tell")),
    ),
}


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def put_there(monkeypatch: pytest.MonkeyPatch, place: str, answer: Any) -> list[Any]:
    calls: list[Any] = []
    monkeypatch.setattr(place, lambda *given, **named: calls.append((given, named)) or answer)
    return calls


@pytest.mark.parametrize("name", WORKS)
@pytest.mark.parametrize("quiet", [True, False])
def test_a_function_is_told_of_its_progress(
    monkeypatch: pytest.MonkeyPatch, name: str, quiet: bool
) -> None:
    place, given, answer, order = WORKS[name]
    shown = SimpleNamespace(tell=object(), say=object())
    asked: list[bool] = []

    @contextmanager
    def ticker(quiet: bool = False) -> Iterator[Any]:
        asked.append(quiet)
        yield shown
        asked.append(True)  # it is closed after the work

    monkeypatch.setattr("bab.api.progress.ticker", ticker)
    calls = put_there(monkeypatch, place, answer)
    getattr(bab, name)(*given, quiet=quiet)
    assert asked == [quiet, True]
    assert list(calls[0][0][-2:]) == [getattr(shown, one) for one in order]


def test_places_below_a_home(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    predicted = put_there(monkeypatch, WORKS["predict"][0], "done")
    bab.predict("m", "a", "~/out", enrol="~/voices", quiet=True)
    assert predicted[0][0][2] == home / "out" and predicted[0][0][3].enrol == home / "voices"
    embedded = put_there(monkeypatch, WORKS["embed"][0], "done")
    bab.embed("fbank", "a", Path("~/out"), quiet=True)
    assert embedded[0][0][2] == home / "out"
    explained = put_there(monkeypatch, WORKS["explain"][0], ("done", []))
    bab.explain("m", "~/a.wav", "~/why", quiet=True)
    assert explained[0][0][1:3] == (home / "a.wav", home / "why")
    put(home / "runs", make("a", 0.5))
    assert bab.table("~/runs")["value"].to_list() == [0.5]
    with pytest.raises(BabError, match=rf"^no finished run in {home}/empty$"):
        (home / "empty").mkdir()
        bab.table("~/empty")
    (home / "b.csv").write_text("model,PR\nx,1\n")
    assert bab.table(superb="~/b.csv")["model"].to_list() == ["x"]


def test_lists_in_one_text_or_as_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = put_there(monkeypatch, WORKS["predict"][0], "done")
    for given in ("png, svg", ["png", " svg "], ("png", "svg")):
        bab.predict("m", "a", "o", format=given, timeline=given, quiet=True)
        asked = calls[-1][0][3]
        assert (asked.formats, asked.timeline) == (["png", "svg"], ["png", "svg"])
    bab.predict("m", ("a", Path("b")), "o", format=[], quiet=True)
    assert calls[-1][0][3].formats is None and calls[-1][0][1] == ["a", "b"]


def test_code_of_a_hub_runs_where_that_is_allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = put_there(monkeypatch, "bab.core.components.build_encoder", "made")
    bab.load_encoder("fbank")
    bab.load_encoder("fbank", trust_code=True)
    assert [given[3:] for given, _ in calls] == [(False, False), (False, True)]
    with pytest.raises(BabError, match=r"train\.lr"):
        bab.load_encoder("fbank", set={"train.lr": 1})


def test_a_table_starts_its_relative_scores_where_it_is_told(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    calls = put_there(monkeypatch, "bab.results.table.table", "encoder,value\nx,1\n")
    records = [make("a")]
    bab.table(records)
    bab.table(records, baseline="x", audits=["audit"])  # type: ignore[list-item]
    assert [given for given, _ in calls] == [
        (records, "csv", (), "fbank"), (records, "csv", ["audit"], "x"),
    ]  # fmt: skip


def test_names_that_look_like_missing_values_are_names() -> None:
    frame = bab.table([make("a", encoder="nan", metrics={"f1": 0.5}, jackknife={})])
    assert frame["encoder"].to_list() == ["nan"] and frame["low"].isna().all()


def test_an_evaluation_is_a_run_that_trains_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = put_there(monkeypatch, "bab.api.runs.run", "done")
    assert bab.evaluate("m", task="vtc") == "done"
    bab.evaluate("m", quiet=True, corpus="rttm")
    assert calls == [
        ((), {"model": "m", "evaluate": True, "quiet": None, "task": "vtc"}),
        ((), {"model": "m", "evaluate": True, "quiet": True, "corpus": "rttm"}),
    ]


def begun(monkeypatch: pytest.MonkeyPatch, answer: Any) -> tuple[list[Any], list[Any]]:
    """What the configuration is made of, and what begins with it."""
    monkeypatch.setattr("bab.api.runs.recipe_kind", lambda place: "run")
    keys = put_there(monkeypatch, "bab.config.resolve.run_config", "config")
    return keys, put_there(monkeypatch, "bab.running.runner.run", answer)


def test_a_runs_arguments_are_keys_but_for_those_of_the_call(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys, runs = begun(monkeypatch, (make(), Path("f")))
    given = {
        "encoder": "e", "task": "t", "corpus": "c", "model": "m", "test_corpus": "tc", "head": "h",
        "objective": "o", "mode": "probe", "freeze": "none", "layers": "last", "protocol": "kfold",
        "seed": 3, "steps": 4, "lr": 0.5, "device": "cpu", "offline": True, "skip_bad": False,
        "trust_code": True, "allow_leakage": False, "runs": "r", "quiet": True,
    }  # fmt: skip
    bab.run(**given, set={"train.batch": 2}, observer=["jsonl"], force=True)
    (place, asked, sets, observers), more = keys[0]
    assert (place, asked, sets, observers) == (None, given, ["train.batch=2"], ["jsonl"])
    assert more["over"] is None and runs == [(("config", True, []), {})]
    monkeypatch.setattr("bab.api.runs.smoke_keys", lambda place: ({"seed": place}, ["words"]))
    (home / "r.yaml").touch()
    bab.run("r.yaml", smoke=True)
    assert keys[1][1]["over"] == {"seed": Path("r.yaml")} and runs[1][0] == ("config", True, [])
    assert set(keys[1][0][1]) == set(given) and keys[1][0][1]["runs"] is None


@pytest.mark.parametrize(
    ("corpus", "named"),
    [(None, {"corpus": None}), ("a", {"corpus": "a"}), (["a"], {"corpus": "a"}),
     (("a", "b", "c"), {"corpus": "a", "also": ("b", "c")}),
     ({"name": "a"}, {"corpus": {"name": "a"}})],
)  # fmt: skip
def test_a_pretrainings_arguments_are_keys(
    home: Path, monkeypatch: pytest.MonkeyPatch, corpus: Any, named: dict[str, Any]
) -> None:
    config = SimpleNamespace(encoder=SimpleNamespace(name="hubert"))
    keys = put_there(monkeypatch, "bab.config.resolve.pretrain_config", config)
    runs = put_there(monkeypatch, "bab.pretraining.runner.pretrain", ({"id": "x"}, Path("f")))
    given = {
        "encoder": "e", "objective": "o", "seed": 3, "steps": 4, "lr": 0.5, "device": "cpu",
        "offline": True, "skip_bad": False, "trust_code": True, "runs": "r", "quiet": True,
    }  # fmt: skip
    made = bab.pretrain(
        **given, corpus=corpus, targets=Path("t"), set=["x=1"], observer=("jsonl",), force=True
    )
    (place, asked, sets, observers), _ = keys[0]
    assert (place, sets, observers) == (None, ["x=1"], ["jsonl"])
    assert asked == {**given, **named, "targets": {"folder": "t"}}
    assert runs == [((config, True), {})] and made == ({"id": "x"}, Path("f"), "hubert:f/model")
    bab.pretrain(encoder="e")
    assert runs[1] == ((config, False), {}) and "targets" not in keys[1][0][1]


def test_recipes_are_names_of_files(home: Path) -> None:
    from bab.api.runs import recipe_path

    (home / "vtc").write_text("seed: 1\n")
    assert recipe_path("vtc") == Path("vtc")  # a file goes before a component's name
    for given, option in (("gender", "--task gender"), ("wavlm", "--encoder wavlm")):
        with pytest.raises(bab.ConfigError) as caught:
            recipe_path(given)
        assert str(caught.value) == f"'{given}' is no recipe file: did you mean {option}?"


def test_keys_of_a_value(home: Path) -> None:
    from bab.api.settings import texts

    cases: list[tuple[Any, list[str]]] = [
        ("a=1", ["a=1"]), (iter(()), []), ({}, []), (("a=1", "b"), ["a=1", "b"]),
        ({"a": "1"}, ['a="1"']), ({"a": {"b": None}}, ["a.b=null"]),
        ({"a": {}}, []), ({"b": 2, "a": 1}, ["b=2", "a=1"]),
    ]  # fmt: skip
    for given, said in cases:
        assert texts(given) == said
