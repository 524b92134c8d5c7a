"""Small components without a fault, which tests break in one way each."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import soundfile
import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

import bab
from bab import Clip, Encoded, Grid, Segment, Trial, Waves

RATE, FIELD, HOP = 16000, 400, 320


class GoodEncoder(bab.Encoder):
    """A convolution and two layers on each frame."""

    class Options(bab.Options):
        width: int = Field(8, ge=1, description="of the states")
        gain: float = Field(1.0, gt=0, description="what samples are multiplied with")

    weights: ClassVar[Mapping[str, str]] = {"random": "drawn from seed 0"}
    default = "random"

    def __init__(self, options: Any) -> None:
        super().__init__()
        self.options = options
        self.sample_rate, self.dim, self.depth = RATE, options.width, 3
        self.grid, self.max_seconds, self.local_dim = Grid(RATE, HOP, FIELD), 20.0, 5
        self.resolved = "good:random"
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            self.conv = nn.Conv1d(1, 5, FIELD, HOP)
            self.first = nn.Linear(5, options.width)
            self.layers = nn.ModuleList(nn.Linear(options.width, options.width) for _ in range(2))
            self.masked = nn.Parameter(torch.randn(5))
        self._extras: dict[str, Tensor] = {}
        self.identify()

    def identify(self) -> None:
        self.fingerprint = bab.fingerprint(self, "good 1", self.options.model_dump())

    @classmethod
    def load(cls, weights, options, *, offline=False, trust_code=False):
        made = cls(options)
        if weights != "random":
            made.read(weights)
        return made.eval()

    def read(self, place: str) -> None:
        if not (Path(place) / "model.safetensors").is_file():
            raise bab.WeightsError(f"{place}: no model.safetensors there: name a folder")
        tensors = bab.read_tensors(Path(place) / "model.safetensors")
        own = set(self.state_dict())
        self.load_state_dict({k: v for k, v in tensors.items() if k in own})
        self._extras = {k: v for k, v in tensors.items() if k not in own}
        self.resolved = f"good:{place}"
        self.identify()

    def forward(self, waves, mask=None, layers="all"):
        samples = self.prepared(waves)
        lengths = (waves.lengths.clamp(min=FIELD) - FIELD) // HOP + 1
        local = torch.tanh(self.conv(samples[:, None])).transpose(1, 2)[:, : int(lengths.max())]
        inside = torch.arange(local.shape[1]) < lengths[:, None]
        local = local.masked_fill(~inside[..., None], 0.0)
        x = local
        # The mask embedding takes part without a mask, too, so that it has a gradient.
        x = x + 0.0 * self.masked
        if mask is not None:
            x = torch.where(mask[..., None], self.masked, x)
        states = [self.first(x)]
        for layer in self.layers:
            states.append(states[-1] + torch.tanh(layer(states[-1])))
        states = [state.masked_fill(~inside[..., None], 0.0) for state in states]
        return Encoded(tuple(states if layers == "all" else states[-1:]), lengths, local)

    def prepared(self, waves: Waves) -> Tensor:
        inside = torch.arange(waves.samples.shape[1]) < waves.lengths[:, None]
        samples = waves.samples.masked_fill(~inside, 0.0) * self.options.gain
        return functional.pad(samples, (0, max(0, FIELD - samples.shape[1])))

    def extras(self):
        return self._extras

    def export(self, folder, extras, dtype="float32"):
        from safetensors.torch import save_file

        folder.mkdir(parents=True, exist_ok=True)
        kind = getattr(torch, dtype)
        tensors = {k: v.to(kind).contiguous() for k, v in {**self.state_dict(), **extras}.items()}
        with bab.atomic_path(folder / "model.safetensors") as temporary:
            save_file(tensors, temporary)


def make_corpus(folder: Path) -> Path:
    """18 recordings of 2 s, of six speakers, and what is said of them."""
    draw = np.random.default_rng(0)
    rows = []
    for index in range(18):
        path = folder / f"clip{index:02}.wav"
        soundfile.write(path, draw.normal(0, 0.1, 2 * RATE).astype(np.float32), RATE)
        rows.append(
            {"id": path.stem, "speaker": f"s{index // 3}", "mood": ("calm", "loud")[index % 2]}
        )
    (folder / "rows.json").write_text(json.dumps(rows))
    return folder


class GoodCorpus(bab.Corpus):
    """Clips of 2 s by six speakers: two to train on, two to tune on, two to test on."""

    class Options(bab.Options):
        words: bool = Field(True, description="with what is said")

    provides: ClassVar = frozenset({"speaker", "mood", "segments", "text"})

    def __init__(self, root, options, permissions=bab.Permissions()):
        super().__init__(Path(root), options, permissions)
        if not (self.root / "rows.json").is_file():
            raise bab.CorpusError(f"{self.root / 'rows.json'}: no such file: name another folder")
        self._clips = [self.clip(row) for row in json.loads((self.root / "rows.json").read_text())]

    def clip(self, row: dict[str, str]) -> Clip:
        segments = (Segment(0.25, 0.5, "word"), Segment(0.5, 1.0, "word"))
        return Clip(
            row["id"], str(self.root / f"{row['id']}.wav"), 0.0, 2.0, row["speaker"],
            speaker=row["speaker"], voices=(row["speaker"],), labels={"mood": row["mood"]},
            text=f"number {row['id']}", segments=segments, scored=((0.0, 1.0), (1.5, 2.0)),
        )  # fmt: skip

    def clips(self, split=None):
        parts = {"train": ("s0", "s1"), "dev": ("s2", "s3"), "test": ("s4", "s5")}
        if split is None:
            return list(self._clips)
        if split not in parts:
            raise bab.CorpusError(f"{self.root}: no split '{split}'")
        return [clip for clip in self._clips if clip.speaker in parts[split]]

    def trials(self, split):
        one = self.clips(split)
        pairs = [(0, 1), (0, 3), (3, 4), (1, 5)]
        return [Trial(one[a].id, one[b].id, one[a].speaker == one[b].speaker) for a, b in pairs]


class GoodHead(bab.Head):
    """The mean over frames, and one linear layer."""

    level = ("clip",)
    linear = True

    def __init__(self, dim, classes, options):
        super().__init__(dim, classes, options)
        self.output = nn.Linear(dim, classes)

    def forward(self, x, lengths):
        inside = (torch.arange(x.shape[1]) < lengths[:, None])[..., None]
        return self.output(x.masked_fill(~inside, 0.0).sum(1) / lengths[:, None])


class SolvedHead(GoodHead):
    """Least squares on the mean over frames."""

    closed_form = True

    def __init__(self, dim, classes, options):
        super().__init__(dim, classes, options)
        del self.output
        self.register_buffer("weight", torch.zeros(classes, dim + 1))

    def fit(self, x, y):
        ones = torch.cat([x, torch.ones(len(x), 1)], 1)
        self.weight.copy_(torch.linalg.lstsq(ones, functional.one_hot(y).float()).solution.T)

    def forward(self, x, lengths):
        inside = (torch.arange(x.shape[1]) < lengths[:, None])[..., None]
        mean = x.masked_fill(~inside, 0.0).sum(1) / lengths[:, None]
        return mean @ self.weight[:, :-1].T + self.weight[:, -1]


class GoodObjective(bab.Objective):
    """Squared error of each valid frame's logistic output."""

    def counts(self, batch):
        return {"error": float(batch.target_lengths.sum())}

    def forward(self, model, batch):
        logits, lengths = model(batch)
        outside = torch.arange(logits.shape[1]) >= lengths[:, None]
        logits = logits.masked_fill(outside[..., None], 0.0)
        errors = (torch.sigmoid(logits) - batch.targets).masked_fill(outside[..., None], 0.0)
        losses = errors.square().sum((1, 2))
        if batch.weights is not None:
            losses = losses * batch.weights
        return bab.Loss({"error": bab.Term(losses.sum(), self.counts(batch)["error"])})


class GoodTask(bab.Task):
    """Calm or loud: the share of clips that are right, and each mood's recall."""

    class Options(bab.Options):
        smooth: float = Field(0.0, ge=0, description="added to every count")

    needs = frozenset({"mood"})
    level = "clip"
    corpus, head, objective = "donateacry", "pooled", "cross_entropy"
    primary = "accuracy"
    units: ClassVar = {"accuracy": "", "recall": ""}

    def refuses(self, clip):
        return "" if clip.labels.get("mood") else "no mood"

    def fit(self, clips):
        return {"mood": tuple(sorted({clip.labels["mood"] for clip in clips}))}

    def targets(self, clip, grid, frames, labels):
        return torch.tensor([labels["mood"].index(clip.labels["mood"])])

    def decode(self, output, grid, labels, tuned):
        best = labels["mood"][int(output.values.argmax())]
        return bab.Prediction(output.clip.id, labels={"mood": best})

    def statistics(self, reference, prediction):
        right = prediction is not None and prediction.labels["mood"] == reference.labels["mood"]
        mood = reference.labels["mood"]
        return {
            "clips": 1.0,
            "right": float(right),
            f"{mood}/clips": 1.0,
            f"{mood}/right": float(right),
        }

    def metrics(self, totals):
        if not totals.get("clips"):
            return {}
        own = {
            f"recall/{key.split('/')[0]}": totals[key.replace("clips", "right")] / count
            for key, count in totals.items()
            if key.endswith("/clips") and count
        }
        return {"accuracy": totals["right"] / totals["clips"]} | own

    def write(self, predictions, folder):
        lines = [f"{p.id},{p.labels['mood']}\n" for p in predictions]
        bab.write_text(folder / "moods.csv", "".join(lines))


class GoodObserver:
    """Writes each dev score into the run's folder."""

    @bab.hookimpl
    def bab_evaluated(self, run, step, split, metrics):
        with (Path(run.folder) / "scores.txt").open("a") as file:
            file.write(f"{step} {split} {metrics.get(run.primary)}\n")

    @bab.hookimpl
    def bab_run_end(self, run, record, error):
        bab.write_text(Path(run.folder) / "end.txt", record.status if record else error)
