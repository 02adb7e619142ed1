"""Tools by name, from Python modules and files, for YAML workflows and the command line."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from hashlib import blake2b
from pathlib import Path
from types import ModuleType
from typing import Any

from ..dag.errors import InputError, WorkflowError, first_line
from ..dag.source import Source, of_error, problem_at
from .tool import Tool

AnyTool = Tool[..., Any]


def tools_of(module: ModuleType) -> dict[str, AnyTool]:
    """The tools that stand in a module under a public name, imported ones too, by tool name.

    Raises WorkflowError when two different tools have one name.
    """
    found: dict[str, AnyTool] = {}
    problems = []
    for attribute, value in vars(module).items():
        if not isinstance(value, Tool) or attribute.startswith("_"):
            continue
        other = found.setdefault(value.name, value)
        if other is not value:
            message = f"{module.__name__!r} has two tools named {value.name!r}"
            first = f"the first is at {other.source}" if other.source else None
            problems.append(problem_at(value.source, message, first or "rename one"))
    if problems:
        raise WorkflowError(*problems)
    return found


def load_tools(where: str, folder: Path | None = None) -> dict[str, AnyTool]:
    """The tools of a Python file (`mytools.py`, taken from `folder`) or module (`pkg.mytools`).

    Raises InputError when there is no such file or module, WorkflowError when it fails to run or
    holds no tools. A file that has not changed is run once in a process.
    """
    module = _run_file((folder or Path()) / where) if where.endswith(".py") else _import(where)
    found = tools_of(module)
    if not found:
        hint = "decorate a function in it with @tool"
        file = getattr(module, "__file__", None)
        place = Source(file, 1) if file else None
        raise WorkflowError(problem_at(place, f"{where!r} has no tools", hint))
    return found


_PASSING = (WorkflowError, KeyboardInterrupt)
_STAMP = "__plait_stamp__"


def _run_file(path: Path) -> ModuleType:
    path = path.resolve()
    if not path.is_file():
        raise InputError(f"there is no file {str(path)!r} to take tools from")
    name = f"plait_tools_{blake2b(str(path).encode(), digest_size=8).hexdigest()}"
    state = path.stat()
    stamp = (state.st_mtime_ns, state.st_size)
    known = sys.modules.get(name)
    if known is not None and getattr(known, _STAMP) == stamp:
        return known
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    setattr(module, _STAMP, stamp)
    if str(path.parent) not in sys.path:  # last, so that its neighbours shadow nothing
        sys.path.append(str(path.parent))
    sys.modules[name] = module  # pydantic looks up a class's module by name
    try:
        spec.loader.exec_module(module)
    except BaseException as error:
        del sys.modules[name]
        if isinstance(error, _PASSING):
            raise
        raise _failed(path.name, error, str(path)) from error
    return module


def _import(name: str) -> ModuleType:
    if not all(part.isidentifier() for part in name.split(".")):
        raise InputError(f"{name!r} is neither a .py file nor the name of a module")
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name and (name == error.name or name.startswith(f"{error.name}.")):
            raise InputError(f"there is no module {name!r} to take tools from") from None
        raise _failed(name, error, None) from error
    except _PASSING:
        raise
    except BaseException as error:
        raise _failed(name, error, None) from error


def _failed(name: str, error: BaseException, file: str | None) -> WorkflowError:
    """What to raise when a module raised this while it was run: SystemExit, say."""
    message = f"{name!r} cannot be run: {type(error).__name__}: {first_line(error)}"
    if isinstance(error, SyntaxError):
        wrong = Source(error.filename or str(file), error.lineno or 1)
        return WorkflowError(wrong.problem(message, "correct this line or the one above it"))
    place = of_error(error) or (Source(file, 1) if file else None)
    hint = f"`python {file or f'-m {name}'}` shows how it came to this"
    return WorkflowError(problem_at(place, message, hint))
