"""How commands begin and end: statuses, signals, plugins, lists and checks."""

from __future__ import annotations

import io
import os
import signal
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import click
import pytest

import bab.cli as commands
from bab.cli import main
from bab.cli.complete import named
from bab.core.errors import BabError, PluginError
from bab.core.registry import FILES

Capture = pytest.CaptureFixture[str]


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


# --- the whole command line ---------------------------------------------------------------------


def test_errors_and_their_tracebacks(replaced: Any, here: Path, capsys: Capture) -> None:
    def ended(error: BaseException, *more: str) -> tuple[int, str]:
        replaced("bab.results.table.table", error)
        (here / "runs").mkdir(exist_ok=True)
        return main(["table", *more]), capsys.readouterr().err

    assert ended(BabError("told")) == (2, "bab: error: told\n")
    status, said = ended(BabError("told"), "--debug")
    assert status == 2 and said.startswith("Traceback") and said.endswith("\nbab: error: told\n")
    assert ended(OSError(28, "No space left", "f")) == (2, "bab: error: f: No space left\n")
    assert ended(FileExistsError(17, "File exists", "f")) == (
        2,
        "bab: error: f: a file is there, where a folder is to be made: name another place\n",
    )
    remedy = ": see its permissions and its folder's, or name another place\n"
    whole = here / ".tmp-12-0f3a-x.csv.tmp"  # what is written before it gets its name
    assert ended(PermissionError(13, "Permission denied", str(whole))) == (
        2,
        f"bab: error: {here / 'x.csv'}: Permission denied{remedy}",
    )
    others = (".tmp-a-0f-x.tmp", ".tmp-1-0g-x.tmp", ".tmp-1-0f-x.tmp.csv", ".tmp-1--x.tmp", "x.tmp")
    for name, told in ((".tmp-1-0f-x-1.csv.tmp", "x-1.csv"), *zip(others, others, strict=True)):
        assert ended(OSError(28, "No space", name)) == (2, f"bab: error: {told}: No space\n")
    assert ended(OSError(30, "Read-only file system", "f")) == (
        2,
        f"bab: error: f: Read-only file system{remedy}",
    )
    assert ended(OSError("odd")) == (2, "bab: error: a file: odd\n")
    fault = (
        "bab: this is a fault of bab, not yours. Please report it with the lines above, the "
        f"command, and the output of `bab list plugins` (bab {commands.__version__})\n"
    )
    for more in ((), ("--debug",)):
        status, said = ended(ZeroDivisionError("x"), *more)
        assert status == 1 and said.endswith(f"ZeroDivisionError: x\n{fault}")
        assert said.count("Traceback") == 1
    assert ended(KeyboardInterrupt()) == (130, "\nbab: stopped\n")
    assert ended(click.Abort()) == (130, "bab: stopped\n")
    assert main(["table", "--", "--debug"]) == 2  # behind `--` it is a folder's name
    assert "--debug: there is no such folder" in capsys.readouterr().err


def test_an_error_of_a_strangers_code_is_told_as_his(
    replaced: Any, here: Path, capsys: Capture
) -> None:
    (here / "runs").mkdir()
    for error in (ZeroDivisionError("x"), SystemExit(7)):
        replaced("bab.results.table.table", error)
        calls = replaced("bab.checking.blame.blamed", lambda one: PluginError(f"p: {one!r}"))
        assert main(["table"]) == 2 and calls == [((error,), {})]
        assert capsys.readouterr().err == f"bab: error: p: {error!r}\n"


def test_what_a_command_returns_is_the_status(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []

    def called(**given: Any) -> Any:
        asked.append(given)
        return answers.pop(0)

    answers = [None, 3, "text", 0]
    monkeypatch.setattr(commands, "cli", SimpleNamespace(main=called))
    assert [main(["a", "--debug", "b"]) for _ in range(4)] == [0, 3, 0, 0]
    assert asked[0] == {
        "args": ["a", "b"], "prog_name": "bab", "standalone_mode": False, "obj": ["a", "b"]
    }  # fmt: skip
    monkeypatch.setattr(sys, "argv", ["bab", "list"])
    answers.append(None)
    assert main() == 0 and asked[-1]["args"] == ["list"]


def test_a_terminal_without_utf_8(
    replaced: Any, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    replaced("bab.results.table.table", "é ↑ ★ ±")
    (here / "runs").mkdir()
    bare = io.TextIOWrapper(io.BytesIO(), encoding="latin-1")
    monkeypatch.setattr("sys.stdout", bare)
    assert main(["table"]) == 0
    bare.seek(0)
    assert bare.read() == "é \\u2191 \\u2605 ±\n"


def test_a_closed_pipe(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def broken(**given: Any) -> None:
        raise BrokenPipeError

    with (tmp_path / "out").open("w") as out:
        monkeypatch.setattr(commands, "cli", SimpleNamespace(main=broken))
        monkeypatch.setattr(sys, "stdout", out)
        assert main([]) == 141
        os.write(out.fileno(), b"lost")  # goes nowhere, and is no error
    assert (tmp_path / "out").read_text() == ""


@pytest.mark.parametrize(
    ("there", "begun", "left"), [(True, True, True), (True, False, False), (False, True, False)]
)
def test_a_group_of_processes_is_left_in_order(
    monkeypatch: pytest.MonkeyPatch, there: bool, begun: bool, left: bool
) -> None:
    done: list[str] = []
    distributed = SimpleNamespace(
        is_available=lambda: there, is_initialized=lambda: begun,
        barrier=lambda: done.append("barrier"),
        destroy_process_group=lambda: done.append("destroyed"),
    )  # fmt: skip
    monkeypatch.setattr(commands, "cli", SimpleNamespace(main=lambda **given: None))
    monkeypatch.setitem(sys.modules, "torch", SimpleNamespace(distributed=distributed))
    assert main([]) == 0 and done == (["barrier", "destroyed"] if left else [])
    monkeypatch.delitem(sys.modules, "torch")
    assert main([]) == 0  # nothing was imported, nothing is to be left


def test_signals_end_a_command_and_are_then_as_before(monkeypatch: pytest.MonkeyPatch) -> None:
    numbers = (signal.SIGTERM, signal.SIGHUP)
    before = [signal.signal(number, signal.SIG_DFL) for number in numbers]
    try:
        for number in numbers:
            ends = SimpleNamespace(main=lambda **given: signal.raise_signal(number))  # noqa: B023
            monkeypatch.setattr(commands, "cli", ends)
            assert main([]) == 130
            assert signal.getsignal(number) == signal.SIG_DFL
        own = lambda number, frame: None  # noqa: E731
        signal.signal(signal.SIGTERM, own)
        seen: list[Any] = []
        looks = SimpleNamespace(main=lambda **given: seen.append(signal.getsignal(signal.SIGTERM)))
        monkeypatch.setattr(commands, "cli", looks)
        assert main([]) == 0 and seen == [own] == [signal.getsignal(signal.SIGTERM)]
    finally:
        for number, handler in zip(numbers, before, strict=True):
            signal.signal(number, handler)


def test_a_command_in_a_thread_has_no_signals(monkeypatch: pytest.MonkeyPatch) -> None:
    import threading

    monkeypatch.setattr(commands, "cli", SimpleNamespace(main=lambda **given: 5))
    done: list[int] = []
    thread = threading.Thread(target=lambda: done.append(main([])))
    thread.start()
    thread.join()
    assert done == [5]


# --- plugins of one file ------------------------------------------------------------------------

HEAD = 'import bab\n\nclass My{}(bab.Head):\n    """Own."""\n\n    level = ("clip",)\n\n    def forward(self, x, lengths): ...\n'  # noqa: E501


def test_plugins_hold_for_one_command(
    here: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    (here / "a.py").write_text(HEAD.format("One"))
    (here / "b.py").write_text(HEAD.format("Two"))
    (here / "bab.toml").write_text('plugin = ["a.py"]\n')
    monkeypatch.delenv(FILES, raising=False)
    assert main(["list", "heads", "--plugin", "b.py"]) == 0
    said = capsys.readouterr()
    assert "my-one" in said.out and "my-two" in said.out
    assert said.err == "plugin a.py, as bab.toml says\n" and FILES not in os.environ
    monkeypatch.setenv(FILES, str(here / "b.py"))
    assert main(["list", "heads", "--plugin", "a.py"]) == 0
    said = capsys.readouterr()
    assert "my-one" in said.out and "my-two" in said.out and said.err == ""
    assert os.environ[FILES] == str(here / "b.py")
    assert main(["table", "--plugin", "a.py"]) == 2  # it takes no components


# --- list ---------------------------------------------------------------------------------------


def test_a_list_of_what_is_installed(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    from bab.cli import listing
    from bab.core import registry

    entry = registry.Entry
    entries = (
        entry("ear", "encoders", "m:E", "bab", "1"), entry("ear", "encoders", "n:E", "other", "2"),
        entry("top", "heads", "n:H", "other", "2"), entry("twin", "heads", "n:T", "other", "2"),
        entry("twin", "heads", "o:T", "third-one", ""),
    )  # fmt: skip
    monkeypatch.setattr(registry, "entries", lambda: entries)
    assert main(["list"]) == 0
    out = capfd.readouterr().out
    assert out.startswith(
        "encoders\n  ear             bab 1\n  other/ear       other 2\nheads\n"
        "  top             other 2\n  other/twin      other 2\n  third-one/twin  third-one\n"
        "objectives\n  none\n"
    )
    assert out.endswith(
        "launchers\n  none\n\n`bab info NAME` explains one; `bab list plugins` says what fails to "
        "load.\n"
    )
    assert main(["list", "head"]) == 0
    assert capfd.readouterr().out.splitlines()[0] == "heads"
    told = [(p.distribution, p.version, [e.name for e in p.gives]) for p in listing.plugins()]
    monkeypatch.setattr(registry, "entries", lambda: entries[::-1])  # as they are found: by name
    assert [one.distribution for one in listing.plugins()] == ["bab", "other", "third-one"]
    monkeypatch.setattr(registry, "entries", lambda: entries)
    assert told == [
        ("bab", "1", ["ear"]), ("other", "2", ["ear", "top", "twin"]), ("third-one", "", ["twin"])
    ]  # fmt: skip

    def imported(one: Any) -> Any:
        print("talks")
        os.write(1, b"past Python")
        os.write(2, b"past Python")
        if one.distribution == "other":
            raise BabError(f"no {one.name}")

    clock = iter([0.0, 1.0, *[5.0] * 6, 10.0, 11.5])
    monkeypatch.setattr(registry, "imported", imported)
    monkeypatch.setattr(listing, "time", SimpleNamespace(perf_counter=lambda: next(clock)))
    monkeypatch.setenv("COLUMNS", "100")
    assert main(["list", "plugins"]) == 1
    said = capfd.readouterr()
    assert said.err == "" and said.out.splitlines() == [
        "bab 1", "  encoder:   ear",
        "other 2", "  encoder:   ear", "  head:      top, twin",
        "  failed     ear: no ear", "  failed     top: no top", "  failed     twin: no twin",
        "third-one", "  head:      twin", "  slow       twin: 1.5 s to import",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("kinds", "begun", "offered"),
    [(("heads",), "c", ["ctc"]), (("encoders", "heads"), "wav", ["wav2vec2", "wavlm"]),
     ((), "ct", ["ctc"]), (("heads",), "zz", [])],
)  # fmt: skip
def test_completion(kinds: tuple[str, ...], begun: str, offered: list[str]) -> None:
    complete: Any = named(*kinds)
    assert complete(None, None, begun) == offered


# --- check --------------------------------------------------------------------------------------


def test_checks_of_a_component(
    replaced: Any, monkeypatch: pytest.MonkeyPatch, capsys: Capture, here: Path
) -> None:
    from bab.testing.suite import Outcome

    outcomes = [
        Outcome("shapes", "ok", "A rule " + "that is long " * 12),
        Outcome("linear", "not applicable", "A rule.", "it doesn't say so"),
        Outcome("padding", "failed", "Another rule.", "1 came " + "and came " * 12, "do it " * 20),
        Outcome("batch", "failed", "A third rule.", "2 came"),
    ]
    calls = replaced("bab.cli.check._outcomes", lambda asked: iter(outcomes))
    monkeypatch.setenv("COLUMNS", "80")
    assert main(["check", "hubert:tiny", "--set", "encoder.dropout=0.5", "--offline"]) == 1
    ((asked,), _) = calls[0]
    assert (asked.kind, asked.name, asked.where, asked.offline) == (
        *("encoders", "hubert", "tiny", True),
    )
    assert asked.options["dropout"] == 0.5 and not asked.trust_code and asked.corpus is None
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("encoder hubert:tiny of bab ") and lines[1] == ""
    assert lines[2] == "ok     shapes       A rule" + " that is long" * 4
    assert " ".join(" ".join(lines).split()).count("that is long") == 12  # all of it is said
    while lines[3].startswith(" " * 20):
        del lines[3]
    assert lines[3] == "-      linear       not applicable: it doesn't say so"
    assert lines[4] == "FAILED padding      Another rule."
    assert lines[5].startswith(" " * 20 + "here: 1 came and came")
    assert lines[6].startswith(" " * 26 + "came") or lines[6].startswith(" " * 26 + "and")
    todo = next(i for i, line in enumerate(lines) if "to do: " in line)
    assert (
        lines[todo].startswith(" " * 20 + "to do: do it") and lines[todo + 1][:28] == " " * 27 + "d"
    )
    assert lines[-4:] == [
        "FAILED batch        A third rule.", " " * 20 + "here: 2 came", "",
        "4 checks: 1 ok, 2 failed, 1 not applicable",
    ]  # fmt: skip
    assert max(map(len, lines)) <= 80
    del outcomes[1:]
    assert main(["check", "hubert"]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == "1 check: 1 ok"


@pytest.mark.parametrize(
    ("error", "said"),
    [(PluginError("no such module"), "no such module"),
     (ZeroDivisionError("x"), "it raised ZeroDivisionError: x"),
     (SystemExit(3), "it raised SystemExit: 3")],
)  # fmt: skip
def test_what_cant_be_loaded_is_one_failed_check(
    replaced: Any, here: Path, capsys: Capture, error: BaseException, said: str
) -> None:
    calls = replaced("bab.testing.subjects.suite_of", error)
    assert main(["check", "hubert"]) == 1 and len(calls) == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines[2].startswith("FAILED loading      It can be imported and made, and has the ")
    assert any(line.startswith(" " * 20 + f"here: {said}") for line in lines)
    assert lines[-1] == "1 check: 1 failed"
    replaced("bab.testing.subjects.suite_of", BabError("no weights"))
    assert main(["check", "hubert"]) == 2
    assert capsys.readouterr().err == "bab: error: no weights\n"


@pytest.mark.parametrize("columns", ["100", "300"])
def test_lines_are_of_a_hundred_characters_at_most(
    replaced: Any, monkeypatch: pytest.MonkeyPatch, capsys: Capture, here: Path, columns: str
) -> None:
    from bab.core import registry
    from bab.testing.suite import Outcome

    monkeypatch.setenv("COLUMNS", columns)
    rules = ["a" * 40 + " " + "b" * size for size in (39, 40)]
    replaced("bab.cli.check._outcomes", lambda asked: (Outcome("x", "ok", r) for r in rules))
    assert main(["check", "hubert"]) == 0
    start = f"ok     {'x':<12} "
    assert capsys.readouterr().out.splitlines()[2:4] == [
        start + rules[0], start + "a" * 40
    ]  # fmt: skip
    names = "a" * 40, "b" * 45, "c" * 40, "d" * 46
    entries = [
        registry.Entry(name, "encoders", "m:E", owner, "1")
        for owner, two in (("one", names[:2]), ("two", names[2:]))
        for name in two
    ]
    monkeypatch.setattr(registry, "entries", lambda: entries)
    monkeypatch.setattr(registry, "imported", lambda entry: None)
    assert main(["list", "plugins"]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "one 1", f"  encoder:   {names[0]}, {names[1]}",
        "two 1", f"  encoder:   {names[2]},", " " * 13 + names[3],
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("words", "kind", "name"),
    [(["hubert"], "encoders", "hubert"), (["encoder/hubert"], "encoders", "hubert"),
     (["encoders/hubert"], "encoders", "hubert"), (["bab/hubert"], "encoders", "bab/hubert"),
     (["dataset/rttm"], "datasets", "rttm"), (["ctc", "--kind", "head"], "heads", "ctc"),
     (["slurm", "--set", "launcher.cpus=2"], "launchers", "slurm")],
)  # fmt: skip
def test_what_is_checked(replaced: Any, here: Path, words: list[str], kind: str, name: str) -> None:
    calls = replaced("bab.cli.check._outcomes", lambda asked: iter(()))
    assert main(["check", *words]) == 0
    ((asked,), _) = calls[0]
    assert (asked.kind, asked.name) == (kind, name)
    assert kind != "launchers" or asked.options["cpus"] == 2


@pytest.mark.parametrize(
    ("words", "said"),
    [(["slurm", "--set", "encoder.x=1"], "--set encoder.x=1: a launcher's options are launcher."),
     (["jsonl", "--set", "a=1"], "--set a=1: observers have no options here"),
     (["hubrt"], "nothing is called 'hubrt': did you mean 'hubert'"),
     (["encoder"], "nothing is called 'encoder'"), (["heads"], "nothing is called 'heads'"),
     (["rttm"], "several components are called 'rttm': say corpus/rttm or format/rttm")],
)  # fmt: skip
def test_slips_of_a_check(here: Path, capsys: Capture, words: list[str], said: str) -> None:
    assert main(["check", *words]) == 2 and said in capsys.readouterr().err


def test_a_task_is_checked_on_other_clips(replaced: Any, here: Path) -> None:
    calls = replaced("bab.cli.check._outcomes", lambda asked: iter(()))
    assert main(["check", "vtc", "--corpus", "rttm", "--trust-code"]) == 0
    ((asked,), _) = calls[0]
    assert asked.corpus.name == "rttm" and asked.trust_code and not asked.offline
