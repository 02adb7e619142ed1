"""From a plan and a profile of the machine to what it will cost.

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

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from .cost import Cost, NodeCost, RehearsedCost
from .estimates import Known
from .extrapolation import extrapolated
from .longest import critical_path, longest_answers
from .nodes import LLMCall
from .phases import phases
from .profile import Costs, Profile

if TYPE_CHECKING:
    from .logical import Plan
    from .prefixes import LeafCost
    from .rehearsed import Rehearsed
    from .serving import Used


MEASURED, ASSUMED = 0.1, 0.6
"""Share by which a batch differs from what costs say, where they were measured, and where not."""
ORDER: tuple[Known, ...] = ("limit", "sample", "history", "given")
"""The least known first."""


def cost_of(
    plan: Plan, profile: Profile, rehearsed: Rehearsed | None = None, part: Plan | None = None
) -> Cost:
    """What a plan with a prefix tree will cost on the profiled machine.

    Without a rehearsal, work is added up and taken to be bound by the engine or by the longest
    chain; with one, seconds, tokens and steps are those of the rehearsal. `part` is the plan of the
    rows that were rehearsed, where those are not all.
    """
    low, mean, high = (_summed(plan, replace(profile, side=s)) for s in ("low", "mean", "high"))
    if rehearsed is not None and part is not None and part.rows < plan.rows:
        rehearsed = extrapolated(rehearsed, plan, part, mean, _summed(part, profile))
    cost = _with(mean, rehearsed, plan, profile) if rehearsed is not None else mean
    nodes = [leaf.call for leaf in plan.prefixes.leaves] if plan.prefixes is not None else []
    known = {profile.known(node) for node in nodes}
    measured = all(profile.costs[m].matmul_peak for m in plan.models)
    doubt = MEASURED if measured else ASSUMED
    return replace(
        cost,
        low=cost.seconds * low.seconds / mean.seconds * (1 - doubt) if mean.seconds else 0.0,
        high=cost.seconds * high.seconds / mean.seconds * (1 + doubt) if mean.seconds else 0.0,
        known=next((k for k in ORDER if k in known), "limit"), measured=measured,
        certain=bool(profile.lengths) or (bool(known) and "limit" not in known),
    )  # fmt: skip


def _summed(plan: Plan, profile: Profile) -> Cost:
    assert plan.prefixes is not None, "a plan without prefixes has no tokens to count"
    prefill = decode = tokens = generated = steps = kv_bytes = 0.0
    paths = {model: longest_answers(plan, profile, model) for model in plan.models}
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
    path = critical_path(plan, profile)
    parts = {"prefill": prefill, "decode": decode, "loads": load}
    working = prefill + decode
    bound = "critical path" if path.seconds > working + load else max(parts, key=parts.__getitem__)
    return Cost(
        seconds=max(working, path.seconds) + load, prefill_seconds=prefill, decode_seconds=decode,
        tool_seconds=path.tools, load_seconds=load, path_seconds=path.seconds,
        agents=path.agents, prefill_tokens=tokens,
        decode_tokens=generated, decode_steps=steps, kv_tokens=tokens + generated,
        kv_bytes=kv_bytes, loads=loads, path=path.names, bound=bound,
        certain=False,
    )  # fmt: skip


def _with(cost: Cost, found: Rehearsed, plan: Plan, profile: Profile) -> Cost:
    """A cost set right by a rehearsal."""
    used = list(found.used.values())
    prefill = sum(u.prefill_seconds for u in used)
    decode = sum(u.decode_seconds for u in used)
    evicted = sum(u.evicted_tokens for u in used)
    costs = [profile.costs[m] for m in plan.models]
    parts = {"prefill": prefill, "decode": decode, "loads": found.load_seconds}
    # Idle for more than a tenth of the time: it is the chain of calls that takes it, not the work.
    chained = found.waited > found.seconds / 10 and found.waited > max(parts.values()) / 2
    nodes = {
        name: NodeCost(
            t.calls, t.merged, t.prompt, t.computed, t.generated,
            t.seconds / max(1, t.calls - t.merged),
        )
        for name, t in found.nodes.items() if t.calls
    }  # fmt: skip
    tools = [(n.calls - n.merged, n.seconds) for n in nodes.values() if not n.prompt_tokens]
    rehearsal = RehearsedCost(
        found.rows, sum(u.held_tokens for u in used), sum(u.page_seconds for u in used),
        sum(u.read_tokens for u in used), evicted,
        *_moves(used, costs),
        found.waited, max(found.busy.values(), default=0.0), sum(u.failed for u in used), nodes,
        sum(u.host_tokens for u in used), sum(u.offloaded_tokens for u in used),
        sum(u.restored_tokens for u in used),
        sum(made for made, _ in tools), sum(made * each for made, each in tools),
        found.outgrown,
    )  # fmt: skip
    return replace(
        cost, seconds=found.seconds, prefill_seconds=prefill, decode_seconds=decode,
        load_seconds=found.load_seconds or cost.load_seconds,
        prefill_tokens=sum(u.prefill_tokens for u in used),
        decode_tokens=sum(u.decode_tokens for u in used),
        decode_steps=sum(u.steps for u in used),
        loads=tuple(found.loads) or cost.loads, workers=max(1, len(found.busy)),
        bound="critical path" if chained else max(parts, key=parts.__getitem__),
        rehearsed=rehearsal,
    )  # fmt: skip


def _moves(used: Sequence[Used], costs: Sequence[Costs]) -> tuple[float, float]:
    """Seconds to the host and back: of what moved, or without a host tier of what could have."""
    if any(u.host_tokens for u in used):
        return sum(u.offload_seconds for u in used), sum(u.restore_seconds for u in used)
    evicted = sum(u.evicted_tokens for u in used)
    out = max((c.kv_bytes / c.offload for c in costs), default=0.0)
    back = max((c.kv_bytes / c.restore for c in costs), default=0.0)
    return evicted * out, evicted * back


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
            prompt = leaf.merged / leaf.calls if leaf.calls else 0.0
            work = replace(
                work,
                tokens=work.tokens + leaf.computed,
                attended=work.attended + leaf.computed * prompt / 2,
                generated=work.generated + leaf.calls * profile.generated(node),
                kv_read=work.kv_read + leaf.calls * profile.read(node, prompt),
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
