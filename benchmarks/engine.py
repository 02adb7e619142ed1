"""The engine side by side with transformers: `plait bench engine`.

Every contender runs in a process of its own with the same model, type and threads, over the same
prompts; its answers are compared token by token with those of padded `generate`. Loading is not
timed, nor one short prompt to warm up; everything after the first prompt is handed over is. Medians
over repeats, each with prompts of its own so that no cache carries over. All of it takes about ten
minutes on two cores.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from .engine_floors import PADDED, verdicts
from .engine_table import table
from .engine_work import CONTEXT, VOCAB, WORKLOADS, Ask, Workload

RACES: tuple[tuple[str, str, int], ...] = (
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
"""(workload, contender, most repeats)."""


def bench(
    threads: int = 2,
    repeats: int = 5,
    only: tuple[str, ...] = (),
    model: Path | None = None,
    say: Callable[[str], None] = lambda line: None,
    out: Path | None = None,
) -> dict[str, Any]:
    """Run every race whose workload is wanted; all numbers, as JSON can hold them, also in `out`.

    `say` is told of every contender that is done.
    """
    began = time.perf_counter()
    with tempfile.TemporaryDirectory() as place:
        path = model or make_model(Path(place))
        found: dict[str, Any] = {"machine": _machine(threads), "races": {}}
        for workload, contender, most in RACES:
            if not only or workload in only:
                result = _child(path, contender, workload, threads, min(repeats, most))
                found["races"].setdefault(workload, {})[contender] = result
                took = result.get("error") or f"{result['seconds']:.2f} s"
                say(f"{workload}: {contender}: {took}")
        if not only or "steps" in only:
            found["steps"] = _child(path, "steps", "-", threads, 1)
            say("steps: " + found["steps"].get("error", "done"))
    found["machine"]["contended"] |= _contended()
    _compare(found["races"])
    found["floors"] = [v.as_json() for v in verdicts(found)]
    found["seconds"] = time.perf_counter() - began
    if out is not None:
        out.write_text(json.dumps(found, indent=1))
    return found


def make_model(place: Path) -> Path:
    """A random qwen2 of 26.8 million parameters."""
    import torch
    from transformers import AutoModelForCausalLM, Qwen2Config

    torch.manual_seed(0)
    config = Qwen2Config(
        vocab_size=VOCAB,
        hidden_size=512,
        num_hidden_layers=8,
        num_attention_heads=8,
        num_key_value_heads=2,
        intermediate_size=1408,
        max_position_embeddings=CONTEXT,
        tie_word_embeddings=True,
        initializer_range=0.05,  # the usual 0.02 makes it repeat one token
    )
    AutoModelForCausalLM.from_config(config).save_pretrained(place)
    return place


def _child(
    model: Path, contender: str, workload: str, threads: int, repeats: int
) -> dict[str, Any]:
    """One contender in a process of its own."""
    command = [
        sys.executable,
        "-m",
        "plait.benchmarks.engine",
        "--model",
        str(model),
        "--child",
        contender,
    ]
    command += [workload, str(threads), str(repeats)]
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads), "TOKENIZERS_PARALLELISM": "false"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    if done.returncode:
        return {"error": done.stderr.strip().splitlines()[-1][:300] if done.stderr else "died"}
    result: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return result


def _run_child(model: Path, contender: str, workload: str, threads: int, repeats: int) -> None:
    import torch

    torch.set_num_threads(threads)
    if contender == "steps":
        from .engine_steps import measure_steps

        print(json.dumps(measure_steps(model)))
        return
    from .engine_contenders import CONTENDERS

    runner = CONTENDERS[contender](model)
    runner.run(Workload("warm up", "", (Ask(tuple(range(10, 42)), 2),)))  # nobody's first forward
    results = [runner.run(WORKLOADS[workload](seed)) for seed in range(repeats)]
    seconds = [r.seconds for r in results]
    print(
        json.dumps(
            {
                "seconds": statistics.median(seconds),
                "all_seconds": seconds,
                "answers": [r.answers for r in results],
                "counters": results[-1].counters,
            }
        )
    )


def _compare(races: dict[str, dict[str, Any]]) -> None:
    """Count the answers equal to those of padded `generate`, and drop the tokens."""
    for workload, contenders in races.items():
        reference = next(
            (contenders[n] for n in contenders if n.startswith(PADDED)),
            races.get("tree", {}).get(PADDED),
        )
        for entry in contenders.values():
            if "answers" not in entry or reference is None or "answers" not in reference:
                continue
            pairs = [
                (mine, theirs)
                for one, other in zip(entry["answers"], reference["answers"], strict=False)
                for mine, theirs in zip(one, other, strict=True)
            ]
            entry["rows"] = len(pairs)
            entry["rows_equal"] = sum(mine == theirs for mine, theirs in pairs)
        work: Workload = WORKLOADS[workload](0)
        repeats = max(len(e.get("all_seconds", [0])) for e in contenders.values())
        contenders["workload"] = {
            "says": work.says,
            "distinct_prefill": WORKLOADS[workload](repeats - 1).distinct_prefill,
        }
    for contenders in races.values():
        for entry in contenders.values():
            entry.pop("answers", None)


def _machine(threads: int) -> dict[str, Any]:
    import torch
    import transformers

    from plait.engine.llm.peaks import device_name

    torch.set_num_threads(threads)
    return {
        "cpu": device_name(torch.device("cpu")),
        "threads": threads,
        "contended": _contended(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
    }


def _contended() -> bool:
    from plait.engine.llm.peaks import contended

    return contended(1.0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--only", nargs="*", default=[], help="workloads, or 'steps'")
    parser.add_argument("--json", type=Path, help="also write all numbers to this file")
    parser.add_argument("--model", type=Path)
    parser.add_argument("--child", nargs=4, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        contender, workload, threads, repeats = options.child
        _run_child(options.model, contender, workload, int(threads), int(repeats))
        return
    only = tuple(options.only)
    found = bench(options.threads, options.repeats, only, options.model, print, options.json)
    print(table(found))


if __name__ == "__main__":
    main()
