"""Head `logistic`: scikit-learn's logistic regression on the mean of a clip's frames.

Solved from all training clips at once. The coefficients are kept as buffers, so that a saved
model is safetensors and needs no scikit-learn to run.
"""

from __future__ import annotations

import warnings
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor

from bab import CorpusError, DivergedError, Head, Options
from bab.kit import mean_over_time
from bab.plugins.heads.shared.pool import classification


class LogisticOptions(Options):
    """What can be set under `head`."""

    c: float = Field(1.0, gt=0.0, description="inverse strength of the L2 penalty")
    class_weight: Literal["balanced", "none"] = Field(
        "balanced", description="balanced: every class weighs the same, however rare it is"
    )
    standardise: bool = Field(
        True, description="scale each dimension to mean 0 and variance 1 over the training clips"
    )
    iterations: int = Field(5000, ge=1, description="most iterations of the solver (L-BFGS)")


class Logistic(Head):
    """f32[B, T, D] -> logits f32[B, C], whose softmax is scikit-learn's `predict_proba`."""

    Options = LogisticOptions
    level = ("clip",)
    linear = True
    closed_form = True
    source = "scikit-learn LogisticRegression; the default head of owlgebra-ai/babycry"

    weight: Tensor
    bias: Tensor
    centre: Tensor

    def __init__(self, dim: int, classes: int, options: LogisticOptions) -> None:
        super().__init__(dim, classes, options)
        self.options = options
        self.register_buffer("weight", torch.zeros(classes, dim))
        self.register_buffer("bias", torch.zeros(classes))
        # Taken off first: of a dimension that hardly varies the coefficient is huge, and 32 bits
        # would not hold its product with the mean.
        self.register_buffer("centre", torch.zeros(dim))

    def _load_from_state_dict(self, state: dict[str, Any], prefix: str, *more: Any) -> None:
        state.setdefault(f"{prefix}centre", torch.zeros_like(self.centre))  # saved before 0.1
        super()._load_from_state_dict(state, prefix, *more)

    def fit(self, x: Tensor, y: Tensor) -> None:
        """x f32[N, D], one vector per clip; y i64[N], each class at least once.

        With two classes, the logits are 0 and scikit-learn's `decision_function`.

        Raises:
            CorpusError: a class without an example, or a single class.
            DivergedError: features that aren't finite, or a solver that came to no end.
        """
        there = set(y.tolist())
        classes = len(self.bias)
        if classes < 2 or there != set(range(classes)):
            raise CorpusError(
                f"head 'logistic' needs examples of every class, and two classes at least: there "
                f"are {classes} classes, and examples of {len(there)}"
            )
        if not bool(torch.isfinite(x).all()):
            raise DivergedError("head 'logistic': the encoder's features are not all finite")
        own = self.options.standardise  # what isn't scaled is solved as it is
        centre = x.double().mean(0).float() if own else torch.zeros_like(self.centre)
        coefficients, intercept = self._solved((x.double() - centre).numpy(), y.numpy())
        self.centre.copy_(centre)
        if classes == 2:
            coefficients = np.concatenate([np.zeros_like(coefficients), coefficients])
            intercept = np.concatenate([np.zeros_like(intercept), intercept])
        self.weight.copy_(torch.from_numpy(coefficients))
        self.bias.copy_(torch.from_numpy(intercept))

    def _solved(
        self, x: NDArray[np.float64], y: NDArray[np.int64]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Coefficients [1 or C, D] and intercepts for vectors as they are given, unscaled."""
        from sklearn.linear_model import LogisticRegression

        mean, scale = np.zeros(x.shape[1]), np.ones(x.shape[1])
        if self.options.standardise:
            mean, scale = x.mean(0), x.std(0)
            scale[scale < 1e-12] = 1.0  # a dimension that never varies says nothing
        weights = "balanced" if self.options.class_weight == "balanced" else None
        solver = LogisticRegression(
            C=self.options.c, class_weight=weights, max_iter=self.options.iterations
        )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of no convergence: that is an error here
            solver.fit((x - mean) / scale, y)
        if int(solver.n_iter_.max()) >= self.options.iterations:
            raise DivergedError(
                f"head 'logistic': no solution after {self.options.iterations} iterations: lower "
                "head.c, set head.standardise=true, or raise head.iterations"
            )
        # w (x - mean) / scale + b = (w / scale) x + (b - (w / scale) mean)
        coefficients = solver.coef_ / scale
        return coefficients, solver.intercept_ - coefficients @ mean

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        """x f32[B, T, D], lengths i64[B] in frames -> logits f32[B, C]."""
        return (mean_over_time(x, lengths) - self.centre) @ self.weight.T + self.bias

    def as_transformers(self) -> tuple[str, dict[str, Any], dict[str, Tensor]]:
        """See docs/plugins.md: `Wav2Vec2ForSequenceClassification`, above an identity."""
        return classification(self.weight, self.bias, -self.centre)
