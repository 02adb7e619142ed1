"""The compiler of our own kernels is asked no more often than it must be, and never left behind."""

from __future__ import annotations

import _ctypes
import logging
import os
import select
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from plait.engine.llm.cache_folder import cache_folder
from plait.engine.llm.native import library, native

CP, SLEEP = shutil.which("cp"), shutil.which("sleep")
COMPILES = f'while [ "$1" != -o ]; do shift; done; {CP} {_ctypes.__file__} "$2"'
"""Some library is as good as the kernels: nothing here calls them."""
FAILS = "exit 1"
HANGS = f"exec 3> ${{0%/*}}/alive; {SLEEP} 600 & wait"
"""With a child; both hold the pipe open."""


@pytest.fixture
def place(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Path]:
    """As in a new process with an empty cache directory, and with the compilers that are here."""
    monkeypatch.setenv("PLAIT_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CC", raising=False)
    native.cache_clear()
    yield tmp_path
    native.cache_clear()


def add_compiler(place: Path, does: str) -> None:
    file = place / "gcc"
    note = '[ "$1" = --version ] && exit 0; echo x >> "${0%/*}/asked"'
    file.write_text(f"#!/bin/sh\n{note}\n{does}\n")
    file.chmod(0o755)


def asked(place: Path) -> int:
    """How often a compiler has compiled."""
    return len((place / "asked").read_text().splitlines())


def start() -> bool:
    """Whether the next process has kernels."""
    native.cache_clear()
    return native().library is not None


@pytest.mark.parametrize("mode", [0o775, 0o777])
def test_a_directory_that_others_can_write_is_closed_to_them(place: Path, mode: int) -> None:
    """As an older umask left it: what is kept in it is not believed, once."""
    add_compiler(place, COMPILES)
    assert start()
    folder = cache_folder("native")
    folder.chmod(mode)
    assert start() and asked(place) == 2
    assert start() and asked(place) == 2
    assert folder.stat().st_mode & 0o777 == 0o700


def test_a_directory_of_somebody_else_is_named(
    place: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    add_compiler(place, COMPILES)
    cache_folder("native").mkdir(parents=True)
    me = os.geteuid()
    monkeypatch.setattr(os, "geteuid", lambda: me + 1)
    monkeypatch.setattr(library, "_is_ours", lambda *places: False)
    with caplog.at_level(logging.WARNING):
        assert start()
    assert str(cache_folder("native")) in caplog.text and "PLAIT_CACHE_DIR" in caplog.text
    assert not list(cache_folder("native").iterdir())


def test_a_compiler_of_two_names_is_asked_once(place: Path) -> None:
    add_compiler(place, FAILS)
    (place / "cc").symlink_to("gcc")
    assert not start()
    assert asked(place) == 1


def ended(pipe: int) -> bool:
    """Whether nobody has the pipe open any more, soon."""
    return bool(select.select([pipe], [], [], 20)[0]) and os.read(pipe, 1) == b""


@pytest.fixture
def interruptible() -> Iterator[None]:
    """Whoever starts the tests in the background has interrupts ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def test_an_interrupt_ends_the_compiler(place: Path, interruptible: None) -> None:
    add_compiler(place, HANGS)
    os.mkfifo(place / "alive")
    pipes: list[int] = []

    def interrupt() -> None:
        pipes.append(os.open(place / "alive", os.O_RDONLY))  # as soon as the compiler is at work
        time.sleep(0.5)  # and is waited for
        os.kill(os.getpid(), signal.SIGINT)

    other = threading.Thread(target=interrupt)
    other.start()
    with pytest.raises(KeyboardInterrupt):
        native()
        other.join()
    other.join()
    assert ended(pipes[0])
    os.close(pipes[0])


def test_the_end_of_the_process_ends_the_compiler(place: Path) -> None:
    """It is a device's thread that waits for it, which is not told of the end."""
    add_compiler(place, HANGS)
    os.mkfifo(place / "alive")
    program = (
        "import sys, threading; from plait.engine.llm.native import native\n"
        "threading.Thread(target=native, daemon=True).start(); sys.stdin.read()"
    )
    with subprocess.Popen([sys.executable, "-c", program], stdin=subprocess.PIPE) as process:
        pipe = os.open(place / "alive", os.O_RDONLY)
        assert process.stdin is not None
        process.stdin.close()
    assert ended(pipe)
    os.close(pipe)
