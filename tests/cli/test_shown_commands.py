"""Every command line that README, docs and `--help` show parses, and names what there is.

Nothing is run: options go through click's own parser, components and `--set` keys through the
configuration's.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pytest

from bab.cli import cli
from bab.config.files import assignment
from bab.config.pretrain import PretrainConfig
from bab.config.resolve import corpus_config, encoder_config, pretrain_config, run_config
from bab.config.run import RunConfig
from bab.core import registry
from bab.core.errors import BabError
from bab.core.names import COMPONENTS

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
# What stands for something else.
PLACEHOLDERS = {"NAME", "ENCODER", "CORPUS", "mfcc", "KEY"}
MINE = re.compile(r"my(-|$)")  # what the pages for authors call a plugin of one's own
SHOWN = re.compile(r"`(bab [^`]+)`|^(?:\$ |[ \t]*)(bab (?:--?)?[a-z](?:\\\n|[^\n])*)$", re.M)
SET = re.compile(r"--set ([a-z_]+(?:\.[A-Za-z_]+)*)=")
FREE = {"from", "to", "labels", "launcher"}  # a format's own, a launcher's own


def commands(group: click.Group, name: str = "bab") -> Iterator[tuple[str, click.Command]]:
    for each in group.list_commands(click.Context(group)):
        command = group.get_command(click.Context(group), each)
        assert command is not None
        if isinstance(command, click.Group):
            yield from commands(command, f"{name} {each}")
        else:
            yield f"{name} {each}", command


def lines_of(text: str) -> Iterator[str]:
    for match in SHOWN.finditer(text):
        whole = (match[1] or match[2]).replace("\\\n", " ")
        yield " ".join(whole.split("  #")[0].split())


def shown() -> list[tuple[str, str]]:
    pages = [(path.name, path.read_text(encoding="utf-8")) for path in PAGES]
    helps = [(f"{name} --help", command.help or "") for name, command in commands(cli)]
    return sorted({(where, line) for where, text in pages + helps for line in lines_of(text)})


def parse(line: str) -> tuple[str, dict[str, Any]]:
    """(the command's name, its options). Raises click.ClickException, where click does."""
    words, command, name = shlex.split(line, comments=True)[1:], cli, ""
    context = click.Context(command, info_name="bab")
    while isinstance(command, click.Group) and words and not words[0].startswith("-"):
        inner = command.get_command(context, words[0])
        if inner is None:
            raise click.UsageError(f"no command {words[0]}")
        name, command = words.pop(0), inner
        context = click.Context(command, info_name=name, parent=context)
    words = [word for word in words if word != "..."]
    options, rest, _ = command.make_parser(context).parse_args(words)
    if rest:
        raise click.UsageError(f"left over: {rest}")
    for param in command.params:
        given = options.get(str(param.name))
        if isinstance(param.type, click.Choice) and given is not None:
            param.type.convert(given, param, context)
    return name, options


def explained(name: str, options: dict[str, Any]) -> None:
    """Raises BabError: a component, or a key of --set, that isn't there."""
    given = {key: value for key, value in options.items() if value not in (None, [], ())}
    sets = list(given.pop("sets", ()))
    keys = {key for key in given if key in COMPONENTS and isinstance(given[key], str)}
    asked = {key: given[key] for key in keys}
    names = {value.partition(":")[0] for value in asked.values()}
    if names & PLACEHOLDERS or any(MINE.match(one) for one in names):
        return
    if name == "pretrain" and {"encoder", "objective", "corpus"} <= keys:
        pretrain_config(None, asked, sets)
    elif name == "run" and {"encoder", "task"} <= keys:
        more = {key: given[key] for key in ("mode", "test_corpus") if key in given}
        run_config(None, {**asked, **more}, sets)
    elif name == "check" and keys == {"corpus"}:
        corpus_config(asked["corpus"], [text for text in sets if text.startswith("corpus.")])
    elif name == "embed" and "encoder" in keys:
        own = [text for text in sets if text.startswith("encoder.")]
        for one in asked["encoder"].split("+"):
            encoder_config(one, own)


def test_there_are_command_lines_to_look_at() -> None:
    listed = shown()
    assert len(listed) > 100 and {"README.md", "bab run --help"} <= {where for where, _ in listed}


@pytest.mark.parametrize(("where", "line"), shown())
def test_what_is_shown_can_be_typed(
    where: str, line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    if re.search(r"--(set|encoder|observer)$", line):  # a line broken by a page
        return
    try:
        explained(*parse(line))
    except (click.ClickException, BabError) as error:
        pytest.fail(f"{where}: {line}\n{error}")


def known_keys() -> set[str]:
    """Every key of --set: of runs and pretraining, and each component's options."""
    keys: set[str] = set()
    for schema in (RunConfig, PretrainConfig):
        for name, field in schema.model_fields.items():
            inner = getattr(field.annotation, "model_fields", {})
            keys |= {name, *(f"{name}.{key}" for key in inner)}
    for section, (kind, _) in COMPONENTS.items():
        for name in registry.names(kind):
            options = registry.load(kind, name).Options.model_fields
            keys |= {f"{section}.{key}" for key in options}
    return keys


def test_every_key_that_is_advised_exists() -> None:
    """In pages, and in the messages of the source: `--set KEY=...`."""
    known, wrong = known_keys(), []
    for path in [*PAGES, *sorted((ROOT / "bab").rglob("*.py"))]:
        for key in SET.findall(path.read_text(encoding="utf-8")):
            section, _, rest = key.partition(".")
            if section in FREE or rest.partition(".")[0] in PLACEHOLDERS:
                continue
            if not any(key == one or key.startswith(f"{one}.") for one in known):
                wrong.append(f"{path.relative_to(ROOT)}: --set {key}=")
    assert wrong == []


@pytest.mark.parametrize("key", ["corpus.donateacry", "corpus.esc50"])
def test_an_empty_value_means_none(key: str) -> None:
    config = corpus_config("babycry", [f"{key}="])
    assert config.options[key.partition(".")[2]] == ""
    assert assignment(f"{key}=") == {"corpus": {key.partition(".")[2]: None}}


def test_an_empty_value_means_none_everywhere() -> None:
    asked = {"encoder": "fbank", "task": "classify"}
    labelled = ["task.labels=[reason]", "corpus.labels="]
    assert run_config(None, {**asked, "corpus": "manifest"}, labelled).corpus.options["labels"] in (
        None,
        (),
        [],
    )
    assert run_config(None, {**asked, "corpus": "kaldi"}, ["task.labels=[x]", "view.window="])
    with pytest.raises(BabError, match=r"corpus\.reason"):
        corpus_config("donateacry", ["corpus.reason="])
