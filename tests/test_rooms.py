"""The plan of the house, held: which room may import which, no circles, no private doors, ceilings.

Imports are read as text with `ast`, also those inside functions and under TYPE_CHECKING.
"""

from __future__ import annotations

import ast
import functools
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import pytest
from places import ROOT

PACKAGE = ROOT / "bab"
# A room -> the rooms that it may import. What is in no room (bab/__init__, the public door, and
# bab/__main__) may import anything.
ARROWS: Mapping[str, set[str]] = {
    "core": set(),
    "audio": {"core"},
    "columns": {"core"},
    "checking": {"core", "columns"},
    "hub": {"core"},
    "starting": {"core"},
    "results": {"core"},
    "config": {"core"},
    "machine": {"core"},
    "data": {"core", "audio", "columns", "checking"},
    "targets": {"core", "starting", "audio", "checking", "data", "machine"},
    "features": {"core", "checking", "data", "machine"},
    "running": {
        "core", "starting", "columns", "checking", "data", "config", "results", "machine",
        "features",
    },
    "predicting": {
        "core", "starting", "audio", "checking", "data", "config", "results", "machine", "features",
        "running",
    },
    "explaining": {"core", "audio", "data", "config", "results", "running"},
    "pretraining": {
        "core", "starting", "audio", "checking", "data", "config", "targets", "machine",
    },
    "auditing": {"core", "audio", "data", "config", "results", "running"},
    "launching": {"core", "config", "starting"},
    "benching": {
        "core", "starting", "config", "features", "running", "results", "machine", "launching",
    },
    "exporting": {"core", "audio", "data", "config", "running", "results"},
    "api": {
        "core", "config", "running", "predicting", "pretraining", "benching", "auditing",
        "explaining", "results", "launching", "plugins",
    },
    "kit": {"core", "audio", "columns", "data", "results"},
    "scaffold": {"core"},
    "plugins": {"kit"},  # `bab` and `bab.kit` alone: see test_plugins_import_bab_and_nothing_deeper
    "testing": {"core", "audio", "checking", "data", "running"},
    "cli": {
        "core", "starting", "api", "audio", "checking", "data", "config", "running", "predicting",
        "targets", "pretraining", "launching", "benching", "exporting", "explaining", "auditing",
        "hub", "results", "plugins", "testing", "scaffold",
    },
}  # fmt: skip
# Of plugins.
FOLDERS = (
    "datasets", "encoders", "formats", "heads", "launchers", "models", "objectives", "observers",
    "tasks",
)  # fmt: skip
CORE_CEILING = 3000  # lines
CEILING = 420  # lines of any file
PLUGIN_CEILING = 200  # lines of a public plugin file
# Public plugin files over the ceiling, with the lines that they may have: this list only shrinks.
LONG_PLUGINS: Mapping[str, int] = {}


class Import(NamedTuple):
    """One name that a file takes from the package; name: "" = the module itself."""

    line: int
    module: str
    name: str


def files() -> list[Path]:
    found = sorted(PACKAGE.rglob("*.py"))
    assert len(found) > 100
    return found


def module_of(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_of(path): path for path in files()}


def imports(source: str, module: str = "bab.x") -> Iterator[Import]:
    """Every import of the package, wherever in the source it stands."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            for alias in node.names:
                if alias.name.split(".")[0] == "bab":
                    yield Import(node.lineno, alias.name, "")
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                above = module.split(".")[: -node.level]
                base = ".".join([*above, *([base] if base else [])])
            if base.split(".")[0] == "bab":
                for alias in node.names:
                    yield Import(node.lineno, base, alias.name)


def target(one: Import) -> str:
    """The module that an import reaches: `from bab.core import names` reaches bab.core.names."""
    inner = f"{one.module}.{one.name}"
    return inner if inner in MODULES else one.module


def room(module: str) -> str:
    """`bab.core.grid` -> "core"; "" for what is in no room."""
    parts = module.split(".")
    return parts[1] if len(parts) > 1 and parts[1] in ARROWS else ""


@functools.cache
def all_imports() -> list[tuple[str, Import]]:
    return [
        (module, one)
        for module, path in MODULES.items()
        for one in imports(path.read_text(encoding="utf-8"), module)
    ]


def test_every_folder_is_a_room_and_has_arrows():
    folders = {path.name for path in PACKAGE.iterdir() if (path / "__init__.py").exists()}
    assert folders == set(ARROWS)
    # A file beside the rooms would have no arrows.
    assert {path.name for path in PACKAGE.glob("*.py")} == {"__init__.py", "__main__.py"}


def test_arrows():
    wrong = [
        f"{module}:{one.line} imports {target(one)}: {room(module)} may not import {there}"
        for module, one in all_imports()
        if room(module) and (there := room(target(one))) not in (room(module), "")
        and there not in ARROWS[room(module)]
    ]  # fmt: skip
    assert not wrong, "\n".join(wrong)


def test_nobody_inside_goes_through_the_front_door():
    """`bab` itself is for plugins and callers: its own rooms name what they need where it is."""
    outside = ("plugins", "testing", "")
    wrong = [
        f"{module}:{one.line}"
        for module, one in all_imports()
        if one.module == "bab"
        and one.name != "__version__"
        and room(module) not in outside
        and module != "bab.kit"  # whose list stands there
    ]
    assert not wrong, wrong


def public(one: Import) -> bool:
    """Whether a plugin may import it: a name of the lists in bab/__init__.py."""
    import bab

    if one.module == "bab":
        return one.name in ("", "kit") or one.name in bab.__all__
    return one.module == "bab.kit" and (one.name == "" or one.name in bab.KIT)


def test_plugins_import_bab_and_nothing_deeper():
    wrong = []
    for module, one in all_imports():
        parts = module.split(".")
        if parts[:2] != ["bab", "plugins"] or len(parts) < 4:
            continue
        own = ".".join(parts[:3]) + ".shared"
        if not public(one) and not target(one).startswith(own):
            wrong.append(f"{module}:{one.line} imports {target(one)}: only bab, bab.kit and {own}")
    assert not wrong, "\n".join(wrong)


def test_the_example_plugin_imports_bab_and_nothing_deeper():
    sources = list((ROOT / "examples").rglob("*.py"))
    assert sources
    for path in sources:
        for one in imports(path.read_text(encoding="utf-8")):
            assert public(one) or one.module.startswith("bab.testing"), (path, one)


def test_what_the_kit_offers_is_there_and_seen_by_type_checkers():
    import bab
    import bab.kit

    tree = ast.parse((PACKAGE / "kit" / "__init__.py").read_text(encoding="utf-8"))
    typed = {
        alias.name: node.module
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("bab.kit.")
        for alias in node.names
    }
    assert typed == bab.KIT
    told = (ROOT / "docs" / "plugins.md").read_text(encoding="utf-8")
    modules = {path.stem for path in (PACKAGE / "kit").glob("*.py")}
    for name in bab.KIT:
        assert getattr(bab.kit, name) is not None
        assert name not in modules, "a module of this name would hide it"
        assert f"`{name}`" in told, f"docs/plugins.md doesn't say what bab.kit.{name} is for"


def test_what_bab_offers_is_there_and_seen_by_type_checkers():
    import bab

    tree = ast.parse((PACKAGE / "__init__.py").read_text(encoding="utf-8"))
    typed = {
        alias.asname or alias.name: (node.module, alias.name)
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("bab.")
        for alias in node.names
    }
    assert typed == bab._LAZY
    told = (ROOT / "docs" / "plugins.md").read_text(encoding="utf-8")
    for name in bab.__all__:
        assert getattr(bab, name) is not None
        assert f"`{name}`" in told, f"docs/plugins.md doesn't say what bab.{name} is for"


def test_no_underscore_name_crosses_a_folder():
    wrong = []
    for module, one in all_imports():
        private = [part for part in [*one.module.split("."), one.name] if re.match(r"_[^_]", part)]
        there = MODULES.get(target(one))
        if private and there is not None and there.parent != MODULES[module].parent:
            wrong.append(f"{module}:{one.line} imports {private[0]} of {one.module}")
    assert not wrong, "\n".join(wrong)


def circles(graph: Mapping[str, set[str]]) -> list[list[str]]:
    """The strongly connected components of more than one file (Tarjan 1972)."""
    index: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    found: list[list[str]] = []

    def visit(node: str) -> None:
        index[node] = low[node] = len(index)
        stack.append(node)
        for after in sorted(graph[node]):
            if after not in index:
                visit(after)
                low[node] = min(low[node], low[after])
            elif after in stack:
                low[node] = min(low[node], index[after])
        if low[node] == index[node]:
            group = []
            while not group or group[-1] != node:
                group.append(stack.pop())
            if len(group) > 1:
                found.append(sorted(group))

    for node in sorted(graph):
        if node not in index:
            visit(node)
    return found


def test_no_circle_between_files():
    graph: dict[str, set[str]] = {module: set() for module in MODULES}
    for module, one in all_imports():
        # The front door loads lazily what everybody asks it for: it is no file of the house.
        if module != "bab" and target(one) in MODULES and target(one) not in ("bab", module):
            graph[module].add(target(one))
    assert not circles(graph), circles(graph)


def test_the_readers_of_this_file_see_what_they_should():
    """The tests above, on planted faults."""
    source = """
from typing import TYPE_CHECKING
import bab.running.runner
if TYPE_CHECKING:
    from bab.config import run
def f():
    from bab.core.names import short, _private
from . import sibling
"""
    seen = {(one.module, one.name) for one in imports(source, "bab.data.check")}
    assert seen == {
        ("bab.running.runner", ""),
        ("bab.config", "run"),
        ("bab.core.names", "short"),
        ("bab.core.names", "_private"),
        ("bab.data", "sibling"),
    }
    assert target(Import(1, "bab.config", "run")) == "bab.config.run"
    assert room("bab.config.run") == "config" and room("bab") == "" and room("bab.__main__") == ""
    assert circles({"a": {"b"}, "b": {"c"}, "c": {"a"}, "d": {"a"}}) == [["a", "b", "c"]]
    assert circles({"a": {"b"}, "b": set()}) == []


def lines(path: Path) -> int:
    return len(path.read_text(encoding="utf-8").splitlines())


def test_core_stays_small_and_every_file_too():
    core = sum(lines(path) for path in (PACKAGE / "core").rglob("*.py"))
    assert core < CORE_CEILING
    long = {str(path): lines(path) for path in files() if lines(path) > CEILING}
    assert not long, long


def test_core_names_no_plugin():
    """None of the built-ins' names stands in quotes (`frames`, a head, is a word of its own)."""
    import tomllib

    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    groups = {k: v for k, v in project["entry-points"].items() if k.startswith("bab.")}
    names = {name for group in groups.values() for name in group} - {"frames"}
    assert {"hubert", "vtc", "rttm", "pooled"} <= names
    wrong = []
    for path in (PACKAGE / "core").rglob("*.py"):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        docs = {
            id(node.body[0].value)
            for node in ast.walk(tree)
            if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef))
            and node.body
            and isinstance(node.body[0], ast.Expr)
        }
        wrong += [
            f"{path.name}:{node.lineno}: {node.value!r}"
            for node in ast.walk(tree)
            if isinstance(node, ast.Constant) and id(node) not in docs and node.value in names
        ]
    assert not wrong, wrong


@pytest.mark.parametrize("folder", FOLDERS)
def test_a_listing_of_plugins_lists_components(folder):
    """Each public file of a plugin folder is named in an entry point; what is shared is apart."""
    import tomllib

    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    named = {
        value.partition(":")[0]
        for group, entries in project["entry-points"].items()
        if group.startswith("bab.")
        for value in entries.values()
    }
    here = PACKAGE / "plugins" / folder
    public = {module_of(path) for path in here.glob("*.py") if path.name != "__init__.py"}
    assert public and public <= named


def test_plugin_files_are_short_but_for_a_list_that_shrinks():
    public = [p for folder in FOLDERS for p in (PACKAGE / "plugins" / folder).glob("*.py")]
    long = {
        f"{path.parent.name}/{path.name}": lines(path)
        for path in public
        if lines(path) > PLUGIN_CEILING
    }
    assert set(long) <= set(LONG_PLUGINS), f"shorten {sorted(set(long) - set(LONG_PLUGINS))}"
    assert set(long) == set(LONG_PLUGINS), "take those that are short now off LONG_PLUGINS"
    for name, count in long.items():
        assert count <= LONG_PLUGINS[name], f"{name} has grown to {count} lines"


def test_architecture_prints_each_rooms_first_line():
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    printed = dict(re.findall(r"^\| `bab/(\w+)` \| (.+?) \|", text, re.MULTILINE))
    own = {}
    for name in ARROWS:
        tree = ast.parse((PACKAGE / name / "__init__.py").read_text(encoding="utf-8"))
        own[name] = (ast.get_docstring(tree) or "").partition("\n")[0]
    assert printed == own


def test_every_room_has_its_tests():
    rooms = set(ARROWS)
    for name in rooms:
        assert list((ROOT / "tests" / name).rglob("test_*.py")), name
    loose = {path.name for path in (ROOT / "tests").glob("test_*.py")}
    assert loose == {"test_rooms.py"}
