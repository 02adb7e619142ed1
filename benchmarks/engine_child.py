"""What benchmarks measure of an engine, in a process of its own: one contender over one workload,
or single steps."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
from dataclasses import asdict, dataclass
from typing import Any

from .engine_shapes import Setting
from .engine_work import WORKLOADS, Ask, Workload


@dataclass(frozen=True, slots=True)
class Job:
    """What a process is to do."""

    setting: Setting
    contender: str
    workload: str = ""
    repeats: int = 1


def spawn(job: Job, **variables: str) -> dict[str, Any]:
    """The numbers of a job, or {"error"}: the last line that its process said. `variables`: of its
    environment."""
    given = {"OMP_NUM_THREADS": str(job.setting.threads), "TOKENIZERS_PARALLELISM": "false"}
    environment = {**os.environ, **given, **variables}
    command = [sys.executable, "-m", __name__, json.dumps(asdict(job))]
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    if done.returncode:
        return {"error": done.stderr.strip().splitlines()[-1][:300] if done.stderr else "died"}
    result: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return result


def perform(job: Job) -> dict[str, Any]:
    """The numbers of a job, in this process."""
    import torch

    torch.set_num_threads(job.setting.threads)
    if job.contender == "steps":
        from .engine_steps import measure_steps

        return measure_steps(job.setting)
    if job.contender == "roofs":
        from .engine_roofs import measure_roofs

        return measure_roofs(job.setting)
    if job.contender == "kernels":
        from .kernels import measure_kernels

        return measure_kernels(job.setting)
    from .engine_contenders import CONTENDERS

    runner = CONTENDERS[job.contender](job.setting)
    runner.run(Workload("warm up", "", (Ask(tuple(range(10, 42)), 2),)))  # nobody's first forward
    results = [runner.run(WORKLOADS[job.workload](seed)) for seed in range(job.repeats)]
    seconds = [r.seconds for r in results]
    return {
        "seconds": statistics.median(seconds),
        "all_seconds": seconds,
        "answers": [r.answers for r in results],
        "counters": results[-1].counters,
    }


def main() -> None:
    asked = json.loads(sys.argv[1])
    print(json.dumps(perform(Job(**{**asked, "setting": Setting(**asked["setting"])}))))


if __name__ == "__main__":
    main()
