"""What somebody says of a workflow before it runs: `draft=40` tokens, `look_up=0.5` seconds.

Hints that contradict the workflow or each other are reported, all at once; none is guessed at.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence

from .errors import ConfigError, list_names, meant
from .estimates import operator_key
from .names import named_nodes
from .nodes import LLMCall, Node, ToolCall, Workflow

Hints = Mapping[str, float]
"""By `operator_key`: tokens of an LLM's answers, seconds of a tool."""


def hints_of(workflow: Workflow, said: Mapping[str, float]) -> Hints:
    """Hints from numbers by the names of calls; raises as `read_hints` does."""
    if not isinstance(said, Mapping):
        raise ConfigError(f"expect={said!r} is no mapping: give one such as {{'draft': 40}}")
    return read_hints(workflow, [f"{name}={value}" for name, value in said.items()], "expect")


def read_hints(workflow: Workflow, texts: Sequence[str], option: str = "--expect") -> Hints:
    """Hints from texts such as `draft=40`. Raises ConfigError naming everything that is wrong, and
    the option that it was said with."""
    nodes = {n: node for n, node in named_nodes(workflow) if isinstance(node, LLMCall | ToolCall)}
    said: dict[str, tuple[str, float]] = {}
    problems: list[str] = []
    for text in texts:
        name, value, wrong = _parsed(text, nodes)
        if wrong is not None:
            problems.append(wrong)
            continue
        key = operator_key(nodes[name])
        other, before = said.setdefault(key, (name, value))
        if before != value:
            same = "" if other == name else f" ({other!r} and {name!r} are calls of one operator)"
            problems.append(f"{other}={before:g} and {name}={value:g} contradict each other{same}")
    if problems:
        raise ConfigError("; ".join(f"{option}: {problem}" for problem in problems))
    return {key: value for key, (_, value) in said.items()}


def _parsed(text: str, nodes: Mapping[str, Node]) -> tuple[str, float, str | None]:
    """The node and the number of a hint, or what is wrong with it."""
    name, _, number = text.partition("=")
    try:
        value = float(number)
    except ValueError:
        value = math.nan
    if not math.isfinite(value) or value < 0:
        return name, value, f"{text!r} is not NODE=NUMBER, such as draft=40"
    if name not in nodes:
        near = meant(name, list(nodes))
        hint = f"; did you mean {near!r}?" if near else ""
        return name, value, f"no call is named {name!r}: known are {list_names(list(nodes))}{hint}"
    return name, value, next(_contradictions(name, nodes[name], value), None)


def _contradictions(name: str, node: Node, value: float) -> Iterator[str]:
    if isinstance(node, LLMCall):
        most = node.sampling.max_tokens
        if value > most:
            yield f"{name}={value:g} contradicts its max_tokens={most}"
        if value < 1:
            yield f"{name}={value:g}: an answer has at least one token"
    if isinstance(node, ToolCall):
        timeout, attempts = node.tool.timeout, node.tool.attempts
        if value > timeout * attempts:
            often = f", {attempts} attempts at most" if attempts > 1 else ""
            what = f"{name}={value:g} contradicts its timeout={timeout:g}{often}"
            yield f"{what}: a run would end such a call"
