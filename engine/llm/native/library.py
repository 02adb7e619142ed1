"""Our own kernels for CPUs (*.c), compiled once on the machine that runs them.

Which instructions a processor has decides how fast it is, and no wheel knows it: the kernels are
compiled by the C compiler at hand for exactly this processor, in about two seconds, and kept in
plait's cache directory. They share torch's OpenMP threads. Where there is no compiler, torch's
own operators do the same, slower.
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
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from ..cache_folder import cache_folder

log = logging.getLogger("plait")
SOURCES = tuple(sorted(Path(__file__).parent.glob("*.[ch]")))
FLAGS = (
    "-O3", "-march=native", "-std=gnu11", "-fopenmp", "-shared", "-fPIC",
    "-fno-math-errno", "-fno-trapping-math",
)  # fmt: skip
COMPILE_SECONDS = 60


@dataclass(frozen=True, slots=True)
class Native:
    """The compiled kernels, or why there are none."""

    library: ctypes.CDLL | None
    found: str


@cache
def native() -> Native:
    """The kernels of this machine: loaded, compiled when they have not been yet."""
    if os.environ.get("PLAIT_NATIVE") == "0":
        return Native(None, "turned off by PLAIT_NATIVE=0")
    try:
        compiler = _compiler()
        library = _library(compiler)
    except (OSError, subprocess.SubprocessError) as error:
        log.debug("no kernels of our own: %s", error)
        return Native(None, str(error))
    return Native(library, f"compiled by {compiler}")


def _compiler() -> str:
    """FileNotFoundError when there is none."""
    for name in (os.environ.get("CC"), "cc", "gcc", "clang"):
        found = shutil.which(name) if name else None
        if found:
            return found
    raise FileNotFoundError("no C compiler (cc, gcc or clang) is on the path")


def _library(compiler: str) -> ctypes.CDLL:
    """The compiled kernels, from the cache directory when it was compiled before."""
    texts = [source.read_bytes() for source in SOURCES]
    marks = [*texts, repr(FLAGS).encode(), _run([compiler, "--version"]), _processor()]
    name = f"kernels-{hashlib.sha256(b'|'.join(marks)).hexdigest()[:24]}.so"
    kept = cache_folder("native") / name
    if kept.is_file():
        return ctypes.CDLL(str(kept))
    with tempfile.TemporaryDirectory() as work:
        made = Path(work) / name
        _run([compiler, *FLAGS, *_units(), "-o", str(made), "-lm"])
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
        log.debug("compiled kernels are not kept on disk: %s", error)


def _units() -> list[str]:
    return [str(source) for source in SOURCES if source.suffix == ".c"]


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
        raise OSError(f"{command[0]} could not compile our kernels: {''.join(last)}")
    return done.stdout
