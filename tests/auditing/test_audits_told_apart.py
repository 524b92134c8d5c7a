"""Which audits are one and the same, what their records hold, and what of them is kept."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import soundfile
from made_records import make

from bab.auditing import audit as module
from bab.auditing import traits
from bab.auditing.folds import Answers
from bab.core.components import build_task
from bab.core.types import Clip, Prediction
from bab.data.sealed import seal
from bab.results import audit as results

Ask = Any


@pytest.fixture
def ask(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Ask:
    """An audit of a made-up question; what it says is how often one was made."""
    made: list[str] = []

    def asked(force: bool = False, **more: Any) -> tuple[str, Path]:
        told = {
            "task": "gender", "version": "1", "options": {"b": 1, "a": 2}, "digest": "d",
            "rounds": "given", "corpus": "manifest-x", "of_corpus": "3",
            "files": ("a.wav",), **more,
        }  # fmt: skip
        task = SimpleNamespace(level="clip", version=told["version"])
        corpus = SimpleNamespace(version=told["of_corpus"])
        clips = [SimpleNamespace(path=f"{told.get('folder', '/c')}/{name}")
                 for name in told["files"]]  # fmt: skip
        data = SimpleNamespace(digest=told["digest"], clips=clips)
        config: Any = SimpleNamespace(
            task=SimpleNamespace(name=told["task"], options=told["options"]), runs=str(tmp_path),
            corpus_name=told["corpus"], rounds=told["rounds"],
        )  # fmt: skip
        monkeypatch.setattr(module, "build_question", lambda config: (task, corpus))
        monkeypatch.setattr(module, "read_data", lambda *given: data)
        return module.audit(config, lambda *told: None, force)

    def anew(config: Any, task: Any, corpus: Any, data: Any, name: str, tell: Any) -> str:
        made.append(name)
        return f"{name} {len(made)}"

    monkeypatch.setattr(module, "_made", anew)
    monkeypatch.setattr(results, "save", lambda one, path: (
        path.parent.mkdir(parents=True, exist_ok=True), path.write_text(one)))  # fmt: skip
    monkeypatch.setattr(results, "load", lambda path: path.read_text())
    return asked


def test_one_question_is_answered_once(ask: Ask, tmp_path: Path) -> None:
    first, path = ask()
    name, count = first.split()
    assert count == "1" and len(name) == 12
    assert path == tmp_path / ".audit" / "gender" / "manifest-x" / f"{name}.json"
    assert ask() == (first, path)
    assert ask(options={"a": 2, "b": 1}, folder="/moved") == (first, path)  # wherever it lies
    assert ask(force=True) == (f"{name} 2", path) == ask()


@pytest.mark.parametrize(
    "change",
    [{"task": "accent"}, {"version": "2"}, {"options": {"b": 1, "a": 3}}, {"digest": "e"},
     {"rounds": "kfold"}, {"of_corpus": "4"}, {"files": ("b.wav",)},
     {"files": ("a.wav", "a.wav")}],
)  # fmt: skip
def test_another_question_has_another_audit(ask: Ask, change: dict[str, Any]) -> None:
    assert ask()[1].name != ask(**change)[1].name


@pytest.mark.parametrize("where", [module, traits])
def test_what_is_measured_otherwise_is_measured_anew(
    ask: Ask, monkeypatch: pytest.MonkeyPatch, where: Any
) -> None:
    before = ask()[1]
    monkeypatch.setattr(where, "VERSION", "later")
    assert ask()[1] != before


def test_a_record_says_what_a_runs_does() -> None:
    task = build_task("classify", {"labels": ["word"], "metric": "uar"})
    words = ("no", "yes")
    clips = [Clip(f"c{i}", "a.wav", 0.0, 1.0, f"g{i}", labels={"word": words[i % 2]})
             for i in range(8)]  # fmt: skip
    said = [Prediction(c.id, labels={"word": "no" if c.id in ("c0", "c1", "c2") else "yes"},
                       scores={"word=no": 0.5, "word=yes": 0.5}) for c in clips]  # fmt: skip
    answers = Answers(predictions=said, weights=["balanced", None])
    asked: Any = SimpleNamespace(tested=clips, labels=[{"word": words}, {}])
    config: Any = SimpleNamespace(
        task=SimpleNamespace(name="classify"), corpus_name="manifest-x", rounds="kfold-3"
    )
    corpus: Any = SimpleNamespace(version="7", unit="child")
    data: Any = SimpleNamespace(digest="dd", leakage="")
    record = module._record(config, task, corpus, data, asked, answers, "shuffled", 3)
    assert record.metrics["uar"] == pytest.approx((2 / 4 + 3 / 4) / 2)
    assert record.created and "torch" in record.versions
    kept = record.jackknife
    assert (kept["unit"], kept["groups"], kept["metric"]) == (
        "child", [f"g{i}" for i in range(8)], "uar"
    )  # fmt: skip
    plain = make()
    assert replace(
        record, created="", versions={}, jackknife={}, metrics={}, intervals={}
    ) == replace(
        plain, id="audit-shuffled-3", task="classify", task_version=task.version,
        corpus="manifest-x", corpus_version="7", corpus_digest="dd", encoder="shuffled",
        encoder_fingerprint="", head="trees", objective="", seed=3, protocol="kfold-3",
        metrics={}, intervals={}, units=dict(task.units), primary="uar", jackknife={},
        labels={"word": ["no", "yes"]}, tuned={"class_weight": ["balanced", "none"]}, cost={},
        config={},
    )  # fmt: skip
    assert record.intervals.keys() >= {"uar"}
    data.leakage = "a speaker is in two splits"
    first = module._record(config, task, corpus, data, asked, answers, "traits")
    assert first.leakage is True and (first.id, first.seed) == ("audit-traits-0", 0)


def test_traits_are_kept_by_what_a_clip_holds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BAB_CACHE", str(tmp_path / "cache"))
    path = tmp_path / "a.wav"
    soundfile.write(path, np.concatenate([np.zeros(4000), np.full(4000, 0.5)]), 8000)
    parts = [Clip("a", str(path), 0.0, 0.5, "g"), Clip("b", str(path), 0.5, 1.0, "g"),
             Clip("c", str(path), 0.0, 1.0, "g")]  # fmt: skip
    data: Any = SimpleNamespace(digest="dd")
    told: list[Any] = []
    rows = module._measured(data, lambda *one: told.append(one), parts)
    zeros = rows[:, list(traits.TRAITS).index("zeros")].tolist()
    assert zeros == [1.0, 0.0, 0.5]
    assert [one for one in told if one[0] == "measuring"] == [
        ("measuring", i, 3, "clips") for i in (1, 2, 3)
    ]
    assert {(name, unit) for name, _, _, unit in told} == {
        ("taking checksums", "files"), ("measuring", "clips")
    }  # fmt: skip
    (file,) = (tmp_path / "cache" / "audit").iterdir()
    assert file.name == f"dd-{traits.VERSION}.npz"
    assert sorted(map(len, module._recalled(file).values())) == [12, 12, 12]
    before = file.stat().st_mtime_ns
    monkeypatch.setattr(traits, "_heard", lambda clip: pytest.fail("measured again"))
    again = module._measured(data, lambda *one: None, [replace(parts[1], id="other"), parts[0]])
    assert (again == rows[[1, 0]]).all() and file.stat().st_mtime_ns == before  # nothing is new
    whole = file.read_bytes()
    for damaged in (whole[:-1] + bytes([whole[-1] ^ 1]), whole[: len(whole) // 2], b""):
        file.write_bytes(damaged)
        assert module._recalled(file) == {}
    uneven = io.BytesIO()
    np.savez(uneven, keys=np.array(["a", "b"]), rows=np.zeros((1, 12)))
    file.write_bytes(seal(uneven.getvalue()))
    assert module._recalled(file) == {}
