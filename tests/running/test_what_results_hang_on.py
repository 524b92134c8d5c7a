"""What a run's id, a result in an out folder and unfinished rows are found by: each part of it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
import soundfile
import torch
from made_models import made

from bab.config.run import RunConfig
from bab.core.errors import BusyError, InterruptedRunError
from bab.core.types import Clip, Output
from bab.data.splits import Fold
from bab.predicting import embed as embedding
from bab.predicting import maker, precision
from bab.predicting.embed import EmbedOptions, embed
from bab.predicting.maker import Maker, PredictOptions
from bab.predicting.predict import predict
from bab.predicting.recordings import Recording
from bab.running import fold as folding
from bab.running import folder
from bab.running.parts import Parts
from bab.starting.folders import held


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return made(tmp_path_factory.mktemp("hangs"), "vtc", encoder="fbank")


@pytest.fixture
def sound(tmp_path: Path) -> Path:
    noise = np.random.default_rng(0).normal(0, 0.1, 160000).astype(np.float32)
    soundfile.write(tmp_path / "a.wav", noise, 16000)
    return tmp_path / "a.wav"


def test_a_runs_id_hangs_on_all_that_its_result_depends_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    start = SimpleNamespace(digest="d", labels={"k": ["a"]}, tuned={"p": {"t": 0.5}})
    parts = SimpleNamespace(
        encoder=SimpleNamespace(fingerprint="f"), task=SimpleNamespace(version="1"),
        corpus=SimpleNamespace(version="1"), start=start,
    )  # fmt: skip
    config: dict[str, Any] = {"seed": 0, "corpus": {"name": "x"}, "test_corpus": {"name": "y"}}
    strangers = {"head": "mine 1.0 m:H"}
    monkeypatch.setattr(folder, "plugins", lambda parts: strangers)

    def called(digest: str = "c") -> str:
        given = SimpleNamespace(identity=lambda: json.loads(json.dumps(config)))
        return folder.run_id(cast(RunConfig, given), cast(Parts, parts), digest)

    ids = [called(), called("other")]
    changes: list[tuple[Any, str, Any]] = [
        (parts.encoder, "fingerprint", "g"), (parts.task, "version", "2"),
        (parts.corpus, "version", "2"), (start, "digest", "e"), (start, "labels", {"k": ["b"]}),
        (start, "tuned", {"p": {"t": 0.6}}), (parts, "start", None),
    ]  # fmt: skip
    for what, name, value in changes:
        setattr(what, name, value)
        ids.append(called())
    strangers["head"] = "mine 1.1 m:H"
    ids.append(called())
    strangers["task"] = strangers.pop("head")
    ids.append(called())
    assert len(set(ids)) == len(ids)
    for section in ("corpus", "test_corpus"):
        config[section] = {"name": config[section]["name"], "root": "/elsewhere"}
        assert called() == ids[-1]  # where a corpus lies makes no difference
    config["head"] = {"a": 1, "b": 2}
    headed = called()
    config["head"] = {"b": 2, "a": 1}
    assert called() == headed != ids[-1]  # nor does the order of options
    config["seed"] = 1
    assert called() not in (*ids, headed)


def test_what_a_model_says_hangs_on_whose_its_parts_are(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def by(whose: Callable[[Maker], Any] | None) -> str:
        own = Maker(model, PredictOptions(), tmp_path)
        stranger = whose(own) if whose else None
        monkeypatch.setattr(maker, "origin", lambda one: "mine 1 m:C" if one is stranger else "")
        return own._made_by()

    parts = [
        None, lambda m: m.saved.encoder, lambda m: m.saved.task, lambda m: m.saved.model.head,
    ]  # fmt: skip
    plain, *others = [by(whose) for whose in parts]
    assert plain not in others


def test_a_folder_that_another_device_began_keeps_to_no_precision(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(precision, "refuse_precision", lambda device, kind: None)
    weights = Maker(model, PredictOptions(), tmp_path).saved.digest

    def begun(**origin: str) -> str:
        whole = {"weights": weights, "device": "cpu", "precision": "bf16", **origin}
        (tmp_path / "prediction.json").write_text(json.dumps(whole))
        return Maker(model, PredictOptions(), tmp_path).precision

    assert [begun(), begun(device="cuda"), begun(weights="x")] == ["bf16", "fp32", "fp32"]


@pytest.mark.parametrize("what", ["__version__", "_ROWS"])
def test_rows_that_another_version_began_are_left_alone(
    model: Path, sound: Path, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    out = sound.parent / "out"
    own = Maker(model, PredictOptions(), out)
    begun: list[str] = []
    spool = own.results.spool
    monkeypatch.setattr(own.results, "spool", lambda key: begun.append(key) or spool(key))

    def hear() -> None:
        def stop() -> bool:
            return True

        with pytest.raises(InterruptedRunError):
            own.hear(Recording("a", str(sound)), lambda seconds: None, stop)

    hear()
    hear()
    monkeypatch.setattr(maker, what, "another")
    hear()
    assert begun[0] == begun[1] != begun[2]


def test_embedded_rows_of_another_version_are_left_alone(
    sound: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun: list[str] = []
    spool = embedding.Results.spool

    def spooled(self: Any, key: str) -> Path:
        begun.append(key)
        return spool(self, key)

    monkeypatch.setattr(embedding.Results, "spool", spooled)
    for number, version in enumerate(("1", "1", "2")):
        monkeypatch.setattr(embedding, "__version__", version)
        embed("fbank", [sound], sound.parent / str(number), EmbedOptions(per="clip"))
    keys = list(dict.fromkeys(begun))
    assert len(keys) == 2 and begun[0] == keys[0] and begun[-1] == keys[1]


def test_what_is_said_of_a_split_comes_clip_by_clip_in_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """On a GPU the shortest go first, and processes take turns."""
    spans = [("b", 0.0), ("a", 5.0), ("a", 1.0), ("a", 3.0)]
    outputs = [Output(Clip(n, "x.wav", s, s + 1, "g"), np.zeros(1)) for n, s in spans]
    asked: list[Any] = []
    monkeypatch.setattr(folding, "infer", lambda *given: asked.append(given) or iter(outputs))
    handle = SimpleNamespace(process_index=0, num_processes=1, device=torch.device("cpu"))
    config = SimpleNamespace(train=SimpleNamespace(precision="bf16"))

    def context(trainer: Any) -> Any:
        return SimpleNamespace(
            examples=lambda clips: ("examples", clips), asked=lambda clips, split: (clips, split),
            accelerator=handle, trainer=trainer, config=config, source=lambda: "source",
            parts=SimpleNamespace(task=SimpleNamespace(pairs=True)),
            progress=lambda split: f"progress of {split}",
        )  # fmt: skip

    scorer = torch.nn.Linear(1, 1).train()
    fold = Fold(cast(Any, "train"), cast(Any, "dev"), cast(Any, "test"))
    for split in ("dev", "test"):
        said = folding.answered(context(handle), cast(Any, scorer), fold, cast(Any, split))
        assert [(o.clip.id, o.clip.start) for o in said] == sorted(spans)
        assert asked[-1] == (
            scorer, ("examples", (split, split)), "source", handle.device, "bf16", True, (0, 1),
            f"progress of {split}",
        )  # fmt: skip
    assert not scorer.training
    beside = SimpleNamespace(device=torch.device("meta"))  # a head beside the encoder's GPU
    folding.answered(context(beside), cast(Any, scorer), fold, "dev")
    assert asked[-1][3:5] == (beside.device, "fp32")


@pytest.mark.parametrize("command", ["embed", "predict"])
def test_two_commands_never_write_into_one_folder(model: Path, sound: Path, command: str) -> None:
    out = sound.parent / "out"

    def go() -> None:
        if command == "embed":
            embed("fbank", [sound], out, EmbedOptions(per="clip"))
        else:
            predict(model, [sound], out)

    with held(out / ".bab"), pytest.raises(BusyError, match=r"at work in .*out/\.bab: wait for it"):
        go()
    left = [out / name for name in (".tmp-999999999-a-b.tmp", ".bab/.tmp-999999999-c-d.tmp")]
    for path in left:
        path.write_text("of a killed one")
    go()
    assert not any(path.exists() for path in left)
