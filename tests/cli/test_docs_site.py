"""The documentation builds without a network and reads without one; nothing is undocumented or
untested: no command, option, component, option of a component, key or event."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import click
import pytest
from places import ROOT, TESTS
from test_shown_commands import commands

from bab.cli import cli
from bab.config.pretrain import PretrainConfig
from bab.config.run import RunConfig
from bab.core import registry
from bab.core.observers import Events

PAGES = "\n".join(p.read_text(encoding="utf-8") for p in sorted((ROOT / "docs").rglob("*.md")))
WORDS = {
    word
    for p in sorted(TESTS.rglob("*.py"))
    if p != Path(__file__)
    for word in re.findall(r"[\w-]+", p.read_text(encoding="utf-8"))
}
BUILT_IN = [
    (kind, name)
    for kind in registry.KINDS
    for name in registry.names(kind)
    if registry.find(kind, name).distribution == "bab"
]


def in_tests(word: str) -> bool:
    return word in WORDS


def options(model: Any) -> list[tuple[str, Any]]:
    """The fields of a model, those of models inside it in their place."""
    fields: list[tuple[str, Any]] = []
    for name, field in model.model_fields.items():
        inner = getattr(field.annotation, "model_fields", None)
        fields += options(field.annotation) if inner else [(name, field)]
    return fields


def test_every_command_and_option_is_documented_and_tested() -> None:
    wrong = []
    for name, command in commands(cli):
        wrong += [] if command.help and "Examples:" in command.help else [f"{name}: no examples"]
        wrong += [] if f"{name}" in PAGES else [f"{name}: in no page"]
        for param in command.params:
            longest = max(param.opts, key=len)
            if isinstance(param, click.Option):
                wrong += [] if param.help else [f"{name} {longest}: no help"]
                wrong += [] if in_tests(longest) else [f"{name} {longest}: in no test"]
    assert not wrong, "\n".join(wrong)


def test_every_component_and_its_options_are_documented_and_tested() -> None:
    wrong = []
    for kind, name in BUILT_IN:
        cls = registry.load(kind, name)
        wrong += [] if cls.__doc__ else [f"{kind} {name}: no docstring"]
        wrong += [] if in_tests(name) else [f"{kind} {name}: in no test"]
        wrong += [] if re.search(rf"`{name}\b|## {name}\b", PAGES) else [f"{name}: in no page"]
        for key, field in (
            options(getattr(cls, "Options", RunConfig)) if kind != "observers" else ()
        ):
            wrong += [] if field.description else [f"{name}.{key}: no description"]
            wrong += [] if in_tests(key) else [f"{name}.{key}: in no test"]
    assert not wrong, "\n".join(wrong)


def test_every_key_is_documented_and_tested() -> None:
    wrong = []
    for schema in (RunConfig, PretrainConfig):
        for key, field in options(schema):
            wrong += [] if in_tests(key) else [f"{key}: in no test"]
            wrong += [] if field.description or key in ("name", "options") else [f"{key}: no words"]
    assert not wrong, "\n".join(wrong)


def test_every_event_is_documented_and_tested() -> None:
    for event in (name for name in vars(Events) if name.startswith("bab_")):
        assert f"`{event}`" in PAGES and in_tests(event), event


@pytest.mark.parametrize("name", ["rttm", "childproject", "vtc"])
def test_the_main_use_has_its_sections(name: str) -> None:
    assert re.search(rf"^## {name}\b", PAGES, re.M)


def test_the_site_builds_strictly_and_reads_without_a_network(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("material")
    main = pytest.importorskip("mkdocs.__main__")
    monkeypatch.chdir(ROOT)
    # As `python -m mkdocs` does; what the pages show is imported by now.
    main.cli(["build", "--strict", "-q", "-d", str(tmp_path / "site")], standalone_mode=False)
    pages = sorted((tmp_path / "site").rglob("*.html"))
    names = {path.relative_to(tmp_path / "site").as_posix() for path in pages}
    assert {"index.html", "commands.html", "keys.html", "components/encoders.html"} <= names
    fetched = re.compile(
        r'<(?:script|img|iframe|source)[^>]*\ssrc="(?:https?:)?//|@import|url\(http'
    )
    styles = re.compile(r'<link[^>]*rel="(?:stylesheet|preconnect|preload|icon)"[^>]*href="https?:')
    for path in pages:
        text = path.read_text(encoding="utf-8")
        assert not fetched.search(text) and not styles.search(text), path
    encoders = (tmp_path / "site/components/encoders.html").read_text(encoding="utf-8")
    assert "20 ms; a frame depends on 25 ms of audio" in encoders and "Apache-2.0" in encoders
    shown = (tmp_path / "site/commands.html").read_text(encoding="utf-8")
    for name, _ in commands(cli):
        assert f">{name}<" in shown, name
    for kind, name in BUILT_IN:
        page = (tmp_path / f"site/components/{kind}.html").read_text(encoding="utf-8")
        assert f'<h2 id="{name}"' in page, (kind, name)
    assert str(ROOT) not in "".join(p.read_text(encoding="utf-8") for p in pages)
