"""What `bab info` says of a component of each kind, to the letter."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from each_kind import PLUGIN

from bab.cli import main


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


def test_what_can_be_shown_is_and_what_cannot_is_an_error(
    install: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    install("info-sick", {"heads": {"fbank": "nowhere_at_all:H"}})
    assert main(["info", "fbank"]) == 2
    shown = capsys.readouterr()
    assert shown.out.startswith("fbank: encoder of bab ")
    assert "the head 'fbank' of info-sick 1.0 (nowhere_at_all:H) failed to load" in shown.err
