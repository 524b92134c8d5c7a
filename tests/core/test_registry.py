"""The registry: names from metadata, lazy loading, failures that stay with their owner."""

from __future__ import annotations

import re
import sys
import tomllib
from importlib.metadata import entry_points

import pytest
from places import ROOT

from bab.cli.listing import plugins
from bab.core import observers, registry
from bab.core.errors import BabError, PluginError
from bab.core.record import RunInfo

RUN = RunInfo("id", "folder", "vtc", "rttm", "fbank", 10, {})

HEAD = """
    from bab import Head, Options

    class Good(Head):
        level = ("frame",)

        def forward(self, x, lengths):
            return x
"""


def test_there_are_kinds():
    assert {"encoders", "heads", "tasks", "datasets", "formats"} <= set(registry.KINDS)


def test_builtin_components_are_those_of_the_packaging_metadata():
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["entry-points"]
    for kind in registry.KINDS:
        found = {
            e.name: e.value for e in registry.entries() if (e.kind, e.distribution) == (kind, "bab")
        }
        assert found == declared[f"bab.{kind}"]


def test_same_entries_as_the_standard_library_finds(install):
    install(
        "reg-std",
        {"heads": {"one": "reg_std:A", "two": "reg_std.deep:A.B"}, "tasks": {"x": "reg_std:T"}},
    )
    for kind in registry.KINDS:
        found = {
            (e.name, e.value, e.distribution, e.version)
            for e in registry.entries()
            if e.kind == kind
        }
        reference = {
            (e.name, e.value, e.dist.name, e.dist.version)
            for e in entry_points(group=f"bab.{kind}")
        }
        assert found == reference


def test_listing_imports_nobodys_code(install):
    install("reg-lazy", {"encoders": {"lazy": "reg_lazy:E"}}, {"reg_lazy": "raise RuntimeError"})
    assert registry.names("encoders")["lazy"].owner == "reg-lazy 1.0"
    assert "reg_lazy" not in sys.modules


def test_a_good_head_loads_and_only_it(install):
    install(
        "reg-good",
        {"heads": {"good": "reg_good:Good", "other": "reg_good_other:Good"}},
        {"reg_good": HEAD, "reg_good_other": HEAD},
    )
    assert registry.load("head", "good").__name__ == "Good"
    assert "reg_good_other" not in sys.modules


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("import not_there_at_all", "ModuleNotFoundError: No module named 'not_there_at_all'"),
        ("raise SystemExit('bye')", "SystemExit: bye"),
        ("def f(:", "SyntaxError"),
        ("x = 1", "AttributeError"),
        ("C = 3", "must be a class, and is int 3"),
        ("class C: pass", "must be a subclass of bab.Head"),
        (
            "from bab import Head\nclass C(Head):\n    class Options: pass",
            "its Options must be a subclass of bab.Options",
        ),
        (
            "from bab import Head, Options\nclass O(Options):\n    name: str = ''\n"
            "class C(Head):\n    Options = O",
            "reserved name ['name']",
        ),
    ],
)
def test_a_broken_plugin_names_its_distribution_and_harms_nobody(install, source, said, tmp_path):
    module = f"broken_{tmp_path.name}"
    install("reg-broken", {"heads": {"bad": f"{module}:C"}}, {module: source}, version="2.3")
    install("reg-fine", {"heads": {"fine": "reg_fine:Good"}}, {"reg_fine": HEAD})
    with pytest.raises(PluginError) as caught:
        registry.load("heads", "bad")
    assert "'bad' of reg-broken 2.3" in str(caught.value)
    assert said in str(caught.value)
    assert registry.load("heads", "fine")


def test_unknown_names_get_a_suggestion():
    with pytest.raises(PluginError, match="no encoder called 'hubrt': did you mean 'hubert'"):
        registry.load("encoders", "hubrt")
    with pytest.raises(PluginError, match="did you mean 'encoders'"):
        registry.names("encodrs")


def test_two_plugins_with_one_name_can_both_be_named_in_full(install):
    install("reg-a", {"heads": {"same": "reg_a:Good", "mine": "reg_a:Good"}}, {"reg_a": HEAD})
    install("reg_B", {"heads": {"same": "reg_b:Good"}}, {"reg_b": HEAD}, version="7")
    assert registry.load("heads", "mine") is registry.load("heads", "reg-a/mine")
    with pytest.raises(PluginError) as caught:
        registry.load("heads", "same")
    assert "'reg-a/same' (reg-a 1.0, reg_a:Good) and 'reg-b/same' (reg_B 7" in str(caught.value)
    assert "ninstall" not in str(caught.value)
    assert registry.load("heads", "reg-a/same").__module__ == "reg_a"
    assert registry.load("heads", "reg_B/same").__module__ == "reg_b"
    with pytest.raises(PluginError, match="did you mean 'reg-a/same'"):
        registry.load("heads", "reg-a/sane")


def test_a_built_ins_bare_name_is_its_own_and_a_warning_says_so(install, capsys):
    install("reg-rival", {"heads": {"pooled": "reg_rival:Good"}}, {"reg_rival": HEAD})
    assert registry.load("heads", "pooled").__module__ == "bab.plugins.heads.pooled"
    assert registry.load("heads", "bab/pooled").__module__ == "bab.plugins.heads.pooled"
    assert registry.load("heads", "reg-rival/pooled").__module__ == "reg_rival"
    assert registry.names("heads")["pooled"].built_in
    told = capsys.readouterr().err
    assert told.count("warning") == 1
    assert "the head 'pooled' is bab 0.1.0's; there is also 'reg-rival/pooled'" in told


def test_an_older_copy_further_down_the_path_is_no_rival(install):
    install("reg-copy", {"heads": {"copy": "reg_copy:Good"}}, {"reg_copy": HEAD}, version="1.0")
    install("reg_copy", {"heads": {"copy": "reg_copy:Good"}}, {"reg_copy": HEAD}, version="2.0")
    assert registry.load("heads", "copy")
    assert registry.names("heads")["copy"].version == "2.0"  # the first on the path


def test_damaged_metadata_of_others_stops_nothing(install):
    site = install("reg-ok", {"heads": {"ok": "reg_ok:Good"}}, {"reg_ok": HEAD})
    for name, content in (("garbage", b"\xff\xfe[bab."), ("syntax", b"[bab.heads]\nno equals\n[x")):
        (site / f"{name}-1.dist-info").mkdir()
        (site / f"{name}-1.dist-info" / "entry_points.txt").write_bytes(content)
    assert registry.load("heads", "ok")


def test_the_plugin_report_says_what_fails_and_why(install):
    install(
        "reg-mixed",
        {
            "heads": {"works": "reg_works:Good", "fails": "reg_fails:X"},
            "observers": {"w": "reg_w:W"},
        },
        {
            "reg_works": HEAD,
            "reg_fails": "1 / 0",
            "reg_w": """
                from bab import hookimpl
                class W:
                    @hookimpl
                    def bab_step(self, stepp): ...
            """,
        },
    )
    report = {p.distribution: p for p in plugins(check=True)}["reg-mixed"]
    assert [e.name for e in report.gives] == ["fails", "w", "works"]
    reasons = {entry.name: reason for entry, reason in report.failures}
    assert set(reasons) == {"fails", "w"}
    assert "ZeroDivisionError" in reasons["fails"]
    assert "stepp" in reasons["w"]


# ------------------------------------------------------------------------------- observers

WATCHER = """
    from bab import hookimpl

    class Good:
        seen = []

        @hookimpl
        def bab_step(self, step, values):
            self.seen.append((step, values["loss"]))

        @hookimpl
        def bab_run_end(self, error):
            self.seen.append(error)

    class Raises:
        @hookimpl
        def bab_step(self, run, step):
            raise RuntimeError(f"no more at {step}")

    class WrongArgument:
        @hookimpl
        def bab_step(self, run, steps): ...

    class WrongName:
        @hookimpl
        def bab_stepped(self, run): ...

    class Unmarked:
        def bab_step(self, run): ...

    class NeedsArguments:
        def __init__(self, place): ...

    class Lacks:
        def __init__(self):
            from bab import BabError
            raise BabError("install something")
"""


@pytest.fixture
def watched(install):
    names = ["Good", "Raises", "WrongArgument", "WrongName", "Unmarked", "NeedsArguments", "Lacks"]
    entries = {name.lower(): f"reg_watch:{name}" for name in names}
    install("reg-watch", {"observers": entries | {"crash": "reg_watch_crash:X"}},
            {"reg_watch": WATCHER, "reg_watch_crash": "1 / 0"})  # fmt: skip
    good = registry.load("observers", "good")
    good.seen.clear()
    return good.seen


def test_events_reach_observers_with_the_arguments_that_they_ask_for(watched):
    watchers = observers.observers(["good"])
    watchers.bab_run_start(run=RUN)
    watchers.bab_step(run=RUN, step=3, values={"loss": 0.5, "lr": 1.0})
    watchers.bab_run_end(run=RUN, record=None, error="stop")
    assert watched == [(3, 0.5), "stop"]


def test_every_event_of_the_specification_can_be_sent():
    from bab.core.observers import Events

    watchers = observers.Watchers()
    events = [name for name in vars(Events) if name.startswith("bab_")]
    assert {"bab_step", "bab_notice", "bab_run_end"} <= set(events)
    for name in events:
        assert callable(getattr(watchers, name))


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("wrongargument", "has a wrong hook: .*steps.*[^.]. Events: bab_run_start, bab_progress, "),
        ("wrongname", "has a wrong hook: .*bab_stepped.*Events: bab_run_start, .*, bab_run_end$"),
        ("unmarked", "of reg-watch 1.0: bab_step must be marked with @bab.hookimpl$"),
        ("needsarguments", "of reg-watch 1.0 can't start: TypeError: "),
        ("crash", "ZeroDivisionError"),
    ],
)
def test_a_broken_observer_is_reported_and_the_rest_go_on(watched, name, said):
    warnings: list[str] = []
    watchers = observers.observers([name, "good"], warnings.append)
    watchers.bab_step(run=RUN, step=1, values={"loss": 2.0})
    assert len(warnings) == 1
    assert "reg-watch 1.0" in warnings[0]
    assert re.search(said, warnings[0]), warnings[0]
    assert watchers.problems == warnings
    assert watched == [(1, 2.0)]


def test_an_observer_that_raises_is_reported_once_and_dropped(watched):
    warnings: list[str] = []
    watchers = observers.observers(["raises", "good"], warnings.append)
    for step in (1, 2, 3):
        watchers.bab_step(run=RUN, step=step, values={"loss": 0.0})
    assert len(warnings) == 1
    assert "'raises' of reg-watch 1.0 failed in bab_step" in warnings[0]
    assert "no more at 1" in warnings[0]
    assert [step for step, _ in watched] == [1, 2, 3]


def test_a_missing_dependency_or_a_typing_mistake_stops_before_the_run(watched):
    with pytest.raises(BabError, match="install something"):
        observers.observers(["lacks"])
    with pytest.raises(PluginError, match="did you mean 'progress'"):
        observers.observers(["progres"])


def test_warnings_go_to_standard_error(watched, capsys):
    observers.observers(["unmarked"])
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("bab: warning: the observer 'unmarked' of reg-watch 1.0")


def test_an_observer_cannot_end_a_run_nor_change_what_others_see(install):
    source = """
        from bab import hookimpl

        class Leaves:
            @hookimpl
            def bab_step(self, values):
                values["loss"] = -1.0
                raise SystemExit(0)

        class Sees:
            seen = []

            @hookimpl
            def bab_step(self, values):
                self.seen.append(values["loss"])
    """
    install("reg-exit", {"observers": {"leaves": "reg_exit:Leaves", "sees": "reg_exit:Sees"}},
            {"reg_exit": source})  # fmt: skip
    warnings: list[str] = []
    watchers = observers.observers(["leaves", "sees"], warnings.append)
    values = {"loss": 1.0}
    watchers.bab_step(run=RUN, step=1, values=values)
    assert values == {"loss": 1.0}
    assert registry.load("observers", "sees").seen == [1.0]
    assert "'leaves' of reg-exit 1.0 failed in bab_step and was dropped: SystemExit" in warnings[0]


def test_a_hook_fault_names_no_object_address(watched):
    warnings: list[str] = []
    observers.observers(["wrongname"], warnings.append)
    assert "bab_stepped" in warnings[0] and "0x" not in warnings[0]


def test_an_observer_that_ends_the_process_at_its_start_ends_nothing():
    class Leaves:
        def __init__(self) -> None:
            raise SystemExit(3)

    entry = registry.Entry("leaves", "observers", "m:Leaves", "mine", "1")
    with pytest.raises(PluginError, match=r"^the observer 'leaves' of mine 1 can't start: Sy.*: 3"):
        observers.registered(entry, Leaves)
