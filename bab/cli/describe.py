"""Components and options as text, for `bab info`. Imports pydantic, and the component's code."""

from __future__ import annotations

import inspect
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from textwrap import dedent
from types import NoneType
from typing import Any, Literal, get_args, get_origin

import click
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from bab.cli.layout import layout
from bab.config.run import RunConfig
from bab.core import registry
from bab.core.names import COMPONENTS

Row = tuple[str, str]  # a term, and what it means

_WIDTH = 100
# Where a kind's options stand; a corpus has two places, and the first is the usual one.
_SECTIONS = {kind: section for section, (kind, _) in reversed([*COMPONENTS.items()])}
_BOUNDS = {"gt": ">", "ge": ">=", "lt": "<", "le": "<="}


@dataclass(frozen=True, slots=True)
class Described:
    """All that is told of a component, by `bab info` and by the documentation's pages."""

    kind: str
    name: str
    word: str  # what one of its kind is called
    owner: str
    place: str  # module:Class
    paragraphs: tuple[str, ...]
    layout: tuple[str, ...]  # of a corpus: how it lies on disk, line by line
    tables: tuple[tuple[str, tuple[Row, ...]], ...]  # title, and its rows


def described(kind: str, name: str) -> Described:
    """What there is to say of one component.

    Raises:
        PluginError: it can't be loaded.
    """
    entry, cls = registry.find(kind, name), registry.load(kind, name)
    tables = [("Facts", tuple(_facts(kind, cls)))]
    if kind == "encoders":
        default = f" (default: {cls.default})" if cls.default else ""
        tables.append((f"Weights, {name}:WEIGHTS{default}", tuple(cls.weights.items())))
    if kind in _SECTIONS:
        section = _SECTIONS[kind]
        title = f"Options (--set {section}.KEY=VALUE)"
        tables.append((title, tuple(options(cls.Options)) or (("none", ""),)))
    if kind == "formats":
        title = "Options (bab convert --set from.KEY=VALUE)"
        tables.append((title, tuple(options(cls.Options)) or (("none", ""),)))
    if kind == "launchers":
        title = "Options (--set launcher.KEY=VALUE, or [launcher] in bab.toml)"
        tables.append((title, tuple(options(cls.Options)) or (("none", ""),)))
    return Described(
        kind,
        name,
        registry.KINDS[kind][0],
        entry.owner,
        entry.value,
        tuple(_paragraphs(kind, cls)),
        tuple(layout(cls.sample)) if kind == "datasets" and cls.sample else (),
        tuple((title, rows) for title, rows in tables if rows),
    )


def verbatim(paragraph: str) -> bool:
    """Whether a paragraph is a tree or a table, whose lines stay as they are."""
    return any(line.startswith("  ") for line in paragraph.splitlines())


def _paragraphs(kind: str, cls: Any) -> Iterator[str]:
    """The class's docstring; of a task its protocol, of a corpus its layout, as its file says."""
    yield from inspect.cleandoc(cls.__doc__ or "").split("\n\n")
    module = inspect.getmodule(cls)
    if kind in ("tasks", "datasets") and module is not None and module.__doc__:
        whole = [part for part in module.__doc__.strip("\n").split("\n\n") if part.strip()]
        first = whole[0].partition(": ")  # "Corpus `rttm`: recordings, ..." says what it is
        rest = first[2].strip() if first[0].startswith(("Corpus", "Task")) else whole[0]
        rest = rest[:1].upper() + rest[1:]
        yield from ("\n".join(line.rstrip() for line in p.splitlines()) for p in (rest, *whole[1:]))


def describe(kind: str, name: str) -> str:
    """What `bab info NAME` prints of one component.

    Raises:
        PluginError: it can't be loaded.
    """
    told = described(kind, name)
    form = click.HelpFormatter(width=_width())
    form.write_text(f"{name}: {told.word} of {told.owner} ({told.place})")
    for paragraph in told.paragraphs:
        form.write_paragraph()
        form.indent()
        if verbatim(paragraph):
            form.write("".join(f"  {line}\n" for line in dedent(paragraph).splitlines()))
        else:
            form.write_text(paragraph)
        form.dedent()
    if told.layout:
        form.write("\nLayout, of the shipped sample (docs/corpora.md says what may differ):\n")
        form.write("".join(f"  {line}".rstrip() + "\n" for line in told.layout))
    for title, rows in told.tables:
        _table(form, title, list(rows))
    return form.getvalue().rstrip()


def _width() -> int:
    """The terminal's, as far as lines stay readable."""
    return min(_WIDTH, max(40, shutil.get_terminal_size((_WIDTH, 0)).columns))


def describe_run(schema: type[BaseModel] = RunConfig, what: str = "a run") -> str:
    """Every key of a run, or of a pretraining run: type, default, meaning."""
    form = click.HelpFormatter(width=_width())
    form.write_text(
        f"Keys of {what}: `--set KEY=VALUE`, or in a recipe or bab.toml. A component's own options "
        "stand beside its name (encoder.KEY, task.KEY, ...): `bab info NAME` shows them."
    )
    _table(form, "Keys", list(keys_of(schema)))
    return form.getvalue().rstrip()


def keys_of(schema: type[BaseModel]) -> Iterator[Row]:
    """Every key of a run, or of a pretraining run, and what it is."""
    for name, field in schema.model_fields.items():
        kind = field.annotation
        if name in COMPONENTS:
            after = COMPONENTS[name][1]
            form_of = f"NAME[:{after.upper()}]" if after else "NAME"
            yield name, f"{field.description} [{form_of}]"
        elif isinstance(kind, type) and issubclass(kind, BaseModel):
            yield from options(kind, f"{name}.", field.description if name == "view" else None)
        else:
            yield _row(name, field)


def options(model: type[BaseModel], prefix: str = "", note: str | None = None) -> Iterator[Row]:
    """A model's fields: (dotted name, description with type and default)."""
    for name, field in model.model_fields.items():
        kind = field.annotation
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            yield from options(kind, f"{prefix}{name}.")
        else:
            yield _row(prefix + name, field, "the task's" if note else None)


def _row(name: str, field: FieldInfo, default: str | None = None) -> Row:
    said = f"{field.description} " if field.description else ""
    if default is not None:
        given = f"default: {default}"
    elif field.is_required():
        given = "required"
    else:
        given = f"default {_value(field.get_default(call_default_factory=True))}"
    return name, f"{said}[{_type(field)}; {given}]"


def _facts(kind: str, cls: Any) -> Iterator[Row]:
    """The class attributes of its contract that a user can act on, where they say something."""
    names = {
        "heads": ("level", "linear", "closed_form"),
        "objectives": ("level", "pretrains", "targets"),
        "tasks": ("needs", "level", "corpus", "head", "objective", "presets", "primary", "notice"),
        "datasets": ("provides", "unit"),
        "formats": ("suffixes", "keeps"),
        "models": ("where",),
        "launchers": ("where",),
    }
    for name in names.get(kind, ()):
        value = getattr(cls, name)
        if isinstance(value, bool):
            yield name, "yes" if value else "no"
        elif value:
            ordered = sorted(value) if isinstance(value, (set, frozenset)) else value
            yield name, value if isinstance(value, str) else ", ".join(ordered)
    if kind == "encoders":
        yield from _measured(cls)
        for level, values in cls.defaults.items():
            yield f"in {level} tasks", ", ".join(f"{k}={_value(v)}" for k, v in _flat(values))
    if kind == "objectives":
        for key, value in _flat(cls.defaults):
            yield key, _value(value)
    if kind == "tasks":
        view = cls.view
        yield "view", _window(view)
        for mode, defaults in cls.defaults.items():
            yield f"in {mode}", ", ".join(f"{k}={_value(v)}" for k, v in _flat(defaults))
    if kind == "datasets":
        yield "sample", f"{cls.sample}" if cls.sample else "none: name a folder, NAME:ROOT"
    if kind == "formats":
        yield "use", " and ".join(["read"] * cls.reads + ["written"] * cls.writes)
    if kind == "observers":
        yield "events", ", ".join(name for name in vars(cls) if name.startswith("bab_"))
    elif cls.source:
        yield "source", cls.source
    if getattr(cls, "licence", ""):
        yield "licence", cls.licence


def _window(view: Any) -> str:
    """What one example is: `4 s windows`, or the whole clip."""
    if view.window is None:
        return "whole clips"
    hop = "" if view.hop is None else f", one every {view.hop:g} s"
    return f"windows of {view.window:g} s{hop}{', at random places in finetune' * view.crop}"


def _measured(cls: Any) -> Iterator[Row]:
    """Rate, hop and depth, which an encoder knows once it is built: with weights that are here."""
    local = ("", "tiny", "random-tiny", "random")  # nothing of these is fetched
    weights = next((one for one in (cls.default, *local) if one in local), "")
    if weights and weights not in cls.weights:
        return
    try:
        encoder = cls.load(weights, cls.Options(), offline=True).eval()
    except Exception:  # an extra that isn't installed, weights that must be named: nothing is told
        return
    grid, rate = encoder.grid, encoder.sample_rate
    yield "rate", f"{rate} Hz"
    hop, field = (f"{1000 * samples / rate:.4g} ms" for samples in (grid.hop, grid.field))
    yield "hop", f"{hop}; a frame depends on {field} of audio" if grid.hop else "one for the clip"
    most = encoder.max_seconds
    yield "at once", "any length" if most is None else f"at most {most:.4g} s"
    with_ = f" with {weights} weights" if weights else ""
    yield "states", f"{encoder.depth}, of {encoder.dim} values{with_}"


def _flat(values: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in values.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield prefix + key, value


def _table(form: click.HelpFormatter, title: str, rows: list[Row]) -> None:
    if rows:
        with form.section(title):
            form.write_dl(rows, col_max=24)


def _value(value: Any) -> str:
    """A value as it is typed in a recipe."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, (list, tuple, set, frozenset)):
        return "[" + ", ".join(_value(item) for item in value) + "]"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{k}: {_value(v)}" for k, v in value.items()) + "}"
    return str(value) if str(value) else '""'


def _type(field: FieldInfo) -> str:
    bounds = [
        f"{sign} {getattr(item, name):g}"
        for item in field.metadata
        for name, sign in _BOUNDS.items()
        if isinstance(getattr(item, name, None), (int, float))
    ]
    return " ".join([_annotation(field.annotation), *bounds])


def _annotation(kind: Any) -> str:
    """`Literal["a", "b"] | None` -> "a | b | null"."""
    origin, parts = get_origin(kind), get_args(kind)
    if kind is NoneType:
        return "null"
    if origin is Literal:
        return " | ".join(map(str, parts))
    if hasattr(kind, "__metadata__"):
        return _annotation(parts[0])
    if origin in (list, tuple, set, frozenset):
        return f"list of {_annotation(parts[0])}" if parts else "list"
    if isinstance(origin, type) and issubclass(origin, Mapping):
        return "mapping"
    if parts:
        return " | ".join(_annotation(part) for part in parts)
    return getattr(kind, "__name__", str(kind))
