"""The pages for authors: each kind's example is what `bab new` writes, which test_new.py runs."""

from __future__ import annotations

import re
import sys

import pytest
from places import ROOT

from bab.core import registry
from bab.scaffold.package import TRIED, commands, names_of, source_of

PAGES = ROOT / "docs" / "plugins"
BLOCK = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("kind", TRIED)
def test_a_pages_example_is_what_bab_new_writes(kind):
    word = registry.KINDS[kind][0]
    text = (PAGES / f"{word}.md").read_text(encoding="utf-8")
    names = names_of(kind, f"my-{word}")
    assert BLOCK.findall(text)[0] == source_of(kind, names)
    for command in commands(kind, names, names.name)[:3]:
        assert f"\n{command}\n" in text, command
    assert f"plugins/{word}.md" in (ROOT / "docs" / "plugins.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("kind", TRIED)
def test_further_examples_run(kind, monkeypatch):
    text = (PAGES / f"{registry.KINDS[kind][0]}.md").read_text(encoding="utf-8")
    for source in BLOCK.findall(text)[1:]:
        scope = {"__name__": "a_page"}
        exec(source, scope)
        assert any(isinstance(value, type) for value in scope.values())


def test_every_kind_with_a_template_has_a_page():
    words = {registry.KINDS[kind][0] for kind in TRIED}
    assert {path.stem for path in PAGES.glob("*.md")} == words
    assert "a_page" not in sys.modules
