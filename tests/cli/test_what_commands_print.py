"""What commands print of what came of them, and their exit status."""

from __future__ import annotations

import os
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from made_records import make, put

from bab.api.progress import Ticker
from bab.cli import main
from bab.core.errors import AudioError

Capture = pytest.CaptureFixture[str]


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_records_are_verified(replaced: Any, here: Path, capsys: Capture) -> None:
    from bab.running.verify import Verdict

    (here / "runs").mkdir()
    verdicts = [
        Verdict(Path("a")),
        Verdict(Path("b"), ("f1 is .5", "x")),
        Verdict(Path("c"), (), "y"),
    ]
    replaced("bab.running.verify.verify", lambda folder, tell: verdicts)
    assert main(["table", "--verify"]) == 1
    assert capsys.readouterr().out.splitlines() == [
        "doesn't hold: b: f1 is .5", "doesn't hold: b: x", "can't be told: c: y",
        "1 of 3 records hold",
    ]  # fmt: skip
    del verdicts[1:]
    assert main(["table", "--verify"]) == 0 and capsys.readouterr().out == "1 of 1 records hold\n"


def test_tables_of_folders(here: Path, capsys: Capture) -> None:
    for name, encoder in (("a", "fbank"), ("b", "hubert:x"), ("c", "y")):
        put(here / "other", make(name, encoder=encoder))
    line = ["table", "other", "--compare", "fbank", "hubert:x", "y", "--format", "csv"]
    assert main(line) == 0 and len(capsys.readouterr().out.split()) == 4
    assert main(["table", "other", "--compare", "fbank", "y", "--subgroups"]) == 2
    both = capsys.readouterr()
    assert (
        "| fbank | y" in " ".join(both.out.split()) and "no run has scores by subgroup" in both.err
    )
    assert main(["table", "other", "here"]) == 2
    assert "one folder of runs at a time: other here" in capsys.readouterr().err
    assert main(["table", "other", "--audit"]) == 2
    assert capsys.readouterr().err == (
        "bab: error: other holds no audit: `bab bench --audit` makes those of its results, and "
        "`bab audit CORPUS --task TASK --runs other` one\n"
    )
    record = put(here / "other", make("d"))
    for path in (record, record.parent):
        assert main(["table", str(path), "--detail", "--format", "csv"]) == 0
        assert capsys.readouterr().out.startswith("run,leakage,section,name,metric,value,")


def test_recordings_that_were_predicted(replaced: Any, here: Path, capsys: Capture) -> None:
    result = SimpleNamespace(
        files={"a": 1800.0, "b": 1800.0}, again=1, notices=["n"], left={"c.wav": "cut"}
    )
    replaced("bab.predicting.predict.predict", lambda *given: result)
    line = ["predict", "R", "a", "--out", "p"]
    assert main(line) == 1
    said = capsys.readouterr()
    assert said.out == "2 recordings, 60.0 min (1 done before) -> p\n"
    assert said.err == "note: n\n1 left out:\n  c.wav: cut\n"
    result.left, result.again, result.notices = {}, 0, []
    assert main(line) == 0
    assert capsys.readouterr() == ("2 recordings, 60.0 min -> p\n", "")
    result.left = {"c.wav": "c.wav: cut"}
    assert main(line) == 1 and capsys.readouterr().err == "1 left out:\n  c.wav: cut\n"
    for text in ("KCHI", "KCHI=x", "="):
        assert main([*line, "--threshold", text]) == 2
        assert capsys.readouterr().err == (
            f"bab: error: --threshold {text}: expected CLASS=P, for example KCHI=.6\n"
        )


def test_recordings_that_were_embedded(replaced: Any, here: Path, capsys: Capture) -> None:
    result = SimpleNamespace(files={"a": 90.0}, again=1, left={"b": "why"})
    calls = replaced("bab.predicting.embed.embed", lambda *given: result)
    line = ["embed", "fbank", "a", "--out", "o"]
    assert main(line) == 1
    assert capsys.readouterr() == (
        "1 embedded, 90.0 s (1 done before) -> o\n", "1 left out:\n  b: why\n"
    )  # fmt: skip
    result.left, result.again = {}, 0
    assert main([*line, "--segments", "--window", "3", "--per", "clip", "--offline"]) == 0
    assert capsys.readouterr() == ("1 embedded, 90.0 s -> o\n", "")
    asked = calls[-1][0][3]
    assert (asked.segments, asked.window, asked.per, asked.offline) == (True, 3.0, "clip", True)
    assert main([*line, "--set", "train.lr=1"]) == 2


def test_what_a_model_explains(replaced: Any, here: Path, capsys: Capture) -> None:
    import numpy as np

    shares = SimpleNamespace(output=1.234, baseline=-0.5, values=np.array([1.0, 0.7]), delta=-0.034)
    done = SimpleNamespace(notices=["n"], target="KCHI", shares=shares)
    calls = replaced("bab.explaining.explain.explain", lambda *given: (done, [Path("x.png")]))
    assert main(["explain", "R", "a.wav", "--out", "o", "--format", "svg, png"]) == 0
    said = capsys.readouterr()
    assert said.err == "note: n\n" and said.out == (
        "KCHI: logit 1.23, of faint noise -0.50; integrated gradients sum to +1.70 (off by -0.034)"
        "\nx.png\n"
    )
    assert calls[0][0][3].formats == ("svg", "png")
    layers = replaced("bab.explaining.layers.write_layers", lambda *given: [Path("l.csv")])
    assert main(["explain", "R", "--layers", "--out", "o"]) == 0
    assert layers[0][0] == (Path("R"), Path("o"), ("png", "svg"))
    errors = replaced(
        "bab.explaining.errors.write_errors", lambda *given: [Path(given[-1]("left") or "e.csv")]
    )
    assert main(["explain", "R", "--errors", "3", "--out", "o"]) == 0
    assert errors[0][0][:4] == (Path("R"), Path("o"), 3, ("png", "svg"))
    assert capsys.readouterr() == ("l.csv\ne.csv\n", "left\n")
    for words in ([], ["a.wav", "--layers"], ["--layers", "--errors", "2"]):
        assert main(["explain", "R", *words, "--out", "o"]) == 2
        assert "name one of FILE, --layers and --errors N" in capsys.readouterr().err
    assert main(["explain", "R", "a.wav", "--out", "o", "--format", "png,gif"]) == 2
    assert "--format png,gif: png, svg, or both" in capsys.readouterr().err


def test_a_pretraining_run_in_a_few_lines(
    replaced: Any, here: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    from bab.api.runs import Pretrained
    from bab.cli.pretrain import lines

    result = {
        "steps": 3,
        "audio_hours": 0.5,
        "train_seconds": 100.0,
        "dev": {"a": 1.23456, "b": 2.0},
    }
    assert lines(result) == [
        "3 steps, 0.50 h of audio, 18.0 s of audio per second", "dev: a 1.235, b 2"
    ]  # fmt: skip
    assert lines({**result, "train_seconds": 0, "dev": {}}) == ["3 steps, 0.50 h of audio"]
    done = Pretrained({**result, "dev": {}}, Path("f"), "hubert:f/model")
    replaced("bab.pretraining.runner.pretrain", ("result", "folder"))
    replaced("bab.api.runs.pretrained", done)
    asked = ["pretrain", "--encoder", "hubert:random-tiny", "--objective", "masked", "--corpus",
             "rttm"]  # fmt: skip
    assert main(asked) == 0
    assert capsys.readouterr().out == (
        "3 steps, 0.50 h of audio, 18.0 s of audio per second\n\nEncoder: hubert:f/model\n"
    )
    monkeypatch.setenv("RANK", "1")
    assert main(asked) == 0 and capsys.readouterr().out == ""


def test_a_corpus_is_checked_as_asked(
    replaced: Any, here: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    told: list[Any] = []
    shown = nullcontext(Ticker(lambda *one: told.append(one), lambda line: None))
    monkeypatch.setattr("bab.cli.display.ticker", lambda quiet=False: shown)
    report = SimpleNamespace(fatal=False)
    calls = replaced("bab.data.check.check_corpus", lambda *given: report)
    replaced("bab.data.check.render", "the report")
    assert main(["data", "check", "rttm", "--jobs", "3"]) == 0
    assert capsys.readouterr().out == "the report\n"
    corpus, jobs, progress, tasks, deep = calls[0][0]
    assert (corpus.name, jobs, list(tasks), deep) == ("rttm", 3, ["vtc"], None)
    report.fatal = True
    assert main(["data", "check", "rttm", "--deep", "--task", "gender"]) == 1
    _, jobs, _, tasks, deep = calls[1][0]
    assert (jobs, list(tasks)) == (os.cpu_count(), ["gender"])
    progress(1, 2)
    deep(3.0, 4.0)
    assert told == [("checking", 1, 2, "files"), ("listening", 3.0, 4.0, "files")]
    assert main(["data", "check", "rttm", "--set", "encoder.x=1"]) == 2


def test_a_broken_share_of_prepare(replaced: Any, here: Path, capsys: Capture) -> None:
    replaced("bab.data.prepare.prepare", lambda *given: "made")
    replaced("bab.data.prepare.describe", "what was made")
    line = ["prepare", "--corpus", "audio", "--out", "m.parquet"]
    assert main(line) == 0
    assert capsys.readouterr().out == "what was made\nManifest: m.parquet\n"
    assert main([*line, "--shard", "2/3"]) == 0
    assert capsys.readouterr().out == "what was made\nShard 2/3: m.parquet.parts\n"
    replaced("bab.data.prepare.prepare", KeyboardInterrupt())
    assert main(line) == 130
    assert "the same command goes on where it stopped (m.parquet.parts)" in capsys.readouterr().err


def test_conversions(here: Path, replaced: Any, capsys: Capture) -> None:
    done = SimpleNamespace(written=[], notices=[], failed=["f"])
    calls = replaced("bab.data.convert.convert", lambda *given: done)
    line = ["convert", "a", "b"]
    assert main(line) == 1
    assert capsys.readouterr() == ("nothing written\n", "bab: error: f\n")
    done.failed = []
    assert main([*line, "--quiet"]) == 0 and capsys.readouterr() == ("", "")
    assert main([*line, "--set", "labels.A=B", "--set", "from.x=1", "--set", "to.y.z=2"]) == 0
    asked = calls[-1][0][2]
    assert (asked.labels, asked.read, asked.write) == ({"A": "B"}, {"x": 1}, {"y": {"z": 2}})
    capsys.readouterr()
    for text, said in (
        (
            "x.y=1",
            "--set x: here only labels.KEY=VALUE, from.KEY=VALUE, to.KEY=VALUE have a meaning",
        ),
        ("labels=1", "--set labels: here only"),
        ("labels.A=1", "--set labels.A=1: expected a label"),
    ):
        assert main([*line, "--set", text]) == 2 and said in capsys.readouterr().err


def test_a_run_that_a_group_of_processes_makes_is_told_once(
    replaced: Any, here: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    path = put(here / "my runs", make(confusion={"v": {"a": {"a": 1.0}}}))
    replaced("bab.running.runner.run", lambda *given: (make(confusion={"v": {}}), path.parent))
    line = ["run", "--encoder", "fbank", "--task", "vtc"]
    assert main(line) == 0
    out = capsys.readouterr().out
    assert out.startswith("### vtc@rttm, fbank, probe: default\n") and "### v," not in out
    told = f"What was taken for what: bab table '{path.parent}' --detail"  # as a shell takes it
    assert f"\n\nRun folder: {path.parent}\n{told}\n" in out
    assert out.endswith("It was done before; --force repeats it.\n")
    monkeypatch.setenv("RANK", "1")
    assert main(line) == 0 and capsys.readouterr().out == ""
    replaced("bab.pretraining.runner.pretrain", lambda *given: ({}, Path("f")))
    asked = ["pretrain", "--encoder", "wav2vec2:random-tiny", "--objective", "contrastive"]
    assert main([*asked, "--corpus", "audio"]) == 0 and capsys.readouterr().out == ""


def test_an_audio_error_is_the_users(replaced: Any, here: Path, capsys: Capture) -> None:
    replaced("bab.predicting.embed.embed", AudioError("a.wav: cut"))
    assert main(["embed", "fbank", "a", "--out", "o"]) == 2
    assert capsys.readouterr().err == "bab: error: a.wav: cut\n"


@pytest.mark.parametrize(
    ("form", "printed"),
    [("markdown", "| a |\n\nAudit: p\n"), ("csv", "a,b\n"), ("json", "a,b\n"), ("latex", "a,b\n")],
)
def test_an_audit(replaced: Any, here: Path, capsys: Capture, form: str, printed: str) -> None:
    calls = replaced("bab.auditing.audit.audit", lambda *given: ("made", Path("p")))
    told = replaced(
        "bab.results.audit.render", lambda *given: "| a |\n" if form == "markdown" else "a,b\n\n"
    )
    line = ["audit", "donateacry", "--task", "classify", "--set", "task.labels=[reason]"]
    assert main([*line, "--format", form, "--force", "--runs", "r"]) == 0
    assert capsys.readouterr().out == printed and told[0][0] == ("made", form)
    config, _, force = calls[0][0]
    assert (config.task.name, config.corpus.name, config.runs, force) == (
        *("classify", "donateacry", "r", True),
    )
    assert main(line) == 0 and calls[1][0][2] is False and told[1][0] == ("made", "markdown")
