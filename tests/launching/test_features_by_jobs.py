"""The features of a probe, computed in shares that know nothing of one another."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from bab.cli import main
from bab.config.resolve import run_config
from bab.core.errors import ConfigError
from bab.features.passes import Passes
from bab.launching.jobs import Wanted
from bab.running.runner import fill, run

ASKED: dict[str, Any] = {"encoder": "fbank", "task": "vtc", "observers": [], "quiet": True}
WORDS = ["run", "--encoder", "fbank", "--task", "vtc", "--steps", "5", "--quiet"]


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_shares_are_apart_and_leave_nothing_to_compute(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BAB_CACHE", str(here / "alone"))
    alone, _ = run(run_config(None, {**ASKED, "runs": "alone-runs"}, ["train.steps=5"]))
    monkeypatch.setenv("BAB_CACHE", str(here / "shared"))
    config = run_config(None, ASKED, ["train.steps=5"])
    computed: list[set[str]] = []
    states = Passes._states

    def noting(source: Passes, windows: Any, waves: Any) -> Any:
        computed[-1] |= {str((w.clip.path, w.clip.start)) for w in windows}
        return states(source, windows, waves)

    monkeypatch.setattr(Passes, "_states", noting)
    for number in range(3):
        computed.append(set())
        assert fill(config, number, 3) == pytest.approx(0.15, abs=0.02)
    assert all(computed) and len(set.union(*computed)) == sum(map(len, computed))
    assert not (here / "runs").exists()
    computed.append(set())
    record, _ = run(config)
    assert computed[-1] == set()
    assert record.id == alone.id and record.metrics == alone.metrics


def test_what_trains_its_encoder_keeps_no_features(here: Path) -> None:
    config = run_config(None, {**ASKED, "encoder": "hubert:random-tiny", "mode": "finetune"}, [])
    with pytest.raises(ConfigError, match="mode finetune keeps none"):
        fill(config, 0, 2)


def test_the_command_does_one_share(
    here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("BAB_CACHE", str(here / "cache"))
    assert main([*WORDS, "--shard", "1/2"]) == 0
    assert capsys.readouterr().out == "Features: share 1/2 of 0.15 h of audio\n"
    assert main([*WORDS, "--shard", "3/2"]) == 2
    assert "--shard 3/2: shards are 1 to 2 of 2" in capsys.readouterr().err


def test_a_recipe_that_pretrains_has_no_features(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (here / "p.yaml").write_text("kind: pretrain\nobjective: masked\nencoder: hubert\n")
    assert main(["run", "p.yaml", "--launcher", "local"]) == 2
    assert "`bab pretrain` takes --launcher" in capsys.readouterr().err


@pytest.mark.parametrize("command", [WORDS, ["targets", "--corpus", "rttm", "--out", "t"]])
def test_jobs_of_no_launcher_mean_nothing(
    here: Path, capsys: pytest.CaptureFixture[str], command: list[str]
) -> None:
    assert main([*command, "--jobs", "2"]) == 2
    assert "--jobs 2: name whose jobs: --launcher slurm" in capsys.readouterr().err
    assert not list(here.iterdir())


def test_a_job_that_fails_in_whatever_way_is_not_made_here(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`bab predict` ends with 1 where a file was left out; a run that does has no record."""
    asked: list[Wanted] = []
    monkeypatch.setattr(
        "bab.launching.jobs.run_jobs", lambda *given: asked.append(given[2]) or len(asked) < 2
    )
    assert main([*WORDS, "--launcher", "local", "--jobs", "2"]) == 0
    assert [(sorted(w.commands), w.fine) for w in asked] == [
        (["features-1-of-2", "features-2-of-2"], (0,)),
        (["run"], (0,)),
    ]
    assert not list(here.rglob("record.json"))


@pytest.mark.slow
def test_jobs_fill_and_another_runs(
    here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("BAB_CACHE", str(here / "cache"))
    assert main([*WORDS, "--runs", "jobs", "--launcher", "local", "--jobs", "2"]) == 0
    assert "Run folder: jobs/vtc" in capsys.readouterr().out
    assert main([*WORDS, "--runs", "plain"]) == 0
    one, other = (next(Path(p).rglob("record.json")) for p in ("jobs", "plain"))
    assert json.loads(one.read_text())["metrics"] == json.loads(other.read_text())["metrics"]
    capsys.readouterr()
    again = [*WORDS, "--runs", "jobs", "--launcher", "local", "--jobs", "2", "--force"]
    assert main(again) == 0
    assert "It was done before" not in capsys.readouterr().out
