"""Storing a step's keys and values in the pool."""

from __future__ import annotations

import ctypes

import torch

from .library import native
from .structure import layout

_KNOWN = (torch.float32, torch.bfloat16)


class Put(ctypes.Structure):
    """`Put` in kernels.h."""

    _fields_ = layout(
        "rows threads key_bytes value_bytes key_row value_row", "key value keys values slots"
    )


def put(
    keys: torch.Tensor, values: torch.Tensor, slots: torch.Tensor,
    key: torch.Tensor, value: torch.Tensor,
) -> None:  # fmt: skip
    """Store key and value (T, heads, D) at slots of keys and values (slots, heads, D)."""
    known = key.device.type == "cpu" and key.dtype in _KNOWN
    library = native().library if known else None
    one_type = key.dtype == value.dtype == keys.dtype == values.dtype
    if library is None or not (one_type and _together(key) and _together(value)):
        keys.index_copy_(0, slots, key)
        values.index_copy_(0, slots, value)
        return
    one = key.element_size()
    library.plait_put(
        ctypes.byref(
            Put(
                len(key), torch.get_num_threads(), keys.stride(0) * one, values.stride(0) * one,
                key.stride(0) * one, value.stride(0) * one, key.data_ptr(), value.data_ptr(),
                keys.data_ptr(), values.data_ptr(), slots.data_ptr(),
            )
        )
    )  # fmt: skip


def _together(x: torch.Tensor) -> bool:
    """A row's heads lie side by side."""
    return x.stride(2) == 1 and x.stride(1) == x.shape[2]
