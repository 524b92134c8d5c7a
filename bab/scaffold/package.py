"""What `bab new` writes: one source file, a test of its contract, packaging metadata, CI.

The templates are whole files with three marks: NAME as people type it (my-encoder), MODULE as
Python imports it (my_encoder), CLASS (MyEncoder).
"""

from __future__ import annotations

import keyword
import math
import re
import shlex
import struct
import wave
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from bab.core import registry
from bab.core.atomic import atomic_folder
from bab.core.errors import ConfigError, did_you_mean

TEMPLATES = Path(__file__).parent / "templates"
# Kind -> the command that tries it: a row in a table, or a file (formats), or a page (models).
TRIED: Mapping[str, str] = {
    "encoders": "bab run --encoder NAME --task vtc",
    "heads": "bab run --encoder fbank --task gender --head NAME",
    "objectives": "bab run --encoder fbank --task gender --objective NAME",
    "tasks": "bab run --encoder fbank --task NAME",
    "datasets": "bab run --encoder fbank --task classify --corpus NAME",
    "observers": "bab run --encoder fbank --task gender --observer NAME",
    "formats": "bab convert home.rttm home.MODULE",
    "models": "bab info NAME",
    "launchers": "bab bench --encoders fbank --tasks gender --launcher NAME",
}
_TONES = 24  # files of a corpus's sample


class Names(NamedTuple):
    """One name in its three spellings."""

    name: str
    module: str
    cls: str

    def fill(self, text: str) -> str:
        """A template with its marks replaced."""
        for mark, own in (("CLASS", self.cls), ("MODULE", self.module), ("NAME", self.name)):
            text = text.replace(mark, own)
        return text


def kind_named(text: str) -> str:
    """The kind of a new plugin, by any of its words.

    Raises:
        ConfigError: there is no such kind.
    """
    words = {word: kind for kind, (word, _) in registry.KINDS.items()}
    words |= {kind: kind for kind in registry.KINDS} | {
        "dataset": "datasets",
        "corpora": "datasets",
    }
    if text not in words:
        known = [word for word in words if word not in registry.KINDS]
        raise ConfigError(f"bab new writes no {text}: {did_you_mean(text, known)}")
    return words[text]


def names_of(kind: str, name: str) -> Names:
    """A name in its three spellings.

    Raises:
        ConfigError: it is no name, or is taken.
    """
    if not re.fullmatch(r"[a-z][a-z0-9]*([-_][a-z0-9]+)*", name):
        raise ConfigError(
            f"'{name}' is no name for a plugin: lower-case letters and digits with dashes in "
            "between, as in my-encoder"
        )
    module = name.replace("-", "_")
    if keyword.iskeyword(module) or module in ("bab", "test", "tests"):
        raise ConfigError(f"'{name}' means something to Python or bab: take another name")
    there = registry.names(kind)
    if name in there:
        word = registry.KINDS[kind][0]
        raise ConfigError(
            f"'{name}' is taken: it is the {word} of {there[name].owner}. Take another name"
        )
    return Names(name, module, "".join(part.capitalize() for part in module.split("_")))


def write_package(kind: str, names: Names, folder: Path) -> list[Path]:
    """Write the package, whole or not at all. Returns its files, as paths below `folder`.

    Raises:
        ConfigError: the folder is there already.
    """
    if folder.exists() or folder.is_symlink():
        raise ConfigError(f"{folder} is there already: take another name, or --in ANOTHER_FOLDER")
    with atomic_folder(folder) as building:
        for place, text in _files(kind, names):
            path = building / place
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
        if kind == "datasets":
            _tones(building / names.module / "sample")
        return sorted(p.relative_to(building) for p in building.rglob("*") if p.is_file())


def commands(kind: str, names: Names, folder: Path) -> list[str]:
    """What to type next."""
    word = registry.KINDS[kind][0]
    return [
        f"pip install -e {shlex.quote(str(folder))}",
        f"bab check {word}/{names.name}",
        names.fill(TRIED[kind]),
        *(["bab table"] if TRIED[kind].startswith(("bab run", "bab bench")) else []),
    ]


def source_of(kind: str, names: Names) -> str:
    """The plugin's one source file."""
    return _read(f"{kind}.py", names)


def _files(kind: str, names: Names) -> Iterator[tuple[str, str]]:
    package = kind == "datasets"  # its sample lies beside the code
    what = f'packages = ["{names.module}"]' if package else f'py-modules = ["{names.module}"]'
    project = _read("pyproject.toml", names).replace("KIND", kind).replace("PACKAGED", what)
    if package:
        data = f'\n[tool.setuptools.package-data]\n{names.module} = ["sample/**/*"]\n'
        project += data
    yield "pyproject.toml", project
    yield f"{names.module}/__init__.py" if package else f"{names.module}.py", source_of(kind, names)
    yield f"tests/test_{names.module}.py", _read(f"{kind}.test.py", names)
    word = registry.KINDS[kind][0]
    steps = "\n".join(commands(kind, names, Path()))
    yield "README.md", _read("README.md", names).replace("KIND", word).replace("COMMANDS", steps)
    yield ".github/workflows/test.yml", _read("test.yml", names).replace("KIND", word)
    yield ".gitignore", "__pycache__/\n*.egg-info/\nbuild/\ndist/\nruns/\n"


def _read(name: str, names: Names) -> str:
    return names.fill((TEMPLATES / f"{name}.txt").read_text(encoding="utf-8"))


def _tones(folder: Path) -> None:
    """A corpus to begin with: high and low tones of six instruments, .5 s each, and their table."""
    (folder / "wav").mkdir(parents=True)
    rows = ["file,instrument,pitch\n"]
    for index in range(_TONES):
        instrument, pitch = index // 4, ("low", "high")[index % 2]
        hertz = (220.0 if pitch == "low" else 880.0) * (1 + instrument / 40 + index / 400)
        samples = [
            round(6000 * math.sin(2 * math.pi * hertz * t / 16000) * math.exp(-t / 6000))
            for t in range(8000)
        ]
        with wave.open(str(folder / "wav" / f"tone{index:02}.wav"), "wb") as file:
            file.setparams((1, 2, 16000, 0, "NONE", ""))
            file.writeframes(struct.pack(f"<{len(samples)}h", *samples))
        rows.append(f"tone{index:02}.wav,instrument{instrument},{pitch}\n")
    (folder / "tones.csv").write_text("".join(rows), encoding="utf-8")
