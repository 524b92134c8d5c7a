"""One message that names the culprit, for whatever a stranger's code raises."""

from __future__ import annotations

import os
import subprocess
import sys

import forks
import pytest
import torch
from places import ROOT

from bab.checking.blame import blamed, naming
from bab.core import registry
from bab.core.errors import BabError, PluginError

SOURCE = """
    import torch
    import bab

    def deep(value):
        raise KeyError(value)

    class Crashes(bab.Head):
        level = ("clip",)

        def forward(self, x, lengths):
            deep("nothing here")

        def deeper(self):
            return None

    class Leaves(bab.Head):
        level = ("clip",)

        def forward(self, x, lengths):
            raise SystemExit(0)

    class Says(bab.Head):
        level = ("clip",)

        def forward(self, x, lengths):
            raise bab.ConfigError("this head wants frames")

    class Lists(bab.Corpus):
        def clips(self, split=None):
            yield from (1 / 0 for _ in range(3))

    class Fills(bab.Head):
        level = ("clip",)

        def forward(self, x, lengths):
            raise x("no memory is left")

    class Calls(bab.Objective):
        def counts(self, batch):
            return {}

        def forward(self, model, batch):
            return model(batch)
"""
FROM = " of blame-dist 3.1 (blame_mod:"


@pytest.fixture
def load(install):
    names = ("Crashes", "Leaves", "Says", "Fills")
    kinds = {"heads": {name.lower(): f"blame_mod:{name}" for name in names}}
    kinds |= {"datasets": {"lists": "blame_mod:Lists"}, "objectives": {"calls": "blame_mod:Calls"}}
    install("blame-dist", kinds, {"blame_mod": SOURCE}, version="3.1")
    return registry.load


@pytest.mark.parametrize("error", [MemoryError, torch.cuda.OutOfMemoryError])
def test_want_of_memory_is_no_plugins_fault(load, error):
    with pytest.raises(error, match=r"^no memory is left$"), naming():
        load("heads", "fills")(2, 2, None)(error, None)


def test_an_exception_names_kind_name_distribution_version_class_and_method(load):
    head = load("heads", "crashes")(2, 2, None)
    with pytest.raises(PluginError) as caught, naming():
        head(None, None)
    told = str(caught.value)
    assert told.startswith(f"the head 'crashes'{FROM}Crashes) failed in forward: KeyError:")
    assert told.endswith(
        "KeyError: 'nothing here'. Tell its authors (`bab --debug ...` shows the traceback), or do "
        "without it"
    )
    assert isinstance(caught.value.__cause__, KeyError)


def test_a_generator_and_the_innermost_of_two_plugins_are_named(load, tmp_path):
    corpus = load("datasets", "lists")(tmp_path, None)
    with (
        pytest.raises(PluginError, match=r"'lists' .* failed in clips: ZeroDivision"),
        naming(),
    ):
        list(corpus.clips())
    objective, head = load("objectives", "calls")(1, [], None), load("heads", "crashes")(1, 1, None)
    with pytest.raises(PluginError, match="the head 'crashes'"), naming():
        objective(lambda batch: head(None, None), None)


def test_system_exit_is_a_fault_and_a_chosen_error_is_not(load):
    with pytest.raises(PluginError, match="failed in forward: SystemExit: 0"), naming():
        load("heads", "leaves")(1, 1, None)(None, None)
    with pytest.raises(BabError, match=r"^this head wants frames$"), naming():
        load("heads", "says")(1, 1, None)(None, None)


def test_a_call_that_does_not_fit_names_the_method_that_was_called(load):
    head = load("heads", "crashes")(1, 1, None)
    with pytest.raises(PluginError, match=r"'crashes' .* failed in deeper: TypeError"), naming():
        head.deeper(2)


def test_what_is_not_a_strangers_stays_what_it_is(load):
    pooled = registry.load("heads", "pooled")
    with pytest.raises(Exception) as caught, naming():
        pooled("no", "no", None)
    assert not isinstance(caught.value, PluginError)
    plain = ValueError("ours")
    assert blamed(plain) is plain


# ------------------------------------------------------------------------------- command line

BROKEN = """
    import bab

    class Broken(bab.Encoder):
        weights = {"only": "the only ones"}
        default = "only"

        @classmethod
        def load(cls, weights, options, *, offline=False, trust_code=False):
            raise RuntimeError("no such drive")

        def forward(self, waves, mask=None, layers="all"):
            ...
"""


def bab(*arguments: str, site: str) -> subprocess.CompletedProcess[str]:
    path = os.pathsep.join([site, str(ROOT)])
    command = [sys.executable, "-m", "bab", *arguments]
    return forks.run(command, env=os.environ | {"PYTHONPATH": path})


def test_a_crash_is_one_line_and_debug_shows_the_traceback(install, tmp_path):
    site = str(install("cli-broken", {"encoders": {"broken": "cli_broken:Broken"}},
                       {"cli_broken": BROKEN}))  # fmt: skip
    run = ("run", "--encoder", "broken", "--task", "vtc", "--runs", str(tmp_path))
    done = bab(*run, site=site)
    assert done.returncode == 2 and "Traceback" not in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert (
        "the encoder 'broken' of cli-broken 1.0 (cli_broken:Broken) failed in load" in done.stderr
    )
    assert "RuntimeError: no such drive" in done.stderr
    for placed in (("--debug", *run), (*run, "--debug")):
        done = bab(*placed, site=site)
        assert done.returncode == 2
        assert "Traceback" in done.stderr and 'raise RuntimeError("no such drive")' in done.stderr


def test_list_plugins_says_failures_and_slow_imports_keeps_prints_out_and_exits_1(install):
    source = """
        import os, time
        print("hello from a plugin")
        os.write(1, b"and from below\\\\n")
        time.sleep(1.1)
        from bab import Head
        class Slow(Head):
            level = ("clip",)
            def forward(self, x, lengths): ...
        class Lacks(Head):
            level = ("clip",)
    """
    site = str(install("cli-slow", {"heads": {"slow": "cli_slow:Slow", "lacks": "cli_slow:Lacks"}},
                       {"cli_slow": source}))  # fmt: skip
    done = bab("list", "plugins", site=site)
    assert done.returncode == 1
    assert "hello" not in done.stdout + done.stderr and "below" not in done.stdout
    assert "  slow       lacks: 1." in done.stdout  # the first that imports the module
    assert "breaks its contract: it has no method forward of its own" in done.stdout
    assert bab("list", site=site).returncode == 0
