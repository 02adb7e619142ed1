"""What a drawing of a workflow shows: boxes with a title and a short text, and lines with labels.

`Project` nodes (fields of values) are not boxes: they label the line, as in `.names`. Bodies of
`Map` and `Loop` are pictures inside their box.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any

from .arg import Arg, Fill, Lit, Rec, Ref, Seq, refs
from .errors import in_short
from .names import counted_name
from .nodes import (
    Agent,
    Branch,
    Const,
    Input,
    LLMCall,
    Loop,
    Map,
    Node,
    PlanAndRun,
    Project,
    ToolCall,
    Workflow,
)
from .template import Path, Template, path_text
from .types import type_name

OUTPUT = "output"
VALUE_CHARS = 200
"""Of a value that is written in the workflow."""
_KINDS: dict[type[Node], str] = {
    Input: "input", Const: "const", LLMCall: "llm", Agent: "agent", ToolCall: "tool",
    PlanAndRun: "agent", Map: "map", Branch: "branch", Loop: "loop",
}  # fmt: skip
_ROLES = {"over": "each", "condition": "if", "then": "yes", "otherwise": "no", "state": "start"}


@dataclass(frozen=True, slots=True)
class Box:
    """One node, or the workflow's output."""

    id: str
    """Unique in the whole drawing: its place in the tree of bodies, as `3.0`."""
    kind: str
    title: str
    detail: str = ""
    facts: tuple[tuple[str, str], ...] = ()
    """What a reader may ask for, as label and text: prompt, sampling, arguments, source."""
    inside: tuple[Picture, ...] = ()
    name: str = ""
    """Name under which a run counts the node: `map_inside/lookup`; see `names`."""
    notes: tuple[str, ...] = ()
    """Further lines, such as what a plan or a run says of the node."""
    share: float | None = None
    """Part of the whole (0 to 1) that is the node's, drawn as a bar."""
    faint: bool = False
    """Drawn as something that is not there."""


@dataclass(frozen=True, slots=True)
class Line:
    """Data flowing from one box to another of the same picture."""

    source: str
    target: str
    label: str = ""


@dataclass(frozen=True, slots=True)
class Picture:
    """A workflow, or the body of a node."""

    title: str
    boxes: tuple[Box, ...]
    lines: tuple[Line, ...]


def picture(workflow: Workflow) -> Picture:
    """The boxes and lines of a workflow."""
    return _picture(workflow, workflow.name, "", (), outer=True)


def _picture(
    workflow: Workflow, title: str, prefix: str, way: tuple[str, ...], outer: bool
) -> Picture:
    ids: dict[str, str] = {}
    boxes: list[Box] = []
    for node in workflow.nodes.values():
        if not isinstance(node, Project):
            ids[node.id] = f"{prefix}{len(ids)}"
            boxes.append(_box(node, ids[node.id], way))
    labels: dict[tuple[str, str], list[str]] = {}
    for node in workflow.nodes.values():
        if node.id not in ids:
            continue
        for name, arg in node.args():
            role = _ROLES.get(name, "") if isinstance(node, Map | Branch | Loop) else ""
            for source, path in _sources(workflow, arg):
                label = " ".join(t for t in (role, path_text(path)) if t)
                labels.setdefault((ids[source], ids[node.id]), []).append(label)
    if workflow.live:
        live = Box(f"{prefix}{len(ids)}", "live", workflow.name, "async def, runs as Python")
        labels |= {(box.id, live.id): [] for box in boxes}
        boxes.append(live)
    elif outer:
        out = Box(f"{prefix}{OUTPUT}", "output", title, shown_type(workflow.type))
        for source, path in _sources(workflow, workflow.output):
            labels.setdefault((ids[source], out.id), []).append(path_text(path))
        boxes.append(out)
    lines = (
        Line(a, b, ", ".join(dict.fromkeys(t for t in ts if t))) for (a, b), ts in labels.items()
    )  # noqa: E501
    return Picture(title, tuple(boxes), tuple(lines))


def _sources(workflow: Workflow, arg: Arg) -> Iterator[tuple[str, Path]]:
    """The boxes an argument comes from, each with the path taken below its value."""
    for id in refs(arg):
        node = workflow.nodes.get(id)
        if isinstance(node, Project):
            for source, path in _sources(workflow, node.of):
                yield source, (*path, *node.path)
        elif node is not None:
            yield id, ()


def _box(node: Node, id: str, way: tuple[str, ...]) -> Box:
    kind = _KINDS.get(type(node), node.operator.lower())
    inside = tuple(_inside(node, id, (*way, node.id)))
    name = counted_name(way, node.id)
    return Box(id, kind, node.id, _detail(node), tuple(_facts(node)), inside, name)


def _inside(node: Node, id: str, way: tuple[str, ...]) -> Iterator[Picture]:
    if isinstance(node, Map):
        yield _picture(node.body, f"for each {node.item}", f"{id}.", way, outer=False)
    if isinstance(node, Loop):
        yield _picture(node.body, f"repeat {node.body.name}", f"{id}.", way, outer=False)
        if node.until is not None:
            way, title = (*way, "until"), f"until {node.until.name}"
            yield _picture(node.until, title, f"{id}.until.", way, outer=False)


def _detail(node: Node) -> str:
    """The short second line of a box."""
    match node:
        case Agent(model=model, tools=tools, max_turns=turns):
            parts = [model, ", ".join(t.name for t in tools), f"{turns} turns"]
        case LLMCall(model=model, sampling=sampling, prompt=prompt):
            parts = [model, f"{sampling.max_tokens} tokens"]
            if not sampling.greedy:
                parts.append(f"T {sampling.temperature:g}")
            if not isinstance(prompt, Template):
                parts.append("dynamic")
        case ToolCall(tool=tool):
            parts = [tool.effect] if tool.name == node.id else [tool.name, tool.effect]
        case Map(body=body):
            parts = [f"{body.name}, every item"]
        case Loop(body=body, max_iters=most):
            parts = [f"{body.name}, at most {most} times"]
        case Branch():
            parts = ["one side runs"]
        case Input(type=kind, default=default):
            parts = [shown_type(kind), "" if default is ... else f"= {_value(default)}"]
        case Const(value=value):
            parts = [_value(value)]
        case _:
            parts = [shown_type(node.type)]
    return " · ".join(p for p in parts if p)


def shown_type(kind: Any) -> str:
    """A type for a drawing; nothing where it says nothing."""
    return "" if kind is Any else type_name(kind)


def _facts(node: Node) -> Iterator[tuple[str, str]]:
    if isinstance(node, LLMCall):
        prompt = node.prompt
        yield "operator", node.name
        yield "prompt", str(prompt) if isinstance(prompt, Template) else "rendered at run time"
        changed = (f for f in _settings(node) if f)
        yield "sampling", ", ".join(changed) or "greedy"
    if isinstance(node, ToolCall):
        yield "tool", node.tool.name
        yield "about", node.tool.description
    if isinstance(node, Agent):
        yield "tools", "\n".join(f"{t.name}: {t.description}" for t in node.tools)
    if isinstance(node, Map):
        yield "limit", f"{node.max_width} items"
    for name, arg in node.args():
        yield f"{name} =", shown_arg(arg)
    yield "gives", shown_type(node.type)
    if node.source is not None:
        yield "source", f"{PurePath(node.source.file).name}:{node.source.line}"


def _value(value: Any) -> str:
    return in_short(value, VALUE_CHARS)


def _settings(node: LLMCall) -> Iterator[str]:
    sampling = node.sampling
    yield f"max_tokens={sampling.max_tokens}"
    for name in ("temperature", "top_p", "top_k", "min_p", "seed", "stop", "n", "regex", "choice"):
        value = getattr(sampling, name)
        if value != type(sampling).__dataclass_fields__[name].default:
            yield f"{name}={_value(value)}"


def shown_arg(arg: Arg) -> str:
    """An argument as one would write it: `[draft, facts.names]`."""
    match arg:
        case Ref(id):
            return id
        case Lit(value):
            return _value(value)
        case Seq(items):
            return f"[{', '.join(shown_arg(item) for item in items)}]"
        case Rec(items):
            return "{" + ", ".join(f"{k}: {shown_arg(item)}" for k, item in items) + "}"
        case Fill(text):
            return repr(str(text))
