"""What a plan asks workers for, by the cost model: what a placement is made from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from .phases import Steps, steps_of, together
from .placement import Demand
from .profile import Profile

if TYPE_CHECKING:
    from .logical import Plan
    from .prefixes import LeafCost

BATCH = 2_048
"""Most tokens that are computed at once."""
MANY = 32
"""Of so many batches it makes no difference that a row waits for the others of its own."""
FEW = 8
"""Calls that one worker gets together; see `engine/routing.py`."""


@dataclass(frozen=True, slots=True)
class Machine:
    """Workers that are alike."""

    workers: int
    memory: int | None
    """Bytes of each worker for weights and KV; None sets no limit."""
    sizes: Mapping[str, int]
    """Bytes by model, weights and KV."""
    names: Mapping[str, str]
    """By alias, the model: aliases of one model share it."""


def demand_of(plan: Plan, profile: Profile, machine: Machine) -> Demand | None:
    """Steps of the plan, the seconds that each takes one worker, and what loading takes.

    None when calls and tokens are not known before the run: for live programs, and for a plan
    without a prefix tree.
    """
    if plan.live or plan.prefixes is None or not plan.models:
        return None
    names = machine.names
    steps = together(steps_of(part.workflow) for part in plan.parts)
    steps = Steps(steps.needs, {id: names[m] if m else None for id, m in steps.models.items()})
    work, batches = dict.fromkeys(steps.needs, 0.0), dict.fromkeys(steps.needs, 0.0)
    calls = dict.fromkeys(steps.needs, 0)
    for leaf in plan.prefixes.leaves:
        top, model = f"{leaf.part}:{leaf.name.partition('/')[0]}", names[leaf.call.model]
        turns = [s for s in work if s.partition("#")[0] == top and steps.models[s] == model]
        for step in turns:  # a body that asks for a model several times does so in several steps
            work[step] += seconds_of(leaf, profile) / len(turns)
            rows = leaf.calls * leaf.call.sampling.n
            batches[step] += max(leaf.computed / BATCH, rows / profile.running) / len(turns)
            calls[step] += leaf.calls
    models = {names[alias]: alias for alias in reversed(plan.models)}
    loads = {model: profile.costs[alias].load for model, alias in models.items()}
    memory = machine.memory if machine.memory is not None else sum(machine.sizes.values())
    few = {step: max(1.0, count) for step, count in batches.items() if 0 < count < MANY}
    undivided = frozenset(step for step in few if calls[step] <= FEW)
    return Demand(steps, work, loads, machine.sizes, machine.workers, memory, few, undivided)


def seconds_of(leaf: LeafCost, profile: Profile) -> float:
    """Seconds that one worker needs for an LLM node over all rows."""
    node = leaf.call
    costs, tokens = profile.costs[node.model], leaf.calls * profile.generated(node)
    prompt = leaf.merged / max(1, leaf.calls)
    reading = leaf.computed * (costs.token + costs.token_context * prompt / 2)
    read = leaf.calls * profile.read(node, prompt)
    writing = tokens * costs.decode_row + read * costs.kv_token
    steps = max(profile.serial(node), tokens / profile.running) if leaf.calls else 0.0
    return reading + writing + steps * costs.step
