"""Matrix products by weights that are laid out once for the CPU at hand.

torch's own `linear` re-arranges the weight at every call and, in fp32, goes to a library that is
slow on some processors. The oneDNN operator that torch's compiler emits takes weights packed
ahead; it can also apply an activation, add a residual or multiply while it writes. Results are
fp32-exact either way.
"""

from __future__ import annotations

from typing import Any

import torch

_PACK = getattr(torch.ops.mkldnn, "_reorder_linear_weight", None)
_LINEAR = getattr(torch.ops.mkldnn, "_linear_pointwise", None)
PACKED_TYPES = (torch.float32, torch.bfloat16)
PACK_ROWS = 512
"""Rows the packing is told to expect; the packed form serves any number."""


def can_pack() -> bool:
    """Whether this torch and processor have the packed operator."""
    available: bool = torch._C._has_mkldnn
    return available and _PACK is not None and _LINEAR is not None


class Dense(torch.nn.Module):
    """y = x W^T + b, with the weight packed when that is possible."""

    def __init__(self, weight: torch.Tensor, bias: torch.Tensor | None) -> None:
        super().__init__()
        self.in_features = weight.shape[1]
        self.out_features = weight.shape[0]
        self.bias = None if bias is None else torch.nn.Parameter(bias, requires_grad=False)
        self._packed: Any = None
        self._plain: torch.Tensor | None = None
        if can_pack() and weight.device.type == "cpu" and weight.dtype in PACKED_TYPES:
            assert _PACK is not None
            self._packed = _PACK(weight.detach(), PACK_ROWS)
        else:
            self._plain = weight.detach()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self._packed is None:
            assert self._plain is not None
            return torch.nn.functional.linear(x, self._plain, self.bias)
        assert _LINEAR is not None
        if x.dim() == 2:
            out: torch.Tensor = _LINEAR(x, self._packed, self.bias, "none", [], "")
            return out
        rows: torch.Tensor = _LINEAR(x.flatten(0, -2), self._packed, self.bias, "none", [], "")
        return rows.view(*x.shape[:-1], self.out_features)

    def add(self, x: torch.Tensor, residual: torch.Tensor) -> torch.Tensor:
        """residual + forward(x), for (T, H) rows."""
        if self._packed is None:
            return residual + self.forward(x)
        return self._binary(x, residual, "add")

    def times(self, x: torch.Tensor, factor: torch.Tensor) -> torch.Tensor:
        """factor * forward(x), for (T, H) rows."""
        if self._packed is None:
            return factor * self.forward(x)
        return self._binary(x, factor, "mul")

    def silu(self, x: torch.Tensor) -> torch.Tensor:
        """silu(forward(x)), for (T, H) rows."""
        if self._packed is None:
            return torch.nn.functional.silu(self.forward(x))
        assert _LINEAR is not None
        out: torch.Tensor = _LINEAR(x, self._packed, self.bias, "swish", [], "")
        return out

    def _binary(self, x: torch.Tensor, other: torch.Tensor, operation: str) -> torch.Tensor:
        assert _LINEAR is not None
        out: torch.Tensor = _LINEAR.binary(x, other, self._packed, self.bias, operation)
        return out


def product(x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """x W^T by the packed operator, for a weight that changes and is not packed.

    Both must be contiguous: with strides the operator falls back to something far slower.
    """
    assert _LINEAR is not None
    out: torch.Tensor = _LINEAR(x, weight, None, "none", [], "")
    return out


def pack_linears(model: torch.nn.Module) -> list[tuple[torch.nn.Module, str, torch.nn.Module]]:
    """Put packed products in place of a model's linear layers; what was replaced, to undo it."""
    if not can_pack():
        return []
    replaced: list[tuple[torch.nn.Module, str, torch.nn.Module]] = []
    for parent in list(model.modules()):
        for name, child in list(parent.named_children()):
            if type(child) is torch.nn.Linear and child.weight.dtype in PACKED_TYPES:
                setattr(parent, name, Dense(child.weight, child.bias))
                replaced.append((parent, name, child))
    return replaced


def unpack_linears(replaced: list[tuple[torch.nn.Module, str, torch.nn.Module]]) -> None:
    for parent, name, child in replaced:
        setattr(parent, name, child)
