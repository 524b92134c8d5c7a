"""The shortcut audit: planted traps are seen and named, a corpus without one is at chance."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile
import trapped
from places import REAL, SAMPLES

from bab.auditing import audit as auditing
from bab.auditing import traits
from bab.auditing.audit import audit
from bab.cli import main
from bab.config.corpora import open_corpus
from bab.config.resolve import run_config
from bab.config.run import CorpusConfig
from bab.core.errors import NotApplicableError
from bab.core.types import Clip
from bab.results.audit import BELOW, Audit, control, gap, verdict
from bab.results.compare import score

Ask = Callable[..., Audit]
UAR = ("task.metric=uar", "protocol=kfold", "folds=3")


@pytest.fixture
def ask(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Ask:
    monkeypatch.setenv("BAB_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)

    def do(corpus: str, *sets: str, task: str = "classify", force: bool = False) -> Audit:
        asked = {"encoder": "fbank", "task": task, "corpus": corpus}
        return audit(run_config(None, asked, sets), lambda *told: None, force)[0]

    return do


def best(made: Audit) -> str:
    return made.traits[0].name


def test_a_class_with_its_own_sample_rate_is_seen_and_named(ask: Ask, tmp_path: Path) -> None:
    made = ask(f"manifest:{trapped.lay(tmp_path / 'c', trapped.rated)}", *UAR)
    assert score(made.shortcut) == 1 and best(made) == "sample rate"
    assert made.traits[0].alone == 1 and made.traits[0].classes == {"no": 16000, "yes": 8000}
    said = verdict(made)
    assert said[0].startswith("SHORTCUT: recording traits alone get uar 1.000")
    assert "The sample rate alone gives 1.000" in said[0]
    assert said[1].startswith("No shortcut shown: file names alone")
    assert score(made.rows["majority"]) == 0.5
    assert len(made.rows["shuffled"]) == 5 and abs(score(made.rows["shuffled"]) - 0.5) < 0.15


def test_a_class_with_its_own_noise_floor_is_seen_and_named(ask: Ask, tmp_path: Path) -> None:
    made = ask(f"manifest:{trapped.lay(tmp_path / 'c', trapped.noisy)}", *UAR)
    assert score(made.shortcut) > 0.95 and best(made) == "noise floor"
    drops = {t.name: t.drop for t in made.traits}
    assert drops["noise floor"] == max(d for d in drops.values() if d is not None) > 0.2
    assert gap(made.shortcut, made.rows[control(made)]).above


@pytest.mark.parametrize("seed", [0, 1])
def test_a_corpus_without_a_trap_is_at_chance(ask: Ask, tmp_path: Path, seed: int) -> None:
    made = ask(f"manifest:{trapped.lay(tmp_path / 'c', trapped.plain, seed=seed)}", *UAR)
    assert abs(score(made.shortcut) - 0.5) < 0.2
    assert not gap(made.shortcut, made.rows[control(made)]).above
    assert verdict(made)[0].startswith("No shortcut shown: recording traits")


def test_babycrys_trap_one_class_from_other_sources(ask: Ask, tmp_path: Path) -> None:
    """All distress is another corpus's: what `babycry` itself never tests on."""
    root, rows = tmp_path / "naive", []  # its ids, and so its folds, don't say where this stands
    root.mkdir()
    (root / "shipped").symlink_to(SAMPLES)
    for clip in open_corpus(CorpusConfig(name="babycry")).clips(None):
        distress = clip.labels["valence"] == "distress"
        if distress == (clip.labels["source"] != "recanvo"):
            path = Path("shipped") / Path(clip.path).relative_to(SAMPLES)
            rows.append((str(path), clip.group, clip.labels["valence"]))
    assert {word for _, _, word in rows} == {"distress", "positive"}
    made = ask(f"manifest:{trapped.write(root, rows)}", *UAR)
    assert score(made.shortcut) > 0.9 and verdict(made)[0].startswith("SHORTCUT")


@pytest.mark.skipif(not REAL.exists(), reason="the development recordings are not here")
def test_real_cries_of_one_corpus_and_other_sounds_of_another(ask: Ask, tmp_path: Path) -> None:
    root = tmp_path / "naive"  # its ids, and so its folds, don't say where the project stands
    root.mkdir()
    (root / "real").symlink_to(REAL)
    rows = [
        (f"real/{p.relative_to(REAL)}", p.stem[:36], "cry")
        for p in sorted((REAL / "donateacry").rglob("*.flac"))
    ]
    with (REAL / "esc50" / "meta" / "esc50.csv").open(newline="") as file:
        for row in csv.DictReader(file):
            if row["category"] != "crying_baby":
                path = f"real/esc50/audio/{row['filename']}"
                rows.append((path, f"esc-{row['src_file']}", "other"))
    made = ask(f"manifest:{trapped.write(root, rows[::5])}", *UAR)
    assert score(made.shortcut) == 1 and best(made) == "sample rate"


def test_made_once_and_again_where_it_is_damaged(
    ask: Ask, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    corpus = f"manifest:{trapped.lay(tmp_path / 'c', trapped.plain, groups=6)}"
    first = ask(corpus, *UAR)
    (path,) = Path("runs/.audit/classify/manifest").glob("*.json")
    monkeypatch.setattr(traits, "_heard", lambda clip: pytest.fail("measured again"))
    assert ask(corpus, *UAR) == first
    path.write_text("{")
    again = ask(corpus, *UAR)  # its traits were kept
    assert again.traits == first.traits
    monkeypatch.setattr(auditing, "_made", lambda *a: pytest.fail("made again"))
    ask(corpus, *UAR)
    with pytest.raises(pytest.fail.Exception, match="made again"):
        ask(corpus, *UAR, force=True)


def test_what_was_measured_is_kept_where_it_is_stopped(
    ask: Ask, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    corpus = f"manifest:{trapped.lay(tmp_path / 'c', trapped.plain, groups=6)}"
    measured, real = [], traits._heard

    def heard(clip: Clip) -> list[float]:
        if len(measured) == 10:
            measured.append("stopped")
            raise KeyboardInterrupt
        measured.append(clip.id)
        return real(clip)

    monkeypatch.setattr(traits, "_heard", heard)
    with pytest.raises(KeyboardInterrupt):
        ask(corpus, *UAR)
    ask(corpus, *UAR)
    assert len(measured) == 24 + 1  # each of the 24 clips once


@pytest.mark.parametrize(
    ("task", "corpus"), [("vtc", "rttm"), ("sv", "voxceleb"), ("asr", "kaldi")]
)
def test_tasks_without_classes_of_clips_have_no_audit(
    ask: Ask, capsys: pytest.CaptureFixture[str], task: str, corpus: str
) -> None:
    with pytest.raises(NotApplicableError, match="whole clips a class"):
        ask(corpus, task=task)
    assert main(["audit", corpus, "--task", task]) == 2
    said = capsys.readouterr().err
    assert said.startswith(f"bab: error: task '{task}'") and said.count("\n") == 1


@pytest.mark.parametrize("task", ["gender", "accent", "addressee", "valence"])
def test_every_clip_task_is_audited_on_its_own_splits(
    ask: Ask, task: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(auditing, "SHUFFLES", 2)
    corpus = {"gender": "kaldi", "accent": "commonvoice"}.get(task, "")
    config = run_config(None, {"encoder": "fbank", "task": task, "corpus": corpus or None})
    made = ask(config.corpus.name, task=task)
    assert made.shortcut[0].task == task and made.shortcut[0].protocol == config.rounds
    assert 0 <= score(made.shortcut) <= 1


@pytest.mark.usefixtures("forked_workers")
def test_the_command_prints_it_and_a_bench_marks_what_isnt_above_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("BAB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.chdir(tmp_path)
    trapped.lay(tmp_path / "c", trapped.noisy)
    sets = [part for text in UAR for part in ("--set", text)]
    assert main(["audit", "manifest:c", "--task", "classify", *sets, "--quiet"]) == 0
    said = capsys.readouterr()
    assert "| noise floor " in said.out and "SHORTCUT" in said.out and not said.err
    command = ["bench", "--encoders", "fbank", "--tasks", "classify@manifest:c,vtc", "--quiet"]
    quick = ["--set", "train.steps=4", "--set", "train.eval_every=4"]
    grid = tmp_path / "grid.yaml"
    asked = {"task": "classify", "corpus": "manifest:c", "protocol": "kfold", "folds": 3}
    grid.write_text(json.dumps({"tasks": [{**asked, "task.metric": "uar"}, "vtc"]}))
    command = ["bench", str(grid), "--encoders", "fbank", "--quiet", "--audit", *quick]
    assert main(command) == 0
    said = capsys.readouterr()
    assert "no audit: vtc@rttm: task 'vtc' labels moments" in said.err
    header, _, row = said.out.splitlines()[:3]
    assert "above its shortcut (1.000)" in header and BELOW in row and "-0." in row
    assert f"- {BELOW} not shown to be above its shortcut" in said.out
    assert "The noise floor alone gives" in said.out
    assert len(list(Path("runs/.audit").rglob("*.json"))) == 1  # the command's, used again
    assert main(["table", "--audit", "--format", "csv"]) == 0
    (own, _) = csv.DictReader(capsys.readouterr().out.splitlines())
    assert own["above_shortcut"] == "False" and float(own["shortcut"]) == 1
    assert main(["table", "--audit", str(SAMPLES)]) == 2  # a folder without audits


def clip(path: Path, x: np.ndarray, rate: int, **kinds: str) -> dict[str, float]:
    soundfile.write(path, x, rate, **kinds)
    one = Clip(path.stem, str(path), 0.0, len(x) / rate, "g")
    row = traits.measure([one], {}, {one.id: path.stem}, lambda done, total: None)[0]
    return dict(zip(traits.TRAITS, row.tolist(), strict=True))


def test_traits_are_what_they_are_called(tmp_path: Path) -> None:
    draw = np.random.default_rng(0)
    time = np.arange(32000) / 16000
    tone = clip(tmp_path / "tone.wav", 0.5 * np.sin(2 * np.pi * 1001.3 * time), 16000)
    assert tone["loudness"] == pytest.approx(10 * np.log10(0.125), abs=0.01)
    assert tone["peak"] == pytest.approx(20 * np.log10(0.5), abs=0.01)
    assert tone["roll-off"] == pytest.approx(1001, abs=8) and tone["sample rate"] == 16000
    assert (tone["bit depth"], tone["channels"], tone["duration"]) == (16, 1, 2)
    assert tone["steps"] == pytest.approx(15) and tone["silence"] == 0
    quiet = draw.normal(0, 0.001, 32000)
    quiet[:8000] = draw.normal(0, 0.1, 8000)
    speech = clip(tmp_path / "A12-b7.flac", quiet, 16000, subtype="PCM_24")
    assert speech["noise floor"] == pytest.approx(-60, abs=1)
    assert speech["range"] == pytest.approx(40, abs=2)
    assert speech["silence"] == pytest.approx(0.75, abs=0.02) and speech["bit depth"] == 24
    assert (speech["name length"], speech["name digits"], speech["name capitals"]) == (6, 3, 1)
    assert speech["name number"] == 7
    hum = clip(tmp_path / "hum.wav", quiet + 0.01 * np.sin(2 * np.pi * 50 * time), 16000)
    assert hum["hum"] > 10 > speech["hum"]
    import soxr

    narrow = soxr.resample(draw.normal(0, 0.1, 16000), 8000, 16000)
    limited = clip(tmp_path / "narrow.wav", narrow, 16000, subtype="FLOAT")
    assert limited["band limit"] == pytest.approx(4000, abs=250)
    stereo = clip(tmp_path / "two.wav", np.zeros((16000, 2)), 16000)
    assert stereo["channels"] == 2 and stereo["zeros"] == 1 and stereo["loudness"] == -100
    short = clip(tmp_path / "short.wav", np.array([0.25]), 16000)
    assert all(np.isfinite(list(short.values())))
