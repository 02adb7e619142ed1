"""What the cost model says of a run, node by node, to be put beside what it did.

Engine seconds are counted for a whole model; a node's part is what the model's costs make of the
node's tokens, and the parts add up to the whole.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from ..dag.analyze import history
from ..dag.cost import Cost
from ..dag.estimates import Estimates
from ..dag.logical import Plan
from ..dag.names import named_nodes
from ..dag.nodes import LLMCall
from ..dag.pricing import cost_of
from ..dag.profile import Costs, Profile
from .call_work import work_seconds


@dataclass(frozen=True, slots=True)
class NodeCost:
    """One LLM node: what the plan expects of it."""

    calls: int
    prefill_asked: int
    prefill: int
    """Prompt tokens left to compute."""
    most: int
    """Tokens that it generates if every answer is as long as it may be."""
    seconds: float
    """Of the engine, for answers as long as they were."""


def prediction(
    plan: Plan, costs: Mapping[str, Costs], stats: Mapping[str, Any],
    work: Mapping[str, Mapping[str, float]], engines: Mapping[str, str], expected: Estimates,
) -> dict[str, Any] | None:  # fmt: skip
    """The prediction for a plan whose models have these costs, and None when they are not known.

    `seconds_before` is for what was expected when the run began: what earlier runs have shown, else
    answers as long as they may be (then `at_most`). `seconds` knows how long answers were and how
    long tools took (`stats`), so what is wrong with it is wrong with the model of costs. Both
    leave loading out, are sums without a rehearsal, and are for one device. `work` is what each
    engine was measured to do, on all devices, and `engines` says which one an alias stands for.
    """
    if plan.prefixes is None or not plan.models or not set(plan.models) <= set(costs):
        return None
    loaded = frozenset(plan.models)
    before = cost_of(plan, Profile(costs, loaded=loaded, estimates=expected))
    lengths, tools = history(stats, plan)
    profile = Profile(costs, loaded=loaded, lengths=lengths, tool_seconds=tools)
    after = cost_of(plan, profile)
    nodes = {name: asdict(cost) for name, cost in _nodes(plan, profile, after)}
    models = {name: engines.get(model, model) for name, model in _models(plan).items()}
    for name, seconds in shared_out(stats, work, costs, models).items():
        nodes.setdefault(name, {})["engine_seconds"] = seconds
    return {
        "seconds_before": before.seconds, "at_most": not before.certain,
        "seconds": after.seconds, "bound": after.bound,
        "path": list(after.path), "calibrated": all(_measured(costs[m]) for m in plan.models),
        "nodes": nodes,
    }  # fmt: skip


def _nodes(plan: Plan, profile: Profile, cost: Cost) -> Iterator[tuple[str, NodeCost]]:
    assert plan.prefixes is not None
    per_token = cost.decode_steps / cost.decode_tokens if cost.decode_tokens else 0.0
    for leaf in plan.prefixes.leaves:
        node = leaf.call
        seconds = work_seconds(
            profile.costs[node.model], leaf.computed, leaf.merged / max(1, leaf.calls),
            leaf.calls * profile.length(node), profile.length(node), per_token,
        )  # fmt: skip
        yield leaf.name, NodeCost(
            leaf.calls, round(leaf.asked), round(leaf.computed),
            leaf.calls * node.sampling.max_tokens, seconds,
        )  # fmt: skip


def shared_out(
    stats: Mapping[str, Any], work: Mapping[str, Mapping[str, float]], costs: Mapping[str, Costs],
    models: Mapping[str, str],
) -> dict[str, float]:  # fmt: skip
    """Engine seconds of every LLM node that ran: those measured for its model, shared out by what
    the costs make of each node's tokens. `models` says which model a node called."""
    weights: dict[str, float] = {}
    for name, node in stats["nodes"].items():
        model = models.get(name, "")
        made = node["calls"] - node.get("merged", 0)
        if model not in work or model not in costs or made < 1:
            continue
        done = work[model]
        weights[name] = work_seconds(
            costs[model], node["prompt_tokens"] - node["cached_tokens"],
            node["prompt_tokens"] / made, node["completion_tokens"],
            node["completion_tokens"] / made, done["steps"] / max(1, done["generated_tokens"]),
        )  # fmt: skip
    found: dict[str, float] = {}
    for model, done in work.items():
        mine = {name: w for name, w in weights.items() if models[name] == model}
        whole = sum(mine.values()) or 1.0
        found |= {name: done["step_seconds"] * w / whole for name, w in mine.items()}
    return found


def _models(plan: Plan) -> dict[str, str]:
    """Which model each LLM node calls, by the node's name."""
    nodes = (pair for part in plan.parts for pair in named_nodes(part.workflow))
    return {name: node.model for name, node in nodes if isinstance(node, LLMCall)}


def _measured(costs: Costs) -> bool:
    return bool(getattr(costs, "matmul_peak", 0.0))
