"""docs/five-systems.md: every command of its `sh` blocks does what the page says."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import pytest
import soundfile
from made_models import SIZE
from places import ROOT

from bab.cli import main
from bab.plugins.encoders.shared import speech

PAGE = (ROOT / "docs" / "five-systems.md").read_text(encoding="utf-8")
BLOCKS = dict(re.findall(r"^### ([\w-]+)$.*?^```sh\n(.*?)^```$", PAGE, re.M | re.S))
SAMPLES = ROOT / "bab" / "plugins" / "datasets" / "samples"


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


def test_every_published_recipe_has_its_block() -> None:
    recipes = {path.stem for path in (ROOT / "recipes").glob("*.yaml")}
    assert len(BLOCKS) == 12 and set(BLOCKS) <= recipes
    assert all(f"recipes/{name}.yaml --smoke" in block for name, block in BLOCKS.items())


# Of recipes that take the same way, one is tried each time and the others with the slow tests.
LIKE_ANOTHER = (
    "addressee", "babar-phonemes", "babycry-valence", "babyhubert-iter2", "catalan-accent",
    "catalan-pretrain",
)  # fmt: skip


@pytest.mark.parametrize(
    "name",
    [pytest.param(n, marks=pytest.mark.slow) if n in LIKE_ANOTHER else n for n in BLOCKS],
)
def test_the_commands_of_the_page(
    name: str,
    cache: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(speech, "_TINY", SIZE)  # what is computed is asked nowhere here
    monkeypatch.setenv("BAB_CACHE", str(cache))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.chdir(tmp_path)
    for called, sample, seconds in (("home.wav", "rttm/wav", 8), ("clip.wav", "kaldi/audio", 2)):
        recorded = sorted(p for p in (SAMPLES / sample).rglob("*.*") if p.is_file())[0]
        rate = soundfile.info(recorded).samplerate
        audio, _ = soundfile.read(recorded, seconds * rate)
        soundfile.write(tmp_path / called, audio, rate)
    (tmp_path / "recipes").symlink_to(ROOT / "recipes")
    stands = {"RUN": "", "ENCODER": ""}
    for line in BLOCKS[name].splitlines():
        command, _, refused = line.partition("  # refused: ")
        words = [stands.get(word, word) for word in shlex.split(command)[1:]]
        status = main(words)
        said = capsys.readouterr()
        assert status == (2 if refused else 0), f"{line}\n{said.err}"
        assert refused in said.err
        if words[0] == "run":
            (result,) = (
                path
                for kind in ("record.json", "pretrain.json")
                for path in (tmp_path / "smoke-runs").rglob(kind)
            )
            assert "smoke:" in said.err and "the figures mean nothing" in said.err
            config = json.loads(result.read_text())["config"]
            assert config["train"]["steps"] == 3 and config["corpus"]["root"] is None
            assert config["encoder"]["weights"] in ("", "random-tiny")
            stands["RUN"] = str(result.parent)
            stands["ENCODER"] = "".join(re.findall(r"^Encoder: (\S+)", said.out, re.M))
        elif not refused:
            out = words[words.index("--out") + 1] if "--out" in words else words[2]
            assert any((tmp_path / out).iterdir()), line
