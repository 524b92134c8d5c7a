"""Hooks of mkdocs: the pages that are generated, the order of pages, links out of docs/.

`commands.md` is made of the commands' own help, `keys.md` and `components/` of what `bab info`
prints (`bab.cli.describe`), `notebook.md` of the executed notebook.
"""

from __future__ import annotations

import html
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
from mkdocs.structure.files import File

from bab.cli import cli
from bab.cli.describe import Described, described, keys_of, verbatim
from bab.config.pretrain import PretrainConfig
from bab.config.run import RunConfig
from bab.core import registry

ROOT = Path(__file__).resolve().parents[1]
GUIDES = {  # kind -> the page that says more of each, in a section of its name
    "encoders": "encoders.md",
    "tasks": "tasks.md",
    "datasets": "corpora.md",
    "formats": "formats.md",
    "models": "models.md",
    "launchers": "clusters.md",
}
NAMES = {"datasets": "corpora", "models": "readers of models"}
ORDER: list[tuple[str, list[str]]] = [
    ("Start here", ["index.md", "python.md", "notebook.md", "concepts.md"]),
    (
        "Guides",
        [
            "encoders.md", "tasks.md", "corpora.md", "formats.md", "bench.md", "audit.md",
            "predict.md", "summaries.md", "embed.md", "explain.md", "models.md", "export.md",
            "pretraining.md", "pretraining-data.md", "clusters.md", "speed.md", "scale.md",
            "five-systems.md",
        ],
    ),
    ("Protocols and metrics", ["protocols.md", "metrics.md", "intervals.md", "records.md"]),
    ("Results", ["results.md"]),
    ("Reference", ["commands.md", "keys.md"]),
    ("Components", []),
    ("Write a plugin", []),
    ("The code", ["architecture.md", "decisions.md"]),
]  # fmt: skip


# ------------------------------------------------------------------------------- mkdocs' events


def on_config(config: Any) -> Any:
    """The order of the pages: plugins' guides by their names, and none left out."""
    pages = sorted(p.relative_to(ROOT / "docs").as_posix() for p in (ROOT / "docs").rglob("*.md"))
    placed = {page for _, listed in ORDER for page in listed}
    nav = []
    for title, listed in ORDER:
        here = list(listed)
        if title == "Components":
            here = [f"components/{kind}.md" for kind in registry.KINDS]
        if title == "Write a plugin":
            here = [page for page in pages if page not in placed and page.startswith("plugin")]
        if title == "The code":  # and what nobody placed
            made = {"commands.md", "keys.md", "notebook.md"}
            here += [p for p in pages if p not in placed | made and not p.startswith("plugin")]
        nav.append({title: here})
    config.nav = nav
    return config


def on_files(files: Any, config: Any) -> Any:
    """Add the generated pages, and leave out nothing."""
    pages = {"commands.md": commands(), "keys.md": keys(), "notebook.md": notebook()}
    pages |= {f"components/{kind}.md": components(kind) for kind in registry.KINDS}
    for path, text in pages.items():
        files.append(File.generated(config, path, content=text))
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Any) -> str:
    """What a page names outside of docs/ is no page here: its path stands in its place."""
    text = markdown.replace("](../examples/notebooks/python.ipynb)", "](notebook.md)")
    return re.sub(r"\[([^\]]+)\]\((?:\.\./)+(?!\w+\.md)([^)]+)\)", _outside, text)


def _outside(match: re.Match[str]) -> str:
    text, path = match[1].strip("`"), match[2]
    return f"`{path}`" if text == path else f"{match[1]} (`{path}`)"


# ------------------------------------------------------------------------------- the pages


def commands() -> str:
    """Every command, as `--help` prints it."""
    parts = [
        "# Commands",
        "As `bab COMMAND --help` prints them. [keys.md](keys.md) has the keys of `--set`.",
    ]
    for name, command in _commands(cli, "bab"):
        context = click.Context(command, info_name=name, max_content_width=88, terminal_width=88)
        parts += [f"## {name}", f"```text\n{command.get_help(context).rstrip()}\n```"]
    return "\n\n".join(parts) + "\n"


def _commands(group: click.Group, name: str) -> Iterator[tuple[str, click.Command]]:
    for each in group.list_commands(click.Context(group)):
        command = group.get_command(click.Context(group), each)
        assert command is not None
        if isinstance(command, click.Group):
            yield from _commands(command, f"{name} {each}")
        else:
            yield f"{name} {each}", command


def keys() -> str:
    """Every key of a run and of a pretraining run."""
    parts = [
        "# Keys",
        "What `--set KEY=VALUE`, a recipe and `bab.toml` may hold. A component's own options stand "
        "beside its name (`encoder.KEY`, `task.KEY`): [components](components/encoders.md).",
    ]
    for title, schema in (("bab run", RunConfig), ("bab pretrain", PretrainConfig)):
        parts += [f"## {title}", _table(("key", "what it is"), list(keys_of(schema)))]
    return "\n\n".join(parts) + "\n"


def components(kind: str) -> str:
    """Every built-in component of a kind, as `bab info` shows it."""
    word = NAMES.get(kind, kind)
    parts = [
        f"# {word[0].upper()}{word[1:]}",
        f"As `bab info NAME` prints them (`bab list {kind}`).",
    ]
    for name in sorted(registry.names(kind)):
        if registry.find(kind, name).distribution == "bab":
            parts.append(_component(described(kind, name)))
    return "\n\n".join(parts) + "\n"


def _component(told: Described) -> str:
    parts = [f"## {told.name}"]
    for paragraph in told.paragraphs:
        plain = "\n".join(line.strip() for line in html.escape(paragraph, False).splitlines())
        parts.append(f"```text\n{paragraph}\n```" if verbatim(paragraph) else plain)
    if told.layout:
        parts += ["Layout, of the shipped sample:", "```text\n" + "\n".join(told.layout) + "\n```"]
    for title, rows in told.tables:
        parts.append(_table((title.replace("--", "\\-\\-"), ""), rows))
    guide = GUIDES.get(told.kind)
    if guide and (anchor := _anchor(guide, told.name)):
        parts.append(f"More: [{guide}](../{guide}#{anchor})")
    return "\n\n".join(parts)


def _anchor(guide: str, name: str) -> str:
    """The anchor of the guide's section that begins with the name; "" where there is none."""
    from markdown.extensions.toc import slugify

    text = (ROOT / "docs" / guide).read_text(encoding="utf-8")
    headings = re.findall(rf"^## ({re.escape(name)}\b.*)$", text, re.M)
    return str(slugify(headings[0], "-")) if headings else ""


def _table(head: tuple[str, str], rows: Any) -> str:
    lines = [f"| {head[0]} | {head[1]} |", "|---|---|"]
    for name, text in rows:
        text = html.escape(str(text).replace(str(ROOT) + "/", ""), False).replace("|", "\\|")
        text = re.sub(r"([*_\[\]])", r"\\\1", " ".join(text.split()))
        lines.append(f"| `{name}` | {text} |")
    return "\n".join(lines)


def notebook() -> str:
    """The executed notebook as a page."""
    book = json.loads((ROOT / "examples" / "notebooks" / "python.ipynb").read_text("utf-8"))
    parts = []
    for cell in book["cells"]:
        source = "".join(cell["source"])
        if cell["cell_type"] == "markdown":
            parts.append(source.replace("# bab from Python", "# A notebook", 1))
            continue
        parts.append(f"```python\n{source}\n```")
        for output in cell["outputs"]:
            data = output.get("data", {})
            if "text/markdown" in data:
                parts.append(
                    re.sub(r"^### (.*)$", r"**\1**", "".join(data["text/markdown"]), flags=re.M)
                )
            else:
                text = "".join(output.get("text", data.get("text/plain", "")))
                parts.append(f"```text\n{text.rstrip()}\n```")
    return "\n\n".join(parts) + "\n"
