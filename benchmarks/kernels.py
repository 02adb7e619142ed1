"""Our own CPU kernels beside torch's operators: products by their rows, then whole steps.

Products are those of one step of the small model, one after the other, so that weights come from
memory as they do in a step. Steps are measured in processes of their own, in turns, once with the
kernels and once without.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from plait.dag.errors import ConfigError, EngineError

from .engine import make_model
from .engine_child import Job, spawn
from .engine_shapes import SHAPES, Setting

ROWS = (1, 8, 32, 128, 512)
PREFILLS = (64, 512, 2048)
"""Tokens."""
DECODES = ((1, 512, 1), (32, 512, 1), (32, 64, 256))
"""Requests, tokens of context that they share, tokens of their own."""
TYPES = ("float32", "bfloat16")
NAMES = {"OwnProduct": "own", "PackedProduct": "oneDNN, packed", "PlainProduct": "linear"}


def measured(
    repeats: int = 3, threads: int = 2, say: Callable[[str], None] = print
) -> dict[str, Any]:
    """Milliseconds, medians: products[type][rows][way] and steps[type][kernels][step].

    Raises ConfigError where there are no kernels to measure, EngineError where steps fail.
    """
    import torch

    from plait.engine.llm.native import native

    if native().library is None:
        raise ConfigError(f"there are no kernels of our own here: {native().found}")
    torch.set_num_threads(threads)
    found: dict[str, Any] = {"threads": threads, "products": {}, "steps": {}}
    for name in TYPES:
        found["products"][name] = {rows: products(rows, name) for rows in ROWS}
        say(f"products in {name}: done")
    with tempfile.TemporaryDirectory() as folder:
        model = str(make_model(Path(folder)))
        for name in TYPES:
            setting = Setting(model, dtype=name, threads=threads)
            runs = [[_apart(setting, kernels) for kernels in ("1", "0")] for _ in range(repeats)]
            found["steps"][name] = {
                says: {step: statistics.median(run[i][step] for run in runs) for step in runs[0][i]}
                for i, says in enumerate(("own kernels", "torch's operators"))
            }
            say(f"steps in {name}: done")
    return found


def products(rows: int, dtype: str) -> dict[str, float]:
    """Milliseconds of all products of a step, by every way there is, in turns."""
    import torch

    from plait.engine.llm.dense import ways

    kind = getattr(torch, dtype)
    weights = [torch.randn(o, i).to(kind) for o, i in _sizes()]
    inputs = {w.shape[1]: torch.randn(rows, w.shape[1]).to(kind) for w in weights}
    layers = {way.__name__: [way(w, None) for w in weights] for way in ways(weights[0])}
    taken: dict[str, list[float]] = {name: [] for name in layers}
    with torch.inference_mode():
        for _ in range(25):
            for name, many in layers.items():
                began = time.perf_counter()
                for weight, layer in zip(weights, many, strict=True):
                    layer(inputs[weight.shape[1]])
                taken[name].append(1e3 * (time.perf_counter() - began))
    return {NAMES[name]: statistics.median(t) for name, t in taken.items()}


def _sizes() -> list[tuple[int, int]]:
    """(outputs, inputs) of the small model's weights, in the order of a step."""
    sizes = SHAPES["small"].sizes
    hidden, between = sizes["hidden_size"], sizes["intermediate_size"]
    head = hidden // sizes["num_attention_heads"]
    qkv = (sizes["num_attention_heads"] + 2 * sizes["num_key_value_heads"]) * head
    layer = [(qkv, hidden), (hidden, hidden), (between, hidden), (between, hidden)]
    layers = [*layer, (hidden, between)] * sizes["num_hidden_layers"]
    return [*layers, (sizes["vocab_size"], hidden)]


def _apart(setting: Setting, kernels: str) -> dict[str, float]:
    """Milliseconds of steps, in a process of their own."""
    found = spawn(Job(setting, "kernels"), PLAIT_NATIVE=kernels)
    if "error" in found:
        raise EngineError(f"steps in {setting.dtype} could not be measured: {found['error']}")
    return found


def measure_kernels(setting: Setting) -> dict[str, float]:
    """Milliseconds of steps, in this process."""
    from .engine_steps import Steps, measure_prefill

    found: dict[str, float] = {}
    with Steps(setting, prefix_cache=False) as prefill:
        for tokens in PREFILLS:
            found[f"prefill of {tokens}"] = measure_prefill(prefill, tokens)[0]
    with Steps(setting) as decode:
        for rows, shared, own in DECODES:
            name = f"decode, {rows} x ({shared} shared + {own} own)"
            found[name] = decode.on_thread(partial(decode.decode, rows, shared, own))[0]
    return {name: 1e3 * seconds for name, seconds in found.items()}


def table(found: dict[str, Any]) -> str:
    lines = [f"milliseconds, medians, {found['threads']} threads", ""]
    for name, by_rows in found["products"].items():
        lines.append(f"products of a step, {name}")
        for rows, by_way in by_rows.items():
            ways = "  ".join(f"{way} {ms:8.2f}" for way, ms in by_way.items())
            lines.append(f"  {rows:>4} rows  {ways}")
    for name, by_kernels in found["steps"].items():
        own, other = by_kernels.values()
        lines += ["", f"steps, {name:<29} own kernels  torch's operators"]
        lines += [f"  {step:<34} {own[step]:11.2f}  {other[step]:17.2f}" for step in own]
    return "\n".join(lines)
