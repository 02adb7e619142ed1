"""One layer's attention as the kernel is told of it."""

from __future__ import annotations

import ctypes

from .structure import layout


class Step(ctypes.Structure):
    """`Step` in step.h."""

    _fields_ = layout(
        "rows heads kv_heads key_size value_size half threads units levels window query_row"
        " query_head",
        "query keys values out outs lses unit run position sinks",
        ("scale", ctypes.c_float),
        ("softcap", ctypes.c_float),
    )
