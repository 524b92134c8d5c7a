"""The command line as a person meets it: what is printed, where, and the exit status."""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import NamedTuple

import click
import forks
import pytest
from distributions import write_distribution
from places import ROOT

from bab.cli import cli, main

EXAMPLE = ROOT / "examples" / "bab-plugin-example"


class Said(NamedTuple):
    status: int
    out: str
    err: str


def bab(*arguments: str) -> Said:
    """`bab ARGUMENTS` in this process."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        status = main(arguments)
    return Said(status, out.getvalue(), err.getvalue())


def shell(*arguments: str, site: Path | None = None, cwd: Path | None = None) -> Said:
    """`bab ARGUMENTS` in a process of its own; `site` is on its module path."""
    paths = [str(site)] if site else []
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([*paths, str(ROOT)])}
    command = [sys.executable, "-m", "bab.cli", *arguments]
    done = forks.run(command, env=environment, cwd=cwd)
    return Said(done.returncode, done.stdout, done.stderr)


# ------------------------------------------------------------------------------- help


def commands(group: click.Group = cli, prefix: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    found = []
    for name, command in group.commands.items():
        path = (*prefix, name)
        found += commands(command, path) if isinstance(command, click.Group) else [path]
    return found


@pytest.mark.parametrize("path", commands(), ids=" ".join)
def test_every_command_explains_itself_with_examples(path):
    said = bab(*path, "--help")
    assert said.status == 0
    assert f"\n    bab {' '.join(path)}" in said.out.split("Examples:")[1]
    command: click.Command = cli
    for name in path:
        assert isinstance(command, click.Group)
        command = command.commands[name]
    unexplained = [p.name for p in command.params if isinstance(p, click.Option) and not p.help]
    assert unexplained == []


def test_version_and_bare_help():
    from bab import __version__

    assert bab("--version") == Said(0, f"bab {__version__}\n", "")
    assert "bab run --encoder hubert --task vtc" in bab("--help").out


# ------------------------------------------------------------------------------- list and info


def test_list_shows_kinds_names_and_owners():
    out = bab("list").out
    assert re.search(r"^encoders\n(  .*\n)*  fbank +bab \d", out, re.M)
    assert re.search(r"^observers\n(  .*\n)*  progress +bab \d", out, re.M)
    only = bab("list", "encoder").out
    assert "fbank" in only
    assert "observers" not in only


def test_info_shows_options_weights_and_source():
    out = bab("info", "hubert").out
    assert "hubert: encoder of bab" in out
    assert "random-tiny" in out
    assert "--set encoder.KEY=VALUE" in out
    assert "--set corpus.KEY=VALUE" in bab("info", "kaldi").out
    assert re.search(r"source +\S", out)
    assert bab("info", "hubert:base").out == out
    assert re.search(r"rnn .*\[none \| bilstm; default none\]", bab("info", "frames").out)
    assert "bab_step" in bab("info", "jsonl").out


def test_info_says_what_one_example_is():
    assert re.search(
        r"view +windows of 4 s, at random places in finetune\n", bab("info", "vtc").out
    )
    assert re.search(r"view +whole clips\n", bab("info", "gender").out)


def test_a_name_in_full_stands_in_its_column(tmp_path):
    write_distribution(tmp_path, "a-long-name", {"encoders": {"fbank": "nowhere:Fbank"}})
    lines = shell("list", "encoders", site=tmp_path).out.splitlines()[1:]
    assert any("a-long-name/fbank" in line for line in lines)
    assert len({len(line) - len(line.split(None, 1)[1]) for line in lines}) == 1


def test_list_plugins_folds_on_a_narrow_terminal(monkeypatch):
    monkeypatch.setenv("COLUMNS", "60")
    lines = bab("list", "plugins").out.splitlines()
    assert "  encoder:" in "\n".join(lines)
    assert max(map(len, lines)) <= 60


def test_info_run_shows_every_key():
    from bab.config.run import CacheConfig, RunConfig
    from bab.core.options import TrainConfig

    out = bab("info", "run").out
    keys = [f"train.{key}" for key in TrainConfig.model_fields]
    keys += [f"cache.{key}" for key in CacheConfig.model_fields]
    keys += [key for key in RunConfig.model_fields if key not in ("train", "cache", "view")]
    for key in keys:
        assert re.search(rf"^  {re.escape(key)} ", out, re.M), key


def test_info_shows_all_kinds_of_one_name(install):
    head = """
        from bab import Head
        class H(Head):
            'A head of that name.'
            level = ("frame",)
            def forward(self, x, lengths): ...
    """
    install("cli-same", {"heads": {"fbank": "cli_same:H"}}, {"cli_same": head})
    out = bab("info", "fbank").out
    assert "fbank: encoder of bab" in out
    assert "fbank: head of cli-same 1.0" in out
    assert "A head of that name." in out


# ------------------------------------------------------------------------------- mistakes


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["info", "hubrt"], "nothing is called 'hubrt': did you mean 'hubert'"),
        (["list", "encodrs"], "did you mean 'encoders'"),
        (["run"], "no encoder is named: give --encoder NAME. Known: "),
        (["run", "vtc"], "'vtc' is no recipe file: did you mean --task vtc?"),
        (["run", "no.yaml"], "no.yaml: there is no such file"),
        (["run", "--encoder", "hubrt", "--task", "vtc"], "did you mean 'hubert'? (named by --enco"),
        (["run", "--encoder", "fbank", "--task", "vtc", "--set", "head.rn=x"], "mean 'head.rnn'?"),
        (["run", "--encoder", "fbank", "--task", "vtc", "--observer", "json"], "mean 'jsonl'"),
        (["run", "--encoder", "fbank", "--task", "vtc", "--corpus", "rttm:/x"], "/x: there is"),
        (["table", "/not/there"], "/not/there: there is no such folder"),
        (["table", "{here}", "--detail"], "holds no record.json"),
        (["predict", "/not/there", "x.wav", "--out", "o"], "no such run folder"),
        (["predict", "{here}", "x.wav", "--out", "o"], "{here}"),
        (["data", "check", "rttm:/not/there"], "/not/there"),
        (["data", "check", "rttn"], "did you mean 'rttm'"),
        (["data", "check", "rttm", "--set", "corpus.lables.A=B"], "unknown key 'corpus.lables"),
    ],
)  # fmt: skip
def test_a_mistake_is_one_message_and_status_2(arguments, said, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    found = bab(*(text.replace("{here}", str(tmp_path)) for text in arguments))
    assert found.status == 2
    assert found.err.startswith("bab: error: ")
    assert said.replace("{here}", str(tmp_path)) in found.err
    assert "Traceback" not in found.err
    assert found.out == ""


def test_wrong_usage_is_status_2():
    found = bab("run", "--encodr", "fbank")
    assert found.status == 2
    assert "--encoder" in found.err  # click's own suggestion


@pytest.mark.parametrize(
    ("name", "status", "said"),
    [
        ("InterruptedRunError", 130, "bab: error: told"),
        ("DivergedError", 3, "bab: error: told"),
        ("KeyboardInterrupt", 130, "bab: stopped"),
        ("ValueError", 1, "Please report it"),
    ],
)
def test_exit_status_of_what_ends_a_run(name, status, said, monkeypatch, tmp_path):
    import builtins

    from bab.core import errors

    def end(config, force):
        raise (getattr(errors, name, None) or getattr(builtins, name))("told")

    monkeypatch.setattr("bab.running.runner.run", end)
    monkeypatch.chdir(tmp_path)
    found = bab("run", "--encoder", "fbank", "--task", "vtc")
    assert found.status == status
    assert said in found.err
    assert ("Traceback" in found.err) is (status == 1)


def test_a_closed_pipe_is_no_fault():
    script = f"{sys.executable} -m bab.cli info run | head -1; echo ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, cwd=ROOT)
    lines = done.stdout.splitlines()
    assert lines[0].startswith("Keys of a run")
    assert lines[1] in ("0", "141")
    assert done.stderr == ""


# ------------------------------------------------------------------------------- a run, whole


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("cli")


@pytest.fixture
def here(place, monkeypatch) -> Path:
    monkeypatch.chdir(place)
    monkeypatch.setenv("XDG_CACHE_HOME", str(place / "cache"))
    return place


QUICK = ("--set", "train.steps=4")


def test_run_table_and_predict(here):
    run = ("run", "--encoder", "fbank", "--task", "vtc", *QUICK)
    first = bab(*run)
    assert first.status == 0, first.err
    folder = Path(re.search(r"^Run folder: (.*)$", first.out, re.M)[1])
    record = json.loads((folder / "record.json").read_text())
    assert record["config"]["train"]["steps"] == 4
    assert f"{record['metrics']['f1']:.3f}" in first.out
    assert "encoder fbank" in first.err
    assert not re.search(r"[\x00-\x09\x0b-\x1f]", first.err)
    events = [json.loads(line)["event"] for line in (folder / "log.jsonl").read_text().splitlines()]
    assert events.count("step") == 4
    assert events[-1] == "ended"

    again = bab(*run)
    assert "It was done before; --force repeats it." in again.out
    assert "It was done before" not in bab(*run, "--force").out

    assert "fbank" in bab("table").out
    assert "fbank" in json.dumps(json.loads(bab("table", "--format", "json").out))
    assert "KCHI" in bab("table", str(folder), "--detail").out

    sample = next((ROOT / "bab/plugins/datasets/samples/rttm").rglob("*.wav"), None) or next(
        (ROOT / "bab/plugins/datasets/samples/rttm").rglob("*.flac")
    )
    said = bab("predict", str(folder), str(sample), "--out", "found", "--preset", "high-precision")
    assert said.status == 0, said.err
    assert f"{sample.stem}.rttm" in {path.name for path in (here / "found").iterdir()}
    assert bab("predict", str(folder), str(sample), "--out", "o", "--preset", "f2").status == 2


def test_the_example_plugin_serves_a_run(here, install, monkeypatch):
    project = tomllib.loads((EXAMPLE / "pyproject.toml").read_text())["project"]
    entries = {key.removeprefix("bab."): value for key, value in project["entry-points"].items()}
    install(project["name"], entries, version=project["version"])
    monkeypatch.syspath_prepend(str(EXAMPLE / "src"))
    assert "mfcc: encoder of bab-plugin-example 0.1.0" in bab("info", "mfcc").out
    said = bab(
        "run", "--encoder", "mfcc", "--task", "vtc", *QUICK, "--set", "encoder.coefficients=20"
    )
    assert said.status == 0, said.err
    assert "mfcc" in said.out


def test_data_check_of_a_sound_and_a_broken_corpus(here, tmp_path):
    import shutil

    sample = ROOT / "bab/plugins/datasets/samples/rttm"
    sound = bab("data", "check", "rttm")
    assert (sound.status, "ready to run" in sound.out) == (0, True)
    broken = tmp_path / "broken"
    shutil.copytree(sample, broken)
    audio = sorted(p for p in broken.rglob("*") if p.suffix in (".wav", ".flac", ".ogg"))[0]
    audio.write_bytes(b"")
    found = bab("data", "check", f"rttm:{broken}", "--jobs", "2")
    assert found.status == 1
    assert audio.name in found.out
    assert "a run would stop" in found.out


# ------------------------------------------------------------------------------- broken plugins

WATCHERS = """
    from bab import hookimpl

    class Raises:
        @hookimpl
        def bab_step(self, run, step):
            raise RuntimeError("watcher fell over")

    class Wrong:
        @hookimpl
        def bab_step(self, run, stepp): ...
"""


def test_broken_plugins_beside_a_run_are_reported_and_stop_nothing(tmp_path, here):
    site = tmp_path / "site"
    entries = {"observers": {"raises": "sick_watch:Raises", "wrong": "sick_watch:Wrong"}}
    write_distribution(site, "sick-watch", entries, {"sick_watch": WATCHERS}, "3.1")
    crash = {"encoders": {"crash": "sick_crash:E"}, "observers": {"boom": "sick_crash:O"}}
    write_distribution(site, "sick-crash", crash, {"sick_crash": "1 / 0"}, "0.2")
    write_distribution(site, "sick-twin", {"encoders": {"hubert": "sick_twin:H"}})

    listed = shell("list", "plugins", site=site)
    assert listed.status == 1
    for said in ("sick-crash 0.2", "ZeroDivisionError", "sick-twin 1.0", "stepp"):
        assert said in listed.out

    watched = ("--observer", "raises", "--observer", "wrong", "--observer", "boom")
    run = ("run", "--encoder", "fbank", "--task", "vtc", *QUICK, "--force", *watched)
    done = shell(*run, site=site, cwd=here)
    assert done.status == 0, done.err
    warnings = [line for line in done.err.splitlines() if line.startswith("bab: warning: ")]
    assert len(warnings) == 3
    assert sum("sick-watch 3.1" in line for line in warnings) == 2
    assert sum("sick-crash 0.2" in line for line in warnings) == 1
    assert "Run folder: " in done.out

    twin = shell("run", "--encoder", "sick-twin/hubert", "--task", "vtc", site=site, cwd=here)
    assert twin.status == 2
    assert "the encoder 'hubert' of sick-twin 1.0 (sick_twin:H) failed to load" in twin.err
    both = shell("info", "hubert", site=site, cwd=here)
    assert both.status == 0
    assert "the encoder 'hubert' is bab 0.1.0's; there is also 'sick-twin/hubert'" in both.err
