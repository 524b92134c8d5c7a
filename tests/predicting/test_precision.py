"""Which precision `auto` means, and that a folder keeps to it."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import soundfile

from bab.core.errors import ConfigError
from bab.predicting import precision as module
from bab.predicting.maker import PredictOptions
from bab.predicting.precision import chosen
from bab.predicting.predict import predict
from bab.running.saved import shown_as

SHOWN = ("cpu", "hubert:tiny", "vtc")


def refusing(monkeypatch: pytest.MonkeyPatch, halves: bool) -> None:
    def refuse(device: str, precision: str) -> None:
        if precision != "fp32" and not halves:
            raise ConfigError("no units")

    monkeypatch.setattr(module, "refuse_precision", refuse)


def test_half_precision_only_where_it_was_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    refusing(monkeypatch, True)
    assert chosen("auto", *SHOWN) == "bf16"
    assert chosen("auto", *SHOWN, before="fp32") == "fp32"
    for other in (
        ("cpu", "hubert:base", "vtc"),
        ("cpu", "hubert:tiny", "asr"),
        ("cuda", *SHOWN[1:]),
    ):
        assert chosen("auto", *other) == "fp32"
    assert chosen("bf16", "cpu", "hubert:base", "vtc") == "bf16"
    refusing(monkeypatch, False)
    assert chosen("auto", *SHOWN) == "fp32" == chosen("auto", *SHOWN, before="bf16")
    with pytest.raises(ConfigError, match="no units"):
        chosen("bf16", *SHOWN)
    with pytest.raises(ConfigError, match="did you mean 'bf16'"):
        chosen("bf61", *SHOWN)


def test_a_folder_keeps_its_precision_and_says_it(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    refusing(monkeypatch, True)
    sound = tmp_path / "a.wav"
    soundfile.write(sound, np.random.default_rng(0).normal(0, 0.1, 48000), 16000)
    plain = predict(model, [sound], tmp_path / "fp32")
    resolved = json.loads((tmp_path / "fp32" / "prediction.json").read_text())["encoder"]
    assert not any("computed in" in line for line in plain.notices)
    monkeypatch.setattr(module, "_SHOWN", {(resolved, "vtc")})
    new = predict(model, [sound], tmp_path / "new")
    assert any(line.startswith("computed in bf16") for line in new.notices)
    origin = json.loads((tmp_path / "new" / "prediction.json").read_text())
    assert origin["precision"] == "bf16" and new.notices[0] in origin["notices"]
    again = predict(model, [sound], tmp_path / "new")  # nothing was computed
    assert again.again == 1 and not any("computed in" in line for line in again.notices)
    assert predict(model, [sound], tmp_path / "fp32").again == 1  # begun in fp32: goes on so
    assert predict(model, [sound], tmp_path / "fp32", PredictOptions(precision="bf16")).again == 0


def test_what_was_shown_of_an_encoder_is_not_of_one_trained_further() -> None:
    spec = {"resolved": "hubert:tiny", "fingerprint": "abc", "task": {"name": "vtc"}}
    for fingerprint, name in (("abc", "hubert:tiny"), ("abc and more", "")):
        saved = SimpleNamespace(encoder=SimpleNamespace(fingerprint=fingerprint), spec=spec)
        assert shown_as(saved) == (name, "vtc")  # type: ignore[arg-type]
