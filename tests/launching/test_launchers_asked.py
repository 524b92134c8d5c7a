"""What is asked of a launcher; and Slurm's commands, answered by made-up ones."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

import bab
from bab.cli import main
from bab.core.errors import ConfigError, PluginError
from bab.launching.asked import open_launcher, split_sets
from bab.plugins.launchers.slurm import Slurm


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_options_come_from_bab_toml_and_the_command_line(here: Path) -> None:
    (here / "bab.toml").write_text(
        '[launcher]\ncpus = 4\n[launcher.slurm]\npartition = "gpu"\ntime = 30\n'
    )
    made = open_launcher("slurm", ["launcher.cpus=2", "launcher.extra=[--qos=long]"]).options
    assert (made.cpus, made.partition, made.time, made.extra) == (2, "gpu", "30", ("--qos=long",))
    assert open_launcher("ray").options.cpus == 4
    big = open_launcher("ray", ["launcher.resources={big: 1}", "launcher.cpus=1"]).options
    assert big.resources == {"big": 1}


@pytest.mark.parametrize(
    ("toml", "sets", "said"),
    [
        ("", ["launcher.gpu=1"], "--set launcher.gpu: .*did you mean 'gpus'"),
        ("[launcher]\ngpu = 1\n", [], r"bab.toml: launcher.gpu: .*did you mean 'gpus'"),
        ("", ["launcher.gpus=many"], "--set launcher.gpus: .*'many'"),
        ("launcher = 3\n", [], "holds keys of a launcher, and is 3"),
    ],
)
def test_slips_name_the_key(here: Path, toml: str, sets: list[str], said: str) -> None:
    (here / "bab.toml").write_text(toml)
    with pytest.raises(ConfigError, match=said):
        open_launcher("slurm", sets)


def test_a_launcher_that_is_none(here: Path) -> None:
    with pytest.raises(PluginError, match="no launcher called 'slurn': did you mean 'slurm'"):
        open_launcher("slurn")
    own, rest = split_sets(["launcher.cpus=2", "train.steps=3", "launcher.x.y=1"])
    assert own == ["launcher.cpus=2", "launcher.x.y=1"] and rest == ["train.steps=3"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--set", "launcher.cpus=2"], "name another launcher|name the launcher"),
        (["--cancel-jobs"], "name the launcher"),
        (["--launcher", "slurm", "--on-interrupt", "stay"], "'stay' is not one of 'ask', 'leave'"),
        (["--launcher", "local", "--set", "launcher.threads=2"], "name another launcher"),
        (["--launcher", "slurm", "--set", "launcher.cpu=2"], "did you mean 'cpus'"),
        (["--launcher", "slum"], "did you mean 'slurm'"),
    ],
)
def test_a_bench_says_what_is_wrong_before_anything_begins(
    here: Path, arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    import re

    assert main(["bench", "--encoders", "fbank", "--tasks", "vtc", *arguments]) == 2
    assert re.search(said, capsys.readouterr().err)
    assert not (here / "runs").exists()


def test_bab_toml_of_a_launcher_is_none_of_a_runs_business(here: Path) -> None:
    from bab.config.resolve import run_config

    (here / "bab.toml").write_text("[launcher]\ncpus = 4\n")
    assert run_config(None, {"encoder": "fbank", "task": "vtc"}).task.name == "vtc"


# --- Slurm


def work(here: Path, spread: bool = False) -> bab.Work:
    argv = ("python", "-c", "print('a b')")
    return bab.Work("w1", argv, here, here / "log", {"BAB_X": "it's $5"}, spread)


def test_the_script_asks_for_what_was_set(here: Path) -> None:
    options = Slurm.Options(partition="gpu", time="1:00:00", gpus=2, cpus=4, extra=("--qos=a",),
                            account="lab", constraint="a100", memory="16G", grace=60)  # fmt: skip
    script = Slurm(options).script(work(here))
    for line in ("partition=gpu", "time=1:00:00", "gpus-per-node=2", "cpus-per-task=4", "qos=a",
                 "nodes=1", "signal=B:TERM@60", "account=lab", "constraint=a100", "mem=16G",
                 f"chdir={here}", "requeue"):  # fmt: skip
        assert f"\n#SBATCH --{line}\n" in script, line
    plain = Slurm(Slurm.Options()).script(work(here))
    assert "--mem" not in plain and "--account" not in plain and "TERM@120" in plain
    assert "srun " not in script
    assert "python -c 'print('\"'\"'a b'\"'\"')' &\n" in script
    subprocess.run(["bash", "-n"], input=script, text=True, check=True)
    said = subprocess.run(["bash"], input=script.replace("python -c", "echo"), text=True,
                          capture_output=True, cwd=here, check=True)  # fmt: skip
    assert said.stdout == "print('a b')\n"


def test_several_nodes_are_srun(here: Path) -> None:
    launcher = Slurm(Slurm.Options(nodes=2, gpus=4))
    assert launcher.layout == (2, 4) and Slurm(Slurm.Options()).layout == (1, 1)
    assert "srun " not in launcher.script(work(here))  # a shard needs one node
    script = launcher.script(work(here, spread=True))
    assert "\n#SBATCH --nodes=2\n" in script and "signal=TERM@120" in script
    assert "srun " in script and "BAB_NODE=$SLURM_NODEID" in script and "BAB_HEAD=" in script
    subprocess.run(["bash", "-n"], input=script, text=True, check=True)


def command(here: Path, name: str, text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    place = here / "bin"
    place.mkdir(exist_ok=True)
    (place / name).write_text(f"#!/bin/sh\n{text}\n")
    (place / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{place}:/usr/bin:/bin")


def test_states(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lines = ["1|PENDING|Priority", "2|RUNNING|None", "3|OUT_OF_MEMORY|OutOfMemory",
             "4|COMPLETED|None", "5|REQUEUED|", "6|COMPLETING|None"]  # fmt: skip
    command(here, "squeue", "cat <<E\n" + "\n".join(lines) + "\nE", monkeypatch)
    told = Slurm(Slurm.Options()).poll(["1", "2", "3", "4", "5", "6", "7"])
    assert {k: v.state for k, v in told.items()} == {
        "1": "queued", "2": "running", "3": "ended", "4": "ended", "5": "queued", "6": "running",
        "7": "ended",
    }  # fmt: skip
    assert told["1"].why == "Priority" and told["3"].why == "OUT_OF_MEMORY" == told["3"].why


def test_a_refusal_is_said_in_slurms_words(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(here))
    with pytest.raises(bab.BabError, match=r"no sbatch on this machine: .*login node"):
        Slurm(Slurm.Options()).submit(work(here))
    command(here, "sbatch", "echo 'sbatch: error: invalid partition' >&2; exit 1", monkeypatch)
    with pytest.raises(bab.BabError, match=r"sbatch: invalid partition; look at .*bab info slurm"):
        Slurm(Slurm.Options()).submit(work(here))
    command(here, "sbatch", "cat > script; echo '12;main'", monkeypatch)
    assert Slurm(Slurm.Options()).submit(work(here)) == "12"
    assert "#SBATCH --job-name=bab-w1" in (here / "script").read_text()


def test_ray_says_that_nobody_is_there(here: Path) -> None:
    pytest.importorskip("ray")
    with pytest.raises(bab.BabError, match=r"no Ray cluster at launcher.address=127.0.0.1:1: "):
        open_launcher("ray", ["launcher.address=127.0.0.1:1"]).poll(["x"])
