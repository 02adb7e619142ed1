"""`plait doctor`: what this machine has for plait."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

from .options import Json, print_json

EXTRAS = {"json": ("llguidance", "jsonschema"), "parquet": ("pyarrow",)}


def doctor(
    model: Annotated[
        str | None, typer.Option(help="Also load this model and measure its costs anew (seconds).")
    ] = None,
    as_json: Json = False,
) -> int:
    """See what this machine has for plait.

    Python, torch, the device models run on and the peaks measured on it, memory, extras, the demo
    model, and the costs known of models: they are measured when a model is first loaded, and kept
    on disk. Ends with 1 when something that plait needs is missing. With --model: that model's
    device and type, and its costs measured anew.
    """
    found = {name: look() for name, look in LOOKS.items()} | _calibrations()
    if model is not None:
        found |= _calibrate(model)
    fine = all(ok is not False for ok, _ in found.values())
    if as_json:
        checks = {
            name: {"ok": ok is not False, "found": text} for name, (ok, text) in found.items()
        }
        print_json({"ok": fine, "checks": checks})
    else:
        for name, (ok, text) in found.items():
            mark = {True: "ok", False: "MISSING", None: "-"}[ok]
            print(f"{name:<24} {mark:<8} {text}")
    return 0 if fine else 1


Look = tuple[bool | None, str]
"""Whether it is there (None: it need not be), and what was found."""


def _python() -> Look:
    import platform
    import sys

    return sys.version_info >= (3, 11), f"{platform.python_version()} on {platform.platform()}"


def _torch() -> Look:
    try:
        import torch
        import transformers
    except ImportError as error:
        return False, f"{error}; install with: pip install torch, then pip install plait"
    threads = torch.get_num_threads()
    return True, f"{torch.__version__}, transformers {transformers.__version__}, {threads} threads"


def _processor() -> Look:
    import os

    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return True, f"{usable} cores usable of {os.cpu_count()}"


def _gpu() -> Look:
    try:
        import torch
    except ImportError:
        return None, "not known without torch"
    if not torch.cuda.is_available():
        return None, "none that torch can use; models run on the processor"
    cards = range(torch.cuda.device_count())
    found = (torch.cuda.get_device_properties(i) for i in cards)
    return True, ", ".join(f"{p.name} ({p.total_memory / 2**30:.0f} GiB)" for p in found)


def _device() -> Look:
    try:
        from ..engine.llm.model import choose_device
        from ..engine.llm.peaks import device_name
    except ImportError:
        return None, "not known without torch"
    device = choose_device("auto")
    kind = "the checkpoint's own type" if device.type == "cuda" else "float32"
    return True, f"{device}, {device_name(device)}; models run in {kind} unless told"


def _peaks() -> Look:
    try:
        import torch

        from ..engine.llm.model import choose_device
        from ..engine.llm.peaks import matmul_peak, memory_peak, product_size
    except ImportError:
        return None, "not known without torch"
    device = choose_device("auto")
    kind = torch.bfloat16 if device.type == "cuda" else torch.float32
    products = matmul_peak(device, kind, product_size(device)) / 1e9
    name = str(kind).removeprefix("torch.")
    return True, f"{products:.0f} GFLOP/s in {name}, {memory_peak(device) / 1e9:.0f} GB/s read"


def _kernels() -> Look:
    try:
        from ..engine.llm.native import native
    except ImportError:
        return None, "not known without torch"
    kernels = native()
    if kernels.library is not None:
        return True, f"plait's own, {kernels.found}"
    return None, f"torch's operators, which are slower on a processor: {kernels.found}"


def _memory() -> Look:
    import os

    try:
        page = os.sysconf("SC_PAGE_SIZE")
        total, free = (os.sysconf(n) * page for n in ("SC_PHYS_PAGES", "SC_AVPHYS_PAGES"))
    except (ValueError, OSError, AttributeError):
        return None, "not known on this system"
    return True, f"{total / 2**30:.1f} GiB, {free / 2**30:.1f} GiB free"


def _disk() -> Look:
    import shutil

    free = shutil.disk_usage(".").free
    return free > 2**28, f"{free / 2**30:.1f} GiB free in this directory"


def _extra(name: str) -> Callable[[], Look]:
    def look() -> Look:
        from importlib.metadata import PackageNotFoundError, version

        try:
            return True, ", ".join(f"{module} {version(module)}" for module in EXTRAS[name])
        except PackageNotFoundError:
            return None, f"not installed: pip install 'plait[{name}]'"

    return look


def _demo_model() -> Look:
    from ..engine.models import DEMO

    files = list(_sizes(DEMO.glob("*")))
    if not (DEMO / "model.safetensors").is_file():
        return False, f"no weights in {DEMO}"
    return True, f"{sum(files) / 2**20:.1f} MB in {DEMO}"


def _calibrations() -> dict[str, Look]:
    """What is known of the costs of models."""
    from ..engine.llm import cost_file

    known = list(cost_file.everything())
    count = f"{len(known)} measured" if known else "none measured yet"
    found: dict[str, Look] = {
        "calibration": (bool(known) or None, f"{count}: {cost_file.folder()}")
    }
    for one in known:
        at, costs = one.conditions, one.costs
        found[f"costs of {Path(at.model).name} {at.dtype}"] = (
            True,
            f"prefill of 512 tokens {costs.prefill_seconds(512) * 1e3:.0f} ms, decode step "
            f"{costs.decode_seconds(1, 512) * 1e3:.1f} ms, on {at.device}"
            + (", measured while other work ran" if one.busy else ""),
        )
    return found


def _calibrate(name: str) -> dict[str, Look]:
    from ..engine.llm import LLM
    from ..engine.llm.calibrate import describe
    from ..engine.models import find_model

    llm = LLM(find_model(name), calibrate=False)
    try:
        lines = describe(llm.calibrate())
        at = f"{name} on {llm.device} in {llm.dtype}, {llm.memory_bytes / 2**20:,.0f} MB"
    finally:
        llm.close()
    found: dict[str, Look] = {"model": (True, at)}
    for line in lines:
        head, _, text = line.partition(": ")
        found[head] = True, text
    return found


def _sizes(files: Any) -> Iterator[int]:
    return (file.stat().st_size for file in files)


LOOKS: dict[str, Callable[[], Look]] = {
    "python": _python,
    "torch": _torch,
    "processor": _processor,
    "gpu": _gpu,
    "device": _device,
    "peaks": _peaks,
    "kernels": _kernels,
    "memory": _memory,
    "disk": _disk,
    **{f"extra {name}": _extra(name) for name in EXTRAS},
    "demo model": _demo_model,
}
