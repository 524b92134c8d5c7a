"""segma's HuBERT: hubert's states on cells of its own, and names; dropout at its ends."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from bab.core.errors import BabError
from bab.core.types import Waves
from bab.plugins.encoders.hubert import Hubert
from bab.plugins.encoders.segma import Cells, Segma
from bab.plugins.encoders.shared.half import dropped
from bab.plugins.encoders.shared.masking import mask_without_waiting


def test_cells_are_one_hop_each_from_the_beginning_on() -> None:
    grid = Cells(16000, 320, 400)
    assert [grid.centre(t) for t in (0, 1, 7)] == pytest.approx([0.01, 0.03, 0.15])
    np.testing.assert_allclose(grid.centres(3), [0.01, 0.03, 0.05])
    np.testing.assert_allclose(grid.centres(2, 5), [0.11, 0.13])
    np.testing.assert_allclose(grid.edges(3, 9.0), [0.0, 0.02, 0.04, 0.06])
    np.testing.assert_allclose(grid.edges(1, 0.01, 5), [0.1, 0.12])
    assert grid.frames(16000) == 49 and grid.centre(4) == grid.centres(1, 4)[0]


def test_states_are_huberts_and_times_are_segmas() -> None:
    ours: Any = Segma.load("random-tiny", Segma.Options(seed=3))
    theirs = Hubert.load("random-tiny", Hubert.Options(seed=3))
    assert ours.resolved == "segma:random-tiny" and theirs.resolved == "hubert:random-tiny"
    assert type(ours.grid) is Cells
    assert (ours.grid.sample_rate, ours.grid.hop, ours.grid.field) == (16000, 320, 400)
    given = Waves(torch.randn(1, 3000), torch.tensor([3000]))
    with torch.no_grad():
        for one, other in zip(ours(given).layers, theirs(given).layers, strict=True):
            assert torch.equal(one, other)


@pytest.mark.parametrize(("share", "kept"), [(0.0, 1.0), (0.99999999, 65536.0), (0.5, 2.0)])
def test_a_dropout_of_nothing_or_nearly_all(share: float, kept: float) -> None:
    """Of 99.999999 % it kept all, 65536 times as large."""
    torch.manual_seed(0)
    for shape in ((1,), (3,), (4,), (5, 3)):
        out = dropped(torch.ones(shape, dtype=torch.bfloat16), share)
        values = set(out.flatten().tolist())
        assert out.shape == shape and values <= {0.0, kept}
        assert share or values == {1.0}
        assert share < 0.9 or values == {0.0}  # that one of so few is kept is less than likely


def test_a_copy_of_a_model_masks_with_its_own_embedding() -> None:
    class Model:
        """What transformers' models have of it."""

        def __init__(self, value: float) -> None:
            self.masked_spec_embed = torch.full((2,), value)

        def _mask_hidden_states(
            self, states: Any, mask_time_indices: Any = None, **more: Any
        ) -> Any:
            return ("theirs", mask_time_indices, more)

    made: Any = Model(7.0)
    mask_without_waiting(made)
    states, mask = torch.zeros(1, 3, 2), torch.tensor([[True, False, True]])
    assert made._mask_hidden_states(states, mask, attention_mask=1)[0] == "theirs"  # on a CPU
    far = torch.zeros(1, 3, 2, device="meta")
    assert made._mask_hidden_states(far)[1] is None  # nothing to mask
    made.masked_spec_embed = made.masked_spec_embed.to("meta")
    masked = made._mask_hidden_states(far, mask.to("meta"))
    assert masked.shape == (1, 3, 2) and masked.device.type == "meta"


def test_layers_that_are_skipped_in_training_have_no_states() -> None:
    encoder: Any = Hubert.load("random-tiny", Hubert.Options(layerdrop=0.25))
    given = Waves(torch.randn(1, 800), torch.tensor([800]))
    with torch.no_grad():
        assert len(encoder(given).layers) == 5
        encoder.train()
        assert len(encoder(given, layers="last").layers) == 1
        with pytest.raises(BabError) as raised:
            encoder(given)
    assert str(raised.value) == (
        "layerdrop skips layers in training: set it to 0, or use layers: last"
    )


@pytest.mark.parametrize("stable", [False, True])
def test_every_parameter_is_in_a_group_and_layers_can_be_left_off(stable: bool) -> None:
    size = {
        "hidden_size": 16, "num_hidden_layers": 3, "num_attention_heads": 2,
        "intermediate_size": 24, "conv_dim": (8,) * 7, "num_conv_pos_embeddings": 8,
        "num_conv_pos_embedding_groups": 2, "do_stable_layer_norm": stable,
        "feat_extract_norm": "layer" if stable else "group",
    }  # fmt: skip
    encoder: Any = Hubert.load("random", Hubert.Options(size=size))
    names = {id(p): n for n, p in encoder.named_parameters()}
    groups = {k: {names[id(p)] for p in v} for k, v in encoder.groups().items()}
    assert list(groups) == ["conv", "input", "layer0", "layer1", "layer2"]
    assert sum(map(len, groups.values())) == len(names)
    assert all(n.startswith("model.feature_extractor") for n in groups["conv"])
    after = {f"model.encoder.layer_norm.{part}" for part in ("weight", "bias")}
    assert after <= groups["layer2" if stable else "input"]
    assert {"model.masked_spec_embed", "model.feature_projection.projection.weight"} <= (
        groups["input"]
    )
    assert all(".layers.1." in n for n in groups["layer1"])
    given = Waves(torch.randn(2, 1500), torch.tensor([1500, 900]))
    with torch.no_grad():
        whole = encoder(given).layers
        encoder.shorten(3)  # all that it has
        assert encoder.depth == 4
        for one, other in zip(encoder(given).layers, whole, strict=True):
            assert torch.equal(one, other)
        encoder.shorten(2)
        less = encoder(given).layers
    assert encoder.depth == len(less) == 3
    for one, other in zip(less, whole, strict=False):
        torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-5)
    assert list(encoder.groups()) == ["conv", "input", "layer0", "layer1"]
