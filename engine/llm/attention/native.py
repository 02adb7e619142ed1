"""Our own attention kernel for CPUs (native.c), compiled once on the machine that runs it.

Which instructions a processor has decides how fast attention is, and no wheel knows it: the
kernel is compiled by the C compiler at hand for exactly this processor, in about a second, and
kept in plait's cache directory. It shares torch's OpenMP threads. Where there is no compiler, or
what it made fails its check, attention goes by torch's own operators: same results, slower.
"""

from __future__ import annotations

import ctypes
import hashlib
import logging
import os
import platform
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import torch

from ..cache_folder import cache_folder

log = logging.getLogger("plait")
SOURCE = Path(__file__).with_name("native.c")
FLAGS = (
    "-O3", "-march=native", "-std=gnu11", "-fopenmp", "-shared", "-fPIC",
    "-fno-math-errno", "-fno-trapping-math",
)  # fmt: skip
COMPILE_SECONDS = 60
MOST = 256
"""Numbers of a head that the kernel has room for."""
_WHOLE = [
    *("rows", "heads", "kv_heads", "key_size", "value_size", "half", "threads", "units"),
    *("levels", "window", "query_row", "query_head"),
]
_PLACES = ["query", "keys", "values", "out", "outs", "lses", "unit", "run", "position", "sinks"]


class Step(ctypes.Structure):
    """What the kernel is told of one layer: `Step` in native.c."""

    _fields_ = (
        [(name, ctypes.c_int64) for name in _WHOLE]
        + [("scale", ctypes.c_float), ("softcap", ctypes.c_float)]
        + [(name, ctypes.c_void_p) for name in _PLACES]
    )


@dataclass(frozen=True, slots=True)
class Native:
    """The kernel, or why there is none."""

    attend: Callable[[Step], int] | None
    found: str


@cache
def native() -> Native:
    """The kernel of this machine: loaded, compiled when it has not been yet."""
    if os.environ.get("PLAIT_NATIVE") == "0":
        return Native(None, "turned off by PLAIT_NATIVE=0")
    try:
        compiler = _compiler()
        library = _library(compiler)
    except (OSError, subprocess.SubprocessError) as error:
        log.debug("no attention kernel of our own: %s", error)
        return Native(None, str(error))
    call = library.plait_attend
    call.argtypes, call.restype = [ctypes.POINTER(Step)], ctypes.c_int
    return Native(lambda step: int(call(ctypes.byref(step))), f"compiled by {compiler}")


def fits(dtype: torch.dtype, key_size: int, value_size: int) -> bool:
    """Whether the kernel is there and has room for heads of this type and size."""
    known = dtype in (torch.float32, torch.bfloat16) and max(key_size, value_size) <= MOST
    return known and native().attend is not None


def _compiler() -> str:
    """FileNotFoundError when there is none."""
    for name in (os.environ.get("CC"), "cc", "gcc", "clang"):
        found = shutil.which(name) if name else None
        if found:
            return found
    raise FileNotFoundError("no C compiler (cc, gcc or clang) is on the path")


def _library(compiler: str) -> ctypes.CDLL:
    """The compiled kernel, from the cache directory when it was compiled before."""
    marks = [SOURCE.read_bytes(), repr(FLAGS).encode(), _version(compiler), _processor()]
    name = f"attention-{hashlib.sha256(b'|'.join(marks)).hexdigest()[:24]}.so"
    kept = cache_folder("native") / name
    if kept.is_file():
        return ctypes.CDLL(str(kept))
    with tempfile.TemporaryDirectory() as work:
        made = Path(work) / name
        _run([compiler, *FLAGS, str(SOURCE), "-o", str(made), "-lm"])
        library = ctypes.CDLL(str(made))
        _keep(made, kept)
    return library


def _keep(made: Path, kept: Path) -> None:
    """The whole file or none of it; what cannot be written is compiled again next time."""
    part = kept.with_name(f"{kept.name}.{os.getpid()}")
    try:
        kept.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(made, part)
        part.replace(kept)
    except OSError as error:
        log.debug("the attention kernel is not kept on disk: %s", error)


def _version(compiler: str) -> bytes:
    return _run([compiler, "--version"])


def _processor() -> bytes:
    """What `-march=native` looks at: a cache directory may be shared between machines."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = [platform.processor()]
    kept = [line for line in lines if line.startswith(("model name", "flags", "Features", "CPU"))]
    return "\n".join([platform.machine(), *sorted(set(kept or lines))]).encode()


def _run(command: list[str]) -> bytes:
    done = subprocess.run(
        command, capture_output=True, timeout=COMPILE_SECONDS, check=False, stdin=subprocess.DEVNULL
    )
    if done.returncode:
        last = done.stderr.decode(errors="replace").strip().splitlines()[-1:]
        raise OSError(f"{command[0]} could not compile the attention kernel: {''.join(last)}")
    return done.stdout
