"""Objective contrastive: against transformers' Wav2Vec2ForPreTraining, and cut in every way."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from torch import Tensor, nn

from bab.core.errors import ConfigError, PluginError
from bab.core.interfaces import Encoder
from bab.core.seeds import derive
from bab.core.types import Batch, Encoded, Loss, Waves
from bab.plugins.encoders.fbank import Fbank
from bab.plugins.encoders.hubert import Hubert
from bab.plugins.encoders.wav2vec2 import Wav2Vec2
from bab.plugins.objectives.contrastive import Contrastive
from bab.plugins.objectives.shared import quantiser
from bab.plugins.objectives.shared.negatives import negatives
from bab.pretraining.masking import span_mask

SMALL: dict[str, Any] = {
    "conv_dim": [24] * 7,
    "hidden_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 64,
    "num_conv_pos_embeddings": 16,
    "num_conv_pos_embedding_groups": 4,
    "codevector_dim": 16,
    "proj_codevector_dim": 12,
    "num_codevectors_per_group": 10,
    "num_codevector_groups": 2,
    "num_negatives": 20,
}
_RANDOM = ("hidden_dropout", "attention_dropout", "activation_dropout", "feat_proj_dropout")
STILL = dict.fromkeys((*_RANDOM, "final_dropout", "layerdrop", "mask_feature_prob"), 0.0)
LARGE = {"feat_extract_norm": "layer", "do_stable_layer_norm": True, "conv_bias": True}


class Bare:
    """What the core's pretraining model does: the encoder's last state of the masked batch."""

    def __init__(self, encoder: Encoder) -> None:
        self.encoder = encoder

    def encode(self, batch: Batch) -> Encoded:
        assert isinstance(batch.inputs, Waves)
        return self.encoder(batch.inputs, batch.mask, "last")


def make_batch(encoder: Encoder, sizes: list[int], step: int = 0, first: int = 0) -> Batch:
    """Noise of the given lengths in samples; each example depends on its number alone."""
    frames = [encoder.grid.frames(size) for size in sizes]
    samples = torch.zeros(len(sizes), max(sizes))
    mask = torch.zeros(len(sizes), max(frames), dtype=torch.bool)
    for row, (size, count) in enumerate(zip(sizes, frames, strict=True)):
        draw = torch.Generator().manual_seed(first + row)
        samples[row, :size] = torch.randn(size, generator=draw) * 0.1
        mask[row, :count] = span_mask(count, 0.65, 10, 2, first + row)
    seeds = tuple(derive("example", first + row, step) for row in range(len(sizes)))
    waves = Waves(samples, torch.tensor(sizes))
    return Batch(waves, torch.zeros(0), torch.tensor(frames), (), step, mask=mask, seeds=seeds)


def of_transformers(folder: Path, **config: Any) -> tuple[Any, Any, Contrastive]:
    """transformers' model, and encoder and objective made from what it saved."""
    torch.manual_seed(5)
    made = transformers.Wav2Vec2Config(**{**SMALL, **STILL, **config})
    theirs = transformers.Wav2Vec2ForPreTraining(made)
    # Drawn wide, the logits make clear choices; shrunk, the soft and the hard choice differ.
    theirs.quantizer.weight_proj.weight.data.mul_(0.2)
    theirs.save_pretrained(folder)
    transformers.Wav2Vec2FeatureExtractor().save_pretrained(folder)
    encoder = Wav2Vec2.load(str(folder), Wav2Vec2.Options(dropout=0.0))
    options = Contrastive.Options(
        groups=made.num_codevector_groups,
        codes=made.num_codevectors_per_group,
        codevector_dim=made.codevector_dim,
        projection=made.proj_codevector_dim,
        negatives=made.num_negatives,
    )
    objective = Contrastive(encoder.dim, [], options)
    objective.attach(encoder)
    assert objective.load_pretrained(encoder.extras())
    return theirs, encoder, objective


def reference(theirs: Any, encoder: Any, batch: Batch, count: int) -> Any:
    """transformers' output on the same samples, mask and negatives."""
    assert batch.mask is not None and isinstance(batch.inputs, Waves)
    width = batch.mask.shape[1]
    picked = torch.zeros(*batch.mask.shape, count, dtype=torch.int64)
    for row, (mask, seed) in enumerate(zip(batch.mask, batch.seeds, strict=True)):
        places = mask.nonzero()[:, 0]
        drawn = negatives(len(places), count, derive(seed, "negatives"))
        picked[row, places] = row * width + places[drawn]
    samples, _ = encoder._input(batch.inputs)
    return theirs(samples, mask_time_indices=batch.mask, sampled_negative_indices=picked)


def total(loss: Loss) -> Tensor:
    """The terms with their weights, before any division."""
    return sum((t.weight * t.total for t in loss.terms.values()), torch.zeros(()))


def exact_gumbel(batch: Batch, groups: int, codes: int) -> Any:
    """F.gumbel_softmax(hard=True) with our noise on the masked frames, its choice without rounding.

    torch's own computes hard - soft + soft, which is not always hard: equal codes then have
    unequal vectors, and transformers takes some of them for negatives.
    """
    assert batch.mask is not None
    sizes = batch.mask.sum(1).tolist()
    draws = [
        quantiser.gumbel(n, groups, codes, derive(seed, "gumbel"))
        for n, seed in zip(sizes, batch.seeds, strict=True)
    ]
    noise = torch.zeros(*batch.mask.shape, groups, codes)
    noise[batch.mask] = torch.cat(draws)

    def replacement(logits: Tensor, tau: float, hard: bool) -> Tensor:
        assert hard
        soft = ((logits + noise.view_as(logits)) / tau).softmax(-1)
        one = torch.zeros_like(soft).scatter_(-1, soft.argmax(-1, keepdim=True), 1.0)
        return one + (soft - soft.detach())

    return replacement


def check_equal(theirs: Any, encoder: Any, objective: Contrastive, batch: Batch) -> None:
    """Loss, its parts, perplexity, and every gradient, to 1e-4."""
    loss = objective(Bare(encoder), batch)
    out = reference(theirs, encoder, batch, objective.options.negatives)
    close = {"rtol": 1e-4, "atol": 1e-4}
    torch.testing.assert_close(loss.terms["contrastive"].total, out.contrastive_loss, **close)
    torch.testing.assert_close(loss.terms["diversity"].total, out.diversity_loss, **close)
    torch.testing.assert_close(total(loss), out.loss, **close)
    value, count = loss.logs["perplexity"]
    assert value / count == pytest.approx(float(out.codevector_perplexity.detach()), rel=1e-4)
    assert count == float(batch.mask.sum()) == objective.counts(batch)["contrastive"]
    (total(loss) / count).backward()
    (out.loss / count).backward()
    ours = {f"wav2vec2.{k}": p for k, p in encoder.model.named_parameters()}
    ours |= dict(objective.named_parameters())
    compared = 0
    for name, parameter in theirs.named_parameters():
        mine = ours[name].grad
        if parameter.grad is None:
            assert mine is None or not mine.any(), name
            continue
        torch.testing.assert_close(mine, parameter.grad, **close, msg=lambda m, n=name: f"{n}: {m}")
        compared += 1
    assert compared > 30


@pytest.mark.parametrize("config", [{}, LARGE], ids=["group", "layer"])
@pytest.mark.parametrize("codes", [10, 3])  # with 3, many negatives are no negatives
def test_equals_transformers_with_hard_choice(
    config: dict[str, Any], codes: int, tmp_path: Path
) -> None:
    theirs, encoder, objective = of_transformers(
        tmp_path, num_codevectors_per_group=codes, **config
    )
    theirs.eval(), objective.eval()
    check_equal(theirs, encoder, objective, make_batch(encoder, [16000] * 3))


@pytest.mark.parametrize("config", [{}, LARGE], ids=["group", "layer"])
def test_equals_transformers_in_training(
    config: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    theirs, encoder, objective = of_transformers(tmp_path, **config)
    for module in (theirs, encoder, objective):
        module.train()
    batch = make_batch(encoder, [16000] * 3, step=100_000)
    theirs.set_gumbel_temperature(objective.gumbel_temperature(batch.step))
    monkeypatch.setattr(nn.functional, "gumbel_softmax", exact_gumbel(batch, 2, 10))
    check_equal(theirs, encoder, objective, batch)


@pytest.mark.slow
def test_equals_transformers_at_full_size(tmp_path: Path) -> None:
    size = {key: getattr(transformers.Wav2Vec2Config(), key) for key in SMALL}
    theirs, encoder, objective = of_transformers(tmp_path, **size)
    theirs.eval(), objective.eval()
    check_equal(theirs, encoder, objective, make_batch(encoder, [64000] * 2))


def untrained(**options: Any) -> tuple[Any, Contrastive]:
    torch.manual_seed(1)
    encoder = Wav2Vec2.load("random-tiny", Wav2Vec2.Options(dropout=0.0))
    objective = Contrastive(encoder.dim, [], Contrastive.Options(**options))
    objective.attach(encoder)
    return encoder.train(), objective.train()


def test_sums_do_not_depend_on_how_the_batch_is_cut() -> None:
    encoder, objective = untrained()
    sizes = [16000, 9000, 12345, 16000]
    with torch.no_grad():
        whole = objective(Bare(encoder), make_batch(encoder, sizes, 7))
        parts = [
            objective(Bare(encoder), make_batch(encoder, [size], 7, first=row))
            for row, size in enumerate(sizes)
        ]
    one = whole.terms["contrastive"]
    assert one.exact and not whole.terms["diversity"].exact
    assert one.count == sum(part.terms["contrastive"].count for part in parts)
    summed = sum(float(part.terms["contrastive"].total) for part in parts)
    assert float(one.total) == pytest.approx(summed, rel=1e-4)
    for key in ("accuracy", "mask_share"):
        assert whole.logs[key] == tuple(
            pytest.approx(sum(part.logs[key][i] for part in parts)) for i in (0, 1)
        )


def test_draws_come_from_the_seeds_alone() -> None:
    encoder, objective = untrained()
    batch = make_batch(encoder, [16000, 16000])
    torch.manual_seed(1)
    first = float(total(objective(Bare(encoder), batch)))
    torch.manual_seed(2)
    state = torch.random.get_rng_state()
    assert float(total(objective(Bare(encoder), batch))) == first
    assert torch.equal(torch.random.get_rng_state(), state)
    batch.seeds = (1, 2)
    assert float(total(objective(Bare(encoder), batch))) != first


def test_temperature_schedule() -> None:
    _, objective = untrained()
    assert objective.gumbel_temperature(0) == 2.0
    assert objective.gumbel_temperature(100_000) == pytest.approx(2.0 * 0.999995**100_000)
    assert objective.gumbel_temperature(10_000_000) == 0.5


def test_gumbel_noise_is_gumbel() -> None:
    noise = quantiser.gumbel(2000, 2, 50, 3)
    assert float(noise.mean()) == pytest.approx(0.5772, abs=0.01)
    assert float(noise.var()) == pytest.approx(1.6449, abs=0.02)
    assert noise.isfinite().all()


def test_one_masked_frame_has_no_negatives_and_counts_for_nothing() -> None:
    encoder, objective = untrained()
    batch = make_batch(encoder, [16000, 16000])
    assert batch.mask is not None
    alone = make_batch(encoder, [16000])
    batch.mask[1] = False
    batch.mask[1, 3] = True
    loss, single = objective(Bare(encoder), batch), objective(Bare(encoder), alone)
    assert objective.counts(batch) == objective.counts(alone)
    assert float(total(loss)) == pytest.approx(float(total(single)), rel=1e-4)
    batch.mask[:] = False
    nothing = objective(Bare(encoder), batch)
    assert float(total(nothing)) == 0 == objective.counts(batch)["contrastive"]
    total(nothing).backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in objective.parameters())


def test_unused_codes_leave_gradients_finite() -> None:
    encoder, objective = untrained()
    objective.quantizer.weight_proj.weight.data.mul_(100.0)  # most probabilities round to zero
    total(objective(Bare(encoder), make_batch(encoder, [8000]))).backward()
    gradients = [p.grad for p in objective.parameters() if p.grad is not None]
    assert gradients and all(gradient.isfinite().all() for gradient in gradients)


def test_collapse_shows_as_perplexity_of_one_code_per_group(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    encoder, objective = untrained()
    objective.quantizer.weight_proj.weight.data.zero_()
    objective.quantizer.weight_proj.bias.data.view(2, 320)[:, 7] = 50.0
    told: list[bool] = []
    real = objective._logs
    monkeypatch.setattr(
        objective, "_logs", lambda *a: told.append(any(x.requires_grad for x in a[:2])) or real(*a)
    )
    logs = objective(Bare(encoder), make_batch(encoder, [16000])).logs
    assert logs["gumbel"] == (objective.gumbel_temperature(0), 1.0)
    assert logs["mask_share"][1] == 49.0 and logs["mask_share"][0] == logs["accuracy"][1]
    assert not any(isinstance(value, torch.Tensor) for pair in logs.values() for value in pair)
    assert told == [False]  # on a GPU they would hold the step's graph until they are fetched
    assert logs["perplexity"][0] / logs["perplexity"][1] == pytest.approx(2.0, abs=1e-3)
    assert logs["accuracy"][0] == 0  # no negative is left to tell the positive from


def test_extras_go_out_and_come_back(tmp_path: Path) -> None:
    encoder, objective = untrained(codes=12, codevector_dim=20, projection=8, groups=4)
    encoder.export(tmp_path, objective.extras())
    again = Wav2Vec2.load(str(tmp_path), Wav2Vec2.Options())
    assert again.fingerprint == encoder.fingerprint
    other = Contrastive(encoder.dim, [], objective.options)
    other.attach(again)
    assert other.load_pretrained(again.extras()) and objective.state_dict()
    for name, tensor in objective.state_dict().items():
        assert torch.equal(tensor, other.state_dict()[name])
    theirs, told = transformers.Wav2Vec2ForPreTraining.from_pretrained(
        tmp_path, output_loading_info=True
    )
    assert not told["missing_keys"] and not told["unexpected_keys"] and not told["mismatched_keys"]
    assert torch.equal(theirs.quantizer.codevectors, objective.quantizer.codevectors)
    assert theirs.quantizer.num_groups == 4 and theirs.quantizer.num_vars == 12


def test_extras_of_another_size_are_refused(tmp_path: Path) -> None:
    encoder, objective = untrained()
    other = Contrastive(encoder.dim, [], Contrastive.Options(codes=10))
    other.attach(encoder)
    with pytest.raises(ConfigError, match=r"objective\.groups"):
        other.load_pretrained(objective.extras())
    assert not other.load_pretrained({"quantizer.codevectors": torch.zeros(1)})


def test_what_can_not_be_pretrained() -> None:
    objective = Contrastive(40, [], Contrastive.Options())
    fbank = Fbank.load(Fbank.default, Fbank.Options())
    with pytest.raises(ConfigError, match="can't pretrain 'fbank"):
        objective.attach(fbank)
    encoder, objective = untrained()
    batch = make_batch(encoder, [8000])
    batch.mask = None
    with pytest.raises(PluginError, match="mask"):
        objective.counts(batch)
    with pytest.raises(ValueError, match="multiple of groups"):
        Contrastive.Options(groups=3, codevector_dim=256)
    with pytest.raises(ConfigError, match=r"multiple of objective\.groups"):
        Contrastive(encoder.dim, [], Contrastive.Options(groups=3)).attach(encoder)


def test_sizes_that_are_not_named_are_the_checkpoints() -> None:
    """The shipped one's quantiser has 64 codes a group and is 128 wide: not base's."""
    encoder = Wav2Vec2.load("tiny", Wav2Vec2.Options())
    objective = Contrastive(encoder.dim, [], Contrastive.Options())
    objective.attach(encoder)
    assert objective.load_pretrained(encoder.extras())
    assert (objective.groups, objective.codes) == (2, 64)
    for name, tensor in objective.state_dict().items():
        assert torch.equal(tensor, encoder.extras()[name]), name
    other = Contrastive(encoder.dim, [], Contrastive.Options(codes=320))
    other.attach(encoder)
    with pytest.raises(ConfigError, match=r"leave objective\.groups"):
        other.load_pretrained(encoder.extras())


def test_any_encoder_with_local_features() -> None:
    """HuBERT's family, too; where there is no norm, the raw features are quantised."""
    encoder = Hubert.load("random-tiny", Hubert.Options())
    objective = Contrastive(encoder.dim, [], Contrastive.Options())
    objective.attach(encoder)

    class Raw(Bare):
        def encode(self, batch: Batch) -> Encoded:
            encoded = super().encode(batch)
            encoded.normed = None
            return encoded

    for model in (Bare(encoder), Raw(encoder)):
        loss = objective(model, make_batch(encoder, [8000]))
        assert torch.isfinite(total(loss))


def test_a_batch_without_its_seeds_or_local_features_is_refused() -> None:
    encoder, objective = untrained()
    batch = make_batch(encoder, [8000, 6000])
    for seeds in (batch.seeds[:1], (*batch.seeds, 1), ()):
        with pytest.raises(PluginError, match=rf"^{len(seeds)} seeds for 2 examples$"):
            objective(Bare(encoder), replace(batch, seeds=seeds))

    class Deaf(Bare):
        def encode(self, batch: Batch) -> Encoded:
            return replace(super().encode(batch), local=None, normed=None)

    with pytest.raises(PluginError, match="gives no local features: there is nothing to quantise"):
        objective(Deaf(encoder), batch)
    assert objective.counts(batch) == {
        "contrastive": float(batch.mask.sum()), "diversity": float(batch.mask.sum()),
    }  # fmt: skip
