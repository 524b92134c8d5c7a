"""What `bab info` says of options and keys, and of how a corpus lies on disk, to the letter."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field, NonNegativeInt, PositiveFloat

from bab.cli.describe import describe_run, keys_of, options, verbatim
from bab.cli.layout import layout


class Inner(BaseModel):
    deep: float = Field(default=0.5, gt=0, le=1, description="how deep")
    plain: bool = False


class Model(BaseModel):
    """All kinds of fields."""

    needed: str
    named: Literal["a", "b"] = "a"
    maybe: int | None = Field(default=None, description="an int")
    words: tuple[str, ...] = ("x", "y")
    bare: list = Field(default=[])  # type: ignore[type-arg]
    table: dict[str, float] = Field(default={"k": 1.5})
    mapping: Mapping[str, Any] = {}
    some: set[str] = Field(default_factory=lambda: {"z"})
    many: NonNegativeInt = 3
    much: PositiveFloat = 1e-5
    marked: Annotated[int, Field(ge=2)] = 2
    either: Literal["c"] | float = "c"
    empty: str = ""
    inner: Inner = Inner()


OPTIONS = [
    ("needed", "[str; required]"),
    ("named", "[a | b; default a]"),
    ("maybe", "an int [int | null; default null]"),
    ("words", "[list of str; default [x, y]]"),
    ("bare", "[list; default []]"),
    ("table", "[mapping; default {k: 1.5}]"),
    ("mapping", "[mapping; default {}]"),
    ("some", "[list of str; default [z]]"),
    ("many", "[int >= 0; default 3]"),
    ("much", "[float > 0; default 1e-05]"),
    ("marked", "[int >= 2; default 2]"),
    ("either", "[c | float; default c]"),
    ("empty", '[str; default ""]'),
    ("inner.deep", "how deep [float > 0 <= 1; default 0.5]"),
    ("inner.plain", "[bool; default false]"),
]


def test_options_of_any_type() -> None:
    assert list(options(Model)) == OPTIONS
    prefixed = [(f"x.{name}", text) for name, text in OPTIONS]
    assert list(options(Model, "x.")) == prefixed
    told = dict(options(Model, note="of the task"))
    assert told["many"] == "[int >= 0; default: the task's]"
    assert told["inner.deep"].endswith("default 0.5]")


class Keys(BaseModel):
    encoder: str = Field(description="who listens")
    head: str = Field(description="who answers")
    view: Inner = Field(default=Inner(), description="of an example")
    train: Inner = Field(default=Inner(), description="of the optimiser")
    steps: int = Field(default=4, description="how many")


def test_keys_of_a_run() -> None:
    assert list(keys_of(Keys)) == [
        ("encoder", "who listens [NAME[:WEIGHTS]]"),
        ("head", "who answers [NAME]"),
        ("view.deep", "how deep [float > 0 <= 1; default: the task's]"),
        ("view.plain", "[bool; default: the task's]"),
        ("train.deep", "how deep [float > 0 <= 1; default 0.5]"),
        ("train.plain", "[bool; default false]"),
        ("steps", "how many [int; default 4]"),
    ]
    text = describe_run(Keys, "a thing")
    assert " ".join(text.split()).startswith(
        "Keys of a thing: `--set KEY=VALUE`, or in a recipe or bab.toml. A component's own options "
        "stand beside its name (encoder.KEY, task.KEY, ...): `bab info NAME` shows them. Keys: "
        "encoder who listens [NAME[:WEIGHTS]] head"
    )
    assert text == text.rstrip() and "\n  encoder      who listens" in text


def test_paragraphs_that_stay_as_they_are() -> None:
    assert verbatim("A tree:\n  leaf") and not verbatim("two\nlines")


# --- layout -------------------------------------------------------------------------------------


def test_a_layout_to_the_letter(tmp_path: Path) -> None:
    files = {
        "train.txt": "home 1\n", "dev.txt": "home2\n", "b.scp": "", "README.md": "no",
        ".hidden": "no", "spk2age": "a\t1\n",
        "meta.csv": "id,x\n1,2\n3,4\n", "wav/a1.wav": "", "wav/a2.wav": "", "wav/a3.wav": "",
        "wav/a4.wav": "", "wav/b.flac": "",
        "rttm/h1.rttm": "x" * 91 + "\nmore\n", "rttm/h2.rttm": "y\n", "rttm/h3.rttm": "z" * 90,
    }  # fmt: skip
    for who in ("k1", "k2", "k3", "k4", "k5", "k6"):
        files[f"kids/{who}/s.wav"] = ""
    files["kids/k7/other.txt"] = "1\n"
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    assert layout(tmp_path) == [
        "b.scp", "dev.txt", "meta.csv", "spk2age", "train.txt",
        "kids/", "  k1/", "    s.wav", "  k2/ k3/ k4/ ... (alike)", "  k7/", "    other.txt",
        "rttm/", "  h1.rttm", "  h2.rttm", "  h3.rttm",
        "wav/", "  a1.wav", "  a2.wav", "  ... (4 *.wav)", "  b.flac",
        "",
        "train.txt:", "  home 1", "b.scp:", "kids/k7/other.txt:", "  1",
        "meta.csv:", "  id,x", "  1,2", "rttm/h1.rttm:", f"  {'x' * 86} ...",
        "spk2age:", "  a 1",
    ]  # fmt: skip


def test_lines_of_ninety_characters_are_shown_whole(tmp_path: Path) -> None:
    for name, size in (("a.txt", 90), ("b.txt", 91)):
        (tmp_path / name).write_text("x" * size + "\nmore\n")
    assert layout(tmp_path)[3:] == ["a.txt:", f"  {'x' * 90}", "b.txt:", f"  {'x' * 86} ..."]


def test_a_layout_shows_a_training_split_first_and_few_examples(tmp_path: Path) -> None:
    for split in ("dev", "test", "train"):
        for number, kind in enumerate("abcdefghijkl"):
            (tmp_path / split).mkdir(exist_ok=True)
            (tmp_path / split / kind).write_text(f"{number}\n")
    lines = layout(tmp_path)
    assert lines[0] == "train/" and lines[13] == "dev/ test/ (alike)"
    examples = [line for line in lines[14:] if line.endswith(":")]
    assert examples == [f"train/{kind}:" for kind in "abcdefghi"]
    (tmp_path / "one").touch()
    assert layout(tmp_path / "one") == [] == layout(tmp_path / "nowhere")
    empty = tmp_path / "empty"
    empty.mkdir()
    (empty / "a.wav").touch()
    assert layout(empty) == ["a.wav"]
