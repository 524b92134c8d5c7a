"""`bab new`: what it writes passes its suite and makes a row in a table, without an edit."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from bab.cli import main
from bab.scaffold.package import TRIED, kind_named, names_of, source_of, write_package

WORDS = ("encoder", "head", "objective", "task", "corpus", "observer", "format", "launcher",
         "model")  # fmt: skip
STEPS = ["--set", "train.steps=4", "--set", "train.eval_every=2", "--quiet", "--offline"]


def made(kind: str, folder: Path) -> Path:
    """A package, and beside it what installing it in place would leave."""
    names = names_of(kind_named(kind), f"my-{kind}")
    package = folder / names.name
    write_package(kind_named(kind), names, package)
    told = tomllib.loads((package / "pyproject.toml").read_text())["project"]
    info = folder / f"{names.module}-{told['version']}.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(
        f"Metadata-Version: 2.1\nName: {told['name']}\nVersion: {told['version']}\n"
    )
    points = "".join(
        f"[{group}]\n" + "".join(f"{key} = {value}\n" for key, value in entries.items())
        for group, entries in told["entry-points"].items()
    )
    (info / "entry_points.txt").write_text(points)
    return package


@pytest.fixture
def installed(tmp_path, monkeypatch):
    """Makes a package of a kind, which this process then finds as one that is installed."""

    def install(kind: str) -> Path:
        package = made(kind, tmp_path)
        for path in (package, tmp_path):
            monkeypatch.syspath_prepend(str(path))
        monkeypatch.delitem(sys.modules, package.name.replace("-", "_"), raising=False)
        return package

    monkeypatch.chdir(tmp_path)
    return install


def test_the_command_names_what_it_wrote(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["new", "encoder", "my-own"]) == 0
    said = capsys.readouterr().out
    there = {
        str(p.relative_to(tmp_path)) for p in Path("my-own").absolute().rglob("*") if p.is_file()
    }
    listed = {line.strip() for line in said.partition("It works")[0].splitlines() if line.strip()}
    assert listed == {name for name in there if "/wav/" not in name} and listed


@pytest.mark.parametrize("kind", WORDS)
def test_what_is_written_passes_its_suite(kind, installed, capsys):
    installed(kind)
    status, said = main(["check", f"{kind}/my-{kind}"]), capsys.readouterr()
    assert status == 0, said.out + said.err
    count = said.out.splitlines()[-1]  # "5 checks: 5 ok"
    assert "failed" not in count and " ok" in count


def test_from_new_to_a_row_in_a_table(installed, tmp_path, capsys):
    """An encoder; the other kinds, with pip, in the slow test below."""
    installed("encoder")
    assert main(["run", "--encoder", "my-encoder", "--task", "vtc", *STEPS]) == 0
    capsys.readouterr()
    assert main(["table"]) == 0
    assert "| my-encoder:random |" in capsys.readouterr().out
    (record,) = (tmp_path / "runs").rglob("record.json")
    assert json.loads(record.read_text())["versions"]["encoder plugin"] == (
        "my-encoder 0.1.0 my_encoder:MyEncoder"
    )


def test_one_source_file_that_imports_bab_alone(tmp_path):
    for kind in TRIED:
        tree = ast.parse(source_of(kind, names_of(kind, "my-own")))
        modules = {
            name
            for node in ast.walk(tree)
            if isinstance(node, (ast.Import, ast.ImportFrom))
            for name in (
                [node.module] if isinstance(node, ast.ImportFrom) else [node.names[0].name]
            )
        }
        ours = {name for name in modules if name.split(".")[0] == "bab"}
        assert ours <= {"bab", "bab.kit"} and "bab" in ours, kind


def test_the_frame_task_and_the_corpus_are_short():
    """120 and 57 lines they took when the built-ins' helpers could not be reached."""
    for kind in ("tasks", "datasets"):
        source = source_of(kind, names_of(kind, "my-own"))
        assert len([line for line in source.splitlines() if line.strip()]) <= 45


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["encoder", "hubert"], "'hubert' is taken"),
        (["encoder", "My Encoder"], "no name for a plugin"),
        (["encoder", "../up"], "no name for a plugin"),
        (["encoder", "class"], "means something to Python"),
        (["encodr", "mine"], "did you mean 'encoder'"),
        (["mdel", "mine"], "bab new writes no mdel: did you mean 'model'"),
        (["model", "segma"], "'segma' is taken: it is the model of bab "),
        (["encoder", "there"], "is there already"),
    ],
)
def test_mistakes_are_one_line(arguments, told, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "there").mkdir()
    assert main(["new", *arguments]) == 2
    said = capsys.readouterr().err
    assert told in said and said.count("\n") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["there"]


@pytest.mark.slow
@pytest.mark.parametrize("kind", WORDS)
def test_four_commands_with_pip(kind, tmp_path):
    """In an environment of its own, which sees the packages of this one."""
    environment = tmp_path / "environment"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", environment], check=True)
    python = environment / "bin" / "python"
    site = next(environment.glob("lib/python*/site-packages"))
    here = [path for path in sys.path if path]
    (site / "these.pth").write_text("\n".join(here) + "\n")
    package = tmp_path / f"my-{kind}"
    write_package(kind_named(kind), names_of(kind_named(kind), package.name), package)
    pip = [sys.executable, "-m", "pip", "--python", str(python), "install", "--quiet"]
    own = [*pip, "--no-build-isolation", "--no-deps", "--no-index", "-e", str(package)]
    subprocess.run(own, check=True)
    command = TRIED[kind_named(kind)].replace("NAME", package.name)
    tried = command.replace("MODULE", package.name.replace("-", "_")).split()
    if kind == "format":
        (tmp_path / "home.rttm").write_text("SPEAKER home 1 0.5 1.25 <NA> <NA> FEM <NA> <NA>\n")
        steps = [tried]
    elif kind == "model":
        steps = [tried, ["pytest", "-q", str(package)]]
    else:
        steps = [[*tried, *STEPS], ["bab", "table"]]
    for step in [["bab", "check", f"{kind}/{package.name}"], *steps]:
        done = subprocess.run(
            [python, "-m", *step], cwd=tmp_path, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, (step, done.stdout, done.stderr)
    if kind == "format":
        assert (tmp_path / "home.my_format").read_text() == "0.500\t1.750\tFEM\n"
    elif kind != "model":
        assert "vtc@" in done.stdout or "@" in done.stdout
    ran = subprocess.run([python, "-m", "pytest", "-q", package], capture_output=True, text=True)
    assert ran.returncode == 0, ran.stdout
