"""Files of text are UTF-8 wherever bab runs: on Windows, and where no locale is set, Python would
take another encoding for them."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import bab

PACKAGE = Path(bab.__file__).parent
# What has such a method and is no path.
OTHERS = {"bab", "distribution", "form", "launch", "os", "recording", "requests", "self.launch",
          "there"}  # fmt: skip
ASCII = {
    ("benching/worker.py", "Path('/proc/self/clear_refs').write_text('5')"),
    ("cli/listing.py", "Path(os.devnull).open('w')"),
}


def silent(text: str) -> Iterator[str]:
    """The calls that open a file as text and don't say in which encoding."""
    for node in ast.walk(ast.parse(text)):
        if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute):
            continue
        if node.func.attr not in ("open", "read_text", "write_text"):
            continue
        if ast.unparse(node.func.value) in OTHERS:
            continue
        given = [ast.unparse(one) for one in node.args]
        binary = node.func.attr == "open" and any(len(g) < 6 and "b" in g for g in given)
        told = "'ascii'" in given or any(one.arg == "encoding" for one in node.keywords)
        if not (binary or told):
            yield ast.unparse(node)


def test_every_text_says_its_encoding() -> None:
    told = {
        (str(path.relative_to(PACKAGE).as_posix()), call)
        for path in PACKAGE.rglob("*.py")
        for call in silent(path.read_text(encoding="utf-8"))
    }
    assert told - ASCII == set()


def test_that_test_sees_calls() -> None:
    assert list(silent("p.open()\np.open('rb')\np.open('w', encoding='utf-8')\nos.open(p)")) == [
        "p.open()"
    ]
    assert list(silent("p.read_text('ascii')\np.write_text(x, newline='')")) == [
        "p.write_text(x, newline='')"
    ]
