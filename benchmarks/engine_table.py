"""The engine benchmark's result as text."""

from __future__ import annotations

from typing import Any

from .engine_floors import verdicts
from .engine_roof_table import roof_lines


def table(found: dict[str, Any]) -> str:
    """Every contender of every workload, the steps, and the floors with what was measured; of
    other shapes than the small one the physical floors instead, beside what they are floors of."""
    machine, setting = found["machine"], found.get("setting", {})
    says = setting.get("says", "qwen2 of 26.8 M parameters")
    place = machine["cpu"] if setting.get("device", "cpu") == "cpu" else machine["device"]
    lines = [
        f"engine, random {says}, {setting.get('dtype', 'float32')} unless said, "
        f"{machine['threads']} threads, {place}, Python {machine['python']}, torch "
        f"{machine['torch']}, transformers {machine['transformers']}, {found['seconds']:.0f} s "
        "in all"
    ]
    if machine["contended"]:
        lines.append("other work was running on this machine: times are too long, ratios unsure")
    for contenders in found["races"].values():
        lines += ["", contenders["workload"]["says"], *_race_lines(contenders)]
    if not setting.get("floors", True):
        return "\n".join([*lines, *roof_lines(found)])
    if "steps" in found:
        lines += ["", *_step_lines(found["steps"])]
    judged = verdicts(found)
    met = sum(v.met for v in judged)
    lines += ["", f"{met} of {len(judged)} floors met", *(f"  {v}" for v in judged)]
    return "\n".join(lines)


def _race_lines(contenders: dict[str, Any]) -> list[str]:
    lines = []
    ours = contenders.get("plait", {}).get("seconds")
    for name, entry in contenders.items():
        if name == "workload":
            continue
        if "error" in entry:
            lines.append(f"{name:>26}  failed: {entry['error']}")
            continue
        ratio = f"plait is {entry['seconds'] / ours:5.2f}x" if ours else ""
        equal = _equal(entry)
        low, high = min(entry["all_seconds"]), max(entry["all_seconds"])
        spread = f"{low:.2f} to {high:.2f}" if high > low else ""
        lines.append(f"{name:>26}  {entry['seconds']:8.3f} s  {spread:16} {ratio:18} {equal}")
    counters = contenders.get("plait", {}).get("counters")
    if counters:
        distinct = contenders["workload"]["distinct_prefill"]
        lines.append(
            f"{'':>26}  prefill computed {counters['prefill_tokens']:.0f} of {distinct} distinct, "
            f"KV read {counters['distinct_read']:.0f} distinct of {counters['total_read']:.0f}, "
            f"hit rate {counters['hit_rate']:.2f}, "
            f"{counters['flops'] / counters['model_seconds'] / 1e9:.0f} GFLOP/s"
        )
    return lines


def _equal(entry: dict[str, Any]) -> str:
    """How exact the answers are."""
    if "rows" not in entry:
        return ""
    said = f"{entry['rows_equal']}/{entry['rows']} rows equal"
    if "first_difference" not in entry:
        return said
    return (
        f"{said}, {entry['tokens_before']:.0%} of tokens before the first that differs, "
        f"the earliest is token {entry['first_difference']}"
    )


def _step_lines(steps: dict[str, Any]) -> list[str]:
    if "error" in steps:
        return [f"steps failed: {steps['error']}"]
    lines = [
        f"peaks: a @ b {steps['torch_matmul'] / 1e9:.0f} GFLOP/s, fastest product "
        f"{steps['matmul_peak'] / 1e9:.0f} GFLOP/s, memory {steps['memory_peak'] / 1e9:.0f} GB/s",
        f"decode, 32 rows, 512 shared: {steps['decode']['seconds'] * 1e3:.2f} ms",
    ]
    for tokens in (512, 1024, 2048):
        lines.append(f"prefill of {tokens}: {steps[f'prefill_{tokens}']['seconds'] * 1e3:.1f} ms")
    return lines
