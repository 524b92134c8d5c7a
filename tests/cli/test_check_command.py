"""`bab check`: what it prints, what it exits with, and whose names it takes."""

from __future__ import annotations

import sys
import warnings

import forks
import pytest

from bab.cli import main

FAULTY = '''
import warnings

import bab

class Mean(bab.Head):
    """The mean, of the padding too."""

    level = ("clip",)

    def __init__(self, dim, classes, options):
        super().__init__(dim, classes, options)
        self.output = bab.load("head", "pooled")(dim, classes, bab.load("head", "pooled").Options())

    def forward(self, x, lengths):
        print("I talk")
        warnings.warn("I warn", stacklevel=1)
        return self.output(x.mean(1, keepdim=True), lengths * 0 + 1)

class Crash(bab.Corpus):
    """Makes nothing."""

    def __init__(self, root, options, permissions=bab.Permissions()):
        raise KeyError("rows")

    def clips(self, split=None):
        return []
'''


@pytest.fixture
def plugin(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "faulty.py").write_text(FAULTY)
    return ["--plugin", "faulty.py"]


def test_a_failure_says_what_came_and_what_to_do(plugin, capsys):
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        assert main(["check", "mean", *plugin]) == 1
    assert not [one for one in seen if "I warn" in str(one.message)]
    out = capsys.readouterr().out
    assert out.startswith("head mean of faulty.py ")
    assert "FAILED padding" in out and "here: " in out and "to do: replace the padding" in out
    assert "ok     shapes" in out and "-      linear       not applicable: it doesn't say" in out
    assert "1 failed" in out.splitlines()[-1] and "I talk" not in out
    assert max(map(len, out.splitlines())) <= 100


def test_it_folds_into_a_narrow_terminal(plugin, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "60")
    assert main(["check", "mean", *plugin]) == 1
    checks = capsys.readouterr().out.split("\n\n", 1)[1]
    assert max(map(len, checks.splitlines())) <= 60


def test_what_cannot_even_be_made_has_failed(plugin, tmp_path, capsys):
    assert main(["check", f"corpus/crash:{tmp_path}", *plugin]) == 1
    out = capsys.readouterr().out
    assert "FAILED loading" in out and "KeyError: 'rows' (faulty.py:24)" in out


@pytest.mark.parametrize("name", ["observer/jsonl", "jsonl", "bab/jsonl"])
def test_names(name, capsys):
    assert main(["check", name]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == "5 checks: 5 ok"


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["nothing"], "nothing is called 'nothing'"),
        (["ctc"], "say head/ctc or objective/ctc"),
        (["ctc", "--kind", "thing"], "there is no kind of component called 'thing'"),
        (["hubert:no-such-weights", "--offline"], "no-such-weights"),
        (["fbank", "--set", "encoder.mel=40"], "encoder.mels"),
        (["jsonl", "--set", "a=b"], "have no options here"),
        (["classify"], "--set task.labels"),
        (["hf", "--kind", "corpus"], "ships no sample"),
        (["fbank", "--corpus", "rttm"], "--corpus is for tasks"),
        (["rttm:/nowhere", "--kind", "corpus"], "/nowhere"),
    ],
)
def test_a_users_mistake_is_one_line(arguments, told, capsys):
    assert main(["check", *arguments]) == 2
    said = capsys.readouterr().err
    assert told in said and "Traceback" not in said


def test_without_pytest():
    script = "import sys; sys.modules['pytest'] = None; from bab.cli import main; sys.exit(main())"
    done = forks.run([sys.executable, "-c", script, "check", "head/frames"])
    assert done.returncode == 0, done.stderr
