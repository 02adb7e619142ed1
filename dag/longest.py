"""The longest chain of a plan: the calls that one row makes one after the other."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from .arg import refs
from .demand import certain
from .names import counted_name
from .nodes import Agent, Branch, LLMCall, Loop, Map, Node, ToolCall, Workflow

if TYPE_CHECKING:
    from .logical import Plan
    from .profile import Profile

Link = tuple[str, Node]
"""A node, and the name under which a run counts it."""
Chain = tuple[float, tuple[Link, ...]]
Own = Callable[[str, Node], float]
"""What a node weighs, given its name."""
NOTHING: Chain = (0.0, ())


@dataclass(frozen=True, slots=True)
class Longest:
    """The chain of nodes that takes one row longest."""

    names: tuple[str, ...] = ()
    """Its calls, by the names under which a run counts them."""
    seconds: float = 0.0
    tools: float = 0.0
    """Of these, those of tools."""
    agents: bool = False
    """Whether agents are among its calls: what these call is not in the seconds."""


def chain_of(workflow: Workflow, own: Own, way: tuple[str, ...] = ()) -> Chain:
    """The heaviest chain of nodes. A map counts its body once, a loop all its rounds, each
    with its condition.

    What only one side of a branch needs begins when the condition is known, not before.
    """
    always = certain(workflow)
    ends: dict[str, Chain] = {}
    inside: dict[str, Chain] = {}
    """The part of the chain that begins only when a side is taken."""
    for node in workflow.nodes.values():
        weight = _weight(node, own, way)
        ends[node.id] = _after(node.needs(), ends, weight)
        inside[node.id] = NOTHING if node.id in always else _after(node.needs(), inside, weight)
        if isinstance(node, Branch):
            known = _heaviest(refs(node.condition), ends)
            side = _heaviest((*refs(node.then), *refs(node.otherwise)), inside)
            link = (counted_name(way, node.id), node)
            taken = (known[0] + side[0], (*known[1], *side[1], link))
            ends[node.id] = max(ends[node.id], taken, key=_seconds)
    return _heaviest(ends, ends)


def _weight(node: Node, own: Own, way: tuple[str, ...]) -> Chain:
    inner = (*way, node.id)
    if isinstance(node, Map):
        return chain_of(node.body, own, inner)
    if isinstance(node, Loop):
        weight, inside = chain_of(node.body, own, inner)
        if node.until is not None:
            asking, asked = chain_of(node.until, own, (*inner, "until"))
            weight, inside = weight + asking, (*inside, *asked)
        return weight * node.max_iters, inside
    name = counted_name(way, node.id)
    return own(name, node), ((name, node),)


def _after(needs: Iterable[str], ends: Mapping[str, Chain], weight: Chain) -> Chain:
    before = _heaviest(needs, ends)
    return before[0] + weight[0], (*before[1], *weight[1])


def _heaviest(ids: Iterable[str], ends: Mapping[str, Chain]) -> Chain:
    return max((ends[id] for id in ids), key=_seconds, default=NOTHING)


def _seconds(chain: Chain) -> float:
    return chain[0]


def longest_answers(plan: Plan, profile: Profile, model: str) -> float:
    """Most tokens that one row lets a model generate one after the other."""

    def own(name: str, node: Node) -> float:
        if not isinstance(node, LLMCall) or node.model != model:
            return 0.0
        return profile.serial(node)

    ends = (chain_of(part.workflow, own) for part in plan.parts)
    return max((length for length, _ in ends), default=0.0)


def critical_path(plan: Plan, profile: Profile) -> Longest:
    """The chain of nodes that takes one row longest, alone on the machine."""
    assert plan.prefixes is not None
    leaves = plan.prefixes.leaves
    found = NOTHING
    for number, part in enumerate(plan.parts):
        prompts = {
            leaf.name: leaf.merged / leaf.calls
            for leaf in leaves if leaf.part == number and leaf.calls
        }  # fmt: skip
        found = max(found, chain_of(part.workflow, _seconds_of(profile, prompts)), key=_seconds)
    seconds, links = found
    calls = [(name, node) for name, node in links if isinstance(node, LLMCall | ToolCall)]
    tools = sum(profile.tool(node) for _, node in calls if isinstance(node, ToolCall))
    agents = any(isinstance(node, Agent) for _, node in calls)
    return Longest(tuple(name for name, _ in calls), seconds, tools, agents)


def _seconds_of(profile: Profile, prompts: Mapping[str, float]) -> Own:
    """Seconds of a node alone on the machine, given the tokens of prompts by name."""

    def own(name: str, node: Node) -> float:
        if isinstance(node, ToolCall):
            return profile.tool(node)
        if not isinstance(node, LLMCall):
            return 0.0
        costs, prompt = profile.costs[node.model], prompts.get(name, 0.0)
        steps = profile.serial(node) * costs.step
        rows = profile.generated(node) * costs.decode_row
        return prompt * costs.token + steps + rows + profile.read(node, prompt) * costs.kv_token

    return own
