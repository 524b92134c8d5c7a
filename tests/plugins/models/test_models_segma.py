"""segma: what bab says against segma's own way, on random weights in the published layout."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
import torchaudio
from torch import nn

import bab
from bab.core.errors import BabError
from bab.core.types import Batch, Waves
from bab.running.saved import load_saved

LABELS = ("FEM", "KCHI", "MAL", "OCH")  # in another order than the thresholds' file
CHOSEN = {"KCHI": 0.45, "OCH": 0.55, "MAL": 0.5, "FEM": 0.48}
CONFIG = """
data: {dataset_path: data, classes: [FEM, KCHI, MAL, OCH]}
audio: {chunk_duration_s: 4, sample_rate: 16_000, strict_frames: false}
model: {name: surgical_hubert_hydra, config: {reduction: weighted}}
"""


class Hydra(nn.Module):
    """segma's `surgical_hubert_hydra` in small: torchaudio's HuBERT, a linear output per label."""

    def __init__(self, width: int = 64) -> None:
        super().__init__()
        layers = [(32, 10, 5), *[(32, 3, 2)] * 4, *[(32, 2, 2)] * 2]
        self.wav2vec2 = torchaudio.models.wav2vec2_model(
            "group_norm", layers, False, width, 0.0, 16, 4, 2, 1, 0.0, 96, 0.0, 0.0, False, 0.0,
            None,
        )  # fmt: skip
        self.task_heads = nn.ModuleDict(
            {f"linear_head_{label}": nn.Linear(width, 1) for label in LABELS}
        )

    def forward(self, x):
        x, lengths = self.wav2vec2.feature_extractor(x, None)
        states = self.wav2vec2.encoder.extract_features(x, lengths, num_layers=None)
        return torch.cat([head(states[-1]) for head in self.task_heads.values()], dim=-1)


def made(folder: Path, classifier: bool = False) -> nn.Module:
    """A folder as `hf download coml/VTC-2` leaves it, and its model."""
    torch.manual_seed(3)
    net = Hydra().eval()
    with torch.no_grad():
        for p in net.parameters():
            p.add_(0.05 * torch.randn_like(p))
        for head in net.task_heads.values():
            head.weight.mul_(8.0)
    tensors = net.state_dict()
    if classifier:
        net.classifier = nn.Linear(64, 3)
        tensors = {k: v for k, v in net.state_dict().items() if "task_heads" not in k}
    (folder / "model").mkdir(parents=True)
    hyper = {"data": {"classes": list(LABELS)}}
    content = {"state_dict": tensors, "hyper_parameters": hyper, "epoch": 3}
    torch.save(content, folder / "model" / "best.ckpt")
    (folder / "model" / "config.yml").write_text(CONFIG)
    (folder / "thresholds").mkdir()
    lines = [f"[{k}]\nlower_bound = {v}\nupper_bound = 1.0\n" for k, v in CHOSEN.items()]
    (folder / "thresholds" / "f1.toml").write_text("\n".join(lines))
    return net


@torch.no_grad()
def segma_logits(net: nn.Module, samples: np.ndarray) -> torch.Tensor:
    """segma's inference: 4 s windows a step of 199 frames apart, then what is left, alone."""
    wave, rows, start = torch.from_numpy(samples), [], 0
    while start + 64000 <= len(wave):
        rows.append(net(wave[None, start : start + 64000])[0])
        start += 63680
    if len(wave) - start >= 400:
        rows.append(net(wave[None, start:])[0])
    return torch.cat(rows)


def segma_segments(logits: torch.Tensor) -> set[tuple[str, int, int]]:
    """(label, start, end) in ms: frames over the label's threshold, frame i from 20 i to 20 i + 20;
    gaps under 100 ms filled, then segments under 100 ms dropped."""
    said = set()
    for column, label in enumerate(LABELS):
        active = (logits[:, column].sigmoid() > CHOSEN[label]).tolist()
        turns = [i for i, (a, b) in enumerate(pairwise([False, *active, False])) if a != b]
        spans: list[list[int]] = []
        for begin, end in zip(turns[0::2], turns[1::2], strict=True):
            if spans and (begin - spans[-1][1]) * 20 < 100:
                spans[-1][1] = end
            else:
                spans.append([begin, end])
        said |= {(label, 20 * a, 20 * b) for a, b in spans if (b - a) * 20 >= 100}
    return said


def noise(seconds: float) -> np.ndarray:
    """Bursts, so that some frames are over a threshold and some are not."""
    rng = np.random.default_rng(5)
    samples = rng.normal(0, 1, round(16000 * seconds)).astype(np.float32)
    slow = np.repeat(rng.uniform(0, 0.3, len(samples) // 1600 + 1), 1600)[: len(samples)]
    return (samples * slow).astype(np.float32)


# Below a window; a window and a frame's rest; exact tiles; a rest of one frame and of many.
@pytest.mark.parametrize("samples", [40_000, 64_000, 64_100, 2 * 63_680 + 320, 127_760, 200_001])
def test_labels_are_segmas_own_to_the_last_frame(tmp_path, samples):
    net = made(tmp_path)
    audio = noise(samples / 16000)
    logits = segma_logits(net, audio)
    wanted = segma_segments(logits)
    predictor = bab.Predictor(f"segma:{tmp_path}")
    said = {
        (s.label, round(1000 * s.start), round(1000 * s.end))
        for s in predictor(audio, sampling_rate=16000).segments
    }
    assert said == wanted
    assert samples < 64000 or len(wanted) > 3


def test_logits_thresholds_and_notices(tmp_path):
    net = made(tmp_path)
    saved = load_saved(f"segma:{tmp_path}")
    audio = torch.from_numpy(noise(4.0))
    with torch.no_grad():
        batch = Batch(
            Waves(audio[None], torch.tensor([64000])), torch.empty(0), torch.empty(0), (), 0
        )
        said, wanted = saved.model(batch)[0], net(audio[None])
    assert torch.allclose(said, wanted, atol=1e-4)
    assert saved.tuned["f1"]["thresholds"] == {label: CHOSEN[label] for label in LABELS}
    assert saved.tuned["high-precision"]["thresholds"]["OCH"] == 0.52  # as published
    assert "hp.toml" in saved.spec["notices"][0]
    assert saved.encoder.grid.frames(64000) == 199


def test_evaluated_on_a_corpus(tmp_path):
    """A row of its own: published thresholds, or dev's; the same run is found again."""
    from bab.config.resolve import run_config
    from bab.running.runner import run
    from bab.running.start import model_settings

    made(tmp_path / "vtc")
    base = {"model": f"segma:{tmp_path / 'vtc'}", "mode": "evaluate", "observers": []}
    base["runs"] = str(tmp_path / "runs")
    record, folder = run(run_config(None, base, [], expand=model_settings))
    assert record.mode == "evaluate" and record.objective == ""
    assert record.encoder == f"segma:{tmp_path / 'vtc'}"
    assert record.tuned["f1"]["thresholds"]["KCHI"] == CHOSEN["KCHI"]
    assert any("never met these recordings" in line for line in record.notices)
    assert run(run_config(None, base, [], expand=model_settings))[1] == folder
    again, other = run(run_config(None, base, ["tune=dev"], expand=model_settings))
    assert other != folder and again.tuned["f1"]["thresholds"] != record.tuned["f1"]["thresholds"]


def test_fine_tuned_from_it(tmp_path):
    """The encoder and the head go on, rows by label; the result loads, and says where from."""
    from bab.config.resolve import run_config
    from bab.running.runner import run
    from bab.running.start import model_settings

    made(tmp_path / "vtc")
    asked = {
        "model": f"segma:{tmp_path / 'vtc'}",
        "observers": ["jsonl"],
        "runs": str(tmp_path / "runs"),
    }
    sets = ["train.steps=1", "train.batch=2", "train.accumulation=1"]
    sets += ["train.lr=1e-9", "train.eval_every=1"]
    config = run_config(None, asked, sets, expand=model_settings)
    assert config.mode == "finetune" and config.head.options["dropout"] == 0.5
    _, folder = run(config)
    told = f"from segma:{tmp_path / 'vtc'}: the encoder and the head, 4 of 4 labels"
    assert told in (folder / "log.jsonl").read_text()
    start, tuned = load_saved(f"segma:{tmp_path / 'vtc'}"), load_saved(folder)
    assert tuned.labels["voice"] == ("KCHI", "OCH", "MAL", "FEM")
    rows = [LABELS.index(label) for label in tuned.labels["voice"]]
    one, two = (m.model.head.state_dict()["output.weight"] for m in (start, tuned))
    assert torch.allclose(two, one[rows], atol=1e-6)
    assert tuned.encoder.fingerprint != start.encoder.fingerprint


def test_the_addressee_model(tmp_path):
    net = made(tmp_path, classifier=True)
    (tmp_path / "model" / "config.yml").rename(tmp_path / "model" / "config.yaml")
    (tmp_path / "model" / "config.yaml").write_text("context_size: 20.0\nmodel_id: base\n")
    saved = load_saved(f"segma:{tmp_path}")
    assert saved.labels == {"addressee": ("ADS", "KCDS", "Other")} and saved.view.context == 10.0
    audio = torch.from_numpy(noise(3.0))
    with torch.no_grad():
        x, _ = net.wav2vec2.feature_extractor(audio[None], None)
        states = net.wav2vec2.encoder.extract_features(x, None, num_layers=None)[-1]
        wanted = net.classifier(states.mean(1))
        waves = Waves(audio[None], torch.tensor([48000]))
        said = saved.model(Batch(waves, torch.empty(0), torch.empty(0), (), 0))[0]
    assert torch.allclose(said, wanted, atol=1e-4)


def test_what_is_wrong_is_named(tmp_path):
    with pytest.raises(BabError, match="no such folder"):
        load_saved(f"segma:{tmp_path / 'none'}")
    with pytest.raises(BabError, match=r"no best\.ckpt"):
        load_saved(f"segma:{tmp_path}")
    made(tmp_path / "vtc")
    config = tmp_path / "vtc" / "model" / "config.yml"
    thresholds = tmp_path / "vtc" / "thresholds" / "f1.toml"
    thresholds.write_text("[KCHI]\nlower_bound = 1.5\n")
    with pytest.raises(BabError, match=r"f1\.toml: FEM needs a lower_bound"):
        load_saved(f"segma:{tmp_path / 'vtc'}")
    config.write_text(CONFIG.replace("surgical_hubert_hydra", "whisperimax"))
    with pytest.raises(BabError, match="model 'whisperimax'"):
        load_saved(f"segma:{tmp_path / 'vtc'}")
    config.write_text(CONFIG.replace("OCH", "DOG"))
    with pytest.raises(BabError, match="no head for 'DOG'"):
        load_saved(f"segma:{tmp_path / 'vtc'}")
