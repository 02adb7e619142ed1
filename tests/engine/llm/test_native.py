"""Our own kernel against attention written out, and what happens where there is none."""

from __future__ import annotations

import pytest
import torch

from plait.engine.llm.attention import fused, native

from .test_attention import check_attention

needs_kernel = pytest.mark.skipif(
    native.native().attend is None, reason=f"no kernel: {native.native().found}"
)


@needs_kernel
@pytest.mark.parametrize("window", [None, 5, 40])
@pytest.mark.parametrize("extra", ["", "softcap", "sinks"])
def test_every_row_gets_its_attention(window: int | None, extra: str) -> None:
    check_attention(window, extra)


@needs_kernel
@pytest.mark.parametrize("piece", [7, 64])
def test_items_in_pieces(monkeypatch: pytest.MonkeyPatch, piece: int) -> None:
    monkeypatch.setattr(fused, "PIECE", piece)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 64)
    check_attention(None, "")
    check_attention(40, "sinks")
