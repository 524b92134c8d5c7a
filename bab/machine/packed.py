"""Products with weights that stay as they are, on a CPU: the weights laid out once for oneDNN.

A product of few rows (a second of speech is 50) spends up to a third of its time on bringing the
weights into the order that its kernel wants, each time anew. Kept in that order, products of 50 to
800 rows ran at 95 to 105 GFLOP/s a core in fp32, where torch's own took 60 to 93, and at 180 to 210
in bf16, where it took 135 to 185 (docs/speed.md). The price is a second copy of the weights.

The operators are those that torch's own compiler emits for frozen weights (torch/_inductor,
mkldnn_fusion.py). Where one of them is missing nothing is packed.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils import parametrize

_KINDS = (torch.float32, torch.bfloat16)
_OPERATORS = (
    "_linear_pointwise",
    "_reorder_linear_weight",
    "_convolution_pointwise",
    "_reorder_convolution_weight",
)
_ROWS = 128  # that a layout is chosen for; it serves any number of them


class _Packed:
    """What a layer keeps: its weights in oneDNN's order, and of which weights they are a copy."""

    _laid: tuple[tuple[int, int, torch.dtype], Tensor, Tensor | None] | None = None

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_laid": None}  # oneDNN's tensors can't be copied

    def _kind(self, input: Tensor) -> torch.dtype | None:
        """The number type of a pass that may use packed weights; None where torch's own is due."""
        weight: Tensor = self.weight  # type: ignore[attr-defined]
        kind = input.dtype
        if kind in _KINDS and torch.is_autocast_enabled("cpu"):
            kind = torch.get_autocast_dtype("cpu")
        grown = torch.is_grad_enabled() and (weight.requires_grad or input.requires_grad)
        apart = input.dtype != weight.dtype and not torch.is_autocast_enabled("cpu")
        here = input.device.type == "cpu" and kind in _KINDS and not apart
        return kind if here and not grown else None

    def _weights(self, kind: torch.dtype) -> tuple[Tensor, Tensor | None]:
        """Weights, packed, and bias. Made at the first pass, and anew where they have changed."""
        weight, bias = self.weight, self.bias  # type: ignore[attr-defined]
        mark = (weight.data_ptr(), 0 if weight.is_inference() else weight._version, kind)
        if self._laid is None or self._laid[0] != mark:
            packed = self._pack(weight.detach().to(kind))
            self._laid = mark, packed, None if bias is None else bias.detach().to(kind)
        return self._laid[1:]

    def _pack(self, weight: Tensor) -> Tensor:
        raise NotImplementedError


class PackedLinear(_Packed, nn.Linear):
    """A linear layer that multiplies with packed weights where no gradient is taken."""

    def _pack(self, weight: Tensor) -> Tensor:
        packed: Tensor = torch.ops.mkldnn._reorder_linear_weight(weight, _ROWS)
        return packed

    def forward(self, input: Tensor) -> Tensor:
        """[..., I] -> [..., O]."""
        kind = self._kind(input)
        if kind is None or input.numel() == 0:
            return super().forward(input)
        weight, bias = self._weights(kind)
        out: Tensor = torch.ops.mkldnn._linear_pointwise(
            input.to(kind), weight, bias, "none", [], ""
        )
        return out


class PackedConv1d(_Packed, nn.Conv1d):
    """A convolution in groups (the positions of wav2vec 2.0 and its kin), the same way."""

    def _how(self) -> tuple[list[int], list[int], list[int], int]:
        """Padding (none: see `forward`), stride, dilation, groups, of a picture one row high."""
        return [0, 0], [1, self.stride[0]], [1, self.dilation[0]], self.groups

    def _pack(self, weight: Tensor) -> Tensor:
        size = [1, self.in_channels, 1, 2 * _ROWS]
        packed: Tensor = torch.ops.mkldnn._reorder_convolution_weight(
            weight[:, :, None], *self._how(), size
        )
        return packed

    def forward(self, input: Tensor) -> Tensor:
        """[B, I, T] -> [B, O, T']."""
        kind = self._kind(input)
        if kind is None or input.ndim != 3:
            return super().forward(input)
        weight, bias = self._weights(kind)
        # Padded by hand: where padding is wider than the input, oneDNN has no fast kernel (bf16: 40
        # times slower). Channels last, which the transformer's states are.
        sides = (0, 0, self.padding[0], self.padding[0])
        padded = functional.pad(input.to(kind).transpose(1, 2), sides).transpose(1, 2)  # type: ignore[arg-type]
        out: Tensor = torch.ops.mkldnn._convolution_pointwise(
            padded[:, :, None], weight, bias, *self._how(), "none", [], ""
        )
        return out[:, :, 0]


class PackedStride(_Packed, nn.Conv1d):
    """A strided convolution without padding (the front ends of wav2vec 2.0 and its kin), of one
    clip: a product of its overlapping stretches. These need no copy where channels come last in
    memory, as they leave it."""

    def _pack(self, weight: Tensor) -> Tensor:
        rows = weight.transpose(1, 2).flatten(1)  # [O, K * I]
        packed: Tensor = torch.ops.mkldnn._reorder_linear_weight(rows.contiguous(), _ROWS)
        return packed

    def forward(self, input: Tensor) -> Tensor:
        """[1, I, T] -> [1, O, T']; several clips at once as ever."""
        kind, kernel, stride = self._kind(input), self.kernel_size[0], self.stride[0]
        if kind is None or input.ndim != 3 or len(input) != 1 or input.shape[2] < kernel:
            return super().forward(input)
        weight, bias = self._weights(kind)
        rows = input.to(kind)[0].T.contiguous()  # [T, I]
        size = (rows.shape[0] - kernel) // stride + 1, kernel * self.in_channels
        taken = rows.as_strided(size, (stride * self.in_channels, 1))
        out: Tensor = torch.ops.mkldnn._linear_pointwise(taken, weight, bias, "none", [], "")
        return out.T[None]


def can_pack() -> bool:
    """Whether this CPU was shown to gain by it (AVX512), and this torch has the operators."""
    names: Any = torch.ops.mkldnn
    if not all(hasattr(names, name) for name in _OPERATORS):
        return False
    return torch.backends.cpu.get_cpu_capability().startswith("AVX512")


def pack(module: nn.Module, device: torch.device) -> bool:
    """Have the linear layers and the convolutions of a frozen module compute with packed weights,
    where that is faster, on a CPU that gains by it; norms of weights are worked out once. Whether
    there are any: the outputs are other last bits then (relative difference about 1e-6)."""
    if device.type != "cpu" or not can_pack():
        return False
    for one in module.modules():
        grouped = isinstance(one, nn.Conv1d) and 1 < one.groups < one.in_channels
        if grouped and parametrize.is_parametrized(one, "weight"):
            parametrize.remove_parametrizations(one, "weight")
        cls = _packed_class(one)
        if cls is not None and not one._forward_pre_hooks:
            one.__class__ = cls  # as torch.nn.utils.parametrize does it
    return any(isinstance(one, _Packed) for one in module.modules())


def _packed_class(one: nn.Module) -> type[nn.Module] | None:
    if type(one) is nn.Linear:
        return PackedLinear
    if type(one) is not nn.Conv1d or one.padding_mode != "zeros" or isinstance(one.padding, str):
        return None
    if 1 < one.groups < one.in_channels:
        return PackedConv1d
    front = one.groups == 1 and one.stride[0] > 1 and one.padding[0] == 0 and one.dilation[0] == 1
    return PackedStride if front else None
