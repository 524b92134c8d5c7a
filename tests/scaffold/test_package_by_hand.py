"""What `bab new` calls things, writes and tells to type; and the tones of its corpus."""

from __future__ import annotations

import csv
import tomllib
from pathlib import Path

import numpy as np
import pytest
import soundfile

from bab.core.errors import ConfigError
from bab.scaffold.package import Names, commands, kind_named, names_of, source_of, write_package


@pytest.mark.parametrize(
    ("word", "kind"),
    [("encoder", "encoders"), ("heads", "heads"), ("corpus", "datasets"), ("dataset", "datasets"),
     ("corpora", "datasets"), ("datasets", "datasets"), ("launcher", "launchers"),
     ("model", "models"), ("models", "models")],
)  # fmt: skip
def test_kinds_by_any_of_their_words(word: str, kind: str) -> None:
    assert kind_named(word) == kind


@pytest.mark.parametrize("word", ["modle", "plugins", "thing"])
def test_what_is_no_kind(word: str) -> None:
    with pytest.raises(ConfigError, match=rf"^bab new writes no {word}: ") as caught:
        kind_named(word)
    assert "encoders" not in str(caught.value) and "datasets" not in str(caught.value)


def test_names_in_three_spellings() -> None:
    assert names_of("encoders", "my-own2_ear") == Names("my-own2_ear", "my_own2_ear", "MyOwn2Ear")
    filled = Names("a-b", "a_b", "AB").fill("NAME MODULE CLASS CLASSNAME")
    assert filled == "a-b a_b AB ABa-b"


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("My-ear", "'My-ear' is no name for a plugin: lower-case letters and digits with "),
        ("2ear", "is no name"), ("ear-", "is no name"), ("a--b", "is no name"), ("é", "is no name"),
        ("class", "'class' means something to Python or bab: take another name"),
        ("bab", "means something"), ("test", "means something"), ("tests", "means something"),
        ("fbank", "'fbank' is taken: it is the encoder of bab "),
    ],
)  # fmt: skip
def test_names_that_are_none(name: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        names_of("encoders", name)
    if name == "fbank":
        assert names_of("heads", name).name == name  # of another kind it is free


def test_what_to_type_next() -> None:
    names, folder = Names("my-x", "my_x", "MyX"), Path("p 1/my-x")
    first = ["pip install -e 'p 1/my-x'", "bab check {}/my-x"]
    told = {
        "encoders": ("encoder", ["bab run --encoder my-x --task vtc", "bab table"]),
        "heads": ("head", ["bab run --encoder fbank --task gender --head my-x", "bab table"]),
        "objectives": (
            "objective", ["bab run --encoder fbank --task gender --objective my-x", "bab table"],
        ),
        "tasks": ("task", ["bab run --encoder fbank --task my-x", "bab table"]),
        "datasets": (
            "corpus", ["bab run --encoder fbank --task classify --corpus my-x", "bab table"],
        ),
        "formats": ("format", ["bab convert home.rttm home.my_x"]),
        "launchers": (
            "launcher", ["bab bench --encoders fbank --tasks gender --launcher my-x", "bab table"],
        ),
        "models": ("model", ["bab info my-x"]),
    }  # fmt: skip
    for kind, (word, rest) in told.items():
        assert commands(kind, names, folder) == [first[0], first[1].format(word), *rest]


@pytest.mark.parametrize(("kind", "word"), [("heads", "head"), ("datasets", "corpus")])
def test_a_package(tmp_path: Path, kind: str, word: str) -> None:
    names, folder = Names("my-x", "my_x", "MyX"), tmp_path / "in" / "my-x"
    written = write_package(kind, names, folder)
    there = sorted(p.relative_to(folder) for p in folder.rglob("*") if p.is_file())
    assert written == there
    code = "my_x/__init__.py" if kind == "datasets" else "my_x.py"
    plain = [".github/workflows/test.yml", ".gitignore", "README.md", code, "pyproject.toml",
             "tests/test_my_x.py"]  # fmt: skip
    assert [p.as_posix() for p in written if "sample" not in p.parts] == sorted(plain)
    assert (folder / code).read_text() == source_of(kind, names)
    project = tomllib.loads((folder / "pyproject.toml").read_text())
    assert list(project["project"]["entry-points"]) == [f"bab.{kind}"]
    module = {"packages": ["my_x"]} if kind == "datasets" else {"py-modules": ["my_x"]}
    data = {"package-data": {"my_x": ["sample/**/*"]}} if kind == "datasets" else {}
    assert project["tool"]["setuptools"] == {**module, **data}
    readme = (folder / "README.md").read_text()
    assert "\n".join(commands(kind, names, Path())) in readme and word in readme
    for path in (folder / name for name in plain):
        left = path.read_text().replace("NAME", "") if path.name == "test.yml" else path.read_text()
        for mark in ("CLASS", "MODULE", "KIND", "COMMANDS", "PACKAGED"):
            assert mark not in left, (path, mark)
    assert (folder / ".gitignore").read_text().split() == [
        *("__pycache__/", "*.egg-info/", "build/", "dist/", "runs/"),
    ]
    for place in (folder, tmp_path / "link"):
        if place != folder:
            place.symlink_to(tmp_path / "nowhere")
        with pytest.raises(
            ConfigError, match=r"is there already: take another name, or --in ANOTH"
        ):
            write_package(kind, names, place)


def test_the_tones_are_those_of_their_table(tmp_path: Path) -> None:
    names = Names("my-x", "my_x", "MyX")
    write_package("datasets", names, tmp_path / "x")
    sample = tmp_path / "x" / "my_x" / "sample"
    rows = list(csv.DictReader((sample / "tones.csv").open()))
    files = sorted(p.name for p in (sample / "wav").iterdir())
    assert [row["file"] for row in rows] == files == [f"tone{i:02}.wav" for i in range(24)]
    assert [row["instrument"] for row in rows] == [f"instrument{i // 4}" for i in range(24)]
    assert [row["pitch"] for row in rows] == ["low", "high"] * 12
    for index, row in enumerate(rows):
        wave, rate = soundfile.read(sample / "wav" / row["file"])
        assert (len(wave), rate, wave.ndim) == (8000, 16000, 1)
        base = 220 if row["pitch"] == "low" else 880
        hertz = base * (1 + (index // 4) / 40 + index / 400)
        time = np.arange(8000) / 16000
        expected = 6000 / 32768 * np.sin(2 * np.pi * hertz * time) * np.exp(-time / 0.375)
        assert np.abs(wave - expected).max() < 1e-4
    assert soundfile.info(sample / "wav" / "tone00.wav").subtype == "PCM_16"
