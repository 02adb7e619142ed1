"""One node of a YAML workflow: a mapping with one operator key and that operator's settings."""

from __future__ import annotations

from typing import Any, cast

from .arg import Args
from .control import MAX_ITERS, MAX_WIDTH
from .edges import type_of
from .errors import ConfigError, nearest, noting
from .llm import MAX_TURNS, OPTION_HINT, SamplingOptions
from .messages import Role
from .nodes import Agent, Branch, LLMCall, Loop, Map, Node, ToolSpec
from .sampling import Sampling
from .template import Template, Text
from .trace import Missing
from .types import fits
from .unordered import joined
from .yaml_scope import Scope
from .yaml_text import Value
from .yaml_types import read_type

ROLES = ("system", "user", "assistant")
SAMPLING = tuple(SamplingOptions.__annotations__)
_PROMPT = ("system", "schema", "model", *SAMPLING)
KEYS: dict[str, tuple[str, ...]] = {
    "llm": ("unordered", *_PROMPT),
    "agent": ("tools", "max_turns", *_PROMPT),
    "tool": ("args",),
    "map": ("over", "with", "max_width"),
    "when": ("then", "else"),
    "loop": ("state", "until", "max_iters"),
}
"""Operator keys, each with the keys that may stand beside it."""
REQUIRED = {"map": ("over",), "when": ("then", "else"), "loop": ("state", "max_iters"),
            "agent": ("tools",)}  # fmt: skip
_OPTION_TYPES: dict[str, tuple[type, ...]] = {
    "max_tokens": (int,), "temperature": (int, float), "top_p": (int, float), "top_k": (int,),
    "min_p": (int, float), "seed": (int, type(None)), "stop": (str, list),
    "stop_token_ids": (list,), "n": (int,), "logprobs": (int, type(None)), "regex": (str,),
    "choice": (list,),
}  # fmt: skip


def read_node(id: str, written: Value, scope: Scope) -> Node:
    """A node from its definition. What is wrong is noted, and a `Missing` node stands for it."""
    missing = Missing(id=id, source=written.source)
    fields = written.value
    hint = f"give exactly one of {', '.join(KEYS)}"
    if not isinstance(fields, dict):
        scope.wrong(written, f"node {id!r} must be a mapping like {{llm: ...}}", hint)
        return missing
    kinds = [key for key in fields if key in KEYS]
    if len(kinds) != 1:
        has = f"has {' and '.join(kinds)}" if kinds else "says nothing to do"
        unknown = [nearest(key, KEYS) for key in fields if not kinds]
        close = next((h for h in unknown if h and h.startswith("did")), None)
        scope.wrong(written, f"node {id!r} {has}", close or hint)
        return missing
    kind = kinds[0]
    scope.keys(fields, (kind, *KEYS[kind]), f"a node with {kind!r}")
    absent = [key for key in REQUIRED.get(kind, ()) if key not in fields]
    for key in absent:
        scope.wrong(
            written, f"node {id!r} needs the key {key!r} beside {kind!r}", f"add {key}: ..."
        )
    if absent:
        return missing
    readers = {"llm": _prompt_node, "agent": _prompt_node, "tool": _tool, "map": _map,
               "when": _branch, "loop": _loop}  # fmt: skip
    return readers[kind](id, kind, written, scope) or missing


# -- models ------------------------------------------------------------------------------------


def _prompt_node(id: str, kind: str, written: Value, scope: Scope) -> Node | None:
    fields: dict[str, Value] = written.value
    template, bound = _template(fields[kind], fields.get("system"), fields.get("unordered"), scope)
    sampling = _sampling(written, scope)
    returns: Any = str
    if "schema" in fields:
        with noting(scope.problems):
            returns = read_type(fields["schema"])
    if sampling.n > 1:
        returns = list[returns]
    known: dict[str, Any] = {
        "id": id, "name": id, "prompt": template, "bound": bound, "sampling": sampling,
        "model": scope.text(fields, "model", "default"), "type": returns,
        "source": written.source,
    }  # fmt: skip
    if kind == "llm":
        return LLMCall(**known)
    turns = scope.whole(fields, "max_turns", 8, MAX_TURNS)
    return Agent(**known, tools=_specs(fields["tools"], scope), max_turns=turns)


def _template(
    written: Value, system: Value | None, unordered: Value | None, scope: Scope
) -> tuple[Template, Args]:
    """The prompt: a text, or a list of messages like `{user: text}`. Unordered parts go before the
    last message's text."""
    texts: list[tuple[str, Value]] = [("system", system)] if system is not None else []
    items = written.value if isinstance(written.value, list) else None
    bare = items is None and system is None
    for item in items or ():
        pairs = list(item.value.items()) if isinstance(item.value, dict) else []
        if len(pairs) != 1 or pairs[0][0] not in ROLES:
            hint = f"roles are {', '.join(ROLES)}"
            scope.wrong(item, "a message is a mapping of one role to its text", hint)
            continue
        texts.append(pairs[0])
    if items is None:
        texts.append(("user", written))
    messages: list[Text] = []
    for role, text in texts:
        if isinstance(text.value, str):
            messages.append(Text(cast(Role, role), scope.parts(text.value, text)))
        else:
            scope.wrong(text, f"the {role} message must be a text", "put it in quotes")
    if unordered is not None and messages:
        messages[-1] = _with_unordered(messages[-1], unordered, scope)
    bound = scope.bound(tuple(part for m in messages for part in m.parts))
    return Template(tuple(messages), bare), bound


def _with_unordered(text: Text, written: Value, scope: Scope) -> Text:
    """A message with parts in front whose order does not matter, blank lines between them."""
    items = written.value if isinstance(written.value, list) else []
    texts = [item.value for item in items if isinstance(item.value, str)]
    if not texts or len(texts) < len(items):
        scope.wrong(written, "'unordered' is a list of texts", 'write ["{{a}}", "{{b}}"]')
        return text
    read = [scope.parts(t, item) for t, item in zip(texts, items, strict=True)]
    pieces, spans = joined([part for part in read if part])
    return Text(text.role, (*pieces, "\n\n", *text.parts), (spans,))


def _sampling(written: Value, scope: Scope) -> Sampling:
    options: dict[str, Any] = {}
    for key in SAMPLING:
        if key not in written.value:
            continue
        given: Value = written.value[key]
        plain = [v.value for v in given.value] if isinstance(given.value, list) else given.value
        if type(plain) in _OPTION_TYPES[key]:
            options[key] = plain
        else:
            kinds = " or ".join(t.__name__ for t in _OPTION_TYPES[key])
            hint = "write numbers without quotes, texts in quotes, lists as [a, b]"
            scope.wrong(given, f"{key!r} must be of type {kinds}", hint)
    try:
        return Sampling(**options)
    except (ConfigError, TypeError) as error:
        scope.wrong(written, str(error), OPTION_HINT)
        return Sampling()


# -- tools -------------------------------------------------------------------------------------


def _tool(id: str, kind: str, written: Value, scope: Scope) -> Node | None:
    fields: dict[str, Value] = written.value
    given = fields["args"].value if "args" in fields else {}
    if not isinstance(given, dict):
        message = "'args' must be a mapping of argument names to values"
        scope.wrong(fields["args"], message, "write args: {name: value}")
        given = {}
    args = {name: scope.arg(value) for name, value in given.items()}
    name = scope.text(fields, kind)
    operator = scope.tools.get(name)
    if operator is None:
        hint = nearest(name, scope.tools) or "say where it is defined with `tools: FILE.py`"
        scope.wrong(fields[kind], f"there is no tool {name!r}", hint)
        return Missing(id=id, bound=tuple(args.items()), source=written.source)
    known = [p.name for p in operator.signature.parameters]
    for argument in [a for a in args if a not in known]:
        message = f"{name!r} has no argument {argument!r}"
        scope.wrong(given[argument], message, nearest(argument, known) or "it takes none")
        del args[argument]
    bound = operator.with_defaults(args)
    return operator.node(id, bound, written.source)


def _specs(written: Value, scope: Scope) -> tuple[ToolSpec, ...]:
    """Tools of an agent, by name."""
    names = written.value if isinstance(written.value, list) else [written]
    specs = []
    for name in names:
        spec = getattr(scope.tools.get(name.value), "spec", None)
        if isinstance(spec, ToolSpec):
            specs.append(spec)
        else:
            hint = nearest(str(name.value), scope.tools) or "say where with `tools: FILE.py`"
            scope.wrong(name, f"there is no tool {name.value!r}", hint)
    return tuple(specs)


# -- control flow ------------------------------------------------------------------------------


def _map(id: str, kind: str, written: Value, scope: Scope) -> Node | None:
    fields: dict[str, Value] = written.value
    over = scope.arg(fields["over"])
    shared = fields["with"].value if "with" in fields else {}
    if not isinstance(shared, dict):
        message = "'with' must be a mapping of input names to values"
        scope.wrong(fields["with"], message, "write with: {name: value}")
        shared = {}
    bound = tuple((name, scope.arg(value)) for name, value in shared.items())
    width = scope.whole(fields, "max_width", MAX_WIDTH, MAX_WIDTH)
    body = scope.body(fields[kind])
    free = [i.id for i in body.inputs if i.id not in shared] if body else []
    if body is None or not free:
        if body is not None:
            message = f"{body.name!r} has no input left for the items"
            scope.wrong(written, message, "leave one input for them")
        return Missing(id=id, bound=(("over", over), *bound), source=written.source)
    return Map(
        id=id, body=body, item=free[0], over=over, bound=bound, max_width=width,
        type=list[body.type], source=written.source,  # type: ignore[name-defined]
    )  # fmt: skip


def _branch(id: str, kind: str, written: Value, scope: Scope) -> Node | None:
    fields: dict[str, Value] = written.value
    condition = scope.arg(fields[kind])
    if isinstance(fields[kind].value, str) and type_of(condition, {}) is str:
        hint = 'write when: "{{name}}", with a tool or an llm of schema boolean to decide'
        scope.wrong(fields[kind], "'when' must be exactly one reference; a text is no test", hint)
    sides = [scope.arg(fields[key]) for key in ("then", "else")]
    kinds = [type_of(side, scope.nodes) for side in sides]
    return Branch(
        id=id, condition=condition, then=sides[0], otherwise=sides[1], source=written.source,
        type=kinds[0] if fits(kinds[1], kinds[0]) else Any,
    )  # fmt: skip


def _loop(id: str, kind: str, written: Value, scope: Scope) -> Node | None:
    fields: dict[str, Value] = written.value
    state = scope.arg(fields["state"])
    body = scope.body(fields[kind])
    until = scope.body(fields["until"]) if "until" in fields else None
    most = scope.whole(fields, "max_iters", 1, MAX_ITERS)
    if body is None:
        return Missing(id=id, bound=(("state", state),), source=written.source)
    return Loop(
        id=id, body=body, state=state, until=until, max_iters=most, type=body.type,
        source=written.source,
    )  # fmt: skip
