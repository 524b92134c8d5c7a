"""The contract suite on the built-in readers and on a stranger's."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from hf_models import saved_model
from torch import nn

from bab.core.errors import BabError, PluginError
from bab.plugins.encoders.shared.sincnet import PyanNet
from bab.running.saved import load_saved
from bab.testing.models import check_model

CHOSEN = {"KCHI": 0.6, "CHI": 0.5, "MAL": 0.55, "FEM": 0.45}
CLASSES = ["KCHI", "CHI", "MAL", "FEM", "SPEECH"]
STRANGER = '''
import bab

class Theirs(bab.ModelReader):
    """A head's own tensors."""

    def read(self, where, *, offline=False, trust_code=False):
        if not where.endswith(".safetensors"):
            raise bab.WeightsError(f"{where!r} is no .safetensors file")
        tensors = bab.read_tensors(__import__("pathlib").Path(where))
        return bab.ModelParts(
            task="vtc", labels={"voice": ("KCHI", "OCH", "MAL", "FEM")}, encoder="fbank",
            head="frames", tensors={f"head.output.{k}": v for k, v in tensors.items()},
        )

class Wrong(bab.ModelReader):
    def read(self, where, *, offline=False, trust_code=False):
        return {"task": "vtc"}
'''


def vtc1_folder(folder):
    """VTC 1.0's layout, smaller: {class: (net, output layer)}."""
    torch.manual_seed(2)
    weights = folder / "model" / "train" / "weights"
    weights.mkdir(parents=True)
    nets = {}
    for epoch, name in enumerate(CHOSEN, start=1):
        net, output = PyanNet((8, 6, 6), 5, 2, (7, 7)).eval(), nn.Linear(7, 5)
        with torch.no_grad():
            for p in [*net.ff_.parameters(), *net.rnn_.parameters()]:
                p.add_(0.3 * torch.randn_like(p))
        state = net.state_dict() | {f"linear_.{k}": v for k, v in output.state_dict().items()}
        torch.save(state, weights / f"{epoch:04d}.pt")
        params = weights.parent / f"validate_{name}" / "All.development"
        params.mkdir(parents=True)
        (params / "params.yml").write_text(
            f"epoch: {epoch}\nparams:\n  onset: {CHOSEN[name]}\n  offset: {CHOSEN[name]}\n"
        )
        nets[name] = (net, output)
    listed = "\n".join(f"  - {name}" for name in CLASSES)
    (weights / "specs.yml").write_text(
        f"task: multi_label_classification\ny:\n  classes:\n{listed}"
    )
    return nets


def test_vtc1(tmp_path):
    nets = vtc1_folder(tmp_path / "vtc1")

    @torch.no_grad()
    def says(samples):
        wave = torch.from_numpy(samples)[None]
        columns = [output(net(wave))[0, :, CLASSES.index(n)] for n, (net, output) in nets.items()]
        return torch.stack(columns, dim=-1).numpy()

    saved = check_model("vtc1", str(tmp_path / "vtc1"), tmp_path / "work", says, 1.0)
    assert saved.labels == {"voice": ("KCHI", "OCH", "MAL", "FEM")}
    assert saved.tuned["f1"]["thresholds"] == {"KCHI": 0.6, "OCH": 0.5, "MAL": 0.55, "FEM": 0.45}
    assert saved.spec["task"]["options"]["fill_gaps"] == 0.0


def test_vtc1_names_what_is_missing(tmp_path):
    vtc1_folder(tmp_path)
    params = next(tmp_path.rglob("validate_MAL/**/params.yml"))
    params.write_text("epoch: 9\nparams: {onset: .5}\n")
    with pytest.raises(BabError, match=r"params\.yml: 0009\.pt is not there"):
        load_saved(f"vtc1:{tmp_path}")
    params.unlink()
    with pytest.raises(BabError, match="0 validate_MAL"):
        load_saved(f"vtc1:{tmp_path}")


def test_a_folder_of_several_vtc1_is_refused(tmp_path):
    vtc1_folder(tmp_path / "one")
    vtc1_folder(tmp_path / "other")
    with pytest.raises(BabError, match=r"holds 2 folders with specs\.yml"):
        load_saved(f"vtc1:{tmp_path}")
    with pytest.raises(BabError, match=r"holds 0 folders with specs\.yml"):
        load_saved(f"vtc1:{tmp_path / 'one' / 'model' / 'train' / 'validate_MAL'}")


def test_a_strangers(install, tmp_path):
    entries = {"theirs": "theirs_models:Theirs", "wrong": "theirs_models:Wrong"}
    install("theirs-models", {"models": entries}, {"theirs_models": STRANGER})
    from safetensors.torch import save_file

    import bab

    encoder = bab.load("encoders", "fbank").load("", bab.load("encoders", "fbank").Options())
    layer = nn.Linear(encoder.dim, 4)
    file = tmp_path / "their.safetensors"
    save_file(layer.state_dict(), file)

    @torch.no_grad()
    def says(samples):
        waves = bab.Waves(torch.from_numpy(samples)[None], torch.tensor([len(samples)]))
        return layer(encoder(waves, layers="last").layers[-1])[0].numpy()

    check_model("theirs", str(file), tmp_path / "work", says)
    with pytest.raises(PluginError, match=r"reads no bab\.ModelParts"):
        load_saved("wrong:x")
    with pytest.raises(AssertionError, match="off by"):
        check_model("theirs", str(file), tmp_path / "work", lambda x: says(x) + 1e-3)


def test_babycry_by_one_name(tmp_path):
    """Its notice, its windows and what `predict` says; a model of another kind is refused."""
    from bab.config.resolve import run_config
    from bab.running.runner import run

    asked = {"encoder": "fbank", "task": "valence", "observers": []}
    sets = ["protocol=given"]
    sets.append(f"cache.dir={tmp_path / 'cache'}")
    _, folder = run(run_config(None, {**asked, "runs": str(tmp_path / "runs")}, sets))
    saved, plain = load_saved(f"babycry:{folder}"), load_saved(folder)
    assert "must never decide" in saved.spec["notices"][0]
    assert (saved.view.window, saved.view.hop, saved.view.pool) == (2.0, 1.0, "mean")

    import bab

    samples = np.random.default_rng(1).normal(0, 0.1, 3 * 16000).astype(np.float32)
    said = bab.Predictor(f"babycry:{folder}")(samples, sampling_rate=16000)
    assert set(said.labels) == {"valence"}
    assert sum(said.scores.values()) == pytest.approx(1.0)
    assert said == bab.Predictor(folder)(samples, sampling_rate=16000)
    with pytest.raises(ValueError, match="sampling"):
        bab.Predictor(f"babycry:{folder}")(samples)
    assert saved.labels == plain.labels
    spec = json.loads((folder / "model" / "model.json").read_text())
    del spec["checksum"]
    spec["view"]["hop"] = 2.0
    (folder / "model" / "model.json").write_text(json.dumps(spec))
    with pytest.raises(BabError, match=r"windows of 2\.0 s every 2\.0 s"):
        load_saved(f"babycry:{folder}")


def test_vectors_of_speakers_are_compared_not_what_the_head_says_of_them(tmp_path):
    model, extractor = saved_model(tmp_path / "model", "wav2vec2", "XVector", num_labels=3)

    @torch.no_grad()
    def says(samples):
        given = extractor(samples, sampling_rate=16000, return_tensors="pt")
        return model(**given).embeddings[0].numpy()

    saved = check_model("hf", str(tmp_path / "model"), tmp_path / "work", says, 0.7)
    assert saved.task.pairs and saved.labels == {"speaker": ("LABEL_0", "LABEL_1", "LABEL_2")}
