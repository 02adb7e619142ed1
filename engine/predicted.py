"""What the cost model says of a run, node by node, to be put beside what it did.

Engine seconds are counted for a whole model; a node's part is what the model's costs make of the
node's tokens, and the parts add up to the whole.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from ..dag.analyze import history
from ..dag.cost import Cost
from ..dag.estimates import Estimates
from ..dag.logical import Plan
from ..dag.names import named_nodes
from ..dag.nodes import LLMCall, Workflow
from ..dag.numbering import Row
from ..dag.pricing import cost_of
from ..dag.profile import Costs, Profile
from .backends.local import LocalBackend
from .backends.workers import Workers
from .call_work import work_seconds
from .priced import Priced, price_fitting, price_on

if TYPE_CHECKING:
    from .settings import Settings


@dataclass(frozen=True, slots=True)
class NodeCost:
    """One LLM node: what the plan expects of it."""

    calls: int
    prefill_asked: int
    prefill: int
    """Prompt tokens left to compute."""
    decode: int
    """Tokens that it generates, by what was known before."""
    seconds: float
    """Of the engine, for answers as long as they were."""


def prediction(
    plan: Plan, costs: Mapping[str, Costs], stats: Mapping[str, Any],
    work: Mapping[str, Mapping[str, float]], engines: Mapping[str, str], expected: Estimates,
    together: bool = True,
) -> dict[str, Any] | None:  # fmt: skip
    """The prediction for a plan whose models have these costs, and None when they are not known.

    `before` is the cost by what was expected when the run began: what earlier runs have shown, else
    answers as long as they may be; with loads, unless all models fit `together`. `seconds` knows
    how long answers were and how long tools took (`stats`), so what is wrong with it is wrong with
    the model of costs. Both are sums without a rehearsal, and for one device. `work` is what each
    engine was measured to do, on all devices, and `engines` says which one an alias stands for.
    """
    if plan.prefixes is None or not plan.models or not set(plan.models) <= set(costs):
        return None
    loaded = frozenset(plan.models)
    there = loaded if together else frozenset[str]()
    given = Profile(costs, loaded=there, together=together, estimates=expected)
    before = cost_of(plan, given)
    lengths, tools = history(stats, plan)
    profile = Profile(costs, loaded=loaded, lengths=lengths, tool_seconds=tools)
    after = cost_of(plan, profile)
    nodes = {name: asdict(cost) for name, cost in _nodes(plan, given, profile, after)}
    for name, seconds in shared_out(stats, work, costs, _calls(plan), engines).items():
        nodes.setdefault(name, {})["engine_seconds"] = seconds
    return {
        "before": before.as_dict(), "seconds": after.seconds, "nodes": nodes,
    }  # fmt: skip


def expectation(
    backend: Any, workflow: Workflow, rows: Collection[Row | None], known: Estimates,
    settings: Settings, plan: Plan | None = None, failed: bool = False,
) -> Priced | None:  # fmt: skip
    """What was to be expected of a batch with these settings: a rehearsal, as `plait explain` makes
    it. `known` is what was known before, `plan` what has been followed, of all rows or of those
    that an earlier start had left. Where rows have `failed`, those whose prompts are too long are
    left out.

    None where the models are not loaded any more; without a cost where they have none, and for a
    live program.
    """
    followed = plan if plan is not None and plan.rows == len(rows) else None
    workers = backend.workers if isinstance(backend, Workers) else (backend,)
    models = workflow.models()
    for worker in workers:
        if models and isinstance(worker, LocalBackend) and all(map(worker.has, models)):
            price = price_fitting if failed else price_on
            return price(
                worker, workflow, rows, known, planned=settings.plan, disable=settings.disable,
                window=settings.max_rows, devices=settings.devices,
                made={one.call.key: one for one in plan.called} if plan is not None else {},
                followed=followed,
            )  # fmt: skip
    return None


def _nodes(
    plan: Plan, given: Profile, profile: Profile, cost: Cost
) -> Iterator[tuple[str, NodeCost]]:
    assert plan.prefixes is not None
    per_token = cost.decode_steps / cost.decode_tokens if cost.decode_tokens else 0.0
    for leaf in plan.prefixes.leaves:
        node = leaf.call
        seconds = work_seconds(
            profile.costs[node.model], leaf.computed, leaf.merged / max(1, leaf.calls),
            leaf.calls * profile.generated(node), profile.serial(node), per_token, node.sampling.n,
        )  # fmt: skip
        yield leaf.name, NodeCost(
            leaf.calls, round(leaf.asked), round(leaf.computed),
            round(leaf.calls * given.generated(node)), seconds,
        )  # fmt: skip


def shared_out(
    stats: Mapping[str, Any], work: Mapping[str, Mapping[str, float]], costs: Mapping[str, Costs],
    calls: Mapping[str, LLMCall], engines: Mapping[str, str],
) -> dict[str, float]:  # fmt: skip
    """Engine seconds of every LLM node that ran: those measured for its model, shared out by what
    the costs make of each node's tokens. `calls` are the nodes of the plan, by name."""
    models = {name: engines.get(call.model, call.model) for name, call in calls.items()}
    weights: dict[str, float] = {}
    for name, node in stats["nodes"].items():
        model = models.get(name, "")
        made = node["calls"] - node.get("merged", 0)
        if model not in work or model not in costs or made < 1:
            continue
        done, n = work[model], calls[name].sampling.n
        weights[name] = work_seconds(
            costs[model], node["prompt_tokens"] - node["cached_tokens"],
            node["prompt_tokens"] / made, node["completion_tokens"],
            node["completion_tokens"] / (made * n),
            done["steps"] / max(1, done["generated_tokens"]), n,
        )  # fmt: skip
    found: dict[str, float] = {}
    for model, done in work.items():
        mine = {name: w for name, w in weights.items() if models[name] == model}
        whole = sum(mine.values()) or 1.0
        found |= {name: done["step_seconds"] * w / whole for name, w in mine.items()}
    return found


def _calls(plan: Plan) -> dict[str, LLMCall]:
    """The LLM nodes of a plan, by name."""
    nodes = (pair for part in plan.parts for pair in named_nodes(part.workflow))
    return {name: node for name, node in nodes if isinstance(node, LLMCall)}
