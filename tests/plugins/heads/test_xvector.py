"""Head `xvector` against transformers' modules on shared weights; its loss against theirs."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from transformers import Wav2Vec2Config
from transformers.models.wav2vec2.modeling_wav2vec2 import AMSoftmaxLoss, Wav2Vec2ForXVector

from bab.core.errors import PluginError
from bab.core.types import Batch, Clip, Features
from bab.plugins.heads.xvector import FIELD, XVector, XVectorOptions, statistics
from bab.plugins.objectives.am_softmax import AmSoftmax, AmSoftmaxOptions

DIM = 24


@pytest.fixture(scope="module")
def theirs() -> Wav2Vec2ForXVector:
    torch.manual_seed(0)
    config = Wav2Vec2Config(
        hidden_size=DIM, num_hidden_layers=1, num_attention_heads=2, intermediate_size=8,
        conv_dim=(8,), conv_kernel=(10,), conv_stride=(5,), num_feat_extract_layers=1,
        num_conv_pos_embeddings=4, num_conv_pos_embedding_groups=2, num_labels=7,
    )  # fmt: skip
    return Wav2Vec2ForXVector(config).eval()


def theirs_of(model: Wav2Vec2ForXVector, x: Tensor) -> tuple[Tensor, Tensor]:
    """transformers' layers past its encoder, on one utterance: embedding and logits."""
    x = model.projector(x[None])
    for layer in model.tdnn:
        x = layer(x)
    pooled = torch.cat([x.mean(dim=1), x.std(dim=1)], dim=-1)
    embedding = model.feature_extractor(pooled)
    return embedding[0], model.classifier(embedding)[0]


@pytest.fixture(scope="module")
def head(theirs: Wav2Vec2ForXVector) -> XVector:
    """Ours with their weights: the names and shapes are the same, and none is left over."""
    made = XVector(DIM, 7, XVectorOptions())
    own = {k: v for k, v in theirs.state_dict().items() if k in made.state_dict()}
    made.load_state_dict(own)
    assert made.outputs == 512
    return made.eval()


def test_a_padded_batch_gives_what_transformers_gives_of_each_alone(
    head: XVector, theirs: Wav2Vec2ForXVector
) -> None:
    lengths = torch.tensor([61, 17, 40])
    x = torch.randn(3, 61, DIM)
    for i, n in enumerate(lengths):
        x[i, n:] = float("nan")  # whatever stands in the padding must not be seen
    with torch.no_grad():
        embedded, logits = head.embed(x, lengths), head(x, lengths)
        for i, n in enumerate(lengths.tolist()):
            embedding, their_logits = theirs_of(theirs, x[i, :n])
            torch.testing.assert_close(embedded[i], embedding, atol=1e-5, rtol=1e-4)
            torch.testing.assert_close(logits[i], their_logits, atol=1e-5, rtol=1e-4)


def test_gradients_are_transformers_and_padding_gets_none(
    head: XVector, theirs: Wav2Vec2ForXVector
) -> None:
    x = torch.randn(2, 30, DIM, requires_grad=True)
    head(x, torch.tensor([30, 20])).square().sum().backward()
    assert x.grad is not None
    for i, n in enumerate((30, 20)):
        alone = x.detach()[i, :n].clone().requires_grad_()
        theirs_of(theirs, alone)[1].square().sum().backward()
        assert alone.grad is not None
        torch.testing.assert_close(x.grad[i, :n], alone.grad, atol=1e-5, rtol=1e-3)
    assert not x.grad[1, 20:].any()


def test_short_utterances_are_repeated_up_to_the_field(head: XVector) -> None:
    assert FIELD == 15
    lengths = torch.tensor([1, 6, 14, 40])
    x = torch.randn(4, 40, DIM, requires_grad=True)
    vectors = head(x, lengths)
    vectors.sum().backward()
    assert x.grad is not None and torch.isfinite(x.grad).all() and torch.isfinite(vectors).all()
    for i, n in enumerate(lengths.tolist()[:3]):
        again = x.detach()[i, [t % n for t in range(FIELD)]][None]
        with torch.no_grad():
            torch.testing.assert_close(head(again, torch.tensor([FIELD]))[0], vectors[i])
            alone = head(x.detach()[i : i + 1, :n], torch.tensor([n]))
            torch.testing.assert_close(alone[0], vectors[i].detach())


def test_statistics_of_frames_that_never_vary() -> None:
    x = torch.full((1, 9, 3), 0.5, requires_grad=True)  # exact: the variance is 0
    found = statistics(x, torch.tensor([9]))
    torch.testing.assert_close(found.detach(), torch.tensor([[0.5] * 3 + [0.0] * 3]))
    found.sum().backward()
    assert x.grad is not None and torch.isfinite(x.grad).all()


def test_the_relu_of_s3prl_stands_after_both_last_layers(head: XVector) -> None:
    other = XVector(DIM, 7, XVectorOptions(relu=True)).eval()
    other.load_state_dict(head.state_dict())
    x, lengths = torch.randn(2, 30, DIM), torch.tensor([30, 30])
    with torch.no_grad():
        embedded = head.embed(x, lengths).relu()
        torch.testing.assert_close(other.embed(x, lengths), embedded)
        torch.testing.assert_close(other(x, lengths), other.classifier(embedded).relu())


class Fixed(torch.nn.Module):
    """A scorer that says what it was given."""

    def __init__(self, output: Tensor) -> None:
        super().__init__()
        self.output = output

    def forward(self, batch: Batch) -> tuple[Tensor, Tensor]:
        return self.output, torch.ones(len(self.output))


def batch_of(speakers: Tensor, weights: Tensor | None = None) -> Batch:
    clips = tuple(Clip(str(i), "x.wav", 0.0, 1.0, "g") for i in range(len(speakers)))
    inputs = Features(torch.zeros(len(speakers), 1, 1, 1), torch.ones(len(speakers)))
    ones = torch.ones(len(speakers), dtype=torch.int64)
    return Batch(inputs, speakers[:, None], ones, clips, 0, weights)


def test_am_softmax_is_transformers_times_the_utterances() -> None:
    torch.manual_seed(1)
    vectors = torch.randn(5, 16, requires_grad=True)
    speakers = torch.tensor([0, 3, 6, 3, 1])
    ours = AmSoftmax(16, [7], AmSoftmaxOptions())
    theirs = AMSoftmaxLoss(16, 7, scale=30.0, margin=0.4)
    theirs.weight.data.copy_(ours.weight.data)
    batch = batch_of(speakers)
    term = ours(Fixed(vectors), batch).terms["am_softmax"]
    wanted = theirs(vectors, speakers)
    torch.testing.assert_close(term.total / term.count, wanted)
    assert ours.counts(batch) == {"am_softmax": 5.0}
    (gradient,) = torch.autograd.grad(term.total / term.count, ours.weight)
    (their_gradient,) = torch.autograd.grad(wanted, theirs.weight)
    torch.testing.assert_close(gradient, their_gradient)


def test_am_softmax_by_its_formula_with_weights() -> None:
    torch.manual_seed(2)
    vectors, speakers = torch.randn(3, 4), torch.tensor([1, 0, 1])
    objective = AmSoftmax(4, [2], AmSoftmaxOptions(scale=10.0, margin=0.2))
    batch = batch_of(speakers, torch.tensor([1.0, 0.0, 3.0]))
    total = 0.0
    for vector, y, weight in zip(vectors, speakers.tolist(), (1.0, 0.0, 3.0), strict=True):
        cosine = [
            float(torch.cosine_similarity(vector, centre, dim=0))
            for centre in objective.weight.detach().T
        ]
        right = torch.tensor(10.0 * (cosine[y] - 0.2)).exp()
        wrong = torch.tensor(10.0 * cosine[1 - y]).exp()
        total -= weight * float(torch.log(right / (right + wrong)))
    found = objective(Fixed(vectors), batch).terms["am_softmax"].total.item()
    assert found == pytest.approx(total, rel=1e-5)
    with pytest.raises(PluginError, match="one group"):
        AmSoftmax(4, [2, 3], AmSoftmaxOptions())
