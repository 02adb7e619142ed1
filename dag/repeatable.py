"""Which work gives the same value whenever its arguments are the same, and how to name it.

LLM calls    at temperature 0, or with a seed of their own; prompts that are templates
tools        of effect `pure`; `read` may change with time and `write` changes the world
agents       as LLM calls, when every tool they may call is pure
maps, loops  when everything in their bodies is
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from types import MappingProxyType

from .arg import Arg, Args, Fill, Lit, Rec, Ref, Seq
from .keys import Unkeyed, type_key, value_key
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
    ToolSpec,
    Workflow,
)
from .sampling import Sampling
from .template import Part, Template

Names = Mapping[str, str]
"""By alias, the one that stands for its model: of those that name one model, the first."""
OWN: Names = MappingProxyType({})
"""Every alias stands for itself."""


def deterministic(sampling: Sampling) -> bool:
    """Whether equal prompts give equal texts."""
    return sampling.greedy or sampling.seed is not None


def work_key(node: Node, names: Names = OWN) -> Hashable | None:
    """What a node does, apart from its arguments; None when equal arguments are not enough.

    The same model is one that `names` gives one name.
    """
    match node:
        case PlanAndRun():
            return None  # its calls are merged one by one, once they are known
        case Agent():
            own = _llm_key(node, names)
            tools = tuple(_tool_key(t) for t in node.tools)
            if own is None or None in tools:
                return None
            return ("agent", own, tools, node.max_turns)
        case LLMCall():
            return _llm_key(node, names)
        case ToolCall():
            return _tool_key(node.tool)
        case Map():
            body = workflow_key(node.body, names)
            return body and ("map", body, node.item, node.max_width)
        case Loop():
            body = workflow_key(node.body, names)
            until = workflow_key(node.until, names) if node.until is not None else ("never",)
            return ("loop", body, until, node.max_iters) if body and until else None
    return None


def work_args(node: Node) -> Args:
    """The arguments that go with the key: of an LLM call, what fills its slots one by one."""
    if isinstance(node, LLMCall) and isinstance(node.prompt, Template):
        bound = dict(node.bound)
        if all(slot.name in bound for slot in node.prompt.slots()):
            return tuple(("", bound[slot.name]) for slot in node.prompt.slots())
    return node.args()


def workflow_key(workflow: Workflow, names: Names = OWN) -> Hashable | None:
    """A whole body as a function of its inputs; None when it is not one."""
    if workflow.live:
        return None
    parts: list[Hashable] = []
    try:
        for node in workflow.nodes.values():
            own = _body_key(node, names)
            if own is None:
                return None
            args = tuple((name, _arg_key(arg)) for name, arg in work_args(node))
            parts.append((node.id, own, args))
        return (tuple(parts), _arg_key(workflow.output))
    except Unkeyed:
        return None


def _body_key(node: Node, names: Names) -> Hashable | None:
    match node:
        case Input():
            default = "required" if node.default is ... else ("default", value_key(node.default))
            return ("input", type_key(node.type), default)
        case Const(value=value):
            return ("const", value_key(value))
        case Project(path=path):
            return ("project", path)
        case Branch():
            return "branch"
    return work_key(node, names)


def _arg_key(arg: Arg) -> Hashable:
    match arg:
        case Ref(id):
            return ("ref", id)
        case Lit(value):
            return ("lit", value_key(value))
        case Seq(items, kind):
            return (kind, tuple(map(_arg_key, items)))
        case Rec(pairs):
            return (dict, tuple((key, _arg_key(item)) for key, item in pairs))
        case Fill(text, bound):
            return (text, tuple((name, _arg_key(item)) for name, item in bound))


def _llm_key(node: LLMCall, names: Names) -> Hashable | None:
    if not isinstance(node.prompt, Template) or not deterministic(node.sampling):
        return None
    # A schema is a dict and has no hash; its text is as good.
    settings = (names.get(node.model, node.model), repr(node.sampling), type_key(node.type))
    return ("llm", node.prompt.bare, _wording(node.prompt), settings)


def _wording(template: Template) -> Hashable:
    """A template without the names of its slots: the same words are the same prompt."""
    return tuple((m.role, tuple(_part_key(part) for part in m.parts)) for m in template.messages)


def _part_key(part: Part) -> Hashable:
    return part if isinstance(part, str) else (part.path, part.conversion, part.spec)


def _tool_key(tool: ToolSpec) -> Hashable | None:
    if tool.effect != "pure":
        return None
    # The tool itself, not its name: two modules may have one of the same name.
    return ("tool", tool.name, id(tool.run))
