"""What a decoder does to packed rows between products: norm, rotary embedding, storing KV.

By our own kernels on a CPU (native/rows.c), by torch's operators elsewhere.
"""

from __future__ import annotations

import ctypes
from typing import Any

import torch

from .native import native
from .native.structure import layout

WHOLE = 16
"""Numbers that the kernels take at a time, at most: rows of others go by torch."""
_KNOWN = (torch.float32, torch.bfloat16)


def norm(x: torch.Tensor, epsilon: float) -> torch.Tensor:
    """RMS norm without its weight, of (T, H) or (T, heads, D): x / sqrt(mean(x^2) + epsilon).

    Contiguous, of the same type; reckoned in fp32.
    """
    size = x.shape[-1]
    library = _library(x)
    if library is None or size % WHOLE or x.stride(-1) != 1:
        length = torch.linalg.vector_norm(x, dim=-1, keepdim=True, dtype=torch.float32)
        floor = length.new_tensor((epsilon * size) ** 0.5)
        return x.div(length.hypot_(floor).mul_(size**-0.5)).to(x.dtype)
    out = torch.empty_like(x, memory_format=torch.contiguous_format)
    library.plait_norm(ctypes.byref(_Norm(*_shape(x), epsilon, x.data_ptr(), out.data_ptr())))
    return out


def rotate(x: torch.Tensor, turn: torch.Tensor) -> None:
    """Rotary embedding of (T, heads, D) in place, by complex factors (T, 1, D / 2), in fp32.

    The two numbers that a factor rotates are neighbours.
    """
    library = _library(x)
    if library is not None and x.shape[-1] % WHOLE == 0 and x.stride(-1) == 1:
        library.plait_turn(ctypes.byref(_Turn(*_shape(x), x.data_ptr(), turn.data_ptr())))
        return
    wide = x.float()
    torch.view_as_complex(wide.view(*x.shape[:-1], -1, 2)).mul_(turn)
    if wide is not x:
        x.copy_(wide)


def put(
    keys: torch.Tensor, values: torch.Tensor, slots: torch.Tensor,
    key: torch.Tensor, value: torch.Tensor,
) -> None:  # fmt: skip
    """Store key and value (T, heads, D) at slots of keys and values (slots, heads, D)."""
    library = _library(key)
    one_type = key.dtype == value.dtype == keys.dtype == values.dtype
    if library is None or not (one_type and _together(key) and _together(value)):
        keys.index_copy_(0, slots, key)
        values.index_copy_(0, slots, value)
        return
    one = key.element_size()
    library.plait_put(
        ctypes.byref(
            _Put(
                len(key), torch.get_num_threads(), keys.stride(0) * one, values.stride(0) * one,
                key.stride(0) * one, value.stride(0) * one, key.data_ptr(), value.data_ptr(),
                keys.data_ptr(), values.data_ptr(), slots.data_ptr(),
            )
        )
    )  # fmt: skip


def _library(x: torch.Tensor) -> Any:
    return native().library if x.device.type == "cpu" and x.dtype in _KNOWN else None


def _shape(x: torch.Tensor) -> tuple[int, ...]:
    """Rows, heads, size, the numbers from one to the next, bf16 or not, threads."""
    heads, head = (x.shape[1], x.stride(1)) if x.dim() == 3 else (1, 0)
    half, threads = x.dtype == torch.bfloat16, torch.get_num_threads()
    return len(x), heads, x.shape[-1], x.stride(0), head, half, threads


def _together(x: torch.Tensor) -> bool:
    """A row's heads lie side by side."""
    return x.stride(2) == 1 and x.stride(1) == x.shape[2]


class _Norm(ctypes.Structure):
    _fields_ = layout("rows heads size row head half threads", "x out",
                       ("epsilon", ctypes.c_float))  # fmt: skip


class _Turn(ctypes.Structure):
    _fields_ = layout("rows heads size row head half threads", "x turn")


class _Put(ctypes.Structure):
    _fields_ = layout("rows threads key_bytes value_bytes key_row value_row",
                       "key value keys values slots")  # fmt: skip
