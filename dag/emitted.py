"""Workflows that a model writes: tasks as JSON, checked like any other source.

    {"tasks": [{"call": "look_up", "args": {"name": "bees"}},
               {"call": "write", "args": {"found": "#1", "title": "About #1.kind"}}],
     "answer": "#2"}

Tasks are numbered from 1. `#1` is the result of task 1, `#1.kind` a field of it, and inside a text
it stands for the result as text. The order of tasks says nothing: what needs a result waits for it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from .arg import Arg, Fill, Lit, Rec, Ref, Seq, refs
from .arguments import arguments
from .errors import LimitError, OutputError, list_names
from .nodes import Node, Project, Workflow
from .operators import Operator
from .template import Part, Path, Slot, Text

Offered = Mapping[str, Operator[Any, Any]]
"""What tasks may call, by name."""

_REFERENCE = re.compile(r"#(\d+)((?:\.[A-Za-z_]\w*|\[\d+\])*)")
_STEP = re.compile(r"\.([A-Za-z_]\w*)|\[(\d+)\]")


class _Task(BaseModel):
    model_config = ConfigDict(extra="forbid")

    call: str
    args: dict[str, Any] = {}


class _Tasks(BaseModel):
    model_config = ConfigDict(extra="forbid")

    tasks: list[_Task]
    answer: Any = None


def schema_of_tasks(offered: Offered, max_tasks: int) -> dict[str, Any]:
    """The JSON schema of such a text."""
    task = {
        "type": "object",
        "properties": {"call": {"enum": list(offered)}, "args": {"type": "object"}},
        "required": ["call", "args"],
        "additionalProperties": False,
    }
    return {
        "type": "object",
        "properties": {
            "tasks": {"type": "array", "items": task, "maxItems": max_tasks},
            "answer": {"type": "string"},
        },
        "required": ["tasks", "answer"],
        "additionalProperties": False,
    }


def read_tasks(text: str, name: str, offered: Offered, max_tasks: int) -> Workflow:
    """The workflow that a model has written, without inputs.

    Raises OutputError for what is not such a text, calls what is not offered, gives wrong
    arguments or waits for itself, and LimitError for more than `max_tasks` tasks.
    """
    tasks = _parse(text)
    if len(tasks.tasks) > max_tasks:
        raise LimitError(f"the model planned {len(tasks.tasks)} tasks, over max_tasks={max_tasks}")
    writer = _Writer(offered, tasks.tasks)
    answer = tasks.answer if tasks.answer is not None else f"#{len(tasks.tasks)}"
    output = writer.arg(answer, "the answer")
    for number in range(1, len(tasks.tasks) + 1):
        writer.write(number)
    workflow = Workflow(name, writer.nodes, output)
    wrong = next(arguments(workflow), None)
    if wrong is not None:
        raise OutputError(f"the model's plan cannot be run: {wrong.message}")
    return workflow


def _parse(text: str) -> _Tasks:
    start, end = text.find("{"), text.rfind("}")
    try:
        return _Tasks.model_validate_json(text[start : end + 1] if start >= 0 else text)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False)[0]
        where = ".".join(str(step) for step in first["loc"])
        told = f"{where}: {first['msg']}" if where else first["msg"]
        raise OutputError(f"the model wrote no plan: {told}") from error


@dataclass(slots=True)
class _Writer:
    """Turns tasks into nodes, those that are needed first."""

    offered: Offered
    tasks: list[_Task]
    nodes: dict[str, Node] = field(default_factory=dict)
    ids: dict[int, str] = field(default_factory=dict)
    """Node of every task written so far."""
    open: list[int] = field(default_factory=list)
    """Tasks being written: each needs the one behind it."""

    def write(self, number: int) -> str:
        """The node of a task, written now if it was not."""
        if number in self.ids:
            return self.ids[number]
        if number in self.open:
            ring = [*self.open[self.open.index(number) :], number]
            waits = " waits for ".join(f"task {n}" for n in ring)
            raise OutputError(f"the model's plan cannot be run: {waits}")
        self.open.append(number)
        task = self.tasks[number - 1]
        operator = self._operator(number, task)
        given = {n: self.arg(v, f"task {number}") for n, v in task.args.items()}
        id = self._fresh(task.call)
        self.nodes[id] = operator.node(id, operator.with_defaults(given), None)
        self.ids[number] = id
        self.open.pop()
        return id

    def arg(self, value: Any, where: str) -> Arg:
        """A value of the JSON as an argument; the tasks it names are written first."""
        if isinstance(value, list):
            items = tuple(self.arg(item, where) for item in value)
            return Seq(items) if any(True for a in items for _ in refs(a)) else Lit(value)
        if isinstance(value, dict):
            pairs = tuple((key, self.arg(item, where)) for key, item in value.items())
            return Rec(pairs) if any(True for _, a in pairs for _ in refs(a)) else Lit(value)
        if not isinstance(value, str):
            return Lit(value)
        whole = _REFERENCE.fullmatch(value)
        if whole is not None:
            return self._reference(whole, where)
        parts: list[Part] = []
        bound: dict[str, Arg] = {}
        for text, found in _pieces(value):
            parts += [text] if text else []
            if found is not None:
                bound[found[0]] = self._reference(found, where)
                parts.append(Slot(found[0], conversion="j"))
        return Fill(Text("user", tuple(parts)), tuple(bound.items())) if bound else Lit(value)

    def _reference(self, found: re.Match[str], where: str) -> Ref:
        number = int(found[1])
        if not 1 <= number <= len(self.tasks):
            there = f"there are {len(self.tasks)}"
            raise OutputError(
                f"the model's plan cannot be run: {where} names task {number}, {there}"
            )
        id = self.write(number)
        path = tuple(_steps(found[2]))
        if not path:
            return Ref(id)
        part = id + found[2]
        self.nodes.setdefault(part, Project(id=part, of=Ref(id), path=path))
        return Ref(part)

    def _operator(self, number: int, task: _Task) -> Operator[Any, Any]:
        problem = None
        operator = self.offered.get(task.call)
        if operator is None:
            problem = f"calls {task.call!r}; offered are {list_names(list(self.offered))}"
        else:
            known = operator.signature.types
            unknown = [name for name in task.args if name not in known]
            missing = [name for name in operator.signature.required if name not in task.args]
            if unknown:
                problem = f"gives {task.call!r} an argument {unknown[0]!r} that it has not"
            elif missing:
                problem = f"calls {task.call!r} without {missing[0]!r}"
        if operator is None or problem is not None:
            raise OutputError(f"the model's plan cannot be run: task {number} {problem}")
        return operator

    def _fresh(self, name: str) -> str:
        id, count = name, 1
        while id in self.nodes:
            count += 1
            id = f"{name}_{count}"
        return id


def _pieces(text: str) -> Iterator[tuple[str, re.Match[str] | None]]:
    """A text cut at its references: what stands before each, and the rest."""
    position = 0
    for found in _REFERENCE.finditer(text):
        yield text[position : found.start()], found
        position = found.end()
    yield text[position:], None


def _steps(path: str) -> Path:
    return tuple(step[1] if step[1] is not None else int(step[2]) for step in _STEP.finditer(path))
