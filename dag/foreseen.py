"""What a plan, or its rehearsal, says of every call node: to be put beside what a run has done."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from .estimates import TURNS, Estimates, Known
from .names import named_nodes
from .nodes import Agent, LLMCall, Node, ToolCall
from .profile import Profile

if TYPE_CHECKING:
    from .cost import Cost
    from .logical import Plan
    from .prefixes import LeafCost
    from .steps import Step

Numbers = tuple[int, int, int]
COLUMNS = ("calls made", "prefill tokens", "generated tokens")
NOTHING: Numbers = (0, 0, 0)


@dataclass(frozen=True, slots=True)
class Foreseen:
    """What was foreseen of one node."""

    numbers: Numbers = NOTHING
    """Calls made, tokens prefilled and generated."""
    at_most: tuple[str, ...] = ()
    """Columns whose number is the most there can be."""
    open: bool = False
    """Whether values at run time decide how many calls there are, so that none is foreseen."""
    seconds: float | None = None
    """From asking to having, on average over the calls made; None where nothing is said of it."""
    lengths: Known | None = None
    """Where the length of an LLM's answers was known from."""


def nodes_of(plan: Plan) -> dict[str, Node]:
    """All nodes of a plan, by the names under which a run counts them."""
    return dict(pair for part in plan.parts for pair in named_nodes(part.workflow))


def foreseen(plan: Plan, cost: Cost | None, known: Estimates) -> dict[str, Foreseen]:
    """By name: what a rehearsal came to if there was one, else what the plan counts. `known` says
    how long answers are and how long tools take; a plan alone says no seconds of an LLM."""
    nodes = nodes_of(plan)
    if cost is None or cost.rehearsed is None:
        return _counted(plan, nodes, known)
    found: dict[str, Foreseen] = {}
    for name, n in cost.rehearsed.nodes.items():
        node = nodes.get(name)
        lengths = known.answer(node).known if isinstance(node, LLMCall) else None
        numbers = n.calls - n.merged, n.prefill_tokens, n.generated_tokens
        at_most = COLUMNS[2:] if lengths == "limit" and not isinstance(node, Agent) else ()
        found[name] = Foreseen(numbers, at_most, False, n.seconds, lengths)
    return found


def _counted(plan: Plan, nodes: Mapping[str, Node], known: Estimates) -> dict[str, Foreseen]:
    """A node that several workflows have is the sum over them."""
    steps: dict[str, list[Step]] = defaultdict(list)
    leaves: dict[str, list[LeafCost]] = defaultdict(list)
    for step in plan.steps:
        steps[step.name].append(step)
    for leaf in plan.prefixes.leaves if plan.prefixes is not None else ():
        leaves[leaf.name].append(leaf)
    found: dict[str, Foreseen] = {}
    for name, own in steps.items():
        node = nodes[name]
        if isinstance(node, ToolCall):
            said = known.tool(node)
            seconds = said.mean if said.known != "limit" else None
            found[name] = Foreseen((_calls(own), 0, 0), *_surely(own, COLUMNS[:1]), seconds)
        elif isinstance(node, LLMCall):
            found[name] = _answers(node, own, leaves[name], Profile({}, estimates=known))
    return found


def _answers(
    node: LLMCall, steps: list[Step], leaves: list[LeafCost], profile: Profile
) -> Foreseen:
    """An LLM node; of an agent the turns that are expected."""
    calls = sum(leaf.calls for leaf in leaves) if leaves else _calls(steps)
    turns = min(TURNS, node.max_turns) if isinstance(node, Agent) else 1
    computed = round(sum(leaf.computed for leaf in leaves))
    lengths = profile.known(node)
    at_most, open = _surely(steps, COLUMNS)
    if lengths == "limit" and turns == 1:
        at_most = at_most or COLUMNS[2:]
    numbers = calls * turns, computed, round(calls * profile.generated(node))
    return Foreseen(numbers, at_most, open and not leaves, None, lengths)


def _calls(steps: list[Step]) -> int:
    return sum((step.calls if step.merged is None else step.merged) or 0 for step in steps)


def _surely(steps: list[Step], columns: tuple[str, ...]) -> tuple[tuple[str, ...], bool]:
    """Of steps with one name: which columns hold the most there can be, as a side of a branch need
    not be taken, and whether there may be any number of calls."""
    side = any(step.when == "branch" for step in steps)
    return columns if side else (), any(step.calls is None for step in steps)
