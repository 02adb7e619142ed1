"""What a device can do at best, beside what was measured there, as text."""

from __future__ import annotations

from typing import Any


def roof_lines(found: dict[str, Any]) -> list[str]:
    """The workloads' floors, then the steps and theirs."""
    lines = ["", "physical floor of plait's own steps, by the peaks measured when it was loaded"]
    for contenders in found["races"].values():
        entry = contenders.get("plait", {})
        floor = entry.get("counters", {}).get("floor_seconds")
        if floor:
            share = floor / entry["seconds"]
            lines.append(
                f"{contenders['workload']['says']:>74}  {floor:8.4f} s of "
                f"{entry['seconds']:8.3f} s  {share:6.1%}"
            )
    return [*lines, "", *_step_lines(found.get("steps"))]


def _step_lines(steps: dict[str, Any] | None) -> list[str]:
    if steps is None or "error" in steps:
        return [f"steps failed: {steps['error']}"] if steps else []
    lines = [
        f"peaks: product {steps['matmul_peak'] / 1e12:.2f} TFLOP/s, "
        f"memory {steps['memory_peak'] / 1e9:.0f} GB/s",
        f"{'step':>32}{'ms':>10}{'floor ms':>10}{'share':>8}{'tokens/s':>10}  bound by",
    ]
    for row in steps["rows"]:
        lines.append(
            f"{row['says']:>32}{row['seconds'] * 1e3:10.2f}{row['floor'] * 1e3:10.3f}"
            f"{row['share']:8.1%}{row['tokens'] / row['seconds']:10.0f}  {row['bound']}"
        )
    for rows, seconds in steps["overheads"].items():
        lines.append(f"{'without the forward, ' + rows + ' running':>32}{seconds * 1e3:10.3f}")
    return lines
