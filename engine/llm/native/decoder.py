"""All layers of a llama-like decoder and its head in one call: layers.c."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from .library import native
from .product import OwnProduct, Product
from .step import Step
from .structure import layout

if TYPE_CHECKING:
    from ..attention.fused import FusedAttention

WHOLE = 16
"""Numbers that the kernels take at a time, at most: rows and heads of others go by torch."""


class Layer(ctypes.Structure):
    """`Layer` in layers.c."""

    _fields_ = [
        *((name, Product) for name in ("qkv", "out", "gate", "up", "down")),
        *layout("window", "query_norm key_norm", ("scale", ctypes.c_float)),
    ]


class Decoder(ctypes.Structure):
    """`Decoder` in layers.c."""

    _fields_ = [
        ("step", Step),
        ("last", Step),
        ("head", Product),
        *layout(
            "layers hidden inner block kept",
            "layer keys values slots keep turn x asked normed fed logits",
            ("epsilon", ctypes.c_float),
        ),
    ]


@dataclass(frozen=True, slots=True)
class OwnLayer:
    """One layer's weights, laid out for our kernels."""

    qkv: OwnProduct
    out: OwnProduct
    gate: OwnProduct
    up: OwnProduct
    down: OwnProduct
    query_norm: torch.Tensor | None
    """(size), in the model's type."""
    key_norm: torch.Tensor | None
    scale: float
    window: int | None

    def told(self) -> Layer:
        norms = (self.query_norm, self.key_norm)
        query_norm, key_norm = (None if n is None else n.data_ptr() for n in norms)
        return Layer(
            self.qkv.told(), self.out.told(), self.gate.told(), self.up.told(), self.down.told(),
            self.window or 0, self.scale, query_norm, key_norm,
        )  # fmt: skip


class OwnDecoder:
    """Embedded rows to logits."""

    def __init__(
        self, layers: Sequence[OwnLayer], head: OwnProduct, heads: int, epsilon: float, block: int
    ) -> None:
        self._weights = (tuple(layers), head)  # which what is told points to
        self._layers = (Layer * len(layers))(*(layer.told() for layer in layers))
        self._heads, self._epsilon, self._block = heads, epsilon, block

    def __call__(
        self, attention: FusedAttention, rows: torch.Tensor, turn: torch.Tensor, keep: torch.Tensor
    ) -> torch.Tensor:
        """rows (T, hidden), which are overwritten, and their complex rotary factors ->
        logits (len(keep), V)."""
        pool, (layers, head) = attention.pool, self._weights
        shape, block = pool.layers[0], min(len(rows), self._block)
        hidden, inner = rows.shape[1], layers[0].gate.outputs
        mixed = rows.new_empty(len(rows), self._heads, shape.value_size)
        asked = rows.new_empty(len(rows), layers[0].qkv.outputs)
        normed, fed = rows.new_empty(block, hidden), rows.new_empty(block, inner)
        logits = rows.new_empty(len(keep), head.outputs)
        keys, values = _places(pool.keys), _places(pool.values)
        decoder = Decoder(
            attention.told(mixed), attention.told_of(keep, mixed), head.told(),
            len(layers), hidden, inner, block, len(keep), self._epsilon,
            ctypes.addressof(self._layers), ctypes.addressof(keys), ctypes.addressof(values),
            attention.slots.data_ptr(), keep.data_ptr(), turn.data_ptr(), rows.data_ptr(),
            asked.data_ptr(), normed.data_ptr(), fed.data_ptr(), logits.data_ptr(),
        )  # fmt: skip
        library = native().library
        assert library is not None
        if library.plait_decode(ctypes.byref(decoder)):
            raise MemoryError("no memory left for attention's tasks")
        return logits


def _places(tensors: Sequence[torch.Tensor]) -> ctypes.Array[ctypes.c_void_p]:
    return (ctypes.c_void_p * len(tensors))(*(tensor.data_ptr() for tensor in tensors))
