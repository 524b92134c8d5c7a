"""What each random draw hangs on: the run's seed, what it is for, and which one it is. Another
order of these, or one that is left out, would be another draw for everybody; nothing else tells.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from bab.auditing import audit as traits
from bab.auditing import folds
from bab.config.resolve import pretrain_config, run_config
from bab.core import trainer
from bab.core.seeds import derive
from bab.data import sampling, windows
from bab.pretraining import crops, running
from bab.pretraining import runner as pretraining
from bab.running import batches, fold
from bab.running.runner import run

MODULES = (fold, batches, sampling, windows, trainer, crops, pretraining, running, folds, traits)
SEED = 7


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[tuple[object, ...]]:
    """What seeds are derived from, in order."""
    calls: list[tuple[object, ...]] = []

    def noted(*parts: object) -> int:
        calls.append(parts)
        return derive(*parts)

    for module in MODULES:
        monkeypatch.setattr(module, "derive", noted)
    monkeypatch.setenv("BAB_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    return calls


def test_a_seed_is_63_bits_of_blake2b() -> None:
    for parts in ((0, "weights"), (7, "draw", 3, (1, 2), "x", 0.5)):
        digest = hashlib.blake2b(repr(parts).encode("utf-8"), digest_size=8).hexdigest()
        assert derive(*parts) == int(digest, 16) // 2
    assert 0 <= derive() < 2**63


def test_the_draws_of_a_run(drawn: list[tuple[object, ...]]) -> None:
    sets = ["train.steps=2", "train.eval_every=2", "train.batch=4", "view.train_seconds=1"]
    run(run_config(None, {"encoder": "fbank", "task": "vtc", "seed": SEED, "observers": []}, sets))
    order, steps = derive(SEED, "order", 0), derive(SEED, "fold", 0)
    crops = [one for one in drawn if one[1] == "crop"]
    assert {one for one in drawn if one not in crops} == {
        *((SEED, "fold", 0), (SEED, "order", 0), (SEED, "weights", 0), (order, "epoch", 0)),
        *((steps, "step", 0, 0), (steps, "step", 1, 0)),
    }
    assert len({one[3] for one in crops}) == 8  # two batches of examples, each by its number
    for seed, _, epoch, place, clip, start in crops:
        assert (seed, epoch) == (SEED, 0) and str(clip).startswith("home")
        assert isinstance(place, int) and isinstance(start, float)


def test_the_draws_of_pretraining(drawn: list[tuple[object, ...]]) -> None:
    asked = {"encoder": "wav2vec2:random-tiny", "objective": "contrastive", "corpus": "rttm"}
    size = (
        "{hidden_size: 32, num_hidden_layers: 1, num_attention_heads: 2, intermediate_size: 48, "
        "conv_dim: [8, 8, 8, 8, 8, 8, 8], num_conv_pos_embeddings: 16, "
        "num_conv_pos_embedding_groups: 4}"
    )
    sets = [f"encoder.size={size}", "audio.crop=1.0", "train.batch=2", "train.steps=2"]
    sets += ["train.eval_every=2", "dev_seconds=2", "objective.codes=16"]
    config = pretrain_config(None, asked | {"seed": SEED, "observers": []}, sets)
    pretraining.pretrain(config, False)
    order, dev = derive(SEED, "order"), derive(SEED, "dev")
    crops = [one for one in drawn if one[1] == "crop"]
    draws = [one for one in drawn if one[1] == "draw"]
    masks = [one for one in drawn if one[1] == "mask"]
    assert {one for one in drawn if one not in (*crops, *draws, *masks)} == {
        *((SEED, "order"), (SEED, "dev"), (SEED, "weights"), (order, "epoch", 0)),
        *((SEED, "step", 0, 0), (SEED, "step", 1, 0), ("some", 120)),
    }
    assert [one[0] for one in crops] == [SEED] * 4 + [dev] * 2
    assert [(one[0], one[2]) for one in draws] == [(SEED, 0)] * 2 + [(SEED, 1)] * 2 + [(dev, 0)] * 2
    assert [one[3] for one in draws] == [one[3] for one in crops]  # the same places
    assert [one[2] for one in crops] == [0] * 6 and {one[4] for one in crops} == {0}
    assert [one[0] for one in masks] == [derive(*one) for one in draws]
