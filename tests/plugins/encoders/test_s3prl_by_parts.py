"""s3prl by parts: errors, identities, strides, frame counts, what torchaudio lacks."""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import pickle
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import torchaudio
from torch import nn

from bab.core.errors import BabError
from bab.core.weights import WeightsError
from bab.plugins.encoders.s3prl import S3prl
from bab.plugins.encoders.shared import s3prl

needed = pytest.mark.skipif(
    importlib.util.find_spec("s3prl") is None, reason="s3prl is not installed (bab[s3prl])"
)


@needed
@pytest.mark.parametrize(
    ("error", "said"),
    [
        (ModuleNotFoundError("no x", name="x"), "needs the package x, which is not installed"),
        (ConnectionError("no\n net"), "could not fetch its checkpoint: ConnectionError: no net"),
        (FileNotFoundError("gone"), "could not be built: FileNotFoundError: gone"),
        (ValueError(), "could not be built: ValueError"),
        (ValueError("x" * 300), f"could not be built: ValueError: {'x' * 200}"),
        (pickle.UnpicklingError("y"), "has a checkpoint that holds more than tensors, and loading "
         "it could run code: pass --trust-code if you trust it"),
    ],
)  # fmt: skip
def test_why_an_upstream_could_not_be_built(
    monkeypatch: pytest.MonkeyPatch, error: Exception, said: str
) -> None:
    s3prl.mend_torchaudio()
    module: Any = importlib.import_module("s3prl.upstream.baseline.hubconf")

    def fail(**given: Any) -> None:
        raise error

    monkeypatch.setattr(module, "fbank", fail)
    with pytest.raises(WeightsError) as raised:
        S3prl.load("fbank", S3prl.Options())
    assert str(raised.value) == f"s3prl's 'fbank' {said}"

    def unusual(name: str) -> Any:
        raise RuntimeError("broken\nlibrary")

    monkeypatch.setattr(s3prl.importlib, "import_module", unusual)
    monkeypatch.setattr(s3prl, "mend_torchaudio", lambda: None)
    with pytest.raises(WeightsError) as raised:
        S3prl.load("fbank", S3prl.Options())
    assert str(raised.value) == (
        "s3prl's 'fbank' can't be imported here: RuntimeError: broken library"
    )


@needed
def test_a_checkpoint_is_a_file_under_home_or_an_address(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    s3prl.mend_torchaudio()
    module: Any = importlib.import_module("s3prl.upstream.wavlm.hubconf")
    asked: list[Any] = []

    def entry(ckpt: Any) -> None:
        asked.append(ckpt)
        raise BabError("stopped here")

    monkeypatch.setattr(module, "wavlm_local", entry)
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "w.pt").touch()
    given = ["https://x.org/w.pt", "http://x.org/w.pt", "~/w.pt", str(tmp_path / "w.pt")]
    for ckpt in given:
        with pytest.raises(BabError, match=r"^stopped here$"):
            S3prl.load("wavlm_local", S3prl.Options(ckpt=ckpt))
    assert asked == [*given[:2], given[3], given[3]]
    with pytest.raises(WeightsError, match=r"^encoder.ckpt: there is no file ftp:/x.org/w.pt$"):
        S3prl.load("wavlm_local", S3prl.Options(ckpt="ftp://x.org/w.pt"))


def test_what_a_checkpoint_is_known_by(tmp_path: Path) -> None:
    """The bytes of a file, or of the JSON files of a folder; a URL is its own name."""
    assert s3prl.identity(None) == "" and s3prl.identity("https://x/y.pt") == "https://x/y.pt"
    (tmp_path / "a.bin").write_bytes(b"123")
    assert s3prl.identity(str(tmp_path / "a.bin")) == hashlib.sha256(b"\x00123").hexdigest()
    (tmp_path / "b.json").write_bytes(b"45")
    one = hashlib.sha256(b"\x0045").hexdigest()
    assert s3prl.identity(str(tmp_path)) == one
    (tmp_path / "a.json").write_bytes(b"6")
    both = hashlib.sha256(b"a.json\x006b.json\x0045").hexdigest()
    assert s3prl.identity(str(tmp_path)) == both


@pytest.mark.parametrize(
    ("said", "step"), [([160, 320], 320), (160, 160), ((80,), 80), (0, None), (1.5, None)]
)
def test_the_stride_is_the_last_states(said: Any, step: int | None) -> None:
    upstream = SimpleNamespace(get_downsample_rates=lambda key: {"hidden_states": said}[key])
    if step is not None:
        assert s3prl.stride(upstream, "x") == step
        return
    with pytest.raises(WeightsError) as raised:
        s3prl.stride(upstream, "x")
    assert str(raised.value) == f"s3prl's 'x' doesn't say its stride: {said!r}"
    with pytest.raises(WeightsError, match=r"doesn't say its stride: None$"):
        s3prl.stride(object(), "x")


@needed
def test_an_upstream_without_states_over_time() -> None:
    class Still(nn.Module):
        said: Any = None

        def forward(self, wavs: list[torch.Tensor]) -> dict[str, Any]:
            return {"last_hidden_state": self.said}

    for said in (None, torch.zeros(1, 4)):
        Still.said = said
        with pytest.raises(WeightsError) as raised:
            S3prl(Still(), "still", S3prl.Options())
        assert str(raised.value) == "s3prl's 'still' gives no hidden_states over time"


@pytest.mark.parametrize(("frames", "given"), [(20, 11), (11, 20), (20, 10), (10, 20)])
def test_a_frame_count_may_be_off_by_less_than_half(frames: int, given: int) -> None:
    """s3prl's own rule: within five frames, or neither count twice the other."""
    named: Any = SimpleNamespace(resolved="s3prl:x", grid=SimpleNamespace(hop=160))
    state = torch.arange(float(given))[None, :, None]
    if 10 in (frames, given):
        with pytest.raises(BabError) as raised:
            S3prl._fit(named, state, frames, False)
        assert str(raised.value) == (
            f"s3prl:x gave {given} frames where its stride of 160 samples means {frames}: some "
            "upstreams drop digital silence at the end; leave such clips out"
        )
    wanted = [min(float(n), given - 1.0) for n in range(frames)]
    assert S3prl._fit(named, state, frames, 10 in (frames, given))[0, :, 0].tolist() == wanted


def test_torchaudio_lacks_sox_and_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.delitem(sys.modules, "torchaudio.sox_effects", raising=False)
    monkeypatch.delattr(torchaudio, "set_audio_backend", raising=False)
    real = importlib.import_module

    def lacking(name: str) -> Any:
        if name == "torchaudio.sox_effects":
            raise ImportError(name)
        return real(name)

    monkeypatch.setattr(s3prl.importlib, "import_module", lacking)
    s3prl.mend_torchaudio()
    assert torchaudio.set_audio_backend("x") is None
    with pytest.raises(BabError) as raised:
        sys.modules["torchaudio.sox_effects"].apply_effects_tensor(1, a=2)
    assert (
        str(raised.value) == "torchaudio has no sox effects any more: this upstream can't run here"
    )
    kept = torchaudio.set_audio_backend = lambda backend: "mine"
    s3prl.mend_torchaudio()
    assert torchaudio.set_audio_backend is kept


def test_the_folder_of_a_name_is_the_same_whatever_order_a_file_system_has(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The folder that a name begins with; of others, the first by name."""
    for folder, names in {
        "alpha": ("one", "both", "beta_local", "_hidden"),
        "beta": ("two", "both", "beta_local"),
        "beta_large": ("beta_local", "beta_large_x"),
    }.items():
        place = tmp_path / "upstream" / folder
        place.mkdir(parents=True)
        lines = [f"def {name}(*args, **kwargs): ..." for name in names]
        (place / "hubconf.py").write_text("\n".join(["import os", "x = 1", *lines, ""]))
    monkeypatch.setattr(s3prl, "_folder", lambda: tmp_path)
    expected = {
        "one": "alpha", "both": "alpha", "beta_local": "beta", "two": "beta",
        "beta_large_x": "beta_large",
    }  # fmt: skip
    real = Path.glob
    for turned in (False, True):
        monkeypatch.setattr(
            Path, "glob", lambda self, what, t=turned: sorted(real(self, what), reverse=t)
        )
        assert s3prl.catalogue() == expected
