"""Frame targets that are looked up: stretches, crops and files; devices, layers, names."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import soundfile
import torch
from target_files import RATE, clip_of, noise, run_make

from bab.core.errors import AudioError, BabError, ConfigError, NotApplicableError
from bab.targets import features as frame_features
from bab.targets.features import LayerFeatures, own_device, process
from bab.targets.store import Stretch, TargetStore, stretches


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BAB_CACHE", str(tmp_path / "cache"))


def test_stretches_by_file_and_start(tmp_path: Path) -> None:
    one, two = noise(tmp_path / "a.wav", 2.0), noise(tmp_path / "b.wav", 1.0, rate=8000)
    clips = [clip_of(two, 0.5, 9.0), clip_of(one, 1.0, 1.5), clip_of(one, 0.0, 0.25),
             clip_of(one, 1.25, 1.3), clip_of(one, 0.25, 0.5), clip_of(one, 1.9, 1.9),
             clip_of(one, 2.5, 3.0)]  # fmt: skip
    assert stretches(clips) == [
        Stretch(str(two), 8000, 8000), Stretch(str(one), 0, 8000), Stretch(str(one), 16000, 8000),
    ]  # fmt: skip
    odd = tmp_path / "odd.wav"
    soundfile.write(odd, np.zeros(801), 8000)
    assert stretches([clip_of(odd, 0.0, 9.0)]) == [Stretch(str(odd), 0, 1602)]


def test_crops_at_the_borders_of_what_is_labelled(tmp_path: Path) -> None:
    path = noise(tmp_path / "a.wav", 4.0)
    made = run_make([clip_of(path, 0.5, 1.5), clip_of(path, 2.0, 3.0)], tmp_path / "out")
    full = made.labels(clip_of(path, 0.5, 1.5), 49)
    later = made.labels(clip_of(path, 2.0, 3.0), 49)

    def crop(first: int, frames: int, base: float = 0.5) -> list[int]:
        start = base + first / RATE
        return made.labels(clip_of(path, start, start + 0.1), frames).tolist()

    assert crop(0, 49) == full.tolist() and crop(159, 5) == full[:5].tolist()
    assert crop(160, 5) == full[1:6].tolist() and crop(-160, 5) == full[:5].tolist()
    assert crop(0, 5, 2.0) == later[:5].tolist() and crop(48 * 320, 1) == full[48:].tolist()
    # One frame more than there are: the last one's label stands for it, too.
    assert crop(0, 50) == [*full.tolist(), int(full[-1])] and crop(49 * 320, 1) == [int(full[-1])]
    assert crop(160, 49) == [*full[1:].tolist(), int(full[-1])]
    for first, frames in ((-161, 5), (0, 51), (320, 50), (49 * 320, 2)):
        with pytest.raises(BabError, match=r"covers 0\.500 to 1\.480 s, 2\.000 to 2\.980 s\. Make"):
            crop(first, frames)
    again = TargetStore(tmp_path / "out")
    assert (again.rate, again.hop, again.field, again.folder) == (16000, 320, 400, tmp_path / "out")
    assert again.fingerprint == again.meta["fingerprint"]


def test_what_is_said_of_audio_without_labels(tmp_path: Path) -> None:
    path = noise(tmp_path / "a.wav", 6.0)
    spans = [clip_of(path, i, i + 0.5) for i in range(5)]
    made = run_make(spans, tmp_path / "out")
    remedy = (
        "Make targets of the same clips: bab targets --corpus CORPUS --centroids "
        f"{tmp_path / 'out'} --out NEW (or --encoder ... to fit anew)"
    )
    with pytest.raises(BabError) as caught:
        made.labels(clip_of(path, 5.5, 6.0), 24)
    covers = "0.000 to 0.480 s, 1.000 to 1.480 s, 2.000 to 2.480 s and 2 more"
    asked = f"{path}: no targets for 5.500 to 6.000 s"
    assert str(caught.value) == f"{asked}: {tmp_path / 'out'} covers {covers}. {remedy}"
    other = noise(tmp_path / "b.wav", 1.0, seed=3)
    with pytest.raises(BabError) as caught:
        made.labels(clip_of(other, 0.0, 1.0), 49)
    assert str(caught.value) == (
        f"{other}: no targets for 0.000 to 1.000 s: {tmp_path / 'out'} has none of this file's "
        "content: did it change, or was its split left out (a run reads train and dev)? " + remedy
    )
    made.require(spans)
    made.require([*spans, clip_of(other, 0.0, 0.9)])  # too short to say
    with pytest.raises(BabError, match=r"b\.wav: no targets for 0\.000 to 1\.000 s: "):
        made.require([*spans, clip_of(other, 0.0, 1.0)])
    made.meta["left_out"] = [f"{other}: broken"]
    with pytest.raises(AudioError) as left:
        made.labels(clip_of(other, 0.0, 1.0), 49)
    asked = f"{other}: no targets for 0.000 to 1.000 s"
    assert str(left.value) == f"{asked}: left out when they were made: {other}: broken"


def test_several_files_are_told_apart_by_content(tmp_path: Path) -> None:
    """Ids of many files are sorted, and found by bisection."""
    clips = [clip_of(noise(tmp_path / f"{i}.wav", 0.5, seed=i), 0.0, 0.5) for i in range(12)]
    made = run_make(clips, tmp_path / "out")
    ids = made._ids
    assert [bytes(row) for row in ids] == sorted(bytes(row) for row in ids)
    for one in clips:
        begin, end = made._range(one.path)
        assert end - begin == 1 and made._range(one.path) == (begin, end)
        with pytest.raises(BabError, match=r"covers 0\.000 to 0\.480 s\. Make"):
            made.labels(one, 26)
    keys = [int.from_bytes(bytes(row[:8]), "big") for row in ids]
    assert made._keys.tolist() == keys
    alone = [
        run_make([one], tmp_path / f"alone{i}", given=tmp_path / "out")
        for i, one in enumerate(clips[:3])
    ]
    for one, other in zip(clips, alone, strict=False):
        assert made.labels(one, 24).equal(other.labels(one, 24))


# ------------------------------------------------------------------------------- devices


def test_the_device_of_each_process(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK"):
        monkeypatch.delenv(name, raising=False)
    assert process() == (0, 1, 0) and own_device("cpu") == torch.device("cpu")
    monkeypatch.setattr(frame_features, "resolve_device", lambda name: "cuda")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert own_device("auto") == torch.device("cuda")
    monkeypatch.setenv("RANK", "5")
    monkeypatch.setenv("WORLD_SIZE", "8")
    assert process() == (5, 8, 5) and own_device("auto") == torch.device("cuda:1")
    monkeypatch.setenv("LOCAL_RANK", "2")
    assert process() == (5, 8, 2) and own_device("auto") == torch.device("cuda:0")


def test_mfcc_is_babs_own_and_no_encoder(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert frame_features.is_mfcc("mfcc") and not frame_features.is_mfcc("hubert")
    assert capsys.readouterr().err == ""
    other = SimpleNamespace(described="x 1.0's", full="x/mfcc")
    monkeypatch.setattr(frame_features.registry, "names", lambda kind: {"mfcc": other})
    assert frame_features.is_mfcc("mfcc") and not frame_features.is_mfcc("hubert")
    told = "bab: warning: 'mfcc' are bab's own MFCCs; x 1.0's is 'x/mfcc'\n"
    assert capsys.readouterr().err == told


def test_what_of_an_encoder_can_t_be_clustered() -> None:
    from bab.plugins.encoders.hubert import Hubert

    tiny = Hubert.load("random-tiny", Hubert.Options()).eval()
    for layer in (-1, tiny.depth):
        with pytest.raises(ConfigError) as caught:
            LayerFeatures(tiny, layer, torch.device("cpu"))
        assert str(caught.value) == (
            f"--layer {layer}: '{tiny.resolved}' has layers 0 (the input embedding) to "
            f"{tiny.depth - 1}"
        )
    made = LayerFeatures(tiny, 1, torch.device("cpu"))
    assert (made.whole, made.context, made.longest) == (1499, 50, 1399) and made.seconds == 64.0
    assert made.identity.endswith(" layer 1 window 1499 50") and made.dim == tiny.dim
    assert made.described == f"{tiny.resolved} layer 1" and made.precision == "fp32"
    half = LayerFeatures(tiny, 1, torch.device("cpu"), "bf16")
    assert half.identity.endswith(" window 1499 50 bf16")

    class Whole:
        resolved, depth = "clap", 2
        grid = SimpleNamespace(hop=0)

    with pytest.raises(NotApplicableError) as refused:
        LayerFeatures(Whole(), 1, torch.device("cpu"))  # type: ignore[arg-type]
    assert str(refused.value) == "'clap' gives one vector per clip: no frames"
