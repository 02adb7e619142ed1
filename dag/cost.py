"""What a plan will cost: pure functions over a plan and a profile of the machine.

    prefill   new tokens only: every distinct prefix once, and each token attends to those before it
    decode    steps, rows in steps, KV tokens read. A step costs the same whoever is in it, so its
              number counts: as many as the longest chain of calls generates, or more where not
              all calls fit into a step
    tools     how long each takes, on the longest chain only: elsewhere they overlap
    loads     the models that are not there yet

The batch takes as long as the engine works, or as its longest chain when that is longer. The names
of the constants are those of the engine's calibration, which gives them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any, Protocol

from .nodes import Branch, LLMCall, Loop, Map, Node, ToolCall, Workflow, refs
from .phases import phases
from .steps import certain

if TYPE_CHECKING:
    from .logical import Plan
    from .prefixes import LeafCost


class Costs(Protocol):
    """Seconds per unit of work on one device, as calibration finds them."""

    @property
    def step(self) -> float: ...
    @property
    def token(self) -> float: ...
    @property
    def token_context(self) -> float: ...
    @property
    def decode_row(self) -> float: ...
    @property
    def kv_token(self) -> float: ...
    @property
    def kv_bytes(self) -> int: ...
    @property
    def load(self) -> float: ...


@dataclass(frozen=True, slots=True)
class Profile:
    """What is known of the machine and of earlier runs."""

    costs: Mapping[str, Costs]
    """By model alias."""
    running: int = 256
    """Most requests in a step."""
    loaded: frozenset[str] = frozenset()
    """Models that need not be loaded."""
    together: bool = True
    """Whether all models fit into memory at once; else they take turns, see `phases`."""
    lengths: Mapping[str, float] = field(default_factory=dict)
    """Node -> tokens its answers have had; where nothing is known, max_tokens."""
    tool_seconds: Mapping[str, float] = field(default_factory=dict)
    """Node -> seconds its tool has taken."""

    def length(self, node: LLMCall) -> float:
        return self.lengths.get(node.id, float(node.sampling.max_tokens))


@dataclass(frozen=True, slots=True)
class Cost:
    """The predicted cost of a plan."""

    seconds: float
    prefill_seconds: float
    decode_seconds: float
    tool_seconds: float
    """On the critical path."""
    load_seconds: float
    path_seconds: float
    """The longest chain of one row, alone on the machine."""
    prefill_tokens: float
    decode_tokens: float
    decode_steps: float
    kv_tokens: float
    """Everything computed, kept at once."""
    kv_bytes: float
    loads: tuple[str, ...]
    """Models in the order in which they are loaded."""
    path: tuple[str, ...]
    """Nodes of the critical path."""
    bound: str
    """What takes most: prefill, decode, loads, or the critical path."""
    certain: bool
    """Whether lengths come from earlier runs; else max_tokens was taken, which is the most."""

    def as_dict(self) -> dict[str, Any]:
        return {k: round(v, 6) if isinstance(v, float) else v for k, v in asdict(self).items()}


def cost_of(plan: Plan, profile: Profile) -> Cost:
    """What a plan with a prefix tree will cost on the profiled machine."""
    assert plan.prefixes is not None, "a plan without prefixes has no tokens to count"
    prefill = decode = tokens = generated = steps = kv_bytes = 0.0
    paths = {model: _longest_chain(plan, profile, model) for model in plan.models}
    for model in plan.models:
        costs = profile.costs[model]
        work = _Work.of(plan, profile, model, paths[model])
        prefill += work.prefill(costs)
        decode += work.decode(costs)
        tokens, generated, steps = (
            tokens + work.tokens, generated + work.generated, steps + work.steps,
        )  # fmt: skip
        kv_bytes += (work.tokens + work.generated) * costs.kv_bytes
    loads = _loads(plan, profile)
    load = sum(profile.costs[model].load for model in loads)
    path, path_seconds, tools = critical_path(plan, profile)
    parts = {"prefill": prefill, "decode": decode, "loads": load}
    working = prefill + decode
    bound = "critical path" if path_seconds > working + load else max(parts, key=parts.__getitem__)
    return Cost(
        seconds=max(working, path_seconds) + load, prefill_seconds=prefill, decode_seconds=decode,
        tool_seconds=tools, load_seconds=load, path_seconds=path_seconds, prefill_tokens=tokens,
        decode_tokens=generated, decode_steps=steps, kv_tokens=tokens + generated,
        kv_bytes=kv_bytes, loads=loads, path=path, bound=bound,
        certain=bool(profile.lengths),
    )  # fmt: skip


def _loads(plan: Plan, profile: Profile) -> tuple[str, ...]:
    """The models to load, in order; those that take turns more than once."""
    if profile.together:
        return tuple(model for model in plan.models if model not in profile.loaded)
    return phases(*(part.workflow for part in plan.parts), resident=sorted(profile.loaded)[:1])


@dataclass(frozen=True, slots=True)
class _Work:
    """What one model has to do."""

    tokens: float = 0.0
    """To prefill."""
    attended: float = 0.0
    """Prefill tokens times those before them."""
    generated: float = 0.0
    steps: float = 0.0
    kv_read: float = 0.0

    @classmethod
    def of(cls, plan: Plan, profile: Profile, model: str, chain: float) -> _Work:
        work, longest = cls(), chain
        for leaf, node in _leaves(plan, model):
            length = profile.length(node)
            prompt = leaf.merged / leaf.calls if leaf.calls else 0.0
            work = replace(
                work,
                tokens=work.tokens + leaf.computed,
                attended=work.attended + leaf.computed * prompt / 2,
                generated=work.generated + leaf.calls * length,
                kv_read=work.kv_read + leaf.calls * length * (prompt + length / 2),
            )
        return replace(work, steps=max(longest, work.generated / profile.running))

    def prefill(self, costs: Costs) -> float:
        return self.tokens * costs.token + self.attended * costs.token_context

    def decode(self, costs: Costs) -> float:
        rows = self.generated * costs.decode_row
        return self.steps * costs.step + rows + self.kv_read * costs.kv_token


def _leaves(plan: Plan, model: str) -> list[tuple[LeafCost, LLMCall]]:
    assert plan.prefixes is not None
    return [(leaf, leaf.call) for leaf in plan.prefixes.leaves if leaf.call.model == model]


def _longest_chain(plan: Plan, profile: Profile, model: str) -> float:
    """Most tokens that one row lets a model generate one after the other."""

    def own(node: Node) -> float:
        return profile.length(node) if isinstance(node, LLMCall) and node.model == model else 0.0

    ends = (_chain(part.workflow, own) for part in plan.parts)
    return max((length for length, _ in ends), default=0.0)


def critical_path(plan: Plan, profile: Profile) -> tuple[tuple[str, ...], float, float]:
    """The chain of nodes that takes one row longest, its seconds, and those of its tools."""
    assert plan.prefixes is not None
    prompts = {
        leaf.call.id: leaf.merged / leaf.calls for leaf in plan.prefixes.leaves if leaf.calls
    }

    def own(node: Node) -> float:
        if isinstance(node, ToolCall):
            return profile.tool_seconds.get(node.id, 0.0)
        if not isinstance(node, LLMCall):
            return 0.0
        costs, length = profile.costs[node.model], profile.length(node)
        prompt = prompts.get(node.id, 0.0)
        reading = length * (prompt + length / 2) * costs.kv_token
        return prompt * costs.token + length * (costs.step + costs.decode_row) + reading

    found = NOTHING
    for part in plan.parts:
        found = max(found, _chain(part.workflow, own), key=_seconds)
    seconds, nodes = found
    tools = sum(own(node) for node in nodes if isinstance(node, ToolCall))
    return tuple(n.id for n in nodes if isinstance(n, LLMCall | ToolCall)), seconds, tools


Chain = tuple[float, tuple[Node, ...]]
NOTHING: Chain = (0.0, ())


def _chain(workflow: Workflow, own: Callable[[Node], float]) -> Chain:
    """The heaviest chain of nodes. A map counts its body once, a loop all its rounds.

    What only one side of a branch needs begins when the condition is known, not before.
    """
    always = certain(workflow)
    ends: dict[str, Chain] = {}
    inside: dict[str, Chain] = {}
    """The part of the chain that begins only when a side is taken."""
    for node in workflow.nodes.values():
        weight = _weight(node, own)
        ends[node.id] = _after(node.needs(), ends, weight)
        inside[node.id] = NOTHING if node.id in always else _after(node.needs(), inside, weight)
        if isinstance(node, Branch):
            known = _heaviest(refs(node.condition), ends)
            side = _heaviest((*refs(node.then), *refs(node.otherwise)), inside)
            taken = (known[0] + side[0], (*known[1], *side[1], node))
            ends[node.id] = max(ends[node.id], taken, key=_seconds)
    return _heaviest(ends, ends)


def _weight(node: Node, own: Callable[[Node], float]) -> Chain:
    if isinstance(node, Map):
        return _chain(node.body, own)
    if isinstance(node, Loop):
        weight, inside = _chain(node.body, own)
        return weight * node.max_iters, inside
    return own(node), (node,)


def _after(needs: Iterable[str], ends: Mapping[str, Chain], weight: Chain) -> Chain:
    before = _heaviest(needs, ends)
    return before[0] + weight[0], (*before[1], *weight[1])


def _heaviest(ids: Iterable[str], ends: Mapping[str, Chain]) -> Chain:
    return max((ends[id] for id in ids), key=_seconds, default=NOTHING)


def _seconds(chain: Chain) -> float:
    return chain[0]
