"""Workflows written in YAML, compiled to the same nodes as decorated functions.

Edges come from `{{references}}` and are never written twice. Everything wrong with a file is
reported at once, each problem with its line. `docs/yaml.md` lists the keys.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from .check import check
from .edges import type_of
from .errors import Problem, UserError, WorkflowError, first_line, nearest
from .nodes import Input, Workflow
from .operators import Operator
from .workflow import draft
from .yaml_inputs import check_name, read_inputs
from .yaml_nodes import KEYS, read_node
from .yaml_refs import mentioned
from .yaml_scope import Scope
from .yaml_text import Value, read_text

Tools = Mapping[str, Operator[Any, Any]]
TOP_KEYS = ("workflow", "inputs", "models", "tools", "operators", "nodes", "output")
BODY_KEYS = ("inputs", "nodes", "output")


def load_yaml(text: str, file: str, load_tools: Callable[[str], Tools]) -> Workflow:
    """Compile a YAML workflow. `load_tools` gets each path under `tools:` as written and returns
    the @tool operators in it by name; `file` is named in problems.

    Raises WorkflowError with every problem found; only unused nodes are left to `check`.
    """
    root, twice = read_text(text, file)
    reader = _Reader(root, load_tools)
    for t in twice:
        message, hint = f"the key {t.key!r} is given twice", "rename or delete one"
        reader.problems.append(t.source.problem(message, hint))
    workflow = reader.workflow()
    found = [*reader.problems, *check(workflow, models=reader.models, unused=False)]
    if found:
        raise WorkflowError(*found)
    return workflow


@dataclass(slots=True)
class _Reader:
    """Reads one file: its tools and operators are shared by all workflows in it."""

    root: Value
    load_tools: Callable[[str], Tools]
    problems: list[Problem] = field(default_factory=list)
    tools: dict[str, Operator[Any, Any]] = field(default_factory=dict)
    models: tuple[str, ...] | None = None
    operators: dict[str, Value] = field(default_factory=dict)
    bodies: dict[str, Workflow | None] = field(default_factory=dict)
    """Operators read so far; None while one is being read."""

    def workflow(self) -> Workflow:
        top = self._mapping(self.root, "the file")
        scope = self._scope(())
        scope.keys(top, TOP_KEYS, "a workflow")
        self._read_tools(top.get("tools"))
        if "models" in top:
            self.models = tuple(str(v.value) for v in _items(top["models"]))
        self.operators = (
            self._mapping(top["operators"], "'operators'") if "operators" in top else {}
        )
        for name, value in self.operators.items():
            check_name(name, value, scope)
            if name in self.tools:
                self._wrong(value, f"{name!r} is both a tool and an operator", "rename one")
        name = scope.text(top, "workflow", "workflow")
        made = self._body(name, self.root, top)
        for unused in self.operators:  # read too, for their problems
            self._defined(unused)
        return made

    # -- tools and operators -------------------------------------------------------------------

    def _read_tools(self, written: Value | None) -> None:
        for path in _items(written) if written else ():
            try:
                found = self.load_tools(str(path.value))
            except UserError as error:
                inner = error.problems if isinstance(error, WorkflowError) else ()
                file, line = path.source.file, path.source.line
                self.problems += [p if p.file else replace(p, file=file, line=line) for p in inner]
                if not inner:
                    hint = "give a .py file beside this one, or the name of a module"
                    self._wrong(path, f"tools cannot be loaded: {first_line(error)}", hint)
                continue
            for name in [n for n in found if n in self.tools]:
                self._wrong(path, f"the tool {name!r} is defined in two files", "rename one")
            self.tools |= found

    def _operator(self, written: Value) -> Workflow | None:
        """The body that `map: NAME`, `loop: NAME` or `until: NAME` runs."""
        name = str(written.value)
        if name in self.operators:
            if name in self.bodies and self.bodies[name] is None:
                self._wrong(written, f"operator {name!r} uses itself", "use loop to repeat a step")
            return self._defined(name)
        if name not in self.tools:
            hint = nearest(name, [*self.operators, *self.tools]) or "define it under `operators:`"
            self._wrong(written, f"there is no operator or tool {name!r}", hint)
            return None
        drafted = draft(self.tools[name])
        self.problems += drafted.problems
        return drafted.workflow

    def _defined(self, name: str) -> Workflow | None:
        """The body of an entry under `operators`, read once."""
        if name not in self.bodies:
            self.bodies[name] = None
            fields = self._mapping(self.operators[name], f"operator {name!r}")
            self.bodies[name] = self._body(name, self.operators[name], fields)
        return self.bodies[name]

    # -- workflows -----------------------------------------------------------------------------

    def _body(self, name: str, written: Value, fields: dict[str, Value]) -> Workflow:
        """A workflow: the file's own, a small one under `operators`, or a lone node there."""
        if written is not self.root and any(key in KEYS for key in fields):
            return self._lone(name, written, fields)
        if written is not self.root:
            self._scope(()).keys(fields, BODY_KEYS, f"operator {name!r}")
        for key in [k for k in ("nodes", "output") if k not in fields]:
            self._wrong(written, f"{name!r} has no {key!r}", f"{key}: says what it computes")
        definitions = self._mapping(fields["nodes"], "'nodes'") if "nodes" in fields else {}
        inputs = read_inputs(fields.get("inputs"), self._scope(()))
        for id in [id for id in definitions if id in inputs]:
            self._wrong(definitions[id], f"{id!r} is both an input and a node", "rename one")
        scope = self._scope((*inputs, *definitions))
        scope.nodes |= inputs
        for id in _in_order(definitions):
            check_name(id, definitions[id], scope)
            node = read_node(id, definitions[id], scope)
            scope.nodes[id] = node
        empty = Value({}, written.source)
        return self._finish(name, scope, fields.get("output", empty), written)

    def _lone(self, name: str, written: Value, fields: dict[str, Value]) -> Workflow:
        """An operator of one node; what it refers to are its inputs."""
        given = {key: value for key, value in fields.items() if key != "inputs"}
        names = list(dict.fromkeys(mentioned(Value(given, written.source))))
        inputs = read_inputs(fields.get("inputs"), self._scope(()))
        if "inputs" not in fields:
            inputs = {n: Input(id=n, source=written.source) for n in names}
        scope = self._scope(tuple(inputs))
        scope.nodes |= inputs
        id = name if name not in inputs else f"{name}_"
        scope.nodes[id] = read_node(id, Value(given, written.source), scope)
        scope.names = (*scope.names, id)
        return self._finish(name, scope, Value(f"{{{{{id}}}}}", written.source), written)

    def _finish(self, name: str, scope: Scope, output: Value, written: Value) -> Workflow:
        made = scope.arg(output)
        return Workflow(name, scope.nodes, made, type_of(made, scope.nodes), written.source)

    # -- small things --------------------------------------------------------------------------

    def _scope(self, names: tuple[str, ...]) -> Scope:
        return Scope(names, self.tools, self._operator, self.problems)

    def _wrong(self, at: Value, message: str, hint: str) -> None:
        self.problems.append(at.source.problem(message, hint))

    def _mapping(self, written: Value, what: str) -> dict[str, Value]:
        if isinstance(written.value, dict):
            return written.value
        self._wrong(written, f"{what} must be a mapping of names to values", "write name: value")
        return {}


def _items(written: Value) -> list[Value]:
    """One value or a list of them."""
    return written.value if isinstance(written.value, list) else [written]


def _in_order(definitions: Mapping[str, Value]) -> list[str]:
    """Names of nodes, each behind those it refers to, else as written; cycles are cut anywhere."""
    done: dict[str, None] = {}
    for name in definitions:
        stack, open_ = [name], set[str]()
        while stack:
            current = stack[-1]
            waits = [
                n for n in mentioned(definitions[current])
                if n in definitions and n not in done and n not in open_ and n != current
            ]  # fmt: skip
            open_.add(current)
            if waits:
                stack += reversed(waits)
            else:
                done[stack.pop()] = None
    return list(done)
