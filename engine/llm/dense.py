"""Matrix products by weights that are laid out once for the CPU at hand.

torch's own `linear` re-arranges the weight at every call and, in fp32, goes to a library that is
slow on some processors. In its place comes the first of these that can be had: our own kernel
(native/product.c), the oneDNN operator that torch's compiler emits, `linear`. The first two take
weights laid out ahead, and can apply an activation, add a residual or multiply while they write.
In fp32, results are exact to its last digits in any case.
"""

from __future__ import annotations

from typing import Any

import torch

from .native.product import Operation, OwnProduct, multiplies

_PACK = getattr(torch.ops.mkldnn, "_reorder_linear_weight", None)
_LINEAR = getattr(torch.ops.mkldnn, "_linear_pointwise", None)
PACKED_TYPES = (torch.float32, torch.bfloat16)
PACK_ROWS = 512
"""Rows the packing is told to expect; the packed form serves any number."""


def can_pack() -> bool:
    """Whether this torch and processor have the packed operator."""
    available: bool = torch._C._has_mkldnn
    return available and _PACK is not None and _LINEAR is not None


class PackedProduct:
    """x W^T + b by oneDNN, the weight packed."""

    def __init__(self, weight: torch.Tensor, bias: torch.Tensor | None) -> None:
        assert _PACK is not None
        self._packed: Any = _PACK(weight.detach(), PACK_ROWS)
        self._bias = None if bias is None else bias.detach()

    def __call__(
        self, x: torch.Tensor, operation: Operation = "none", other: torch.Tensor | None = None
    ) -> torch.Tensor:
        assert _LINEAR is not None
        out: torch.Tensor
        if other is not None:
            name = {"add": "add", "times": "mul"}[operation]
            out = _LINEAR.binary(x, other, self._packed, self._bias, name)
        else:
            name = {"none": "none", "silu": "swish"}[operation]
            out = _LINEAR(x, self._packed, self._bias, name, [], "")
        return out


class PlainProduct:
    """x W^T + b by torch."""

    def __init__(self, weight: torch.Tensor, bias: torch.Tensor | None) -> None:
        self._weight = weight.detach()
        self._bias = None if bias is None else bias.detach()

    def __call__(
        self, x: torch.Tensor, operation: Operation = "none", other: torch.Tensor | None = None
    ) -> torch.Tensor:
        out = torch.nn.functional.linear(x, self._weight, self._bias)
        if operation == "silu":
            return torch.nn.functional.silu(out)
        if other is None:
            return out
        return other + out if operation == "add" else other * out


class Dense(torch.nn.Module):
    """y = x W^T + b, by the fastest way there is for this weight."""

    def __init__(self, weight: torch.Tensor, bias: torch.Tensor | None) -> None:
        super().__init__()
        self.in_features = weight.shape[1]
        self.out_features = weight.shape[0]
        self._product = ways(weight)[0](weight, bias)

    @property
    def own(self) -> OwnProduct | None:
        """The product, where it is by our own kernel."""
        return self._product if isinstance(self._product, OwnProduct) else None

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if x.dim() == 2:
            return self._product(x)
        return self._product(x.flatten(0, -2)).view(*x.shape[:-1], self.out_features)

    def add(self, x: torch.Tensor, residual: torch.Tensor) -> torch.Tensor:
        """residual + forward(x), for (T, H) rows."""
        return self._product(x, "add", residual)

    def times(self, x: torch.Tensor, factor: torch.Tensor) -> torch.Tensor:
        """factor * forward(x), for (T, H) rows."""
        return self._product(x, "times", factor)

    def silu(self, x: torch.Tensor) -> torch.Tensor:
        """silu(forward(x)), for (T, H) rows."""
        return self._product(x, "silu")


def ways(weight: torch.Tensor) -> list[type[OwnProduct | PackedProduct | PlainProduct]]:
    """How products by this weight can be had, the fastest first."""
    found: list[type[OwnProduct | PackedProduct | PlainProduct]] = [PlainProduct]
    if can_pack() and weight.device.type == "cpu" and weight.dtype in PACKED_TYPES:
        found.insert(0, PackedProduct)
    if multiplies(weight):
        found.insert(0, OwnProduct)
    return found


def product(x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """x W^T by the packed operator, for a weight that changes and is not packed.

    Both must be contiguous: with strides the operator falls back to something far slower.
    """
    assert _LINEAR is not None
    out: torch.Tensor = _LINEAR(x, weight, None, "none", [], "")
    return out


def pack_linears(model: torch.nn.Module) -> list[tuple[torch.nn.Module, str, torch.nn.Module]]:
    """Put packed products in place of a model's linear layers; what was replaced, to undo it."""
    replaced: list[tuple[torch.nn.Module, str, torch.nn.Module]] = []
    for parent in list(model.modules()):
        for name, child in list(parent.named_children()):
            if type(child) is torch.nn.Linear and ways(child.weight)[0] is not PlainProduct:
                setattr(parent, name, Dense(child.weight, child.bias))
                replaced.append((parent, name, child))
    return replaced


def unpack_linears(replaced: list[tuple[torch.nn.Module, str, torch.nn.Module]]) -> None:
    for parent, name, child in replaced:
        setattr(parent, name, child)
