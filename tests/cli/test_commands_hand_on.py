"""Every option of a command arrives where it acts: commands with all of them, and with none."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from bab.cli import cli
from bab.exporting.export import Exported
from bab.predicting.embed import EmbedOptions
from bab.predicting.maker import PredictOptions


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


class ReachedError(Exception):
    """A command has come to its own work."""


def reached(monkeypatch: pytest.MonkeyPatch, place: str, *line: str) -> tuple[Any, dict[str, Any]]:
    def stop(*args: Any, **named: Any) -> None:
        raise ReachedError(args, named)

    monkeypatch.setattr(place, stop)
    with pytest.raises(ReachedError) as caught:
        cli.main(list(line), standalone_mode=False, obj=list(line))
    return caught.value.args  # type: ignore[return-value]


def test_predict(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = "bab.predicting.predict.predict"
    line = ["predict", "R", "a", "b", "--out", "o"]
    (run, files, out, asked, *_, shard), _ = reached(monkeypatch, place, *line)
    assert (run, files, out, shard) == (Path("R"), ("a", "b"), Path("o"), None)
    assert asked == PredictOptions(corpus=())
    monkeypatch.setenv("HOME", str(here))  # a shell leaves `--out=~/o` as it is
    tilde, _ = reached(monkeypatch, place, "predict", "~/R", "a", "--out=~/o")
    assert (tilde[0], tilde[2]) == (here / "R", here / "o")
    more = ["--preset", "p", "--threshold", " K =.5", "--threshold", "F=1", "--format", "eaf,csv"]
    more += ["--probabilities", "parquet", "--device", "cpu", "--precision", "fp16"]
    more += ["--overlap", "0.25", "--timeline", "png", "--enrol", "e", "--set", "corpus.set=x"]
    more += ["--jobs", "4", "--offline", "--trust-code", "--quiet", "--shard", "2/3"]
    (*_, shard), _ = reached(monkeypatch, place, *line, *more)
    asked = reached(monkeypatch, place, *line, *more)[0][3]
    assert str(shard) == "2/3" and asked == PredictOptions(
        "p", {"K": 0.5, "F": 1.0}, ["eaf", "csv"], "parquet", "cpu", "fp16", 0.25, ["png"],
        Path("e"), ("corpus.set=x",), 4, True, True,
    )  # fmt: skip


def test_embed(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place, line = "bab.predicting.embed.embed", ["embed", "fbank", "a", "--out", "o"]
    (encoder, files, out, asked, *_), _ = reached(monkeypatch, place, *line)
    assert (encoder, files, out, asked) == ("fbank", ("a",), Path("o"), EmbedOptions(sets=()))
    more = ["--layer", "mean", "--per", "window", "--format", "safetensors", "--window", "2.5"]
    more += ["--segments", "--set", "encoder.mels=40", "--device", "cpu", "--precision", "bf16"]
    asked = reached(monkeypatch, place, *line, *more, "--offline", "--trust-code")[0][3]
    assert asked == EmbedOptions(
        "mean", "window", "safetensors", 2.5, True, "cpu", "bf16", ("encoder.mels=40",), True, True
    )


def test_export(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place, line = "bab.exporting.export.export", ["export", "R", "o"]
    args, named = reached(monkeypatch, place, *line)
    named.pop("say")
    assert args == (Path("R"), "hf", Path("o")) and named == {
        "encoder_only": False, "push_to": "", "public": False, "offline": False,
        "trust_code": False,
    }  # fmt: skip
    more = ["--to", "onnx", "--encoder-only", "--push", "a/b", "--public", "--trust-code"]
    args, named = reached(monkeypatch, place, *line, *more)
    named.pop("say")
    assert args == (Path("R"), "onnx", Path("o")) and named == {
        "encoder_only": True, "push_to": "a/b", "public": True, "offline": False,
        "trust_code": True,
    }  # fmt: skip
    assert Exported(Path("o"), "x").url == "" and Exported(Path("o"), "x").notices == ()


def test_bench(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    args, named = reached(monkeypatch, "bab.api.bench.bench", "bench")
    none = dict.fromkeys(("encoders", "tasks", "seeds", "lr", "jobs", "runs"))
    plain = {"set": (), "force": False, "audit": False, "quiet": False, "launcher": None}
    assert args == (None,) and named == {**none, **plain}
    line = ["bench", "g.yaml", "--encoders", "a,b", "--tasks", "t", "--seeds", "1,2", "--lr", ".1"]
    line += ["--set", "x=1", "--jobs", "3", "--runs", "r", "--force", "--audit", "--quiet"]
    args, named = reached(monkeypatch, "bab.api.bench.bench", *line)
    assert args == (Path("g.yaml"),) and named == {
        "encoders": "a,b", "tasks": "t", "seeds": "1,2", "lr": ".1", "jobs": 3, "runs": "r",
        "set": ("x=1",), "force": True, "audit": True, "quiet": True, "launcher": None,
    }  # fmt: skip


def test_run_and_pretrain(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = "bab.running.runner.run"
    line = ["run", "--encoder", "fbank", "--task", "vtc"]
    (config, force), _ = reached(monkeypatch, place, *line)
    assert (config.mode, config.seed, config.runs, force) == ("probe", 0, "runs", False)
    assert not (config.quiet or config.offline or config.skip_bad or config.trust_code)
    more = ["--corpus", "rttm", "--test-corpus", "rttm:x", "--head", "frames", "--layers", "2"]
    more += ["--objective", "multilabel", "--seed", "4", "--steps", "7", "--lr", "0.5", "--quiet"]
    more += ["--device", "cpu", "--offline", "--skip-bad", "--trust-code", "--allow-leakage"]
    more += ["--force", "--runs", "r", "--observer", "jsonl", "--set", "train.batch=3"]
    (config, force), _ = reached(monkeypatch, place, *line, *more)
    assert (config.layers, config.seed, config.train.steps, config.train.lr) == (2, 4, 7, 0.5)
    assert (config.device, config.runs, config.train.batch, force) == ("cpu", "r", 3, True)
    assert config.quiet and config.offline and config.skip_bad and config.trust_code
    assert config.allow_leakage and config.test_corpus.root == "x" and "jsonl" in config.observers
    place = "bab.pretraining.runner.pretrain"
    line = ["pretrain", "--encoder", "wav2vec2:random-tiny", "--objective", "contrastive"]
    line += ["--corpus", "audio", "--corpus", "rttm", "--seed", "3", "--steps", "5", "--lr", "0.25"]
    line += ["--device", "cpu", "--offline", "--skip-bad", "--trust-code", "--force", "--quiet"]
    (config, force), _ = reached(monkeypatch, place, *line, "--runs", "r", "--observer", "jsonl")
    assert (config.corpus.name, list(config.also)) == ("audio", ["rttm"])
    assert (config.seed, config.train.steps, config.train.lr, config.runs) == (3, 5, 0.25, "r")
    assert config.offline and config.skip_bad and config.trust_code and config.quiet and force
    assert config.device == "cpu" and "jsonl" in config.observers


def test_prepare(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    line = ["prepare", "--corpus", "audio", "--corpus", "rttm", "--out", "m.parquet"]
    place = "bab.data.prepare.prepare"
    (corpora, out, vad, _, skip, _, use, shard), _ = reached(monkeypatch, place, *line)
    assert [c.name for c in corpora] == ["audio", "rttm"] and out == Path("m.parquet")
    assert (skip, use, shard) == (False, "train", None)
    more = ["--vad", "energy", "--jobs", "2", "--use", "all", "--skip-bad"]
    (_, _, other, jobs, skip, _, use, _), _ = reached(monkeypatch, place, *line, *more)
    assert (other, jobs, skip, use) == ("energy", 2, True, "all") and vad != other


def test_tables(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (here / "runs").mkdir()
    place = "bab.results.table.table"
    assert reached(monkeypatch, place, "table")[0] == (Path("runs"), "markdown", (), "fbank")
    (here / "r").mkdir()
    line = ["table", "r", "--format", "csv", "--baseline", "x"]
    assert reached(monkeypatch, place, *line)[0] == (Path("r"), "csv", (), "x")
    monkeypatch.setattr("bab.results.audit.collect", lambda folder: [folder])
    assert reached(monkeypatch, place, *line, "--audit")[0][2] == [Path("r")]
    board = ["table", "--superb", "b.csv", "--format", "json"]
    args = reached(monkeypatch, "bab.results.superb.leaderboard", *board)[0]
    assert args == (Path("b.csv"), "json")


def test_a_smoke_run_says_what_it_replaces(
    here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from bab.config.smoke import smoke_settings

    (here / "r.yaml").write_text("encoder: hubert:base\ntask: vtc\n")
    (here / "p.yaml").write_text(
        "kind: pretrain\nencoder: wav2vec2:random\nobjective: contrastive\ncorpus: rttm\n"
    )
    for recipe, place in (
        ("r.yaml", "bab.running.runner.run"), ("p.yaml", "bab.pretraining.runner.pretrain"),
    ):  # fmt: skip
        (config, force), _ = reached(monkeypatch, place, "run", recipe, "--smoke", "--seed", "3")
        assert (config.runs, config.encoder.weights) == ("smoke-runs", "random-tiny")
        assert config.seed == 3 and config.train.steps < 100 and force is True
        told = smoke_settings(Path(recipe))[1]
        assert capsys.readouterr().err == f"smoke: {'; '.join(told)}\n" and len(told) > 1
        (config, force), _ = reached(monkeypatch, place, "run", recipe)
        assert config.runs == "runs" and config.train.steps > 100 and force is False
        assert reached(monkeypatch, place, "run", recipe, "--force")[0][1] is True
        assert capsys.readouterr().err == ""
