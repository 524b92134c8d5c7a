"""Plugins of one file: what they hold, who asks for them, and that their content counts."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path

import pytest

import bab
from bab.cli import main
from bab.core import registry

SOURCE = '''
import bab
from bab.plugins.encoders.fbank import Fbank, FbankOptions

class _Base(Fbank):
    def __init__(self, options):
        super().__init__(options)
        self.resolved = "my"

class My(_Base):
    """Filter banks, {gain} times as loud."""

    def forward(self, waves, mask=None, layers="all"):
        louder = bab.Waves(waves.samples * {gain}, waves.lengths)
        return super().forward(louder, mask, layers)

class Other(bab.Head):
    """Called otherwise."""

    name = "mine"
    level = ("clip",)

    def forward(self, x, lengths):
        return x.mean(1)

class LoudListener:
    """Hears."""

    @bab.hookimpl
    def bab_run_end(self, run, record, error):
        print("heard")
'''
STEPS = ["--set", "train.steps=2", "--set", "train.eval_every=2", "--quiet", "--offline"]


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv(registry.FILES, raising=False)
    (tmp_path / "my.py").write_text(SOURCE.format(gain=1.0))
    return tmp_path


def test_a_file_is_known_by_its_whole_path(here, monkeypatch):
    """Workers may begin in another folder."""
    (here / "below").mkdir()
    monkeypatch.chdir(here / "below")
    monkeypatch.setenv(registry.FILES, "")  # and is put back
    bab.use_plugin("../my.py")
    bab.use_plugin(here / "my.py")
    assert os.environ[registry.FILES] == str(here.resolve() / "my.py")


def test_what_a_file_holds(here, capsys):
    entries = bab.read_plugin(str(here / "my.py"))
    assert [(e.kind, e.name) for e in entries] == [
        ("encoders", "my"),
        ("heads", "mine"),
        ("observers", "loud-listener"),
    ]
    digest = hashlib.sha256((here / "my.py").read_bytes()).hexdigest()
    assert {(e.distribution, e.version) for e in entries} == {("my.py", digest)}


def test_only_for_the_command_that_names_it(here, capsys):
    assert main(["list", "encoders", "--plugin", "my.py"]) == 0
    assert "my.py" in capsys.readouterr().out
    assert main(["list", "encoders"]) == 0
    assert "my.py" not in capsys.readouterr().out
    assert registry.FILES not in os.environ


def test_bab_toml_may_name_it_and_says_so(here, capsys):
    (here / "bab.toml").write_text('plugin = ["my.py"]\n')
    assert main(["info", "my"]) == 0
    told = capsys.readouterr()
    assert "1.0 times as loud" in told.out and "as bab.toml says" in told.err


@pytest.mark.usefixtures("forked_workers")
def test_a_run_in_two_processes_and_the_files_content_in_id_and_record(here, capsys):
    command = ["run", "--plugin", "my.py", "--encoder", "my", "--task", "vtc", *STEPS]
    assert main(command) == 0
    (here / "my.py").write_text(SOURCE.format(gain=0.01))
    assert main(command) == 0
    records = [json.loads(path.read_text()) for path in (here / "runs").rglob("record.json")]
    assert len(records) == 2, "another file is another run"
    digest = hashlib.sha256((here / "my.py").read_bytes()).hexdigest()
    told = {record["versions"]["encoder plugin"] for record in records}
    assert len(told) == 2 and any(f"my.py {digest} " in one for one in told)
    (folder,) = [
        path.parent for path in (here / "runs").rglob("record.json") if digest in path.read_text()
    ]
    wav = Path(bab.load("datasets", "rttm").sample) / "wav"
    predict = ["predict", str(folder), str(wav), "--out", "p", "--jobs", "2", "--quiet"]
    capsys.readouterr()
    assert main(predict) == 2
    assert "there is no encoder called 'my'" in capsys.readouterr().err
    assert main([*predict, "--plugin", "my.py"]) == 0, "workers have it too"
    assert len(list((here / "p").glob("*.rttm"))) == 10


HOLDS = (
    "A component is a class that derives from bab.Encoder or another contract (docs/plugins.md), "
    "called by its attribute `name`"
)


@pytest.mark.parametrize(
    ("source", "told"),
    [
        ("import bab\n1 / 0\n", "line 2, failed to load: ZeroDivisionError"),
        ("def f(:\n", "line 1, failed to load: SyntaxError"),
        ("raise SystemExit(3)\n", "failed to load: SystemExit"),
        ("import bab\n", f"bad.py: it holds no component. {HOLDS}\n"),
        (
            'import bab\nclass A(bab.Head):\n    name = "x"\nclass B(bab.Head):\n    name = "x"\n',
            f"bad.py: two of its classes are called 'x'. {HOLDS}\n",
        ),
    ],
)
def test_a_broken_file_is_one_line(source, told, here, capsys):
    (here / "bad.py").write_text(source)
    assert main(["list", "--plugin", "bad.py"]) == 2
    said = capsys.readouterr().err
    assert told in said and "Traceback" not in said


@pytest.mark.parametrize(
    ("arguments", "toml", "told"),
    [
        (["--plugin", "none.py"], "", "no such Python file"),
        (["--plugin", "."], "", "no such Python file"),
        ([], "plugin = 3", 'bab.toml: plugin: expected "FILE.py" or ["A.py", "B.py"], not 3'),
        ([], "plugin = [3]", 'bab.toml: plugin: expected "FILE.py" or ["A.py", "B.py"], not [3]'),
        ([], 'plugin = "none.py"', "no such Python file"),
    ],
)
def test_mistakes(arguments, toml, told, here, capsys):
    (here / "bab.toml").write_text(toml)
    assert main(["list", *arguments]) == 2
    assert told in capsys.readouterr().err


def test_a_recipe_can_not_name_one(here, capsys):
    (here / "r.yaml").write_text("encoder: fbank\ntask: vtc\nplugin: my.py\n")
    assert main(["run", "r.yaml"]) == 2
    assert "plugin" in capsys.readouterr().err
