"""Names of components among several distributions; what is read of their metadata; by table."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import bab
from bab.core import registry
from bab.core.errors import PluginError
from bab.core.registry import Entry


def entry(name: str, distribution: str, kind: str = "encoders") -> Entry:
    return Entry(name, kind, f"{distribution.replace('-', '_')}:C", distribution, "1")


OWN, ONE, TWO = entry("fbank", "bab"), entry("fbank", "my-One"), entry("odd", "one")
THREE, HEAD = entry("odd", "two"), entry("odd", "one", "heads")


@pytest.fixture
def offered(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What is offered; the warnings that are given."""
    said: list[str] = []
    monkeypatch.setattr(registry, "entries", lambda: (ONE, TWO, THREE, HEAD, OWN))
    monkeypatch.setattr(registry, "warn", said.append)
    return said


@pytest.mark.parametrize(
    ("kind", "name", "expected"),
    [
        ("encoders", "my-one/fbank", ONE), ("encoder", "My_One/fbank", ONE),
        ("encoders", "one/odd", TWO),
        ("encoders", "two/odd", THREE), ("heads", "odd", HEAD), ("encoders", "bab/fbank", OWN),
    ],
)  # fmt: skip
def test_a_name_finds_one_component(
    offered: list[str], kind: str, name: str, expected: Entry
) -> None:
    assert registry.find(kind, name) == expected and offered == []


def test_a_built_ins_name_is_its_own(offered: list[str]) -> None:
    assert registry.find("encoders", "fbank") == OWN
    assert offered == [
        "the encoder 'fbank' is bab 1's; there is also 'my-one/fbank' (my-One 1, my_One:C)"
    ]


@pytest.mark.parametrize(
    ("kind", "name", "said"),
    [
        ("encoders", "odd", "two plugins offer the encoder 'odd': name one in full: 'one/odd' (one "
         "1, one:C) and 'two/odd' (two 1, two:C)"),
        ("encoders", "none", "there is no encoder called 'none': known: fbank, odd"),
        ("heads", "fbank", "there is no head called 'fbank': known: odd"),
        ("encoders", "three/odd",
         "there is no encoder called 'three/odd': did you mean 'two/odd' or 'one/odd'?"),
        ("tasks", "x", "there is no task called 'x': known: none"),
    ],
)  # fmt: skip
def test_a_name_that_finds_none_or_two(offered: list[str], kind: str, name: str, said: str) -> None:
    with pytest.raises(PluginError) as error:
        registry.find(kind, name)
    assert str(error.value) == said


def test_names_of_a_kind_and_who_has_them(offered: list[str]) -> None:
    assert registry.names("encoders") == {"fbank": OWN, "odd": TWO}
    assert registry.names("head") == {"odd": HEAD} and registry.names("corpora") == {}
    assert registry.known("encoders", "odd") and registry.known("encoders", "my-one/fbank")
    assert not registry.known("heads", "fbank") and not registry.known("encoders", "one/none")


TEXT = """
[console_scripts]
bab = x:y
[bab.encoders]
# odd = none:C
mine = package.module:Class  # a comment
 other=p:C
no sign
  [bab.tasks ]
t = p.q:T = 1
[bab.nonsense]
x = p:C
[other.encoders]
y = p:C
"""


def test_lines_of_entry_points() -> None:
    rows = [(e.kind, e.name, e.value) for e in registry._parse(TEXT, "mine", "1")]
    assert rows == [
        ("encoders", "mine", "package.module:Class"), ("encoders", "other", "p:C"),
        ("tasks", "t", "p.q:T = 1"),
    ]  # fmt: skip
    assert {(e.distribution, e.version) for e in registry._parse(TEXT, "mine", "1")} == {
        ("mine", "1")
    }


@pytest.mark.parametrize(
    ("texts", "named"),
    [
        ({"METADATA": "Name: one\nVersion: 2\n\nName: two"}, ("one", "2")),
        ({"METADATA": "", "PKG-INFO": "Version: 3\nName:  x \n"}, ("x", "3")),
        ({"METADATA": "Name: one\n"}, ("one", "")),
        ({"METADATA": "Name:  \nVersion: 1\n"}, ("unnamed", "1")),
        ({"METADATA": "Version: 1\n"}, ("/where/it/is", "")),
        ({}, ("/where/it/is", "")),
    ],
)
def test_name_and_version_of_a_distribution(texts: dict[str, str], named: tuple[str, str]) -> None:
    made: Any = SimpleNamespace(read_text=texts.get, _path=Path("/where/it/is"))
    assert registry._named(made) == named


def test_files_of_plugins_come_first(monkeypatch: pytest.MonkeyPatch) -> None:
    import os

    monkeypatch.setattr(registry, "_scan", lambda path: (OWN,))
    monkeypatch.setattr(bab, "read_plugin", lambda path: (entry(path, "x.py"),), raising=False)
    monkeypatch.setenv(registry.FILES, os.pathsep.join(["b.py", "", "a.py"]))
    assert [e.name for e in registry.entries()] == ["b.py", "a.py", "fbank"]
    monkeypatch.delenv(registry.FILES)
    assert registry.entries() == (OWN,)


def test_distributions_that_offer_nothing_or_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    def made(name: str, text: Any, version: str = "1") -> Any:
        def read(file: str) -> str | None:
            if isinstance(text, Exception):
                raise text
            return text if file == "entry_points.txt" else f"Name: {name}\nVersion: {version}\n"

        return SimpleNamespace(read_text=read)

    lines = "[bab.encoders]\n{} = p:C\n"
    there = [
        made("b_x", lines.format("second")), made("none", None), made("other", "[x]\na = b:C\n"),
        made("bad", OSError("gone")), made("worse", UnicodeDecodeError("utf-8", b"", 0, 1, "x")),
        made("B.X", lines.format("older"), "0"), made("a", lines.format("first")),
    ]  # fmt: skip
    monkeypatch.setattr("importlib.metadata.distributions", lambda path: there)
    got = registry._scan.__wrapped__(("x",))
    assert [(e.name, e.distribution) for e in got] == [("first", "a"), ("second", "b_x")]


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ("module_of_this_test:Fine", ""),
        ("module_of_this_test:Fine [extra]", ""),
        ("module_of_this_test:Outer.Inner", ""),
        ("module_of_this_test:gone", "failed to load: AttributeError: "),
        ("module_of_this_test_not:X", "failed to load: ModuleNotFoundError: "),
        ("module_of_this_test:value", "breaks its contract: it must be a class, and is int 5"),
        ("module_of_this_test:Other", "breaks its contract: it must be a subclass of bab.Head"),
        ("module_of_this_test:NoOptions",
         "breaks its contract: its Options must be a subclass of bab.Options"),
        ("module_of_this_test:Reserved",
         "breaks its contract: its Options use the reserved name ['name', 'root']"),
    ],
)  # fmt: skip
def test_a_class_that_an_entry_names(
    value: str, said: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import sys

    class Fine(bab.Head):
        level = ("clip",)

        def forward(self, x: Any, lengths: Any) -> Any:
            return x

    class NoOptions(Fine):
        Options = int  # type: ignore[assignment]

    class Reserved(Fine):
        class Options(bab.Options):
            root: int = 1
            name: int = 2

    held = SimpleNamespace(
        Fine=Fine, NoOptions=NoOptions, Reserved=Reserved, Other=int, value=5,
        Outer=SimpleNamespace(Inner=Fine),
    )  # fmt: skip
    monkeypatch.setitem(sys.modules, "module_of_this_test", held)  # type: ignore[arg-type]
    monkeypatch.setattr(registry, "_loaded", {})
    one = Entry("x", "heads", value, "mine", "1")
    if not said:
        assert registry.imported(one) is Fine and registry.owner(Fine) == one
        return
    with pytest.raises(PluginError) as error:
        registry.imported(one)
    told = str(error.value)
    assert told.startswith(f"the head 'x' of mine 1 ({value}) {said}")
    advice = "Update that distribution, or tell its authors; everything that doesn't use it still"
    assert told.endswith(f". {advice} works") is ("failed" in said)
    assert registry.owner(Fine) is None
