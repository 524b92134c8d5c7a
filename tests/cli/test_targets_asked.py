"""What `bab targets` hands on of what was typed, and what it says of what was made."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest

from bab.api.progress import Ticker
from bab.cli import main
from bab.cli.targets import describe

LINE = ["targets", "--corpus", "kaldi", "--out", "t"]
META: dict[str, Any] = {
    "hours": 1.234, "recordings": 3, "frames": 222_120, "features": "mfcc", "clusters": 100,
    "use": {"used": 97, "perplexity": 55.54}, "inertia": 1234.56, "purity": None,
    "unreadable": [], "left_out": [],
}  # fmt: skip
PURITY = {
    "labels": ["a", "b"], "frames": 12_345, "phone_purity": 0.6543, "cluster_purity": 0.1236,
    "pnmi": 0.5, }  # fmt: skip


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


@pytest.fixture
def made(here: Path, monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, ...]]:
    """What `make` was called with; it makes nothing."""
    asked: list[tuple[Any, ...]] = []
    monkeypatch.setattr("bab.targets.make.make", lambda *given: asked.append(given) or META)
    return asked


def test_what_is_said_of_targets() -> None:
    first = (
        "1.23 h in 3 files, 222,120 frames of mfcc\n100 clusters, 97 used, perplexity 55.5; inertia"
        " per frame 1235\n"
    )
    assert describe(META) == first + "no purity: the corpus gives no labels with times"
    pure = (
        "against 2 labels of the corpus's segments (12,345 frames): phone purity 0.654, cluster "
        "purity 0.124, PNMI "
    )
    assert describe({**META, "purity": PURITY}).endswith(f"\n{pure}0.500")
    assert describe({**META, "purity": {**PURITY, "pnmi": None}}).endswith(f"\n{pure}0.000")
    left = {"unreadable": ["a.wav: cut"], "left_out": ["b.wav: NaN"]}
    assert describe({**META, **left}).endswith(
        "\n2 left out as unreadable:\n  a.wav: cut\n  b.wav: NaN"
    )


def test_defaults(made: list[Any], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(LINE) == 0
    ((clips, features, out, asked, described, _),) = made
    assert {c.id for c in clips} and features.described.startswith("mfcc") and out == Path("t")
    assert (asked.clusters, asked.seed, asked.sample_frames, asked.sample_hours) == (
        *(100, 0, 500_000, 20.0),
    )
    assert (asked.given, asked.skip_bad, asked.rank, asked.world, asked.stage) == (
        *(None, False, 0, 1, ""),
    )
    assert described == {"corpora": ["kaldi"], "splits": [], "unreadable": []}
    assert capsys.readouterr().out == f"{describe(META)}\nTargets: t\n"


def test_what_is_typed_arrives(made: list[Any], here: Path) -> None:
    (here / "g").mkdir()
    line = [*LINE, "--corpus", "rttm", "--split", "dev", "--split", "test", "--seed", "3"]
    assert main([*line, "--clusters", "7"]) == 0
    assert main([*line, "--centroids", "g", "--skip-bad"]) == 0
    assert [(asked.clusters, asked.given, asked.skip_bad) for _, _, _, asked, _, _ in made] == [
        (7, None, False), (100, Path("g"), True),
    ]  # fmt: skip
    clips, *_, described, _ = made[0]
    assert described["corpora"] == ["kaldi", "rttm"] and described["splits"] == ["dev", "test"]
    from bab.config.corpora import open_corpora

    kaldi, rttm = open_corpora(("kaldi", "rttm"), ())
    expected = [c.id for corpus in (kaldi, rttm) for s in ("dev", "test") for c in corpus.clips(s)]
    assert [c.id for c in clips] == expected


def test_shares_are_counted_from_nought(
    made: list[Any], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*LINE, "--stage", "label", "--shard", "2/5"]) == 0
    assert [(a.rank, a.world, a.stage) for _, _, _, a, _, _ in made] == [(1, 5, "label")]
    assert capsys.readouterr().out == ""  # the last command says what was made
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("WORLD_SIZE", "3")
    assert main(LINE) == 0 and capsys.readouterr().out == ""
    assert (made[1][3].rank, made[1][3].world) == (1, 3)
    monkeypatch.setenv("RANK", "0")
    assert main(LINE) == 0 and capsys.readouterr().out.endswith("Targets: t\n")


def test_progress_is_told_by_one_process(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[tuple[Any, ...]] = []
    shown = nullcontext(Ticker(lambda *one: told.append(one), lambda line: None))

    def make(*given: Any) -> Any:
        given[-1]("labelling", 1, 2, "files")
        return META

    monkeypatch.setattr("bab.cli.display.ticker", lambda quiet=False: shown)
    monkeypatch.setattr("bab.targets.make.make", make)
    assert main(LINE) == 0
    assert told[-2:] == [("checking files", 8, 8, "files"), ("labelling", 1, 2, "files")]
    told.clear()
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert main(LINE) == 0 and not told


def test_an_encoders_layer(made: list[Any]) -> None:
    from bab.targets.features import LayerFeatures

    line = [*LINE, "--encoder", "hubert:random-tiny", "--layer", "0", "--device", "cpu"]
    assert main([*line, "--offline"]) == 0
    features = made[0][1]
    assert isinstance(features, LayerFeatures)
    assert features.described == "hubert:random-tiny layer 0"


def test_ctrl_c_says_how_to_go_on(
    here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def make(*given: Any) -> Any:
        raise KeyboardInterrupt

    monkeypatch.setattr("bab.targets.make.make", make)
    assert main(LINE) == 130
    assert "stopped; the same command goes on where it stopped (t)" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["--layer", "0"], "--encoder mfcc has no layers and no options: leave out --layer"),
        (["--set", "encoder.mels=4"], "leave out --set encoder.mels=4"),
        (["--encoder", "hubert:random-tiny"], "which layer? --layer 6, for example"),
        (["--shard", "1/2"], "--shard: name the stage too: --stage sample, or label"),
        (["--centroids", "g", "--clusters", "5"], "--clusters is what --centroids brings along"),
        (["--clusters", "1"], "1 is not in the range x>=2"),
        (["--sample-frames", "0"], "0 is not in the range x>=1"),
        (["--sample-hours", "0"], "0.0 is not in the range x>0"),
    ],
)
def test_slips(
    made: list[Any], capsys: pytest.CaptureFixture[str], more: list[str], said: str
) -> None:
    assert main([*LINE, *more]) == 2 and said in capsys.readouterr().err and not made
