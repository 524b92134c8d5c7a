"""The notebook runs, its outputs are those of a run; Python that pages show fits the functions."""

from __future__ import annotations

import ast
import contextlib
import inspect
import io
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from places import ROOT

import bab

BOOK = ROOT / "examples" / "notebooks" / "python.ipynb"
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


def cells() -> list[dict[str, Any]]:
    book = json.loads(BOOK.read_text(encoding="utf-8"))
    return [cell for cell in book["cells"] if cell["cell_type"] == "code"]


def blocks() -> Iterator[tuple[str, str]]:
    yield from ((f"notebook {n}", "".join(cell["source"])) for n, cell in enumerate(cells()))
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        for n, source in enumerate(re.findall(r"^```python\n(.*?)^```$", text, re.M | re.S)):
            yield f"{page.name} {n}", source
    for name in bab.__all__:
        lines = re.findall(r"^ *>>> (.*)$", inspect.getdoc(getattr(bab, name)) or "", re.M)
        if name in ("run", "bench", "table", "load", "predict", "evaluate", "embed"):
            assert lines, f"bab.{name} shows no example"
            yield f"help(bab.{name})", "\n".join(lines)


def calls(source: str) -> Iterator[tuple[str, ast.Call]]:
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            base = node.func.value
            if isinstance(base, ast.Name) and base.id == "bab":
                yield node.func.attr, node


@pytest.mark.parametrize(("where", "source"), list(blocks()))
def test_what_is_shown_fits_the_functions(where: str, source: str) -> None:
    for name, call in calls(source):
        target = getattr(bab, name)
        if any(isinstance(a, ast.Starred) for a in call.args) or not inspect.isfunction(target):
            continue
        given = {k.arg: k.value for k in call.keywords if k.arg is not None}
        try:
            inspect.signature(target).bind(*call.args, **given)
        except TypeError as error:
            pytest.fail(f"{where}: bab.{name}: {error}")


def test_that_test_sees_calls() -> None:
    assert [name for name, _ in calls("x = bab.run(1)\nbab.table()['y']\nother.run()")] == [
        "run",
        "table",
    ]


def test_the_notebook_was_executed_to_its_end() -> None:
    whole = BOOK.read_text(encoding="utf-8")
    assert len(whole) < 30_000 and str(ROOT) not in whole
    assert all(cell["execution_count"] for cell in cells())
    kinds = {output["output_type"] for cell in cells() for output in cell["outputs"]}
    assert kinds <= {"stream", "execute_result"}
    assert "did you mean 'hubert'?" in "".join(cells()[-1]["outputs"][0]["text"])


@pytest.mark.slow
def test_the_notebook_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Cell by cell, in one namespace, as a kernel does; what is printed is what it shows, but for
    figures, which machines and versions may round otherwise."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("BAB_CACHE", str(tmp_path / "cache"))
    space: dict[str, Any] = {}
    for cell in cells():
        tree = ast.parse("".join(cell["source"]))
        last = tree.body.pop() if isinstance(tree.body[-1], ast.Expr) else None
        out = io.StringIO()
        with contextlib.redirect_stdout(out):
            exec(compile(tree, "cell", "exec"), space)
            value = last and eval(compile(ast.Expression(last.value), "cell", "eval"), space)
        stored = ["".join(o["text"]) for o in cell["outputs"] if o.get("name") == "stdout"]
        assert words(out.getvalue()) == words("".join(stored))
        results = [o["data"]["text/plain"] for o in cell["outputs"] if "data" in o]
        if results:
            assert words(repr(value)) == words("".join(results[0])), cell["source"]
    assert len(space["frame"]) == 3 and space["bench"].failures == ()


def words(text: str) -> str:
    """Without numbers, run ids and labels: what any machine prints."""
    text = re.sub(r"[0-9a-f]{12}", "ID", text)
    text = re.sub(r"\b(KCHI|OCH|MAL|FEM|NaN)\b", "X", text)
    return " ".join(re.sub(r"\d+(\.\d+)?|X", "N", text).split())
