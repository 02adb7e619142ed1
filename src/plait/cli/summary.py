"""What a finished batch has to say: exit code, lines for people, an object for programs."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from typing import Any

from ..engine.batch import Batch
from ..engine.settings import Settings
from .progress import spell

COMPLETE, ROWS_FAILED, INTERRUPTED = 0, 2, 3


def exit_code(batch: Batch) -> int:
    if batch.complete and not batch.write_error:
        return ROWS_FAILED if batch.failed else COMPLETE
    return ROWS_FAILED if batch.stopped == "max_errors" else INTERRUPTED


def resume_command(batch: Batch) -> str:
    """The command that goes on where this batch stopped."""
    words = ["plait", "run", *_words(batch.settings), "--run-dir", str(batch.run.path), "--resume"]
    return shlex.join(words)


def _words(settings: Settings) -> Iterator[str]:
    yield from (settings.target, "-i", settings.input)
    if settings.output is not None:
        yield from ("-o", settings.output)
    for alias, model in settings.models.items():
        if alias != "default":
            yield from ("--models", f"{alias}={model}")
        elif model != "demo" or len(settings.models) > 1:
            yield from ("--model", model)
    plain = Settings(settings.target, settings.input)
    for name in ("backend", "device", "dtype", "kv_memory", "host_memory", "memory", "seed",
                 "max_rows", "limit", "max_errors"):  # fmt: skip
        if getattr(settings, name) != getattr(plain, name):
            yield from (f"--{name.replace('_', '-')}", str(getattr(settings, name)))
    if settings.devices:
        yield from ("--devices", ",".join(settings.devices))
    if settings.keep_order:
        yield "--keep-order"
    if not settings.plan:
        yield "--no-plan"
    for name in settings.disable:
        yield from ("--disable", name)
    for said in settings.expect:
        yield from ("--expect", said)


def summary(batch: Batch, brief: bool = False) -> str:
    """The end of a batch in a few lines; `brief` keeps what has to be done next."""
    return "\n".join([*([] if brief else _told(batch)), *_next(batch)])


def _told(batch: Batch) -> Iterator[str]:
    stats, failed = batch.stats, batch.failed
    done = len(batch.before) + stats.rows_done
    seconds = max(stats.seconds, 1e-9)
    of = "" if batch.complete else f" of {len(batch.rows)}"
    earlier = f", {len(batch.before)} of them earlier" if batch.before else ""
    yield f"{done}{of} rows in {_time(seconds)}: {done - failed} ok, {failed} failed{earlier}"
    if stats.errors:
        errors = sorted(stats.errors.items(), key=lambda e: -e[1])
        yield "  errors   " + ", ".join(f"{count} {kind}" for kind, count in errors)
    if stats.completion_tokens:
        cached = f" ({stats.cached_tokens:,} cached)" if stats.cached_tokens else ""
        yield (
            f"  tokens   {stats.prompt_tokens:,} in{cached}, {stats.completion_tokens:,} out, "
            f"{stats.completion_tokens / seconds:,.0f} out/s"
        )
    if stats.merged:
        asked = sum(node.calls for node in stats.nodes.values())
        yield f"  merged   {stats.merged:,} of {asked:,} calls had the answer of an equal one"
    slowest = sorted(stats.nodes.items(), key=lambda n: -n[1].seconds)[:3]
    for place, (name, node) in enumerate(slowest):
        label = "slowest" if place == 0 else ""
        each = _time(node.seconds / max(1, node.calls))
        wrong = f", {node.errors} errors" if node.errors else ""
        calls = "1 call" if node.calls == 1 else f"{node.calls:,} calls"
        yield f"  {label:<8} {name}: {calls}, {each} each{wrong}"
    yield f"  output   {batch.settings.output or batch.run.out}"
    yield f"  report   {batch.run.report}"
    yield f"  plan     {batch.run.plan}"


def _next(batch: Batch) -> Iterator[str]:
    if batch.stopped == "max_errors" and not batch.complete:
        allowed = batch.settings.max_errors
        yield f"stopped: {batch.stats.rows_failed} rows failed, more than --max-errors {allowed}"
    elif batch.write_error:
        yield f"stopped: results cannot be written: {batch.write_error}"
    elif batch.stopped and not batch.complete:
        yield "interrupted"
    if not batch.complete:
        yield f"go on with: {resume_command(batch)}"
    elif batch.failed:
        again = shlex.join(["plait", "retry", str(batch.run.path), "--failed"])
        yield f"run the failed rows again: {again}"


def as_json(batch: Batch) -> dict[str, Any]:
    """The end of a batch for programs."""
    done = len(batch.before) + batch.stats.rows_done
    return {
        "status": batch.status, "exit_code": exit_code(batch), "workflow": batch.workflow.name,
        "rows": {"total": len(batch.rows), "ok": done - batch.failed, "failed": batch.failed,
                 "left": len(batch.rows) - done},
        "run_dir": str(batch.run.path), "output": batch.settings.output or str(batch.run.out),
        "report": str(batch.run.report), "plan": str(batch.run.plan),
        "resume": None if batch.complete else resume_command(batch),
        "stats": batch.stats.as_json(),
    }  # fmt: skip


def _time(seconds: float) -> str:
    if seconds < 0.1:
        return f"{seconds * 1000:.1f} ms"
    return f"{seconds:.1f} s" if seconds < 59.5 else spell(seconds)
