"""What the jobs of a launcher are given to do, and what a command does with what they made."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import click
import pytest

from bab.cli import main
from bab.cli.launched import own_arguments
from bab.launching.asked import Launch
from bab.launching.jobs import Wanted, folder_of


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


class Jobs:
    """Stands for `run_jobs`: what it was called with, and what it answers."""

    def __init__(self) -> None:
        self.asked: list[tuple[Launch, Path, Wanted]] = []
        self.answers: list[bool] = []
        self.prints: list[str] = []

    def __call__(self, launch: Launch, folder: Path, wanted: Wanted, tell: Any, say: Any) -> bool:
        self.asked.append((launch, folder, wanted))
        tell(f"{wanted.what}s", 0, len(wanted.commands), "jobs")
        for line in self.prints:
            say(line)
        return self.answers.pop(0) if self.answers else True

    def commands(self) -> list[dict[str, str]]:
        """Of each stage: the name of a job -> its command line."""
        return [{n: " ".join(c) for n, c in w.commands.items()} for _, _, w in self.asked]


@pytest.fixture
def jobs(here: Path, monkeypatch: pytest.MonkeyPatch) -> Jobs:
    made = Jobs()
    monkeypatch.setattr("bab.launching.jobs.run_jobs", made)
    return made


class ReachedError(Exception):
    """A command has come to its own work."""


@pytest.fixture
def reached(monkeypatch: pytest.MonkeyPatch) -> Any:
    def call(place: str, line: list[str]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        def stop(*args: Any, **named: Any) -> None:
            raise ReachedError(args, named)

        monkeypatch.setattr(place, stop)
        from bab.cli import cli

        with pytest.raises(ReachedError) as caught:
            cli.main(line, standalone_mode=False, obj=line)
        return caught.value.args  # type: ignore[return-value]

    return call


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("run --launcher slurm --task vtc", "run --task vtc"),
        ("run --launcher=slurm --task vtc", "run --task vtc"),
        ("run --task vtc --on-interrupt leave --jobs 3", "run --task vtc"),
        ("run --on-interrupt=leave --jobs=3 --task vtc", "run --task vtc"),
        ("run --cancel-jobs --task vtc", "run --task vtc"),
        ("run --set launcher.cpus=2 --set train.steps=3", "run --set train.steps=3"),
        ("run --set=launcher.cpus=2 --set=train.steps=3", "run --set train.steps=3"),
        ("run --task=vtc r.yaml", "run --task=vtc r.yaml"),
        ("predict R --jobs 2 -- --jobs 3 --launcher", "predict R -- --jobs 3 --launcher"),
        ("run --jobs", "run"),
        ("run --set", "run --set "),
        ("", ""),
    ],
)
def test_jobs_are_given_the_command_without_its_launcher(given: str, kept: str) -> None:
    with click.Context(click.Command("bab"), obj=given.split()):
        assert " ".join(own_arguments()) == kept
    with click.Context(click.Command("bab")):  # called from Python, nothing was typed
        assert own_arguments() == []


RUN = ["run", "--encoder", "fbank", "--task", "vtc"]


def test_a_probe_is_features_and_a_run(jobs: Jobs, reached: Any) -> None:
    line = [*RUN, "--launcher", "local", "--jobs", "2", "--set", "launcher.threads=3"]
    config, force = reached("bab.running.runner.run", line)[0]
    assert config.task.name == "vtc" and force is False
    rest = "--encoder fbank --task vtc"
    assert jobs.commands() == [
        {"features-1-of-2": f"-m bab run --shard 1/2 {rest}",
         "features-2-of-2": f"-m bab run --shard 2/2 {rest}"},
        {"run": f"-m bab run {rest}"},
    ]  # fmt: skip
    first, second = jobs.asked
    assert first[0] == Launch("local", ["launcher.threads=3"], "ask", False)
    assert [(w.most, w.what, w.fine, w.spread, w.follow) for _, _, w in jobs.asked] == [
        (2, "features", (0,), False, False), (2, "run", (0,), False, False),
    ]  # fmt: skip
    own = ["run", *rest.split()]
    assert first[1] == folder_of(Path("runs/.jobs"), ["features", "2", *own])
    assert second[1] == folder_of(Path("runs/.jobs"), ["run", "0", *own])


def test_what_trains_its_encoder_is_one_job(jobs: Jobs, reached: Any) -> None:
    line = ["run", "--encoder", "hubert:random-tiny", "--task", "vtc", "--mode", "finetune"]
    line += ["--force", "--runs", "r", "--launcher", "local", "--on-interrupt", "cancel"]
    assert reached("bab.running.runner.run", line)[0][1] is False  # the job has repeated it
    ((launch, folder, wanted),) = jobs.asked
    assert launch == Launch("local", [], "cancel", False) and wanted.most == 1
    assert list(wanted.commands) == ["run"] and folder.parent == Path("r/.jobs")
    assert "--force" in wanted.commands["run"]


def test_cancelled_jobs_make_nothing(jobs: Jobs, here: Path) -> None:
    jobs.answers = [False]
    assert main([*RUN, "--launcher", "local", "--cancel-jobs"]) == 0
    assert [launch.cancel for launch, _, _ in jobs.asked] == [True]
    jobs.answers = [True, False]
    assert main([*RUN, "--launcher", "local", "--cancel-jobs"]) == 0
    assert len(jobs.asked) == 3 and not list(here.iterdir())


def test_targets_are_made_in_three_stages(jobs: Jobs, reached: Any) -> None:
    line = ["targets", "--corpus", "audio", "--out", "t", "--launcher", "local", "--jobs", "2"]
    reached("bab.targets.make.make", line)
    rest = "--corpus audio --out t"
    assert jobs.commands() == [
        {f"sample-{n}-of-2": f"-m bab targets --stage sample --shard {n}/2 {rest}" for n in (1, 2)},
        {"fit": f"-m bab targets --stage fit {rest}"},
        {f"label-{n}-of-2": f"-m bab targets --stage label --shard {n}/2 {rest}" for n in (1, 2)},
    ]
    assert {folder.parent for _, folder, _ in jobs.asked} == {Path("t/jobs")}
    assert {w.fine for _, _, w in jobs.asked} == {(0, 1)}
    jobs.asked.clear()
    jobs.answers = [True, False]
    assert main(line) == 0 and [w.what for _, _, w in jobs.asked] == ["sample", "fit"]


def test_recordings_are_predicted_in_shares(jobs: Jobs, reached: Any, here: Path) -> None:
    kept = here / "p" / ".bab" / "shards"
    kept.mkdir(parents=True)
    line = ["predict", "R", "a.wav", "--out", "p", "--launcher", "local", "--jobs", "3"]
    given = reached("bab.predicting.predict.predict", line)[0]
    assert given[3].jobs == 1 and given[6] is None  # no share: the tables of all
    rest = "R a.wav --out p"
    assert jobs.commands() == [
        {f"shard-{n}-of-3": f"-m bab predict --shard {n}/3 {rest}" for n in (1, 2, 3)}
    ]
    assert jobs.asked[0][1].parent == Path("p/.bab/jobs") and not kept.exists()
    kept.mkdir()
    jobs.answers = [False]
    assert main(line) == 0 and kept.exists()


def test_speech_is_found_in_shares(jobs: Jobs, reached: Any) -> None:
    line = ["prepare", "--corpus", "audio", "--out", "m.parquet", "--launcher", "local"]
    given = reached("bab.data.prepare.prepare", [*line, "--jobs", "2"])[0]
    assert given[3] == 1 and given[7] is None
    rest = "--corpus audio --out m.parquet"
    assert jobs.commands() == [
        {f"shard-{n}-of-2": f"-m bab prepare --shard {n}/2 {rest}" for n in (1, 2)}
    ]
    assert jobs.asked[0][1].parent == Path("m.parquet.parts/jobs")
    jobs.asked.clear()
    reached("bab.data.prepare.prepare", line)
    assert list(jobs.asked[0][2].commands) == ["shard-1-of-1"]
    jobs.answers = [False]
    assert main(line) == 0


@pytest.mark.parametrize(
    ("more", "environment", "used"),
    [([], None, 7), ([], "2", 7), (["--shard", "1/2"], "2", 2), (["--shard", "1/2"], None, 1),
     (["--shard", "1/2", "--jobs", "5"], "2", 5)],
)  # fmt: skip
def test_a_share_of_prepare_has_the_cores_of_its_job(
    reached: Any,
    here: Path,
    monkeypatch: pytest.MonkeyPatch,
    more: list[str],
    environment: str | None,
    used: int,
) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    if environment:
        monkeypatch.setenv("OMP_NUM_THREADS", environment)
    monkeypatch.setattr("os.cpu_count", lambda: 7)
    line = ["prepare", "--corpus", "audio", "--out", "m.parquet", *more]
    given = reached("bab.data.prepare.prepare", line)[0]
    assert given[3] == used and str(given[7]) == ("1/2" if more else "None")


def test_pretraining_is_one_job_whose_words_are_shown(
    jobs: Jobs, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    jobs.prints = ["step 1", "step 2\x1b[2J"]
    line = ["pretrain", "--encoder", "wav2vec2:random-tiny", "--objective", "contrastive"]
    line += ["--corpus", "audio", "--runs", "r"]
    assert main([*line, "--launcher", "local", "--set", "launcher.processes=2"]) == 0
    ((launch, folder, wanted),) = jobs.asked
    (name,) = wanted.commands
    assert folder == folder_of(Path("r/.jobs"), line) and name == f"pretrain-{folder.name}"
    assert wanted.commands[name] == ["-m", "bab", *line]
    assert (wanted.most, wanted.what, wanted.fine) == (1, "job", (0,))
    assert wanted.spread and wanted.follow and launch.sets == ["launcher.processes=2"]
    shown = capsys.readouterr()
    assert shown.out == "" and re.fullmatch(r"step 1\nstep 2[^\x1b]*\n", shown.err)
    assert not list(here.iterdir())


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["--set", "launcher.cpus=2"], "--set launcher.cpus=2: name the launcher"),
        (["--cancel-jobs"], "--cancel-jobs: name the launcher: --launcher slurm"),
        (["--cancel-jobs", "--set", "launcher.cpus=2"], "--cancel-jobs: name the launcher"),
        (["--jobs", "2"], "--jobs 2: name whose jobs: --launcher slurm"),
        (["--launcher", "local", "--jobs", "0"], "0 is not in the range x>=1"),
        (["--shard", "2"], "--shard 2: expected NUMBER/COUNT"),
    ],
)
def test_slips(here: Path, capsys: pytest.CaptureFixture[str], more: list[str], said: str) -> None:
    assert main([*RUN, *more]) == 2
    assert said in capsys.readouterr().err and not list(here.iterdir())


@pytest.mark.parametrize("more", [["--launcher", "local"], ["--shard", "1/2"]])
def test_a_recipe_that_pretrains_is_refused_whole(
    here: Path, capsys: pytest.CaptureFixture[str], more: list[str]
) -> None:
    (here / "p.yaml").write_text("kind: pretrain\nobjective: masked\nencoder: hubert\n")
    assert main(["run", "p.yaml", *more]) == 2
    assert "p.yaml pretrains an encoder: `bab pretrain` takes --launcher" in (
        capsys.readouterr().err
    )
    assert main(["run", "p.yaml", "--test-corpus", "rttm"]) == 2
    assert "p.yaml pretrains an encoder: --test-corpus has no meaning there" in (
        capsys.readouterr().err
    )
