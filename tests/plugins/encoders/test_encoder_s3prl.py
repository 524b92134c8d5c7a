"""s3prl: names, the contract, and equality with bab's own encoders of the same weights.

Upstreams that need no download: the spectral baselines, and transformers models saved here.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import forks
import pytest
import torch
import transformers

from bab.core.errors import BabError
from bab.core.grid import Grid
from bab.core.interfaces import Encoder
from bab.core.types import Waves
from bab.core.weights import WeightsError
from bab.plugins.encoders.fbank import Fbank
from bab.plugins.encoders.hubert import Hubert
from bab.plugins.encoders.s3prl import S3prl
from bab.plugins.encoders.shared import s3prl
from bab.plugins.encoders.shared.measure import measured
from bab.plugins.encoders.wav2vec2 import Wav2Vec2
from bab.testing.encoders import CHECKS, check_identity

needed = pytest.mark.skipif(
    importlib.util.find_spec("s3prl") is None, reason="s3prl is not installed (bab[s3prl])"
)

SMALL: dict[str, Any] = {
    "conv_dim": [24] * 7,
    "hidden_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "intermediate_size": 64,
    "num_conv_pos_embeddings": 16,
    "num_conv_pos_embedding_groups": 4,
}
LARGE = {"feat_extract_norm": "layer", "do_stable_layer_norm": True, "conv_bias": True}
KINDS: dict[str, tuple[str, type[Encoder]]] = {
    "hf_hubert_custom": ("Hubert", Hubert),
    "hf_wav2vec2_custom": ("Wav2Vec2", Wav2Vec2),
}


def save(family: str, folder: Path, extractor: bool = True, **config: Any) -> Path:
    torch.manual_seed(7)
    made = getattr(transformers, f"{family}Config")(**{**SMALL, **config})
    getattr(transformers, f"{family}Model")(made).save_pretrained(folder)
    if extractor:
        transformers.Wav2Vec2FeatureExtractor(do_normalize=True).save_pretrained(folder)
    return folder


def load(name: str, *, trust_code: bool = False, offline: bool = True, **options: Any) -> S3prl:
    return S3prl.load(name, S3prl.Options(**options), offline=offline, trust_code=trust_code)


def waves(*sizes: int) -> Waves:
    torch.manual_seed(sum(sizes))
    samples = torch.randn(len(sizes), max(sizes)) * 0.05  # the padding is noise, too
    return Waves(samples, torch.tensor(sizes))


@needed
@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
@pytest.mark.parametrize("name", ["fbank", "mfcc", "spectrogram", "hf_hubert_custom"])
def test_contract(name: str, check: Callable[..., None], tmp_path: Path) -> None:
    """Batch independence among them: hf_hubert_custom's own padding would break it."""
    options = {"ckpt": str(save("Hubert", tmp_path))} if name.startswith("hf_") else {}
    check(lambda: load(name, **options))


@needed
def test_fbank_equals_ours() -> None:
    theirs, ours = load("fbank"), Fbank.load("", Fbank.Options())
    assert theirs.grid == ours.grid == Grid(16000, 160, 400)
    assert (theirs.dim, theirs.depth, theirs.resolved) == (240, 1, "s3prl:fbank")
    batch = waves(16000, 1003, 24000)
    got, want = theirs(batch), ours(batch)
    assert torch.equal(got.lengths, want.lengths)
    torch.testing.assert_close(got.layers[0], want.layers[0], atol=1e-3, rtol=0)


@needed
@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize("config", [{}, LARGE], ids=["base", "large"])
def test_equals_ours_on_every_layer(name: str, config: dict[str, Any], tmp_path: Path) -> None:
    """Same folder, same frames: the grid found by counting is the exact one. Of models with the
    norm after their layers s3prl hands on the last state before it."""
    family, cls = KINDS[name]
    save(family, tmp_path, **config)
    theirs, ours = load(name, ckpt=str(tmp_path)), cls.load(str(tmp_path), cls.Options())
    assert (theirs.grid, theirs.depth, theirs.dim) == (ours.grid, ours.depth, ours.dim)
    batch = waves(6403, 16000, 9001, 16000)
    with torch.no_grad():
        got, want = theirs(batch), ours(batch)
        assert torch.equal(got.lengths, want.lengths)
        states = list(got.layers)
        if config:
            inside = (torch.arange(49) < got.lengths[:, None])[..., None]
            states[-1] = ours.model.encoder.layer_norm(states[-1]) * inside
        for mine, other in zip(states, want.layers, strict=True):
            torch.testing.assert_close(mine, other, atol=1e-4, rtol=0)
        last = theirs(batch, layers="last").layers
    assert len(last) == 1 and torch.equal(last[0], got.layers[-1])


@needed
def test_names_are_read_without_importing() -> None:
    names = s3prl.catalogue()
    assert len(names) > 150 and len(set(names.values())) >= 35
    assert names["wav2vec2_local"] == "wav2vec2"  # vq_wav2vec defines one, too
    assert names["fbank"] == names["mfcc"] == "baseline"
    code = (
        "import sys; from bab.plugins.encoders.shared import s3prl; s3prl.catalogue();"
        "import bab.plugins.encoders.s3prl; assert 's3prl' not in sys.modules"
    )
    done = forks.run([sys.executable, "-c", code])
    assert done.returncode == 0, done.stderr


@needed
def test_most_upstreams_import() -> None:
    """Beside a torchaudio without sox effects: 37 of 37 where this was written."""
    s3prl.mend_torchaudio()
    folders = set(s3prl.catalogue().values())
    bad = []
    for folder in folders:
        try:
            importlib.import_module(f"s3prl.upstream.{folder}.hubconf")
        except Exception as error:
            bad.append(f"{folder}: {error}")
    assert len(bad) <= 2, bad


@needed
def test_grid_of_padded_frames() -> None:
    """librosa's way, frames centred on multiples of the hop, is seen in the counts."""
    encoder = load("linear")
    assert encoder.grid == Grid(16000, 160, 160, -80)
    assert encoder.grid.centre(3) == 0.03 and encoder.grid.frames(16000) == 101


@needed
def test_values_that_are_no_numbers() -> None:
    with pytest.raises(BabError, match=r"s3prl:mel gives values that are no numbers .* 0\.009 s"):
        load("mel")(waves(150))


@needed
def test_frames_that_an_upstream_drops() -> None:
    """s3prl's linear spectrogram ends where digital silence starts."""
    encoder = load("linear")
    batch = waves(16000)
    batch.samples[0, 14000:] = 0.0
    out = encoder(batch).layers[0][0]
    assert out.shape == (101, 201) and torch.equal(out[-1], out[-10])  # the last is repeated
    batch.samples[0, 4000:] = 0.0
    with pytest.raises(BabError, match=r"gave 25 frames where .* means 101: some upstreams drop"):
        encoder(batch)


@needed
def test_states_of_unlike_widths_leave_the_last(monkeypatch: pytest.MonkeyPatch) -> None:
    class Uneven(torch.nn.Module):
        def get_downsample_rates(self, key: str) -> list[int]:
            return [160, 320]

        def forward(self, wavs: list[torch.Tensor]) -> dict[str, Any]:
            x = torch.stack(wavs)
            slow = x.unfold(1, 320, 320)
            return {"hidden_states": (x.unfold(1, 160, 160), slow)}

    encoder = S3prl(Uneven(), "uneven", S3prl.Options())
    assert (encoder.depth, encoder.dim, encoder.grid) == (1, 320, Grid(16000, 320, 320))
    assert encoder(waves(3200)).layers[0].shape == (1, 10, 320)
    monkeypatch.setattr(Uneven, "get_downsample_rates", lambda self, key: 3200)
    with pytest.raises(WeightsError, match="a stride of 3200 samples, but gives 150 frames for"):
        S3prl(Uneven(), "uneven", S3prl.Options())
    monkeypatch.setattr(Uneven, "get_downsample_rates", lambda self, key: None)
    with pytest.raises(WeightsError, match="doesn't say its stride"):
        S3prl(Uneven(), "uneven", S3prl.Options())


@needed
def test_frozen_and_in_evaluation_mode(tmp_path: Path) -> None:
    encoder = load("hf_hubert_custom", ckpt=str(save("Hubert", tmp_path, hidden_dropout=0.5)))
    batch = waves(16000)
    still = encoder(batch).layers[-1]
    assert not any(p.requires_grad for p in encoder.parameters())
    assert torch.equal(encoder.train()(batch).layers[-1], still)
    with pytest.raises(BabError, match="can't be masked"):
        encoder(batch, mask=torch.zeros(1, 49, dtype=torch.bool))


@needed
def test_fingerprint_follows_output(tmp_path: Path) -> None:
    def make(name: str, **options: Any) -> Callable[[], Encoder]:
        return lambda: load(name, **options)

    check_identity(make("fbank"), make("fbank_no_cmvn"))
    a, b = str(save("Hubert", tmp_path / "a")), str(save("Hubert", tmp_path / "b"))
    config = tmp_path / "b" / "config.json"
    config.write_text(
        config.read_text().replace('"num_attention_heads": 4', '"num_attention_heads": 2')
    )
    check_identity(make("hf_hubert_custom", ckpt=a), make("hf_hubert_custom", ckpt=b))
    assert load("hf_hubert_custom", ckpt=a).resolved == f"s3prl:hf_hubert_custom[{a}]"


@needed
@pytest.mark.parametrize(
    ("name", "options", "says"),
    [
        ("", {}, "s3prl needs a name: s3prl:NAME"),
        ("hubertt", {}, r"no upstream 'hubertt': did you mean 'hubert'.*\d+ names"),
        ("hf_hubert_custom", {}, "needs a checkpoint: --set encoder.ckpt=PATH"),
        ("wavlm_local", {"ckpt": "/none.pt"}, "there is no file /none.pt"),
        ("hf_hubert_custom", {"ckpt": "/none"}, "/none does not exist"),
        ("fbank", {"ckpt": "/none.pt"}, "'fbank' takes no checkpoint"),
        ("fbank", {"config": "/none.yaml"}, "'fbank' takes no model_config"),
        ("baseline_local", {}, "needs a configuration: --set encoder.config=PATH"),
        ("baseline_local", {"config": "/none.yaml"}, "there is no file /none.yaml"),
        ("apc", {}, "apc.* is not on this machine and --offline forbids"),
    ],
)
def test_errors(
    name: str, options: dict[str, Any], says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    download: Any = importlib.import_module("s3prl.util.download")
    monkeypatch.setattr(download, "_download_dir", tmp_path / "cache")
    with pytest.raises(WeightsError, match=says) as caught:
        load(name, **options)
    assert "\n" not in str(caught.value)


@needed
def test_baseline_of_a_configuration(tmp_path: Path) -> None:
    folder = Path(importlib.import_module("s3prl").__file__ or "").parent
    text = (folder / "upstream" / "baseline" / "mfcc.yaml").read_text()
    (tmp_path / "mine.yaml").write_text(text)
    batch = waves(16000)
    got = load("baseline_local", config=str(tmp_path / "mine.yaml"))(batch).layers[0]
    assert torch.equal(got, load("mfcc")(batch).layers[0])


@needed
def test_another_models_preprocessor_is_never_taken(tmp_path: Path) -> None:
    save("Hubert", tmp_path, extractor=False)
    with pytest.raises(WeightsError, match=r"has no preprocessor_config.json: s3prl would take"):
        load("hf_hubert_custom", ckpt=str(tmp_path))


class Payload:
    """Unpickling it writes a file: what loading an untrusted checkpoint could do."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (self.target,))


@needed
def test_nothing_is_unpickled_unless_trusted(tmp_path: Path) -> None:
    """s3prl asks torch for full unpickling of some checkpoints (mockingjay, distiller, roberta)."""
    file, target = tmp_path / "evil.ckpt", tmp_path / "ran"
    torch.save({"Config": Payload(target)}, file)
    before = torch.load
    with pytest.raises(WeightsError, match=r"more than tensors.*--trust-code if you trust it"):
        load("tera_local", ckpt=str(file))
    assert not target.exists() and torch.load is before
    with pytest.raises(WeightsError, match="could not be built"):
        load("tera_local", ckpt=str(file), trust_code=True)
    assert target.exists()


def test_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(WeightsError, match=r"pip install 'bab\[s3prl\]'"):
        load("fbank")


@pytest.mark.parametrize("field", [160, 161, 400, 1000])
def test_a_grid_is_measured_from_outside(field: int) -> None:
    """That of a convolution without padding is its own: frames at (n - field) // hop + 1."""
    near = field + 7 * 160 + 3
    grid = measured(lambda n: (n - field) // 160 + 1, 16000, 160, near)
    assert (grid.hop, grid.field, grid.offset) == (160, field, 0)
    assert [grid.frames(n) for n in (near, near + 200)] == [8, 9]


@pytest.mark.parametrize(("gap", "good"), [(5, True), (-5, True), (6, False), (-6, False)])
def test_frames_may_differ_by_five(gap: int, good: bool) -> None:
    """s3prl's TOLERABLE_SEQLEN_DIFF; of so few that one count is twice the other."""
    state, named = (
        torch.arange(4.0)[None, :, None],
        SimpleNamespace(resolved="x", grid=Grid(16000, 160, 400)),
    )
    frames = 4 + gap if gap > 0 else 4
    state = state if gap > 0 else torch.arange(4.0 - gap)[None, :, None]
    if not good:
        with pytest.raises(BabError, match=f"gave {state.shape[1]} frames"):
            S3prl._fit(cast(Any, named), state, frames, False)
        return
    fitted = S3prl._fit(cast(Any, named), state, frames, False)
    assert fitted.shape[1] == frames and fitted[0, -1, 0] == 3.0
