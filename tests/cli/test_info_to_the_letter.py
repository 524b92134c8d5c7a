"""What `bab info` says of components, of keys and of a corpus's layout, to the letter."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
from pydantic import BaseModel, Field, NonNegativeInt, PositiveFloat

from bab.cli import main
from bab.cli.describe import describe_run, keys_of, options, verbatim
from bab.cli.layout import layout

PLUGIN = '''"""Corpus `homes`: recordings of
homes.

  FOLDER/
    a.wav   audio

More of it.
"""

from pathlib import Path

import torch
from pydantic import Field

import bab


class Loud(bab.Encoder):
    """Loudness.

    A second paragraph, which is long enough to be folded where the terminal is narrow, and not
    where it is wide.
    """

    weights = {"tiny": "whose they are", "big": "and others"}
    default = "tiny"
    defaults = {"clip": {"x": None, "deep": {"y": True, "z": [1, "a"]}}}
    source = "a page"
    licence = "CC0"

    def forward(self, waves, mask=None, layers="all"): ...

    class Options(bab.Options):
        mels: int = Field(default=8, ge=4, lt=64, description="bands")

    @classmethod
    def load(cls, weights, options, offline=False, trust_code=False):
        made = cls()
        made.sample_rate, made.grid, made.dim, made.depth = 8000, bab.Grid(8000, 100, 333), 5, 2
        made.max_seconds = 12.5 if weights == "tiny" else None
        return made


class Whole(Loud):
    """One frame."""

    weights, default, defaults, source, licence = {}, "", {}, "", ""

    class Options(bab.Options):
        pass

    @classmethod
    def load(cls, weights, options, offline=False, trust_code=False):
        made = cls()
        made.sample_rate, made.grid, made.dim, made.depth = 8000, bab.Grid(8000, 0, 1), 5, 2
        made.max_seconds = None
        return made


class Never(Whole):
    """Can't be made."""

    @classmethod
    def load(cls, weights, options, offline=False, trust_code=False):
        raise RuntimeError("an extra is missing")


class Away(Loud):
    """Its default is no name of its own weights."""

    weights = {"big": "and others"}


class Top(bab.Head):
    """A head."""

    level = ("clip", "frame")
    linear = True

    def forward(self, x, lengths): ...


class Loss(bab.Objective):
    """A loss."""

    defaults = {"mask": {"share": 0.5}}
    source = "a paper"

    def counts(self, batch): ...
    def forward(self, model, batch): ...


class Say(bab.Task):
    """A task."""

    level, corpus, head, objective, needs = "clip", "kaldi", "top", "loss", frozenset("ba")
    view = bab.View(window=2.5, hop=0.5, crop=True)
    defaults = {"probe": {"layers": "mix"}, "finetune": {}}
    primary, presets, notice = "uar", ("one", "two"), "research only"

    def fit(self, clips): ...
    def targets(self, clip, grid, frames, labels): ...
    def decode(self, output, grid, labels, tuned): ...
    def statistics(self, reference, prediction): ...
    def metrics(self, totals): ...
    def write(self, predictions, folder): ...


class Homes(bab.Corpus):
    """A corpus."""

    provides, unit = frozenset({"text", "age"}), "child"

    def clips(self, split=None): ...


class Eyes:
    """Watches."""

    @bab.hookimpl
    def bab_step(self, run, step): ...

    @bab.hookimpl
    def bab_ended(self, run): ...


class Form(bab.Format):
    """A format."""

    suffixes, reads, writes = (".f", ".g"), True, False

    def read(self, path): ...


class Away2(bab.Launcher):
    """A launcher."""

    where = "elsewhere"

    def submit(self, work): ...
    def poll(self, ids): ...
    def cancel(self, ids): ...
'''


@pytest.fixture
def plugin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    (tmp_path / "mine.py").write_text(PLUGIN)
    return tmp_path


INFO = {
    "loud": """
  Loudness.

  A second paragraph, which is long enough to be folded where the terminal is narrow, and not where
  it is wide.

Facts:
  rate           8000 Hz
  hop            12.5 ms; a frame depends on 41.62 ms of audio
  at once        at most 12.5 s
  states         2, of 5 values with tiny weights
  in clip tasks  x=null, deep.y=true, deep.z=[1, a]
  source         a page
  licence        CC0

Weights, loud:WEIGHTS (default: tiny):
  tiny  whose they are
  big   and others

Options (--set encoder.KEY=VALUE):
  mels  bands [int >= 4 < 64; default 8]
""",
    "whole": """
  One frame.

Facts:
  rate     8000 Hz
  hop      one for the clip
  at once  any length
  states   2, of 5 values

Options (--set encoder.KEY=VALUE):
  none
""",
    "never": """
  Can't be made.

Options (--set encoder.KEY=VALUE):
  none
""",
    "top": """
  A head.

Facts:
  level        clip, frame
  linear       yes
  closed_form  no

Options (--set head.KEY=VALUE):
  none
""",
    "loss": """
  A loss.

Facts:
  pretrains   no
  targets     no
  mask.share  0.5
  source      a paper

Options (--set objective.KEY=VALUE):
  none
""",
    "say": """
  A task.

  Recordings of homes.

  FOLDER/
    a.wav   audio

  More of it.

Facts:
  needs        a, b
  level        clip
  corpus       kaldi
  head         top
  objective    loss
  presets      one, two
  primary      uar
  notice       research only
  view         windows of 2.5 s, one every 0.5 s, at random places in finetune
  in probe     layers=mix
  in finetune

Options (--set task.KEY=VALUE):
  none
""",
    "homes": """
  A corpus.

  Recordings of homes.

  FOLDER/
    a.wav   audio

  More of it.

Facts:
  provides  age, text
  unit      child
  sample    none: name a folder, NAME:ROOT

Options (--set corpus.KEY=VALUE):
  none
""",
    "eyes": """
  Watches.

Facts:
  events  bab_step, bab_ended
""",
    "form": """
  A format.

Facts:
  suffixes  .f, .g
  use       read

Options (bab convert --set from.KEY=VALUE):
  none
""",
    "away2": """
  A launcher.

Facts:
  where  elsewhere

Options (--set launcher.KEY=VALUE, or [launcher] in bab.toml):
  none
""",
}


def test_info_of_each_kind(plugin: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shown = {}
    for name in INFO:
        assert main(["info", name, "--plugin", "mine.py"]) == 0, name
        first, _, rest = capsys.readouterr().out.partition("\n")
        shown[name] = rest
        assert first.startswith(f"{name}: ") and " of mine.py " in first
    assert {name: text.splitlines() for name, text in shown.items()} == {
        name: text.splitlines() for name, text in INFO.items()
    }
    assert main(["info", "away", "--plugin", "mine.py"]) == 0
    assert "  hop" not in capsys.readouterr().out  # nothing is fetched to say it


def test_info_folds(
    plugin: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for columns, widest in (("60", 60), ("20", 40), ("300", 100)):
        monkeypatch.setenv("COLUMNS", columns)
        assert main(["info", "loud", "--plugin", "mine.py"]) == 0
        lines = capsys.readouterr().out.splitlines()
        assert widest - 12 < max(map(len, lines[1:])) <= widest


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


def test_info_names(plugin: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["info", "pretrain"]) == 0
    assert capsys.readouterr().out.startswith("Keys of a pretraining run: ")
    for name, said in (
        ("ast+clap", "'ast+clap' is an ensemble, and has no options of its own: see `bab info ast` "
         "and `bab info clap`"),
        ("pretrian", "nothing is called 'pretrian': did you mean 'pretrain'"),
        ("bab/fbnk", "did you mean 'bab/fbank'"),
    ):  # fmt: skip
        assert main(["info", name]) == 2
        assert said in capsys.readouterr().err


BROKEN = "import bab\n\nclass fbank(bab.Head):\n    '''Twin.'''\n    level = 3\n"


def test_what_can_be_shown_is_and_what_cannot_is_an_error(
    install: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    install("info-sick", {"heads": {"fbank": "nowhere_at_all:H"}})
    assert main(["info", "fbank"]) == 2
    shown = capsys.readouterr()
    assert shown.out.startswith("fbank: encoder of bab ")
    assert "the head 'fbank' of info-sick 1.0 (nowhere_at_all:H) failed to load" in shown.err


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
