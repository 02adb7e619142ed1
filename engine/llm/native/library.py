"""Our own kernels for CPUs (*.c), compiled once on the machine that runs them.

Which instructions a processor has decides how fast it is, and no wheel knows it: the kernels are
compiled by the C compiler at hand for exactly this processor, in about two seconds, and kept in
plait's cache directory. They share torch's OpenMP threads. Where there is no compiler, torch's
own operators do the same, slower.
"""

from __future__ import annotations

import atexit
import ctypes
import hashlib
import logging
import os
import shlex
import shutil
import signal
import subprocess
import tempfile
import threading
from contextlib import suppress
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
_running: set[subprocess.Popen[bytes]] = set()
"""Compilers at work; they end with this process."""
_starting = threading.Lock()
"""Held until one that begins is among them."""


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
    problems = []
    for compiler in _compilers():
        try:
            return Native(_library(compiler), f"compiled by {shlex.join(compiler)}")
        except (OSError, subprocess.SubprocessError) as error:
            log.debug("no kernels of our own by %s: %s", compiler, error)
            problems.append(str(error))
    return Native(
        None, problems[0] if problems else "no C compiler (gcc, cc, clang or $CC) is found"
    )


def _compilers() -> list[list[str]]:
    """Commands to try, each once. Those of gcc first: what clang makes may need another OpenMP
    library than torch's, and threads of two libraries get into each other's way."""
    asked = [shlex.split(os.environ.get("CC", "")), ["gcc"], ["cc"], ["clang"]]
    there: dict[tuple[str, ...], list[str]] = {}
    for command in asked:
        place = shutil.which(command[0]) if command else None
        if place is not None:  # `cc` is often gcc by another name
            there.setdefault((os.path.realpath(place), *command[1:]), command)
    return list(there.values())


def _library(compiler: list[str]) -> ctypes.CDLL:
    """The compiled kernels, from the cache directory when they were compiled before."""
    texts = [source.read_bytes() for source in SOURCES]
    version, processor = _run([*compiler, "--version"]), _processor()
    marks = [*texts, repr(FLAGS).encode(), version, processor]
    name = f"kernels-{hashlib.sha256(b'|'.join(marks)).hexdigest()[:24]}.so"
    kept = cache_folder("native") / name
    if processor and _is_ours(kept.parent, kept):
        try:
            return ctypes.CDLL(str(kept))
        except OSError as error:
            log.debug("%s does not load, and is made anew: %s", kept, error)
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as work:
        made = Path(work) / name
        _run([*compiler, *FLAGS, *_units(), "-o", str(made), "-lm"])
        library = ctypes.CDLL(str(made))
        if processor:
            _keep(made, kept)
    return library


def _is_ours(*places: Path) -> bool:
    """Whether they are there and nobody else can have put them there: one will be executed."""
    try:
        found = [place.stat() for place in places]
    except OSError:
        return False
    if not hasattr(os, "geteuid"):
        return True
    return all(s.st_uid in (os.geteuid(), 0) and not s.st_mode & 0o022 for s in found)


def _keep(made: Path, kept: Path) -> None:
    """The whole file or none of it; what cannot be kept is compiled again next time."""
    folder, part = kept.parent, None
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        _close(folder)
        handle, part = tempfile.mkstemp(dir=folder)
        with open(handle, "wb") as file:
            file.write(made.read_bytes())
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, kept)
    except OSError as error:
        hint = "set PLAIT_CACHE_DIR to a directory of your own"
        log.warning("plait's kernels are compiled at every start: %s: %s", error, hint)
        if part is not None:
            Path(part).unlink(missing_ok=True)


def _close(folder: Path) -> None:
    """Let nobody else write into it, whatever made it so. OSError where it is another's."""
    if _is_ours(folder):
        return
    if folder.stat().st_uid != os.geteuid():
        raise PermissionError(f"others can write into {folder}")
    folder.chmod(0o700)


def _units() -> list[str]:
    return [str(source) for source in SOURCES if source.suffix == ".c"]


def _processor() -> bytes:
    """What `-march=native` looks at, for a cache directory of several machines; b"": not known."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return b""
    marks = ("model name", "flags", "Features", "CPU")
    return "\n".join(sorted({line for line in lines if line.startswith(marks)})).encode()


def _run(command: list[str]) -> bytes:
    """What a command prints. OSError when it fails; with its children it ends after a while, and
    with this process."""
    with _starting:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            start_new_session=True,
        )  # fmt: skip
        _running.add(process)
    with process:
        try:
            out, errors = process.communicate(timeout=COMPILE_SECONDS)
        except BaseException:  # Ctrl-C, too: the command has a session of its own
            _end(process)
            process.wait()
            raise
        finally:
            _running.discard(process)
    if process.returncode:
        last = errors.decode(errors="replace").strip().splitlines()[-1:]
        raise OSError(f"{command[0]} could not compile plait's kernels: {''.join(last)}")
    return out


@atexit.register  # a daemon thread that waits for one is not told
def _end_all() -> None:
    with _starting:
        for process in list(_running):
            _end(process)


def _end(process: subprocess.Popen[bytes]) -> None:
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
