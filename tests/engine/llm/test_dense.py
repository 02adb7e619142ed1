"""Products by packed weights are what torch says they are, in every type and with every ending."""

from __future__ import annotations

import pytest
import torch

from plait.engine.llm import dense
from plait.engine.llm.dense import Dense

TYPES = [torch.float32, torch.bfloat16, torch.float16]


@pytest.mark.parametrize("packed", [True, False])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("rows", [1, 3, 130])
@pytest.mark.parametrize("dtype", TYPES)
def test_every_ending(
    dtype: torch.dtype, rows: int, bias: bool, packed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not packed:
        monkeypatch.setattr(dense, "_PACK", None)
    torch.manual_seed(rows)
    x, weight = torch.randn(rows, 24).to(dtype), torch.randn(40, 24).to(dtype)
    offset = torch.randn(40).to(dtype) if bias else None
    other = torch.randn(rows, 40).to(dtype)
    layer = Dense(weight, offset)
    plain = torch.nn.functional.linear(
        x.double(), weight.double(), offset.double() if offset is not None else None
    )
    rtol, atol = (1e-5, 1e-5) if dtype == torch.float32 else (0.02, 0.05)
    for ours, wanted in (
        (layer(x), plain),
        (layer(x[None])[0], plain),
        (layer.add(x, other), plain + other.double()),
        (layer.times(x, other), plain * other.double()),
        (layer.silu(x), torch.nn.functional.silu(plain)),
    ):
        assert ours.dtype == dtype
        torch.testing.assert_close(ours.double(), wanted, rtol=rtol, atol=atol)
