"""Products of rows by a weight that was laid out for our own kernel (product.c)."""

from __future__ import annotations

import ctypes
from typing import Literal

import torch

from .library import native
from .structure import layout

Operation = Literal["none", "silu", "add", "times"]
"""What is done while the result is written: nothing, an activation, a residual added, a factor."""
_OPERATIONS = ("none", "silu", "add", "times")


class Product(ctypes.Structure):
    """What the kernel is told: `Product` in kernels.h."""

    _fields_ = layout("rows words outputs x_row half operation threads", "x weight bias other out")


def multiplies(weight: torch.Tensor) -> bool:
    """Whether the kernel is there for this (outputs, inputs) weight."""
    if weight.device.type != "cpu" or weight.dtype not in (torch.float32, torch.bfloat16):
        return False
    library = native().library
    if library is None or weight.dim() != 2 or not weight.numel():
        return False
    if weight.dtype == torch.bfloat16:  # two numbers are one word
        return weight.shape[1] % 2 == 0 and bool(library.plait_multiplies_halves())
    return True


class OwnProduct:
    """x W^T + b by our own kernel; the weight is laid out in panels, a copy."""

    def __init__(self, weight: torch.Tensor, bias: torch.Tensor | None) -> None:
        self.outputs, self._inputs = weight.shape
        self._dtype = weight.dtype
        self._panels = _panels(weight)
        self._bias = None if bias is None else self._padded(bias.detach())

    def _check(self, x: torch.Tensor, other: torch.Tensor | None) -> None:
        """RuntimeError, as torch has it: the kernel would read what is not there."""
        wanted = (len(x), self.outputs)
        if x.dim() != 2 or x.shape[1] != self._inputs or x.dtype != self._dtype:
            raise RuntimeError(f"{tuple(x.shape)} {x.dtype} by {self._inputs} {self._dtype}")
        if other is not None and (tuple(other.shape) != wanted or other.dtype != self._dtype):
            raise RuntimeError(f"{tuple(other.shape)} {other.dtype} to {wanted} {self._dtype}")

    def _padded(self, bias: torch.Tensor) -> torch.Tensor:
        """fp32, as long as all panels together."""
        panels, _, columns = self._panels.shape
        return torch.nn.functional.pad(bias.float(), (0, panels * columns - len(bias)))

    def __call__(
        self, x: torch.Tensor, operation: Operation = "none", other: torch.Tensor | None = None
    ) -> torch.Tensor:
        """(T, inputs) -> (T, outputs); `other` has the result's shape."""
        self._check(x, other)
        if x.stride(1) != 1 or (len(x) > 1 and x.stride(0) * x.element_size() % 4):
            x = x.contiguous()
        if other is not None:
            other = other.contiguous()
        out = x.new_empty(len(x), self.outputs)
        if not len(x):
            return out
        library = native().library
        assert library is not None
        product = self.told()
        product.rows, product.operation = len(x), _OPERATIONS.index(operation)
        product.threads = torch.get_num_threads()
        product.x, product.x_row = x.data_ptr(), x.stride(0) * x.element_size() // 4
        product.other = None if other is None else other.data_ptr()
        product.out = out.data_ptr()
        library.plait_multiply(ctypes.byref(product))
        return out

    def told(self) -> Product:
        """What the kernel is told of the weight, whatever it is multiplied with."""
        return Product(
            words=self._panels.shape[1],
            outputs=self.outputs,
            half=self._dtype == torch.bfloat16,
            weight=self._panels.data_ptr(),
            bias=None if self._bias is None else self._bias.data_ptr(),
        )


def _panels(weight: torch.Tensor) -> torch.Tensor:
    """(panels, words, columns) of int32: what a tile reads one after the other."""
    library = native().library
    assert library is not None
    columns = library.plait_columns()
    words = weight.detach().contiguous().view(torch.int32)
    count = -(-len(words) // columns)
    panels = torch.zeros(count, words.shape[1], columns, dtype=torch.int32)
    for number, rows in enumerate(torch.split(words, columns)):
        panels[number, :, : len(rows)] = rows.t()
    return panels
