"""What the engine benchmark makes of its numbers."""

from __future__ import annotations

import pytest

from plait.benchmarks.engine_floors import PADDED, verdicts
from plait.benchmarks.engine_table import table


def found(plait: float, half: float, equal: int, prefill: float) -> dict[str, object]:
    def entry(seconds: float, **more: object) -> dict[str, object]:
        return {"seconds": seconds, "all_seconds": [seconds, seconds * 1.1], **more}

    names = ["prefill_tokens", "distinct_read", "total_read", "hit_rate", "flops", "model_seconds"]
    counters = dict.fromkeys(names, 1.0) | {"prefill_tokens": prefill}
    machine = {"cpu": "a", "threads": 2, "contended": False, "python": "3", "torch": "2"}
    workload = {"says": "the tree", "distinct_prefill": 100}
    steps = {f"prefill_{n}": {"seconds": 1, "share": 0.8, "share_best": 0.6} for n in (512, 1024)}
    steps["prefill_2048"] = {"seconds": 1, "share": 0.7, "share_best": 0.7}
    steps |= {f"overhead_{n}": {"seconds": 1e-6 * (200 + 5 * n)} for n in (1, 32, 128)}
    steps |= {name: {"seconds": 0.01, "share": 0.61} for name in ("decode", "decode_best")}
    steps |= dict.fromkeys(("torch_matmul", "matmul_peak", "memory_peak"), 1e9)  # type: ignore[arg-type]
    return {
        "machine": {**machine, "transformers": "5"},
        "seconds": 1.0,
        "races": {
            "tree": {
                PADDED: entry(12.0, rows=8, rows_equal=8),
                "plait": entry(plait, rows=8, rows_equal=equal, counters=counters),
                "workload": workload,
            },
            "shared": {
                "plait": entry(1.5),
                "plait bf16": entry(half),
                "generate_batch": {"error": "died"},
                "workload": workload,
            },
        },
        "steps": steps,
    }


@pytest.mark.parametrize(
    ("numbers", "missed"),
    [
        ((2.0, 1.0, 8, 102), []),
        ((2.1, 1.0, 8, 102), ["tree: beside generate padded"]),
        ((2.0, 1.1, 8, 102), ["shared: bf16 beside our own fp32"]),
        ((2.0, 1.0, 7, 102), ["tree: rows equal to those of generate"]),
        ((2.0, 1.0, 8, 103), ["tree: prefill computed of distinct tokens"]),
    ],
)
def test_a_floor_is_met_or_said_not_to_be(
    numbers: tuple[float, float, int, float], missed: list[str]
) -> None:
    slow = [f"prefill of {n}: of the rate of the fastest product" for n in (512, 1024)]
    result = found(*numbers)
    judged = verdicts(result)
    assert [v.what for v in judged if not v.met] == [*missed, *slow]
    text = table(result)
    assert text.count("NOT MET") == len(missed) + 2
    assert f"{len(judged) - len(missed) - 2} of {len(judged)} floors met" in text
    assert "failed: died" in text


def test_floors_without_numbers_are_not_judged() -> None:
    assert verdicts({"races": {}}) == []
    assert verdicts({"races": {}, "steps": {"error": "died"}}) == []
