"""Head `ctc`: every frame -> logits over blank and the labels, for connectionist temporal
classification.

Linear as it stands. `widths: [1024], rnn: bilstm, hidden: 1024, layers: 2, dropout: .2` is
SUPERB's head for speech recognition (Yang et al. 2021, arXiv 2105.01051; s3prl's `downstream/asr`);
`widths: [384], activation: relu` is BabAR's for phonemes (768-384-58).
"""

from __future__ import annotations

from typing import Any, Literal, cast

from pydantic import Field, PositiveInt
from torch import Tensor, nn

from bab import Head, NotApplicableError, Options
from bab.plugins.heads.shared.bilstm import BiLSTM
from bab.plugins.heads.shared.padding import unpadded


class CtcOptions(Options):
    """What can be set under `head`."""

    widths: tuple[PositiveInt, ...] = Field(
        (), description="linear layers before all else (SUPERB: 1024; BabAR: 384)"
    )
    activation: Literal["none", "relu"] = Field("none", description="after each of `widths`")
    rnn: Literal["none", "bilstm"] = Field("none", description="context over the whole utterance")
    hidden: int = Field(128, ge=1, description="units of the BiLSTM, per direction (SUPERB: 1024)")
    layers: int = Field(2, ge=1, description="layers of the BiLSTM")
    dropout: float = Field(0.0, ge=0.0, lt=1.0, description="after each layer but the output")


class Ctc(Head):
    """f32[B, T, D] -> logits f32[B, T, C]; no frame depends on padding or on the other clips."""

    Options = CtcOptions
    level = ("sequence",)
    source = "SUPERB (arXiv 2105.01051), speech recognition; Graves et al. 2006 for CTC"

    def __init__(self, dim: int, classes: int, options: CtcOptions) -> None:
        """classes: the labels and the blank, which comes first."""
        super().__init__(dim, classes, options)
        before: list[nn.Module] = []
        for width in options.widths:
            before.append(nn.Linear(dim, width))
            if options.activation == "relu":
                before.append(nn.ReLU())
            before.append(nn.Dropout(options.dropout))
            dim = width
        self.before = nn.Sequential(*before)
        self.rnn: BiLSTM | None = None
        if options.rnn == "bilstm":
            self.rnn = BiLSTM(dim, options.hidden, options.layers, options.dropout)
            dim = 2 * options.hidden
        self.dropout = nn.Dropout(options.dropout if self.rnn is not None else 0.0)
        self.output = nn.Linear(dim, classes)

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        """x f32[B, T, D], lengths i64[B] in frames -> logits f32[B, T, C] (padding: undefined)."""
        lengths = lengths.to(x.device)
        x = self.before(unpadded(x, lengths))
        if self.rnn is not None:
            x = self.rnn(x, lengths)
        return cast(Tensor, self.output(self.dropout(x)))

    def as_transformers(self) -> tuple[str, dict[str, Any], dict[str, Tensor]]:
        """See docs/plugins.md: `Wav2Vec2ForCTC`'s linear layer; `widths` without an activation are
        multiplied into it.

        Raises:
            NotApplicableError: a BiLSTM or a ReLU, which it has no place for.
        """
        if self.rnn is not None:
            raise NotApplicableError("head ctc with rnn: bilstm")
        if any(isinstance(layer, nn.ReLU) for layer in self.before):
            raise NotApplicableError("head ctc with activation: relu")
        weight, bias = self.output.weight.double(), self.output.bias.double()
        for layer in reversed([one for one in self.before if isinstance(one, nn.Linear)]):
            bias = bias + weight @ layer.bias.double()
            weight = weight @ layer.weight.double()
        tensors = {"lm_head.weight": weight.float(), "lm_head.bias": bias.float()}
        return "ForCTC", {"vocab_size": len(bias), "pad_token_id": 0}, tensors
