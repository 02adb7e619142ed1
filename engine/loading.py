"""`FILE[:NAME]` as a workflow: a Python file is run, a YAML file is compiled."""

from __future__ import annotations

import hashlib
import importlib.util
import sys
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from ..dag.check import problems_of
from ..dag.errors import InputError, PlaitError, Problem, WorkflowError, first_line, list_names
from ..dag.nodes import Workflow
from ..dag.operators import Operator
from ..dag.source import Source, of_error
from ..dag.workflow import WorkflowFunction, as_workflow

YAML = (".yaml", ".yml")


@dataclass(frozen=True, slots=True)
class Loaded:
    """What a workflow file holds, and where it was found."""

    file: Path
    name: str | None
    """The name asked for behind the file."""
    sha256: str
    """Of the file, and of the tools file that a YAML names."""
    found: Any
    """What stands there: a decorated workflow, an operator, or a compiled workflow."""

    @property
    def workflow(self) -> Workflow:
        """The workflow; raises WorkflowError with every problem found."""
        return as_workflow(self.found)

    def problems(self, models: Collection[str] | None = None) -> tuple[Problem, ...]:
        """Everything wrong with it, in the order of the source."""
        return problems_of(self.found, models)


def load(target: str) -> Loaded:
    """Find the workflow that FILE or FILE:NAME means.

    Raises InputError when there is no such file or it does not say which workflow is meant, and
    WorkflowError, with file and line, when the file itself is wrong.
    """
    path, name = _split(target)
    data = _read(path)
    if path.suffix.lower() in YAML:
        if name is not None:
            raise InputError(f"{path} holds one workflow: leave out :{name}")
        return _load_yaml(path, data)
    if path.suffix.lower() != ".py":
        raise InputError(f"{path}: a workflow file ends in .py, .yaml or .yml")
    found = _choose(run_file(path), path, name)
    return Loaded(path, name, hashlib.sha256(data).hexdigest(), found)


def _split(target: str) -> tuple[Path, str | None]:
    file, colon, name = target.rpartition(":")
    if colon and name.isidentifier() and not Path(target).exists():
        return Path(file), name
    return Path(target), None


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise InputError(f"there is no workflow file {path}") from None
    except IsADirectoryError:
        raise InputError(f"{path} is a directory: give the workflow file in it") from None
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror or error}") from error


def run_file(path: Path) -> ModuleType:
    """Run a Python file as a module, with its directory importable as for a script."""
    name = f"plait_file_{hashlib.sha256(str(path.resolve()).encode()).hexdigest()[:12]}"
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    folder = str(path.resolve().parent)
    if folder not in sys.path:
        sys.path.insert(0, folder)
    sys.modules[name] = module  # dataclasses and annotations look their module up by name
    try:
        spec.loader.exec_module(module)
    except PlaitError:
        raise
    except SyntaxError as error:
        place = Source(_shown(error.filename or str(path), path), error.lineno or 1)
        hint = "correct this line or the one above it"
        raise WorkflowError(place.problem(f"not Python: {error.msg}", hint)) from error
    except (Exception, SystemExit) as error:
        raise WorkflowError(_problem(path, error)) from error
    return module


def _problem(path: Path, error: BaseException) -> Problem:
    kind, place = type(error).__name__, of_error(error) or Source(str(path), 1)
    text = first_line(error)
    message = f"running the file raised {kind}" + (f": {text}" if text != kind else "")
    hint = f"`python {path}` shows how it came to this"
    if isinstance(error, SystemExit):
        hint = "put what runs the program under `if __name__ == '__main__':`"
    return Source(_shown(place.file, path), place.line).problem(message, hint)


def _shown(file: str, path: Path) -> str:
    """A file as the user wrote it, where it is the one they gave."""
    return str(path) if Path(file).resolve() == path.resolve() else file


# -- which workflow ----------------------------------------------------------------------------


def _choose(module: ModuleType, path: Path, name: str | None) -> Any:
    if name is not None:
        if not hasattr(module, name):
            have = list_names(_names(module, (WorkflowFunction, Workflow, Operator)))
            raise InputError(f"{path} has no {name!r}: it has {have or 'no workflow'}")
        return getattr(module, name)
    for kinds in ((WorkflowFunction, Workflow), (Operator,)):
        names = _names(module, kinds)
        if len(names) == 1:
            return getattr(module, names[0])
        if names:
            which = f"say which with {path}:NAME"
            raise InputError(f"{path} holds several workflows ({list_names(names)}): {which}")
    raise InputError(f"{path} holds no workflow: decorate a function with @workflow, @llm or @tool")


def _names(module: ModuleType, kinds: tuple[type, ...]) -> list[str]:
    """Names of what the file defines itself; of what it imports, when it defines nothing."""
    found = {n: v for n, v in vars(module).items() if isinstance(v, kinds) and n[0] != "_"}
    own = [n for n, v in found.items() if getattr(v, "__module__", None) == module.__name__]
    return own or [n for n, v in found.items() if not str(v.__module__).startswith("plait.")]


# -- YAML --------------------------------------------------------------------------------------


def _load_yaml(path: Path, data: bytes) -> Loaded:
    from ..dag.yaml_file import load_yaml
    from ..tools.registry import load_tools

    digest = hashlib.sha256(data)

    def tools(where: str) -> Any:
        if where.endswith(".py") and (path.parent / where).is_file():
            digest.update(_read(path.parent / where))
        return load_tools(where, path.parent)

    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise WorkflowError(
            Source(str(path), line).problem("not UTF-8", "save it as UTF-8")
        ) from error
    workflow = load_yaml(text, str(path), tools)
    return Loaded(path, None, digest.hexdigest(), workflow)
