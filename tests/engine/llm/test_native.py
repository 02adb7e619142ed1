"""Our own kernels against the same written out, and what happens where there are none."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from itertools import product
from pathlib import Path

import pytest
import torch

from plait.engine.llm import cache_folder, lean
from plait.engine.llm.attention import fused
from plait.engine.llm.attention.fused import FusedAttention
from plait.engine.llm.dense import PlainProduct, ways
from plait.engine.llm.model import load
from plait.engine.llm.native import library, native
from plait.engine.llm.native.product import Operation, OwnProduct, multiplies
from plait.engine.llm.native.put import put
from plait.engine.llm.pool import KVShape, Pool

from . import models, test_attention
from .test_attention import LAYOUTS, PAGES, own_slots
from .test_scheduler import PAGE

check_attention = partial(test_attention.check_attention, attention=FusedAttention)
needs_kernels = pytest.mark.skipif(
    native().library is None, reason=f"no kernels here: {native().found}"
)


@needs_kernels
@pytest.mark.parametrize("window", [None, 5, 40])
@pytest.mark.parametrize("extra", ["", "softcap", "sinks"])
def test_every_row_gets_its_attention(window: int | None, extra: str) -> None:
    check_attention(window, extra)


@needs_kernels
@pytest.mark.parametrize("piece", [7, 64])
def test_items_in_pieces(monkeypatch: pytest.MonkeyPatch, piece: int) -> None:
    monkeypatch.setattr(fused, "PIECE", piece)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 64)
    check_attention(None, "")
    check_attention(40, "sinks")


@needs_kernels
@pytest.mark.parametrize("heads", [(1, 1), (6, 3), (8, 1), (16, 2), (80, 40)])
@pytest.mark.parametrize("size", [4, 16, 20, 128])
def test_heads_of_any_number_and_size(heads: tuple[int, int], size: int) -> None:
    check_attention(None, "", heads, size)


@needs_kernels
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("operation", ["none", "silu", "add", "times"])
@pytest.mark.parametrize("with_bias", [False, True])
def test_products_are_those_of_linear(
    dtype: torch.dtype, operation: Operation, with_bias: bool
) -> None:
    torch.manual_seed(4)
    for count, outputs, inputs in ((1, 5, 8), (3, 48, 64), (17, 100, 1026), (130, 500, 64)):
        weight, other = (
            torch.randn(outputs, inputs).to(dtype),
            torch.randn(count, outputs).to(dtype),
        )
        bias = torch.randn(outputs).to(dtype) if with_bias else None
        if not multiplies(weight):
            pytest.skip("this processor multiplies no bf16 numbers")
        x = torch.randn(count, 2 * inputs).to(dtype)[:, :inputs]
        wanted = torch.nn.functional.linear(
            x.double(), weight.double(), None if bias is None else bias.double()
        )
        if operation == "silu":
            wanted = torch.nn.functional.silu(wanted)
        if operation == "add":
            wanted = wanted + other
        if operation == "times":
            wanted = wanted * other
        second = other if operation in ("add", "times") else None
        found = OwnProduct(weight, bias)(x, operation, second)
        assert found.dtype == dtype
        exact = dtype == torch.float32
        assert torch.allclose(
            found.double(), wanted, rtol=1e-5 if exact else 1e-2, atol=1e-4 if exact else 1e-2
        )


@needs_kernels
def test_a_row_gets_the_same_in_any_batch() -> None:
    weight, x = torch.randn(300, 2000), torch.randn(70, 2000)
    product = OwnProduct(weight, None)
    whole = product(x)
    for first, last in ((0, 1), (3, 20), (69, 70)):
        assert torch.equal(product(x[first:last].clone()), whole[first:last])


@needs_kernels
def test_what_is_not_a_number_stays_in_its_row() -> None:
    x = torch.randn(9, 64)
    x[4, 3] = float("nan")
    x[5, 3] = float("inf")
    found = OwnProduct(torch.rand(50, 64) + 1, None)(x, "silu")
    assert bool(found[4].isnan().all())
    assert bool((found[5] == float("inf")).all())
    assert bool(found[[0, 1, 2, 3, 6, 7, 8]].isfinite().all())
    assert float(OwnProduct(-torch.eye(64) * 1e30, None)(x.abs(), "silu")[0].abs().max()) < 1e-5


@pytest.fixture
def fresh(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Path]:
    """As in a new process with an empty cache directory."""
    monkeypatch.setenv("PLAIT_CACHE_DIR", str(tmp_path / "cache"))
    native.cache_clear()
    yield tmp_path
    native.cache_clear()


@needs_kernels
def test_kernels_are_compiled_once(fresh: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert native().library is not None
    kept = list(cache_folder.cache_folder("native").iterdir())
    assert len(kept) == 1
    monkeypatch.setattr(library, "_units", lambda: ["nothing.c"])
    native.cache_clear()
    assert native().library is not None, "read from the cache directory"
    kept[0].chmod(0o777)
    native.cache_clear()
    assert native().library is None, "anybody could have put it there"


@needs_kernels
def test_a_kept_file_that_is_broken_is_made_anew(fresh: Path) -> None:
    assert native().library is not None
    (kept,) = cache_folder.cache_folder("native").iterdir()
    kept.unlink()
    kept.write_bytes(b"half")
    native.cache_clear()
    assert native().library is not None
    assert kept.stat().st_size > 1000


@needs_kernels
def test_a_cache_that_cannot_be_written_is_done_without(
    fresh: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (fresh / "cache").write_text("a file where the directory should be")
    assert native().library is not None


def test_without_a_compiler(fresh: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(fresh))
    monkeypatch.delenv("CC", raising=False)
    assert native().library is None
    assert "no C compiler" in native().found
    assert not multiplies(torch.ones(4, 4))


def test_a_compiler_that_fails(fresh: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bad = fresh / "cc"
    bad.write_text(
        '#!/bin/sh\n[ "$1" = --version ] && exit 0\necho "broken: no headers" >&2; exit 1\n'
    )
    bad.chmod(0o755)
    monkeypatch.setattr(library, "_compilers", lambda: [[str(bad)]])
    assert native().library is None
    assert "broken: no headers" in native().found


def test_kernels_can_be_turned_off(fresh: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PLAIT_NATIVE", "0")
    assert native().library is None
    assert ways(torch.ones(4, 4))[-1] is PlainProduct and OwnProduct not in ways(torch.ones(4, 4))


@needs_kernels
def test_without_wide_registers(fresh: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a processor that has only what its architecture promises."""
    monkeypatch.setattr(library, "FLAGS", [f for f in library.FLAGS if f != "-march=native"])
    assert native().library is not None, native().found
    check_attention(None, "")
    check_attention(40, "sinks", (8, 2), 64)
    check_attention(None, "", (40, 40), 256)
    weight, x = torch.randn(50, 70), torch.randn(21, 70)
    assert torch.allclose(OwnProduct(weight, None)(x), x @ weight.T, atol=1e-4)


@needs_kernels
@pytest.mark.parametrize("size", [16, 64, 128])
@pytest.mark.parametrize("heads", [(4, 2), (8, 8)])
def test_attention_of_bf16_numbers_is_reckoned_in_fp32(size: int, heads: tuple[int, int]) -> None:
    torch.manual_seed(6)
    count, kv_heads = heads
    shape = KVShape(kv_heads, size, size)
    pools = [
        Pool([shape], PAGES, PAGE, torch.device("cpu"), t) for t in (torch.bfloat16, torch.float32)
    ]
    for layout in LAYOUTS:
        slots, positions = own_slots(layout)
        query = torch.randn(layout.rows, count, size).bfloat16()
        key, value = torch.randn(2, layout.rows, kv_heads, size).bfloat16()
        pools[0].keys[0].normal_()
        pools[0].values[0].normal_()
        pools[1].keys[0].copy_(pools[0].keys[0])
        pools[1].values[0].copy_(pools[0].values[0])
        half, whole = (
            FusedAttention(p, layout, slots, positions).attend(
                0,
                query.to(p.dtype),
                key.to(p.dtype),
                value.to(p.dtype),
                scale=size**-0.5,
                window=90,
            )
            for p in pools
        )
        assert half.dtype == torch.bfloat16
        # Half a unit in the last place of bf16, and what fp32 leaves.
        assert torch.allclose(half.float(), whole, rtol=2**-8, atol=1e-4)


@needs_kernels
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("count", [5, 300])
def test_keys_and_values_come_to_their_slots(dtype: torch.dtype, count: int) -> None:
    torch.manual_seed(7)
    qkv = torch.randn(count, 9, 64).to(dtype)
    slots = torch.randperm(2 * count)[:count]
    keys, values = torch.zeros(2, 2 * count, 2, 64, dtype=dtype)
    put(keys, values, slots, qkv[:, 5:7], qkv[:, 7:])
    assert torch.equal(keys[slots], qkv[:, 5:7]) and torch.equal(values[slots], qkv[:, 7:])
    assert int(keys.ne(0).any(-1).any(-1).sum()) == count


@needs_kernels
@pytest.mark.parametrize("block", [7, 512])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("family", models.WIDE)
def test_all_layers_in_one_call(
    family: str, dtype: str, block: int, model_path: Callable[[str], Path],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """The same logits and the same pool as layer by layer."""
    monkeypatch.setattr(lean, "BLOCK", block)
    model = load(model_path(family), "cpu", dtype)
    forward = model.forward
    assert isinstance(forward, lean.LeanModel) and forward.decoder is not None
    pools = [Pool(model.layers, PAGES, PAGE, model.device, model.dtype) for _ in "12"]
    torch.manual_seed(8)
    for mine, other in zip(*(pool._tensors() for pool in pools), strict=True):
        other.copy_(mine.normal_())
    last, second, every = slice(-1, None), slice(0, None, 2), slice(None)
    for layout, kept in product(LAYOUTS, (last, second, every)):
        slots, positions = own_slots(layout)
        ids, keep = (
            torch.randint(models.VOCAB, (layout.rows,)),
            torch.arange(layout.rows)[kept].contiguous(),
        )
        steps = [FusedAttention(pool, layout, slots, positions) for pool in pools]
        with torch.inference_mode():
            found = forward(steps[0], ids, positions, keep)
            with monkeypatch.context() as layer_by_layer:
                layer_by_layer.setattr(forward, "decoder", None)
                wanted = forward(steps[1], ids, positions, keep)
        near = 1e-4 if dtype == "float32" else 0.03
        assert float((found - wanted).abs().max() / wanted.abs().max()) < near
        for mine, other in zip(*(pool._tensors() for pool in pools), strict=True):
            assert float((mine - other).abs().max() / other.abs().max()) < near
            other.copy_(mine)
