"""The CPU back end against attention written out row by row, on layouts of random traffic."""

from __future__ import annotations

import random

import pytest
import torch

from plait.cache.node import Node
from plait.engine.llm.attention import partial, planner
from plait.engine.llm.attention.calls import OwnCall, PartCall, TailCall, WideCall
from plait.engine.llm.attention.cpu import CpuAttention
from plait.engine.llm.attention.cuda import CudaAttention
from plait.engine.llm.attention.fused import FusedAttention
from plait.engine.llm.attention.levels import Levels
from plait.engine.llm.attention.partial import attend_part, attend_plainly
from plait.engine.llm.attention.plan import Layout
from plait.engine.llm.attention.planner import CallPlanner
from plait.engine.llm.attention.varlen import attend_sequences
from plait.engine.llm.pool import KVShape, Pool

from .test_scheduler import PAGE, Sim

HEADS, KV_HEADS, SIZE = 4, 2, 16
PAGES = 400


def layouts() -> list[Layout]:
    """Steps of prefill over shared prefixes, chunks, and ragged and even decodes."""
    rng = random.Random(5)
    sim = Sim(pages=PAGES, batch_tokens=300, running=16)
    head = [rng.randrange(9) for _ in range(150)]
    for i in range(5):
        sim.ask([*head, *[10 + i] * 6], out=4)
    sim.run()
    for i in range(6):
        sim.ask([20 + i] * rng.randrange(1, 90), out=5)
    sim.ask(head[:80] + [3] * 250, out=3)
    sim.ask(head, out=9)
    sim.run()
    return sim.layouts


def own_slots(layout: Layout) -> tuple[torch.Tensor, torch.Tensor]:
    slots: list[int] = []
    positions: list[int] = []
    for chunk in layout.chunks:
        positions += range(chunk.start, chunk.end)
        # What a row writes is the newest slot it reads.
    for row, position in enumerate(positions):
        slots.append(slots_of(layout, row, position)[-1])
    return torch.tensor(slots), torch.tensor(positions)


def slots_of(layout: Layout, row: int, position: int) -> list[int]:
    found: dict[int, int] = {}
    for item in layout.items:
        if item.row <= row < item.row + item.rows:
            slots = [s for a, n in item.runs for s in range(a, a + n)]
            found |= {item.position + i: slot for i, slot in enumerate(slots)}
    return [found[p] for p in range(position + 1)]


def written_out(
    layout: Layout,
    pool: Pool,
    query: torch.Tensor,
    positions: torch.Tensor,
    scale: float,
    window: int | None,
    softcap: float | None,
    sinks: torch.Tensor | None,
) -> torch.Tensor:
    rows = []
    group = query.shape[1] // pool.keys[0].shape[1]
    for row, position in enumerate(positions.tolist()):
        slots = torch.tensor(slots_of(layout, row, position))
        if window is not None:
            slots = slots[-window:]
        keys = pool.keys[0][slots].repeat_interleave(group, 1)
        values = pool.values[0][slots].repeat_interleave(group, 1)
        scores = torch.einsum("hd,thd->ht", query[row], keys) * scale
        if softcap is not None:
            scores = torch.tanh(scores / softcap) * softcap
        if sinks is not None:
            scores = torch.cat([scores, sinks[:, None]], 1)
        weights = torch.softmax(scores, -1)[:, : len(slots)]
        rows.append(torch.einsum("ht,thd->hd", weights, values))
    return torch.stack(rows)


LAYOUTS = layouts()


@pytest.mark.parametrize("window", [None, 5, 40])
@pytest.mark.parametrize("extra", ["", "softcap", "sinks"])
def test_every_row_gets_its_attention(window: int | None, extra: str) -> None:
    check_attention(window, extra)


@pytest.mark.parametrize("window", [None, 40])
@pytest.mark.parametrize("extra", ["", "softcap", "sinks"])
def test_long_runs_are_split(
    monkeypatch: pytest.MonkeyPatch, window: int | None, extra: str
) -> None:
    monkeypatch.setattr(planner, "LONG", 16)
    check_attention(window, extra)
    for layout in LAYOUTS:
        _, positions = own_slots(layout)
        for call in CallPlanner(layout, positions, None, PAGES * PAGE).plan(wide=False).calls:
            if isinstance(call, TailCall) or (isinstance(call, PartCall) and not call.causal):
                assert call.length <= 16


@pytest.mark.parametrize("window", [None, 40])
def test_without_the_flash_operator(monkeypatch: pytest.MonkeyPatch, window: int | None) -> None:
    monkeypatch.setattr(partial, "_FLASH_CPU", None)
    check_attention(window, "")


def check_attention(
    window: int | None,
    extra: str,
    heads: tuple[int, int] = (HEADS, KV_HEADS),
    size: int = SIZE,
    attention: type[CpuAttention | FusedAttention] = CpuAttention,
) -> None:
    torch.manual_seed(1)
    count, kv_heads = heads
    scale = 1.2 / size**0.5
    pool = Pool([KVShape(kv_heads, size, size)], PAGES, PAGE, torch.device("cpu"), torch.float32)
    pool.keys[0].normal_()
    pool.values[0].normal_()
    softcap = 2.0 if extra == "softcap" else None
    sinks = torch.randn(count) if extra == "sinks" else None
    for layout in LAYOUTS:
        slots, positions = own_slots(layout)
        query = torch.randn(layout.rows, count, size)
        key, value = torch.randn(2, layout.rows, kv_heads, size)
        step = attention(pool, layout, slots, positions)
        settings = {"scale": scale, "window": window, "softcap": softcap, "sinks": sinks}
        out = step.attend(0, query, key, value, **settings)
        wanted = written_out(layout, pool, query, positions, scale, window, softcap, sinks)
        assert torch.allclose(out, wanted, atol=2e-5)
        batched = CudaAttention(pool, layout, slots, attend_sequences)
        out = batched.attend(0, query, key, value, **settings)
        assert torch.allclose(out, wanted, atol=2e-5)


def test_a_nan_that_somebody_left_reaches_nobody() -> None:
    """In fp16, where what a request says may overflow: every slot that is not read holds a NaN."""
    shape, half = KVShape(KV_HEADS, SIZE, SIZE), torch.float16
    for layout in LAYOUTS:
        slots, positions = own_slots(layout)
        reads = {s for row, at in enumerate(positions) for s in slots_of(layout, row, int(at))}
        others = [slot for slot in range(PAGES * PAGE) if slot not in reads]
        pool = Pool([shape], PAGES, PAGE, torch.device("cpu"), half)
        pool.keys[0][others] = pool.values[0][others] = float("nan")
        query = torch.randn(layout.rows, HEADS, SIZE, dtype=half)
        key, value = torch.randn(2, layout.rows, KV_HEADS, SIZE, dtype=half)
        out = CpuAttention(pool, layout, slots, positions).attend(0, query, key, value, scale=0.3)
        assert bool(out.isfinite().all())


def test_the_layouts_meet_every_kind_of_call() -> None:
    kinds: set[str] = set()
    for layout in LAYOUTS:
        _, positions = own_slots(layout)
        for call in CallPlanner(layout, positions, None, PAGES * PAGE).plan(wide=True).calls:
            kinds.add(type(call).__name__)
            if isinstance(call, TailCall):
                kinds.add(f"tail {len(call.rows) > 1} {call.mask is not None}")
            if isinstance(call, WideCall):
                kinds.add(f"wide past {call.past is not None and call.past > 0}")
            if isinstance(call, OwnCall):
                kinds.add(f"own {call.chunks > 1}")
    assert kinds >= {"PartCall", "TailCall", "WideCall", "OwnCall"}
    assert kinds >= {"tail True True", "wide past True", "own True", "own False"}


@pytest.mark.parametrize("causal", [False, True])
def test_the_flash_operator_is_what_we_think(causal: bool) -> None:
    torch.manual_seed(2)
    query = torch.randn(2, 4, 6, 8)
    key, value = torch.randn(2, 2, 2, 6, 8)
    mask = None if causal else torch.randn(2, 1, 1, 6)
    fast = attend_part(query, key, value, scale=0.4, causal=causal, mask=mask)
    plain = attend_plainly(query, key, value, scale=0.4, causal=causal, mask=mask)
    for a, b in zip(fast, plain, strict=True):
        assert torch.allclose(a, b, atol=1e-5)


def test_merging_parts_is_attention_over_all() -> None:
    torch.manual_seed(3)
    query = torch.randn(1, 2, 3, 8)
    key, value = torch.randn(2, 1, 2, 10, 8)
    whole, _ = attend_plainly(query, key, value, scale=0.5)
    parts = [
        attend_plainly(query, key[:, :, a:b], value[:, :, a:b], scale=0.5)
        for a, b in ((0, 4), (4, 9), (9, 10))
    ]
    outs = torch.stack([out[0].transpose(0, 1) for out, _ in parts])
    lses = torch.stack([lse[0].transpose(0, 1) for _, lse in parts])
    assert torch.allclose(Levels(outs, lses).merge(), whole[0].transpose(0, 1), atol=1e-6)


def test_node_runs_follow_its_pages() -> None:
    node = Node(0, None, tuple(range(12)), [3, 4, 9])
    assert node.runs() == [(3, 2), (9, 1)]
    assert node.cut(2, 4) == [9]
    assert node.runs() == [(3, 2)]
