"""From a rehearsal of some rows to what it would have found for all of them.

Every number grows in its own way: what is asked for with the rows, calls that repeat hardly at all,
seconds as whatever bounds the batch. How much, is said by the plans of all rows and of those that
were rehearsed, and by what the costs of both sum up to.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

from .cost import Cost
from .names import counted_name
from .nodes import Loop, Map, Workflow
from .numbering import Numbered
from .rehearsed import Rehearsed, Tasks
from .serving import Used

if TYPE_CHECKING:
    from .logical import Plan
    from .prefixes import LeafCost


def extrapolated(found: Rehearsed, plan: Plan, part: Plan, whole: Cost, some: Cost) -> Rehearsed:
    """What was found for the rows of `part`, as it would be for those of `plan`. `whole` and `some`
    are their costs without a rehearsal."""
    rows = plan.rows / part.rows
    nodes = _nodes(found, plan, part)
    before, after = found.nodes.values(), nodes.values()
    computed = _ratio(sum(t.computed for t in after), sum(t.computed for t in before), rows)
    generated = _ratio(sum(t.generated for t in after), sum(t.generated for t in before), rows)
    decode = _ratio(whole.decode_seconds, some.decode_seconds, rows)
    steps = _ratio(whole.decode_steps, some.decode_steps, rows)
    used = {
        alias: replace(
            u, steps=round(u.steps * steps), prefill_tokens=round(u.prefill_tokens * computed),
            decode_tokens=round(u.decode_tokens * generated),
            prefill_seconds=u.prefill_seconds * computed, decode_seconds=u.decode_seconds * decode,
            read_tokens=u.read_tokens * generated, page_seconds=u.page_seconds * generated,
            evicted_tokens=round(u.evicted_tokens * computed),
            offloaded_tokens=round(u.offloaded_tokens * computed),
            restored_tokens=round(u.restored_tokens * computed),
            offload_seconds=u.offload_seconds * computed,
            restore_seconds=u.restore_seconds * computed, failed=round(u.failed * rows),
        )
        for alias, u in found.used.items()
    }  # fmt: skip
    work = _ratio(_work(used), _work(found.used), rows)
    # Sums know of no rows that wait for others to end; without a model there is nothing else.
    longer = rows
    if some.decode_tokens:
        longer = _ratio(whole.seconds - whole.load_seconds, some.seconds - some.load_seconds, rows)
    load = max(found.loading.values(), default=0.0)
    busy = {number: seconds * work for number, seconds in found.busy.items()}
    least = max((s + found.loading.get(n, 0.0) for n, s in busy.items()), default=0.0)
    seconds = max(least, load + (found.seconds - load) * longer)
    waited = min(found.waited * longer, seconds - least)
    return replace(found, seconds=seconds, nodes=nodes, used=used, busy=busy, waited=waited)


def _work(used: Mapping[str, Used]) -> float:
    return sum(u.prefill_seconds + u.decode_seconds for u in used.values())


def _nodes(found: Rehearsed, plan: Plan, part: Plan) -> dict[str, Tasks]:
    """What every node comes to. Calls are as many more as the plans say, and those that are made as
    many more as there are different ones."""
    rows = plan.rows / part.rows
    (asked, made), (fewer_asked, fewer_made) = _tasks(plan), _tasks(part)
    leaves, fewer_leaves = _leaves(plan), _leaves(part)
    nodes = {}
    for name, tasks in found.nodes.items():
        calls = round(tasks.calls * _ratio(asked[name], fewer_asked[name], rows))
        more = _ratio(made[name], fewer_made[name], rows)
        prompt, computed = tasks.prompt * more, tasks.computed * more
        if name in leaves and name in fewer_leaves and fewer_leaves[name].merged:
            leaf, fewer = leaves[name], fewer_leaves[name]
            real = tasks.prompt / fewer.merged  # tokens for each that the plan counts
            # Caches share whole pages: every call computes a few more tokens than those not shared.
            beyond = tasks.computed - fewer.computed * real
            prompt = leaf.merged * real
            computed = max(0.0, leaf.computed * real + beyond * more)
        nodes[name] = Tasks(
            calls, calls - round((tasks.calls - tasks.merged) * more),
            round(prompt), round(computed), round(tasks.generated * more), tasks.seconds * more,
        )  # fmt: skip
    return nodes


def _tasks(plan: Plan) -> tuple[Counter[str], Counter[str]]:
    """By the name of a node: its tasks, and the different ones among them if equal ones merge."""
    asked: Counter[str] = Counter()
    made: Counter[str] = Counter()
    for part in plan.parts:
        merging = part.classes is not None
        own = (part.rows, part.rows)
        for name, (tasks, different) in _counted(part.workflow, part.numbered, (), own):
            asked[name] += tasks
            made[name] += different if merging else tasks
    return asked, made


def _counted(
    workflow: Workflow, numbered: Numbered | None, way: tuple[str, ...], outside: tuple[int, int]
) -> Iterator[tuple[str, tuple[int, int]]]:
    """Every node with its tasks and the different ones; in a body that runs nobody knows how often,
    those of the node whose body it is."""
    for node in workflow.nodes.values():
        column = numbered.columns.get(node.id) if numbered is not None else None
        own = outside if column is None else (len(column), len(set(column)))
        yield counted_name(way, node.id), own
        if isinstance(node, Map | Loop):
            body = numbered.bodies.get(node.id) if numbered is not None else None
            yield from _counted(node.body, body, (*way, node.id), own)
        if isinstance(node, Loop) and node.until is not None:
            yield from _counted(node.until, None, (*way, node.id, "until"), own)


def _leaves(plan: Plan) -> dict[str, LeafCost]:
    """Prompt tokens of LLM nodes, by name."""
    leaves = plan.prefixes.leaves if plan.prefixes is not None else ()
    return {leaf.name: leaf for leaf in leaves}


def _ratio(whole: float, part: float, otherwise: float) -> float:
    return whole / part if part else otherwise
