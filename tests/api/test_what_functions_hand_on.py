"""What `bab.bench`, `bab.predict` and their like hand on of their arguments, and show meanwhile."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import click
import pytest
from made_records import kept, make

import bab
from bab.api.bench import Overview
from bab.api.runs import Run
from bab.api.settings import texts
from bab.benching.grid import Cell, Job, Outcome, Result
from bab.benching.grid import RunGrid as Grid
from bab.cli import cli, main
from bab.core.errors import BabError, ConfigError
from bab.explaining.explain import ExplainOptions
from bab.predicting.embed import EmbedOptions
from bab.predicting.maker import PredictOptions
from bab.results.record import save


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def noted(monkeypatch: pytest.MonkeyPatch, place: str, answer: Any = None) -> list[tuple[Any, ...]]:
    """What a function is called with from now on; it answers so."""
    calls: list[tuple[Any, ...]] = []
    monkeypatch.setattr(place, lambda *given: calls.append(given) or answer)
    return calls


# --- models -------------------------------------------------------------------------------------


def test_predict(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = noted(monkeypatch, "bab.predicting.predict.predict", "done")
    assert bab.predict(Path("m"), Path("a.wav"), "out") == "done"
    bab.predict(
        "m", ["a.wav", Path("b")], "out", preset="p", threshold={"K": 0.5}, format=" rttm, csv",
        probabilities="npy", device="cpu", precision="bf16", overlap=0.5, timeline="png,svg",
        enrol="e", set={"corpus.set": "eaf"}, jobs=3, offline=True, trust_code=True, quiet=True,
    )  # fmt: skip
    bab.predict("m", "a.wav", "~/out")
    assert calls.pop()[2] == Path.home() / "out"
    (model, files, out, asked, *_), (_, several, _, whole, *_) = calls
    assert (model, files, out, several) == ("m", ["a.wav"], Path("out"), ["a.wav", "b"])
    assert asked == PredictOptions(corpus=[], timeline=[])
    assert whole == PredictOptions(
        "p", {"K": 0.5}, ["rttm", "csv"], "npy", "cpu", "bf16", 0.5, ["png", "svg"], Path("e"),
        ['corpus.set="eaf"'], 3, True, True,
    )  # fmt: skip


def test_embed(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = noted(monkeypatch, "bab.predicting.embed.embed", "done")
    assert bab.embed("fbank", "a.wav", "out") == "done"
    bab.embed("fbank", ["a"], "out", layer=3, per="clip", format="parquet", window=2.0,
              segments=True, set=["encoder.mels=40"], device="cpu", precision="fp16", offline=True,
              trust_code=True, quiet=True)  # fmt: skip
    (encoder, files, out, asked, *_), (*_, whole, _, _) = calls
    assert (encoder, files, out) == ("fbank", ["a.wav"], Path("out"))
    assert asked == EmbedOptions(sets=[])
    assert whole == EmbedOptions(
        "3", "clip", "parquet", 2.0, True, "cpu", "fp16", ["encoder.mels=40"], True, True
    )
    with pytest.raises(ConfigError, match=r"train\.lr"):
        bab.embed("fbank", "a.wav", "out", set={"train.lr": 1})


def test_explain(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = noted(monkeypatch, "bab.explaining.explain.explain", ("done", [Path("x.png")]))
    assert bab.explain("m", "a.wav", "out") == ("done", (Path("x.png"),))
    more = {"label": "K", "token": "t", "at": 1.0, "start": 2.0, "end": 3.0, "format": ["svg"]}
    how = {"device": "cpu", "offline": True, "trust_code": True, "quiet": True}
    bab.explain(Path("m"), Path("a.wav"), "out", **more, **how)
    (model, file, out, asked, *_), (*_, whole, _, _) = calls
    assert (model, file, out) == ("m", Path("a.wav"), Path("out"))
    assert asked == ExplainOptions()
    assert whole == ExplainOptions("K", "t", 1.0, 2.0, 3.0, ("svg",), "cpu", True, True)


@pytest.mark.parametrize("name", ["predict", "embed", "explain", "table", "bench", "run"])
def test_functions_have_the_commands_defaults(name: str) -> None:
    command = cli.get_command(click.Context(cli), name)
    assert command is not None
    theirs = {max(p.opts, key=len).lstrip("-").replace("-", "_"): p for p in command.params}
    mine = inspect.signature(getattr(bab, name)).parameters
    shared = [key for key in theirs if key in mine and key not in ("set", "observer")]
    assert len(shared) > 5
    for key in shared:
        option = theirs[key].get_default(click.Context(command))
        told = option if isinstance(option, (str, int, float)) else None  # click's "not given"
        if told is not None or key != "runs":
            own = mine[key].default
            assert (told or None) == (None if own in ((), mine[key].empty) else own or None), key


def test_load_takes_a_published_model(monkeypatch: pytest.MonkeyPatch, here: Path) -> None:
    made: list[Any] = []
    monkeypatch.setattr(
        "bab.predicting.predictor.Predictor", lambda text, **more: made.append((text, more)) or 7
    )
    assert bab.load("segma:X", preset="p") == 7 and bab.load(Path("r")) == 7
    (here / "fbank").mkdir()
    assert bab.load("fbank") == 7  # a folder of that name
    assert made == [("segma:X", {"preset": "p"}), ("r", {}), ("fbank", {})]
    with pytest.raises(BabError) as caught:
        bab.load("wavlm:base")
    assert str(caught.value) == (
        "'wavlm:base' is an encoder, and no trained model: bab.load_encoder('wavlm:base'), or "
        "bab.load('encoder', 'wavlm') for its class"
    )


def test_an_encoder_is_built_as_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = noted(monkeypatch, "bab.core.components.build_encoder", "made")
    asked = {"set": {"encoder.cmvn": "none"}, "offline": True, "trust_code": False}
    assert bab.load_encoder("fbank", **asked) == "made"
    ((name, weights, options, offline, trust_code),) = calls
    assert (name, weights, offline, trust_code) == ("fbank", "", True, False)
    assert options["cmvn"] == "none"


# --- runs ---------------------------------------------------------------------------------------


def test_run_hands_on_what_is_given(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    watch = object()
    calls = noted(monkeypatch, "bab.running.runner.run", (make(), Path("f")))
    done = bab.run(encoder="fbank", task="vtc", layers="3", seed=4, runs=Path("r"),
                   observer=["jsonl", watch], force=True)  # fmt: skip
    bab.run(encoder="fbank", task="vtc", layers="last")
    (config, force, watching), (other, again, _) = calls
    assert (config.layers, config.seed, config.runs) == (3, 4, "r")
    assert force is True and watching == [watch] and "jsonl" in config.observers
    assert (other.layers, other.seed, other.runs, again) == ("last", 0, "runs", False)
    assert isinstance(done, Run) and repr(done) == "<Run vtc@rttm, fbank: f1 0.650, f>"
    assert repr(Run(make(metrics={}), Path("f"))) == "<Run vtc@rttm, fbank: f1 nan, f>"


def test_paths_and_runs_are_texts_in_a_configuration(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from bab.api.runs import configured

    asked: list[Any] = []
    monkeypatch.setattr(
        "bab.config.resolve.run_config", lambda *given, **more: asked.append((given, more)) or "it"
    )
    (here / "x.yaml").write_text("seed: 3\n")
    given = {"model": Run(make(), Path("f")), "runs": Path("r"), "encoder": "ast", "layers": "12"}
    assert configured("x.yaml", given, {"train.steps": 3}, ["jsonl"]) == "it"
    (((place, keys, sets, observers), more),) = asked
    assert (place, sets, observers) == (Path("x.yaml"), ["train.steps=3"], ["jsonl"])
    assert keys == {"model": "f", "runs": "r", "encoder": "ast", "layers": 12}
    assert {type(value) for value in keys.values()} == {str, int} and more["over"] is None
    for layers in ("last", 3, None, "-1"):
        configured(None, {"layers": layers}, (), [], evaluate=True)
        assert asked[-1][0][1] == {"layers": layers, "mode": "evaluate"}


def test_recipes_are_of_one_kind(here: Path) -> None:
    from bab.api.runs import pretrain_keys, recipe_kind, recipe_path

    (here / "p.yaml").write_text("kind: pretrain\nencoder: hubert\n")
    (here / "w.yaml").write_text("kind: walk\n")
    (here / "r.yaml").write_text("encoder: fbank\n")
    kinds = [recipe_kind(Path(name)) for name in ("p.yaml", "r.yaml")]
    assert kinds == ["pretrain", "run"]
    with pytest.raises(ConfigError, match=r"^w.yaml: kind: 'walk' is neither run nor pretrain$"):
        recipe_kind(Path("w.yaml"))
    with pytest.raises(ConfigError, match=r"^p.yaml pretrains an encoder: bab.pretrain\(recipe\)$"):
        bab.run("p.yaml")
    with pytest.raises(ConfigError, match="did you mean --encoder hubert:base"):
        recipe_path("hubert:base")
    assert recipe_path(None) is None and recipe_path("nothing") == Path("nothing")
    assert pretrain_keys((), None) == {"corpus": None}
    assert pretrain_keys(("a",), None) == {"corpus": "a"}
    assert pretrain_keys(("a", "b"), None) == {"corpus": "a", "also": ("b",)}
    assert pretrain_keys(("a", "b", "c"), "t") == {
        "corpus": "a", "also": ("b", "c"), "targets": {"folder": "t"}
    }  # fmt: skip


def test_pretrain_hands_on_what_is_given(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = noted(monkeypatch, "bab.pretraining.runner.pretrain", ({"steps": 2}, Path("f")))
    made = bab.pretrain(encoder="wav2vec2:random-tiny", objective="contrastive", corpus="audio",
                        steps=7, runs=Path("r"), force=True)  # fmt: skip
    ((config, force),) = calls
    assert (config.train.steps, config.runs, force) == (7, "r", True)
    assert (made.result, made.folder, made.encoder) == (
        *({"steps": 2}, Path("f"), "wav2vec2:f/model"),
    )


def test_texts_of_values_json_lacks() -> None:
    assert texts({"x": Path("/a"), "y.z": {"b": 1}}) == ['x="/a"', 'y.z={"b": 1}']


# --- tables -------------------------------------------------------------------------------------


def test_tables_of_each_view(here: Path) -> None:
    rates = [0.2, 0.9, 0.4, 0.7, 0.1]
    sub = {"age": {"3": {"f1": 0.5}}}
    runs = [
        make("a", 0.46, jackknife=kept(rates), subgroups=sub, config={"layers": 1}),
        make("b", 0.5, encoder="x", jackknife=kept(rates[::-1]), groups={"h": {"f1": 0.25}}),
    ]
    assert bab.table(runs, view="subgroups")["name"].to_list() == [3]
    assert bab.table(runs, view="recordings")["value"].to_list() == [0.25]
    assert bab.table(runs, view="layers")["section"].to_list() == ["layer"]
    assert bab.table(runs, compare=("x", "fbank"))["encoder_a"].to_list() == ["x"]
    assert bab.table(runs[:1], detail=True)["run"].to_list() == ["a"] * 3
    with pytest.raises(BabError, match=r"^no records$"):
        bab.table([])
    save(runs[0], here / "runs" / "vtc" / "a")
    assert bab.table()["encoder"].to_list() == ["fbank"]
    assert bab.table(Run(runs[0], here / "runs" / "vtc" / "a"))["value"].to_list() == [0.46]
    board = "model,score,PR,KS,IC,SID,ER,ASR,QbE_x100,SF_F1,SF_CER,SV,SD\nNA,,1,,,,,,,,,,\n"
    (here / "b.csv").write_text(board)
    frame = bab.table(superb=here / "b.csv")
    assert frame["model"].to_list() == ["NA"] and frame["superb_s"].isna().all()


def test_a_table_with_its_audits(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from bab.results.audit import FOLDER, Audit
    from bab.results.audit import save as put

    one = make("a", 0.5)
    audit = Audit(
        "x", {name: [one] for name in ("traits", "names", "majority", "shuffled")}, [], []
    )
    save(one, here / "runs" / "a")
    put(audit, here / "runs" / FOLDER / "x.json")
    assert "shortcut" in bab.table("runs", audit=True) and "shortcut" not in bab.table("runs")
    assert "shortcut" in bab.table([one], audits=[audit])
    assert "shortcut" not in bab.table([one], audit=True)  # records lie in no folder


# --- benches ------------------------------------------------------------------------------------


class Made:
    """What makes runs: events, then a result."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.asked: list[Any] = []

    def __call__(self, *asked: Any) -> Made:
        self.asked.append(asked)
        self.say = asked[2]
        return self

    def run(self, tell: Callable[..., None]) -> Result:
        cell = Cell("fbank", "vtc", "rttm:/x")
        job = Job(cell, (0, 1), (None,))
        self.say("a search is settled")
        ended = {"event": "ended", "seed": 0, "rate": None, "reason": ""}
        tell(0, job, {"event": "progress", "stage": "x", "done": 1, "total": 2, "unit": "s"})
        tell(0, job, {**ended, "status": "done", "folder": str(self.folder)})
        tell(1, job, {**ended, "status": "failed", "seed": 1, "rate": 0.01, "reason": "why\nso"})
        bad = Outcome("failed", "f", "why\nso", 1, 0.01, True)
        busy = Outcome("busy", "f", "at it", 2, None, False)
        return Result((make("a", 0.5),), ((cell, bad), (cell, busy)))


@pytest.fixture
def pool(here: Path, monkeypatch: pytest.MonkeyPatch) -> Made:
    record = make("a", 0.5, units={"f1": "%"})
    made = Made(save(record, here / "f").parent)
    monkeypatch.setattr("bab.benching.pool.Pool", made)
    return made


GRID: dict[str, Any] = {"encoders": ["fbank"], "tasks": ["vtc@rttm:/x"], "quiet": True}


def test_a_bench(pool: Made, capsys: pytest.CaptureFixture[str]) -> None:
    done = bab.bench(**GRID, seeds=(0, 1), lr=[0.01], jobs=3, runs=Path("r"), force=True,
                     set={"train.steps": 5})  # fmt: skip
    ((grid, workers, _),) = pool.asked
    assert (grid.seeds, grid.rates, workers, grid.runs, grid.force) == (
        (0, 1),
        (0.01,),
        3,
        "r",
        True,
    )
    assert grid.sets == ("train.steps=5",) and [c.label for c in grid.cells] == [
        "fbank vtc@rttm:/x"
    ]
    assert capsys.readouterr().err.splitlines() == [
        "a search is settled",
        "[1/2] fbank vtc@rttm:/x, seed 0: done: f1 0.5",
        "[2/2] fbank vtc@rttm:/x, seed 1, lr 0.01: failed: why",
    ]
    assert done.failures == (
        "failed: fbank vtc@rttm:/x, seed 1, lr 0.01: why\nso",
        "busy: fbank vtc@rttm:/x, seed 2: at it",
    )
    assert done.summary == "2 runs in 0:00: 1 done, 1 failed" and done.runs == Path("r")
    assert repr(done) == "<Bench of 2 runs in 0:00: 1 done, 1 failed. Runs: r>"
    assert done.audits == () and [r.id for r in done.records] == ["a"]
    shown = done._repr_markdown_()
    assert shown.startswith("| encoder") and shown.endswith("\n\n" + "\n\n".join(done.failures))
    assert done.markdown().startswith("| encoder") and not done.markdown().endswith("\n")
    empty = dataclasses.replace(done, records=())
    assert empty.markdown() == "" and empty._repr_markdown_() == "\n\n".join(done.failures)


def test_a_bench_with_audits(
    pool: Made, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    one = make("a", 0.5)
    calls = noted(monkeypatch, "bab.auditing.audit.audits_of", (["an audit"], ["vtc: why"]))
    done = bab.bench(**GRID, audit=True)
    assert done.audits == ("an audit",) and calls[0][:2] == ((one,), "runs")
    assert capsys.readouterr().err.splitlines()[-1] == "no audit: vtc: why"


def test_the_command_prints_a_bench(
    pool: Made, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    line = ["bench", "--encoders", "fbank", "--tasks", "vtc", "--seeds", "0,1", "--quiet"]
    assert main(line) == 1
    said = capsys.readouterr()
    assert said.out.startswith("| encoder") and said.err.splitlines()[-3:] == [
        "failed: fbank vtc@rttm:/x, seed 1, lr 0.01: why", "so",
        "busy: fbank vtc@rttm:/x, seed 2: at it",
    ]  # fmt: skip
    assert said.out.endswith("\n\n2 runs in 0:00: 1 done, 1 failed. Runs: runs\n")
    monkeypatch.setattr(pool, "run", lambda tell: Result((), ()))
    assert main(line) == 0
    assert capsys.readouterr().out == "\n0 runs in 0:00: nothing. Runs: runs\n"


def test_a_bench_under_a_launcher(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = Made(here)
    made.run = lambda tell: Result((), ())  # type: ignore[method-assign]
    monkeypatch.setattr("bab.benching.launched.Launched", made)
    sets = ["launcher.cpus=2", "train.steps=3"]
    bab.bench(**GRID, launcher="slurm", set=sets, jobs=5)
    ((grid, workers, _, launch),) = made.asked
    assert (launch.name, launch.sets, workers) == ("slurm", ["launcher.cpus=2"] * 2, 5)
    assert grid.sets == ("train.steps=3",)
    with pytest.raises(ConfigError, match="launcher 'slurm' has no such key"):
        bab.bench(**GRID, launcher="slurm", set=["launcher.cpu=2"])
    for launcher in (None, "local"):
        with pytest.raises(ConfigError) as caught:
            bab.bench(**GRID, launcher=launcher, set=["launcher.cpus=2"])
        assert str(caught.value) == (
            "--set launcher.cpus=2: name another launcher (--launcher slurm); of worker processes "
            "here --jobs alone is asked"
        )


def test_jobs_that_are_cancelled_leave_no_table(
    here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    made = Made(here)
    made.run = lambda tell: Result((make(),), ())  # type: ignore[method-assign]
    monkeypatch.setattr("bab.benching.launched.Launched", made)
    line = ["bench", "--encoders", "fbank", "--tasks", "vtc", "--quiet", "--launcher", "slurm"]
    assert main([*line, "--cancel-jobs"]) == 0 and capsys.readouterr().out == ""
    assert main(line) == 0 and capsys.readouterr().out.startswith("| encoder")


def test_bars_of_a_bench(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shown: list[Any] = []
    live = SimpleNamespace(
        stage=lambda *given: shown.append(given), say=lambda line: shown.append(line),
        close=lambda: shown.append("closed"),
    )  # fmt: skip
    monkeypatch.setattr("bab.plugins.observers.progress.Live", lambda: live)
    monkeypatch.setattr("bab.plugins.observers.progress.moving", lambda stream: True)
    cell = Cell("fbank", "vtc")
    view = Overview(Grid((cell, cell), (0, 1, 2), (0.1, 0.2)), quiet=False)
    job = Job(cell, (0, 1), (0.1,))
    view.event(
        2, job, {"event": "progress", "stage": "features", "done": 4, "total": 4, "unit": "s"}
    )
    view.event(
        0, job, {"event": "ended", "status": "failed", "seed": 1, "rate": 0.1, "reason": "r"}
    )
    view.close()
    first, bar, line, whole, closed = shown
    assert first == ("bench", 0, 12, "runs", "") and whole == ("bench", 1, 12, "runs", "")
    assert bar[:2] == ("worker 3", 4) and bar[3:] == ("s", "features: fbank vtc, seeds 0 1, lr 0.1")
    assert 4 < bar[2] < 4.001  # a bar that has ended would vanish
    assert line == "[1/12] fbank vtc, seed 1, lr 0.1: failed: r" and closed == "closed"
    assert view.count(62.0) == "1 run in 1:02: 1 failed"
    noted_ = noted(monkeypatch, "bab.plugins.observers.progress.Plain", live)
    shown.clear()
    Overview(Grid((cell,)), quiet=True)
    assert len(noted_) == 1 and shown == []
