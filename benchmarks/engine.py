"""The engine side by side with transformers: `plait bench engine`.

Every contender runs in a process of its own with the same model, type and threads, over the same
prompts; its answers are compared token by token with those of padded `generate`. Loading is not
timed, nor one short prompt to warm up; everything after the first prompt is handed over is. Medians
over repeats, each with prompts of its own so that no cache carries over. All of it takes about ten
minutes on two cores.

On a CPU the model is a small one, for which there are floors. On a GPU, or when a shape is asked
for, what a device can do at best stands beside what was measured.
"""

from __future__ import annotations

import json
import platform
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .engine_answers import FP32, compare
from .engine_child import Job, spawn
from .engine_floors import PADDED, verdicts
from .engine_shapes import SHAPES, Setting, check_room, shape_of
from .engine_work import WORKLOADS

if TYPE_CHECKING:
    import torch

Race = tuple[str, str, int]
"""(workload, contender, most repeats)."""
RACES: tuple[Race, ...] = (
    ("shared", PADDED, 2),
    ("shared", "plait", 5),
    ("shared", "plait bf16", 5),
    ("shared", "generate one by one", 1),
    ("shared", "generate_batch", 1),
    ("ragged", "generate padded by 16", 1),
    ("ragged", "plait", 3),
    ("tree", PADDED, 1),
    ("tree", "plait", 3),
    ("turns", PADDED, 1),
    ("turns", "plait", 3),
    ("tight", "plait", 3),
)
"""Of the small model on a CPU."""
SHAPE_RACES: tuple[Race, ...] = (
    ("shared", PADDED, 2),
    ("shared", "plait", 5),
    ("shared", "generate one by one", 1),
    ("shared", "generate_batch", 2),
    ("shared", PADDED + FP32, 1),
    ("shared", "plait" + FP32, 1),
    ("ragged", "generate padded by 16", 1),
    ("ragged", "plait", 3),
    ("ragged", "generate_batch", 1),
    ("tree", PADDED, 1),
    ("tree", "plait", 3),
    ("tree", "generate_batch", 1),
    ("turns", PADDED, 1),
    ("turns", "plait", 3),
    ("tight", "plait", 3),
)
"""Of any other: answers are exact in fp32 only, so that is looked at, too."""
DTYPES = ("float32", "bfloat16", "float16")


def bench(
    threads: int = 2,
    repeats: int = 5,
    only: Sequence[str] = (),
    *,
    device: str = "cpu",
    shape: str | None = None,
    dtype: str = "auto",
    say: Callable[[str], None] = lambda line: None,
    out: Path | None = None,
    run: Callable[[Job], dict[str, Any]] = spawn,
) -> dict[str, Any]:
    """Run every race whose workload is wanted; all numbers, as JSON can hold them, also in `out`.

    shape: of `SHAPES`; unless told the small one on a CPU, Qwen3-0.6B's on a GPU. dtype: unless
    told float32 on a CPU, bfloat16 on a GPU. `say` is told of every contender that is done.

    Raises ModelError when the device is not there or too small, ConfigError for settings that
    cannot be: before anything runs.
    """
    began = time.perf_counter()
    place, name, kind = _checked(device, shape, dtype)
    floored = (place.type, name, kind) == ("cpu", "small", "float32")
    found: dict[str, Any] = {"machine": _machine(threads, place), "races": {}}
    found["setting"] = {
        "device": str(place), "shape": name, "dtype": kind, "says": SHAPES[name].says,
        "floors": floored,
    }  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        path = make_model(Path(folder)) if floored else _make_config(Path(folder), name)
        setting = Setting(str(path), str(place), kind, threads)
        for workload, contender, most in RACES if floored else _races(kind):
            if not only or workload in only:
                result = run(Job(setting, contender, workload, min(repeats, most)))
                found["races"].setdefault(workload, {})[contender] = result
                took = result.get("error") or f"{result['seconds']:.2f} s"
                say(f"{workload}: {contender}: {took}")
        if not only or "steps" in only:
            found["steps"] = run(Job(setting, "steps" if floored else "roofs"))
            say("steps: " + found["steps"].get("error", "done"))
    found["machine"]["contended"] |= _contended()
    compare(found["races"])
    _describe(found["races"])
    found["floors"] = [v.as_json() for v in verdicts(found)]
    found["seconds"] = time.perf_counter() - began
    if out is not None:
        out.write_text(json.dumps(found, indent=1))
    return found


def make_model(place: Path) -> Path:
    """The small model, in a directory: a random qwen2 of 26.8 million parameters."""
    import torch
    from transformers import AutoModelForCausalLM

    torch.manual_seed(0)
    AutoModelForCausalLM.from_config(SHAPES["small"].config()).save_pretrained(place)
    return place


def _make_config(place: Path, shape: str) -> Path:
    """A directory without weights."""
    SHAPES[shape].config().save_pretrained(place)
    return place


def _checked(device: str, shape: str | None, dtype: str) -> tuple[torch.device, str, str]:
    """The device, the shape's name and the type."""
    from plait.dag.errors import ConfigError, list_names
    from plait.engine.llm.model import choose_device

    if dtype not in ("auto", *DTYPES):
        raise ConfigError(f"dtype {dtype!r} is not known: there are {list_names(DTYPES)}")
    if shape is not None:
        shape_of(shape)
    place = choose_device(device)
    on_gpu = place.type == "cuda"
    name = shape or ("qwen3-0.6b" if on_gpu else "small")
    kind = dtype if dtype != "auto" else "bfloat16" if on_gpu else "float32"
    check_room(name, place, kind)
    return place, name, kind


def _races(dtype: str) -> list[Race]:
    """Without those that would be run twice."""
    full = dtype == "float32"
    return [race for race in SHAPE_RACES if not (full and race[1].endswith(FP32))]


def _describe(races: dict[str, dict[str, Any]]) -> None:
    """Say beside each race what was asked."""
    for workload, contenders in races.items():
        repeats = max(len(e.get("all_seconds", [0])) for e in contenders.values())
        contenders["workload"] = {
            "says": WORKLOADS[workload](0).says,
            "distinct_prefill": WORKLOADS[workload](repeats - 1).distinct_prefill,
        }


def _machine(threads: int, device: torch.device) -> dict[str, Any]:
    import torch
    import transformers

    from plait.engine.llm.peaks import device_name

    torch.set_num_threads(threads)
    return {
        "cpu": device_name(torch.device("cpu")),
        "device": device_name(device),
        "threads": threads,
        "contended": _contended(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
    }


def _contended() -> bool:
    from plait.engine.llm.peaks import contended

    return contended(1.0)
