"""Saved models with random weights, as runs leave them, made without training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from bab.core import registry
from bab.core.components import build_encoder, build_task
from bab.running import model
from bab.running.assembly import assemble

# A net that is drawn in a moment.
SIZE = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 48,
    "conv_dim": [16] * 7,
    "num_conv_pos_embeddings": 8,
    "num_conv_pos_embedding_groups": 4,
}
LABELS = {
    "vtc": {"voice": ["KCHI", "OCH", "MAL", "FEM"]},
    "gender": {"gender": ["female", "male"]},
    "valence": {"valence": ["distress", "positive"]},
    "sv": {"speaker": ["Anna Secret", "Bert Secret"]},
    "asr": {"char": ["<blank>", " ", "'", "a", "b", "é"]},
    "phonemes": {"phone": ["<blank>", "AA", "B", "sh"]},
}


def made(
    folder: Path,
    task: str,
    encoder: str = "hubert",
    head: Mapping[str, Any] | None = None,
    layers: Any = "mix",
    options: Mapping[str, Any] | None = None,
    labels: Mapping[str, Sequence[str]] | None = None,
    pool: bool = False,
) -> Path:
    """A run's folder with a model of random weights. head, options: of head and encoder."""
    torch.manual_seed(0)
    weights = "" if encoder == "fbank" else "random-tiny"
    options = ({"size": SIZE} if weights else {}) | dict(options or {})
    body = build_encoder(encoder, weights, options, True, False)
    cls = registry.load("tasks", task)
    head = {"name": cls.head, **(head or {})}
    head_class = registry.load("heads", head.pop("name"))
    head_options = head_class.Options(**head)
    named = labels or LABELS[task]
    sizes = [len(names) for names in named.values()]
    scorer = assemble(
        body, [body], "", layers, lambda d: head_class(d, sum(sizes), head_options), sizes, pool
    )
    with torch.no_grad():
        for tensor in (*scorer.head.parameters(), *scorer.head.buffers(), *scorer.mix.parameters()):
            tensor.normal_(0, 0.02 if task == "sv" else 0.3)  # its net is deep
    names = [name for group in named.values() for name in group]
    tuned = {"thresholds": {name: 0.3 + 0.1 * i for i, name in enumerate(names)}}
    spec = {
        "encoder": {
            "name": encoder,
            "weights": weights,
            "options": type(body).Options(**options).model_dump(mode="json"),
        },
        "resolved": body.resolved,
        "fingerprint": body.fingerprint,
        "task": {"name": task, "options": cls.Options().model_dump(mode="json")},
        "task_version": cls.version,
        "head": {
            "name": head_class.__module__.rpartition(".")[2],
            "options": head_options.model_dump(mode="json"),
        },
        "layers": layers,
        "view": {
            "window": cls.view.window,
            "hop": cls.view.hop,
            "crop": cls.view.crop,
            "context": cls.view.context,
            "train_seconds": cls.view.train_seconds,
            "train_minimum": cls.view.train_minimum,
            "pool": cls.view.pool,
        },
        "pool": pool,
        "labels": named,
        "tuned": {p: tuned if task == "vtc" else {} for p in build_task(task, {}).presets},
        "run": "made",
        "notice": cls.notice,
    }
    kept = {k: v for k, v in scorer.state_dict().items() if not k.startswith("encoder.")}
    model.save(folder / "model", kept, spec)
    return folder
