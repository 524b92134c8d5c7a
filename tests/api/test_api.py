"""The functions do what the commands do: same options, same runs, same numbers; values back."""

from __future__ import annotations

import inspect
import io
import math
import sys
from pathlib import Path

import click
import numpy as np
import pytest
from made_records import make
from places import SAMPLES

import bab
from bab.api.settings import texts
from bab.cli import cli, main

HOME = SAMPLES / "rttm" / "wav"
# What a function says otherwise than its command, or can't: formats of a text, files of a terminal.
OTHER = {
    "run": {},
    "pretrain": {},
    "bench": {},
    "predict": {"run_folder": "model"},
    "embed": {},
    "explain": {"layers": None, "errors": None},
    "table": {"form": None, "format": None, "subgroups": "view", "per_recording": "view",
              "per_layer": "view", "verify": None},  # what it finds is told, and an exit status
}  # fmt: skip
# Jobs are given a command line, so what sends one elsewhere is the commands'; `bab.bench` alone,
# whose jobs take runs, has a launcher.
SENT = {
    "run": {"launcher", "on_interrupt", "cancel_jobs", "shard", "jobs"},
    "pretrain": {"launcher", "on_interrupt", "cancel_jobs"},
    "bench": {"on_interrupt", "cancel_jobs"},
    "predict": {"launcher", "on_interrupt", "cancel_jobs", "shard"},
}


def said(command: click.Command) -> set[str]:
    """The options of a command as Python would call them."""
    names = set()
    for param in command.params:
        longest = max(param.opts, key=len)
        names.add(longest.lstrip("-").replace("-", "_"))
    return names


@pytest.mark.parametrize("name", OTHER)
def test_keyword_arguments_are_the_commands_options(name: str) -> None:
    command = cli.get_command(click.Context(cli), name)
    assert command is not None
    # Plugins of one file are named by `bab.use_plugin`, once for all functions.
    theirs = {OTHER[name].get(one, one) for one in said(command)}
    theirs -= {None, "plugin", *SENT.get(name, ())}
    mine = set(inspect.signature(getattr(bab, name)).parameters)
    extra = {"audits"} if name == "table" else {"quiet"} if name == "explain" else set()
    assert mine - extra == theirs


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One encoder by `bab.bench` on the shipped recordings."""
    folder = tmp_path_factory.mktemp("api")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("BAB_CACHE", str(folder / "cache"))
        done = bab.bench(
            encoders="fbank",
            tasks=("vtc",),
            set={"train.steps": 12, "train": {"eval_every": 6}},
            runs=folder / "runs",
            quiet=True,
        )
    assert len(done.records) == 1 and not done.failures and done.summary.startswith("1 run in")
    assert "| fbank" in done.markdown() and "| fbank" in done._repr_markdown_()
    assert done.table["encoder"].to_list() == ["fbank"]
    return folder / "runs"


@pytest.fixture(autouse=True)
def cache(runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BAB_CACHE", str(runs.parent / "cache"))


def test_run_is_the_command(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The bench's run is found by the function, and the function's by the command."""
    asked = {"encoder": "fbank", "task": "vtc", "runs": runs, "quiet": True, "steps": 12}
    record = next(runs.glob("vtc/*/fbank/*/record.json"))
    before = record.stat().st_mtime_ns
    done = bab.run(**asked, set={"train.eval_every": 6})
    assert done.folder == record.parent and record.stat().st_mtime_ns == before
    assert done.metrics["f1"] == bab.table(done)["value"][0]
    assert repr(done).startswith("<Run vtc@rttm, fbank: f1 0.") and done.intervals == {}
    assert "| KCHI" in done._repr_markdown_()
    text = ["run", "--encoder", "fbank", "--task", "vtc", "--runs", str(runs), "--steps", "12"]
    assert main([*text, "--set", "train.eval_every=6"]) == 0
    assert "It was done before" in capsys.readouterr().out


def test_a_mapping_names_a_component_with_its_options(runs: Path) -> None:
    seen: list[str] = []

    class Watch:
        @bab.hookimpl
        def bab_run_start(self, run: bab.RunInfo) -> None:
            seen.append(run.config["encoder"]["options"]["cmvn"])

    record, folder = bab.run(
        encoder={"name": "fbank", "cmvn": "none"}, task="gender", runs=runs.parent / "other",
        steps=4, lr=0.01, set={"train.eval_every": 4}, observer=[Watch()], quiet=True,
    )  # fmt: skip
    assert seen == ["none"] and folder.is_dir()
    assert (record.config["train"]["steps"], record.config["train"]["lr"]) == (4, 0.01)


def test_tables_are_frames_with_the_csvs_columns(
    runs: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    import pandas

    frame = bab.table(runs)
    assert main(["table", str(runs), "--format", "csv", "--baseline", "fbank"]) == 0
    printed = pandas.read_csv(io.StringIO(capsys.readouterr().out))
    assert list(frame.columns) == list(printed.columns) and len(frame) == 1
    assert np.array_equal(frame["value"], printed["value"])
    made = [make("a", 0.7), make("b", 0.6, encoder="hubert:tiny", encoder_fingerprint="f2" * 8)]
    gap = bab.table(made, compare=["fbank", "hubert:tiny"])
    assert gap["difference"][0] == pytest.approx(0.1) and len(bab.table(made)) == 2
    assert set(bab.table(runs, view="recordings")["name"]) == {"home09", "home10"}
    one = frame.loc[frame["encoder"] == "fbank", "value"].iloc[0]
    whole = bab.table(next(runs.glob("vtc/*/fbank/*")), detail=True)
    assert one in set(whole["value"])
    with pytest.raises(bab.BabError, match="detail is of one run, and there are 2"):
        bab.table(made, detail=True)
    with pytest.raises(bab.BabError, match="no finished run"):
        bab.table(runs.parent / "cache")
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(bab.BabError, match="pip install pandas"):
        bab.table(runs)


def test_load_predict_evaluate(runs: Path, tmp_path: Path) -> None:
    (folder,) = runs.glob("vtc/*/fbank/*")
    home = sorted(HOME.glob("*"))[-1]
    model = bab.load(folder)
    assert isinstance(model, bab.Predictor)
    heard = model(home).segments
    done = bab.predict(folder, home, tmp_path / "out", format="rttm,csv", quiet=True)
    (one,) = done.predictions()
    assert [s.label for s in one.segments] == [s.label for s in heard]
    assert (tmp_path / "out" / f"{home.stem}.csv").exists()
    again = bab.predict(folder, [home], tmp_path / "out", format=["rttm", "csv"], quiet=True)
    assert again.again == 1
    scored = bab.evaluate(folder, task="vtc", runs=runs.parent / "evaluated", quiet=True)
    trained = bab.run(
        encoder="fbank", task="vtc", runs=runs, steps=12, set=["train.eval_every=6"], quiet=True
    )
    assert scored.metrics == pytest.approx(trained.metrics)


def test_load_is_of_classes_too_and_tells_an_encoder_from_a_model() -> None:
    import torch

    assert bab.load("encoder", "fbank") is bab.load("encoders", "fbank")
    encoder = bab.load_encoder("fbank", set={"encoder.cmvn": "none"})
    states = encoder(bab.Waves(torch.randn(1, 16000), torch.tensor([16000])))
    assert len(states.layers) == encoder.depth and states.layers[0].shape[2] == encoder.dim
    with pytest.raises(bab.BabError, match=r"bab\.load_encoder\('hubert:tiny'\)"):
        bab.load("hubert:tiny")
    with pytest.raises(bab.BabError, match="there is no such run folder"):
        bab.load("nowhere/at/all")
    with pytest.raises(bab.BabError, match="several encoders"):
        bab.load_encoder("fbank+hubert")


def test_a_slip_is_one_message_with_the_commands_words() -> None:
    with pytest.raises(bab.ConfigError, match="did you mean --task vtc"):
        bab.run("vtc", encoder="fbank")
    with pytest.raises(bab.ConfigError, match=r"--steps"):
        bab.run(encoder="fbank", task="vtc", steps=-1)
    with pytest.raises(bab.ConfigError, match="--mode probe contradicts"):
        bab.run(model="x", mode="probe", evaluate=True)
    with pytest.raises(bab.ConfigError, match="--smoke tries a recipe"):
        bab.run(encoder="fbank", task="vtc", smoke=True)
    with pytest.raises(bab.ConfigError, match="no objective is named"):
        bab.pretrain(encoder="hubert:random-tiny", corpus="audio")


@pytest.mark.parametrize(
    ("given", "same"),
    [
        ("a.b=1", ["a.b=1"]),
        (("a.b=1", "c=2"), ["a.b=1", "c=2"]),
        ({"a.b": 1, "a": {"c": "5"}, "d": None}, ["a.b=1", 'a.c="5"', "d=null"]),
        ({"corpus.labels": ["x", "y"]}, ['corpus.labels=["x", "y"]']),
        ({"mask": {"prob": 0.5}, "x": True}, ["mask.prob=0.5", "x=true"]),
    ],
)
def test_set_is_the_command_lines(given: object, same: list[str]) -> None:
    assert texts(given) == same  # type: ignore[arg-type]


def test_pretraining_gives_the_encoders_name(tmp_path: Path) -> None:
    made = bab.pretrain(
        encoder="wav2vec2:random-tiny", objective="contrastive", corpus=["audio", "rttm"],
        set={"train.batch": 2, "train.warmup": 1, "train.eval_every": 2, "audio.crop": 1.0,
             "dev_seconds": 4.0, "train.seconds": 4.0},
        steps=2, runs=tmp_path, quiet=True,
    )  # fmt: skip
    assert made.result["steps"] == 2 and math.isfinite(made.result["audio_hours"])
    assert bab.load_encoder(made.encoder).dim == bab.load_encoder("wav2vec2:random-tiny").dim
