"""Jobs submitted, lost, stopped and found again, under a launcher of processes of this machine."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from bab.core.errors import BabError, InterruptedRunError
from bab.launching import code, job
from bab.launching.asked import Launch
from bab.launching.fleet import Ended, Fleet
from bab.launching.jobs import Wanted, folder_of, run_jobs
from bab.plugins.launchers.local import Local

SAVES = (
    "import signal, sys, time; signal.signal(signal.SIGTERM, lambda *_: sys.exit(130));"
    "open('begun', 'a').write('x'); time.sleep(60)"
)


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def fleet(folder: Path) -> Fleet:
    return Fleet(Local(Local.Options()), "local", folder / "jobs")


def wait_for(done: Any) -> Any:
    deadline = time.monotonic() + 30
    while not (value := done()):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    return value


def ended(jobs: Fleet) -> Ended:
    (one,) = wait_for(jobs.look)
    return one


def test_what_a_job_came_to_stands_in_its_file(here: Path) -> None:
    jobs = fleet(here)
    jobs.submit("bad", ["-c", "print('so'); raise SystemExit(3)"])
    one = ended(jobs)
    assert (one.name, one.end and one.end.status) == ("bad", 3) and "status 3" in one.why
    assert not one.end.interrupted and one.end.note == ""
    assert jobs.tail("bad") == "so" and not jobs.jobs
    assert json.loads(jobs.state.read_text())["jobs"] == {}


def test_one_that_is_stopped_saves_and_says_so(here: Path) -> None:
    jobs = fleet(here)
    jobs.submit("long", ["-c", SAVES])
    wait_for(lambda: (here / "begun").exists())
    jobs.launcher.cancel(jobs.ids)
    one = ended(jobs)
    assert one.end is not None and one.end.interrupted and one.end.status == 130


def test_one_whose_process_is_killed_leaves_its_status(here: Path) -> None:
    jobs = fleet(here)
    jobs.submit("long", ["-c", SAVES])
    wait_for(lambda: (here / "begun").exists())
    wrapper = psutil.Process(int(jobs.ids[0].partition("-")[0]))
    wrapper.children()[0].kill()
    one = ended(jobs)
    assert one.end is not None and one.end.status == -9 and "out of memory?" in one.why


def test_one_that_is_lost_is_told_of(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bab.launching.fleet._LATE", 0.2)
    jobs = fleet(here)
    jobs.submit("long", ["-c", SAVES])
    wait_for(lambda: (here / "begun").exists())
    wrapper = psutil.Process(int(jobs.ids[0].partition("-")[0]))
    for process in (wrapper, *wrapper.children()):  # the wrapper would write down how it ended
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
    one = ended(jobs)
    assert one.end is None and one.why == "it was lost"


def test_another_process_finds_the_jobs(here: Path) -> None:
    first = fleet(here)
    first.submit("long", ["-c", SAVES])
    again = fleet(here)
    assert again.ids == first.ids and again.made == 1
    with pytest.raises(BabError, match=r"launcher 'local' may still.*--launcher local"):
        Fleet(Local(Local.Options()), "other", here / "jobs")
    wait_for(lambda: (here / "begun").exists())
    again.cancel()
    assert not again.jobs
    Fleet(Local(Local.Options()), "other", here / "jobs")  # nothing is at work any more


def test_code_that_changed_is_said(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plugin = here / "mine.py"
    plugin.write_text("A = 1\n")
    monkeypatch.setenv("BAB_PLUGIN_FILES", str(plugin))
    monkeypatch.setattr("bab.launching.code.registry.entries", lambda: ())
    before = code.code()
    assert set(before) == {"bab", "mine.py"} and not code.changed(before, code.code())
    plugin.write_text("A = 2\n")
    told = code.changed(before, code.code())
    assert told.startswith("the code changed between submission and start: mine.py (")
    assert "bab (" not in told


def test_a_job_says_that_its_code_changed(here: Path) -> None:
    jobs = fleet(here)
    jobs._code = {**code.code(), "bab": "0.0 beef"}
    jobs.submit("j", ["-c", "import os; print(os.environ['BAB_CODE_CHANGED'])"])
    one = ended(jobs)
    assert one.end is not None and "bab (0.0 beef → " in one.end.note
    assert one.end.note in jobs.tail("j").splitlines()


def test_several_processes_are_torchruns() -> None:
    asked = {"name": "p", "argv": ["-m", "bab", "pretrain"], "nodes": 1, "processes": 1}
    assert job.command(asked, {}) == [sys.executable, "-m", "bab", "pretrain"]
    one = job.command({**asked, "processes": 2}, {})
    assert one[1:4] == ["-m", "torch.distributed.run", "--standalone"]
    assert "--nproc-per-node=2" in one and one[-3:] == ["-m", "bab", "pretrain"]
    two = job.command({**asked, "nodes": 2}, {"BAB_HEAD": "n7", "BAB_NODE": "1"})
    assert any(text.startswith("--rdzv-endpoint=n7:29") for text in two)
    assert "--rdzv-conf=is_host=false" in two and "--nnodes=2" in two


# --- commands that are known beforehand


def done_by(here: Path, commands: dict[str, list[str]], said: list[str], **launch: Any) -> bool:
    wanted = Wanted(commands, 2)
    folder = folder_of(here / "state", ["x"])
    asked = Launch("local", **launch)
    return run_jobs(asked, folder, wanted, lambda *told: None, said.append)


def test_jobs_are_done_and_their_state_goes(here: Path) -> None:
    said: list[str] = []
    code = "import sys; open('out', 'a').write('x'); sys.exit(%d)"
    commands = {"a": ["-c", code % 0], "b": ["-c", code % 1], "c": ["-c", code % 0]}
    assert done_by(here, commands, said)
    assert (here / "out").read_text() == "xxx" and len(said) == 3
    assert not (here / "state").exists()


def test_a_mistake_ends_the_others(here: Path) -> None:
    commands = {"long": ["-c", SAVES], "bad": ["-c", "print('why'); raise SystemExit(2)"]}
    with pytest.raises(BabError, match=r"bad failed: status 2(.|\n)*bad.log:\nwhy"):
        done_by(here, commands, [])
    assert not fleet_processes(here)


def test_a_job_that_is_lost_again_and_again_is_an_error(here: Path) -> None:
    said: list[str] = []
    code = "import os; open('tries', 'a').write('x'); os.kill(os.getpid(), 9)"
    with pytest.raises(BabError, match="killed by signal 9"):
        done_by(here, {"sick": ["-c", code]}, said)
    assert (here / "tries").read_text() == "xxx" and sum("begins again" in s for s in said) == 2


def once(here: Path) -> Callable[[float], None]:
    """Ctrl-C, once a job is at work."""
    sleep, pressed = time.sleep, []

    def press(seconds: float) -> None:
        if (here / "begun").exists() and not pressed:
            pressed.append(1)
            raise KeyboardInterrupt
        sleep(seconds)

    return press


def test_ctrl_c_leaves_jobs_and_the_next_call_has_them(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    code = "import time; open('begun', 'a').write('x'); time.sleep(2)"
    commands = {"a": ["-c", code]}

    pressed = once(here)
    monkeypatch.setattr("bab.launching.jobs.time.sleep", pressed)
    with pytest.raises(InterruptedRunError, match=r"1 job left at work under local \(\d+-"):
        done_by(here, commands, [], on_interrupt="leave")
    monkeypatch.undo()
    monkeypatch.chdir(here)
    said: list[str] = []
    assert done_by(here, commands, said)
    assert (here / "begun").read_text() == "x" and said[0].startswith("1 job of an earlier call")


def test_ctrl_c_cancels_where_that_is_asked(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pressed = once(here)
    with monkeypatch.context() as patched:
        patched.setattr("bab.launching.jobs.time.sleep", pressed)
        with pytest.raises(InterruptedRunError, match="1 job cancelled; what was finished stands"):
            done_by(here, {"a": ["-c", SAVES]}, [], on_interrupt="cancel")
    assert not fleet_processes(here)


def test_jobs_left_at_work_can_be_cancelled(here: Path) -> None:
    left = Fleet(Local(Local.Options()), "local", folder_of(here / "state", ["x"]))
    left.submit("a", ["-c", SAVES])
    wait_for(lambda: (here / "begun").exists())
    said: list[str] = []
    assert not done_by(here, {"a": ["-c", SAVES]}, said, cancel=True)
    assert said == ["1 job cancelled"] and not fleet_processes(here)


def fleet_processes(here: Path) -> list[int]:
    """Jobs that still run, of any state below a folder."""
    time.sleep(0.2)
    mine = []
    for process in psutil.process_iter(["pid", "cmdline"]):
        line = " ".join(process.info["cmdline"] or ())
        if "bab.launching.job" in line and str(here) in line:
            mine.append(process.info["pid"])
    return mine


def test_a_leash_ends_a_job_with_whoever_holds_it(here: Path) -> None:
    import subprocess

    file = here / "j.json"
    asked = {"name": "j", "argv": ["-c", SAVES], "nodes": 1, "processes": 1, "code": code.code()}
    file.write_text(json.dumps(asked))
    process = subprocess.Popen(
        [sys.executable, "-m", "bab.launching.job", str(file)],
        stdin=subprocess.PIPE,
        env={**os.environ, "BAB_LEASH": "1"},
    )
    wait_for(lambda: (here / "begun").exists())
    assert process.stdin is not None
    process.stdin.close()  # as when its actor dies
    assert process.wait(30) in (130, 128 + signal.SIGTERM)
