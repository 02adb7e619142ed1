"""From rows to a plan, and from a plan to what executors follow."""

from __future__ import annotations

import asyncio
from array import array
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any

from ..dag.ahead import Ahead
from ..dag.errors import ConfigError, PlaitError
from ..dag.estimates import Estimates
from ..dag.known import NOTHING, Known
from ..dag.logical import Part, Plan
from ..dag.nodes import Workflow
from ..dag.numbering import Row
from ..dag.optimize import check_names, optimize
from ..dag.phases import moves, together
from ..dag.plan import plan_together
from ..dag.repeatable import OWN, Names
from ..dag.rules import BODY_RULES, RULES
from ..dag.rules.merge_calls import merge_calls
from ..dag.size import size_of
from ..dag.turns import SEARCHED
from .backends.backend import Backend, Places, Reads, names_of
from .backends.local import INLINE_CHARS
from .expanded import Expanded
from .liveness import Liveness
from .row import Item, RowIn
from .sharing import Sharing, reads_may_merge
from .single_flight import SingleFlight
from .texts import sample_of

SINGLE_FLIGHT, LIVENESS, TRY_ORDERS = "single_flight", "liveness", "try_orders"
"""Names by which what comes after the rules is disabled, beside the names of the rules."""
Measure = Callable[[str], float]
"""Tokens of a text."""
INLINE_ROWS = 1_000
"""Batches of more rows are planned in a thread, so that the event loop goes on."""
INLINE_CHARACTERS = 2_000_000
"""So are those with more characters in their texts: 20 ms or so are planned inline. Where some of
the texts are tokenized to plan them, `INLINE_CHARS`, as with prompts."""
INLINE_VALUES = 20_000
"""So are those with more values in them."""


def plan_for(
    batches: Sequence[tuple[Workflow, Sequence[RowIn]]], disable: Collection[str] = (),
    memory: float | None = None, known: Known = NOTHING, measure: Measure | None = None,
    names: Names = OWN,
) -> Plan:  # fmt: skip
    """One plan for workflows that run together, each with its rows as executors take them."""
    given = ((workflow, contents(rows)) for workflow, rows in batches)
    off = rules_off(True, disable)
    return plan_together(
        given, disable=off, memory=memory, known=known, measure=measure, names=names
    )


async def planned(
    batches: Sequence[tuple[Workflow, Sequence[RowIn]]], disable: Collection[str] = (),
    known: Known = NOTHING, backend: Backend | None = None,
) -> Plan:  # fmt: skip
    """The plan of `plan_for`, by the memory and the tokenizer of the models that a backend has
    loaded. The event loop goes on, but for a moment."""
    memory = kv_tokens(backend) if backend is not None else None

    def make() -> Plan:
        models = (model for workflow, _ in batches for model in workflow.models())
        held = (row for _, rows in batches for row in _contents(rows))
        measure = measure_of(backend, models, held)
        return plan_for(batches, disable, memory, known, measure, names_of(backend))

    most = INLINE_CHARS if isinstance(backend, Reads) else INLINE_CHARACTERS
    return make() if _few(batches, most) else await asyncio.to_thread(make)


def measure_of(
    backend: Backend | None, models: Iterable[str], rows: Iterable[Row | None]
) -> Measure | None:
    """Tokens of a text, by how long tokens are in texts like the rows': those of the first of these
    models that is loaded. None where none is, or the backend has no tokenizers."""
    if not isinstance(backend, Reads):
        return None
    sample = sample_of(rows)
    found = (backend.characters(model, sample) for model in models)
    per_token = next((each for each in found if each is not None), None)
    return None if per_token is None else lambda text: len(text) / per_token


def _few(batches: Sequence[tuple[Workflow, Sequence[RowIn]]], most: int) -> bool:
    """Whether rows are so few, and have so few characters in so few values, that a plan takes a
    moment."""
    if sum(len(rows) for _, rows in batches) > INLINE_ROWS:
        return False
    held = (row for _, rows in batches for row in _contents(rows) if row is not None)
    size = size_of((value for row in held for value in row.values()), INLINE_VALUES)
    return size.whole and size.characters < most


async def arranged(plan: Plan, backend: Backend, known: Estimates | None = None) -> Plan:
    """The plan with its placement, which a backend of several workers follows from now on."""
    return await backend.arrange(plan, known) if isinstance(backend, Places) else plan


def left(plan: Plan, backend: Backend) -> None:
    """The run of an arranged plan has ended."""
    if isinstance(backend, Places):
        backend.ended(plan)


def kv_tokens(backend: Backend) -> float | None:
    """Tokens that the KV memory of its loaded models holds, of several (or on several workers) the
    least."""
    told = backend.describe()
    workers: Sequence[Mapping[str, Any]] = told.get("workers", [told])
    models = (model for worker in workers for model in worker.get("loaded", {}).values())
    return min((model["kv_tokens"] for model in models if "kv_tokens" in model), default=None)


async def as_written(workflow: Workflow, rows: Sequence[RowIn]) -> Plan:
    """The plan of a run that is not planned: every call of every row, as the workflow says."""
    return await planned([(workflow, rows)], rules_off(False))


def rules_off(plan: bool, disable: Collection[str] = ()) -> list[str]:
    """Names of the rules that a run does without."""
    return [r.__name__ for r in RULES if not plan or r.__name__ in disable]


def merges(disable: Collection[str]) -> bool:
    """Whether a planned run does equal calls once: by its plan, or when their values arrive."""
    return not {merge_calls.__name__, SINGLE_FLIGHT} <= set(disable)


def planned_body(workflow: Workflow, plan: bool, disable: Collection[str]) -> Workflow:
    """A workflow that came into being while a batch runs, behind the rules that it can pass."""
    off = rules_off(plan, disable)
    rules = [rule for rule in BODY_RULES if rule.__name__ not in off]
    return optimize(Plan((Part(workflow, 1, ()),)), rules).parts[0].workflow


def first_models(*workflows: Workflow) -> tuple[str, ...]:
    """The models of workflows that run together, those that are asked first in front."""
    known = dict.fromkeys(model for workflow in workflows for model in workflow.models())
    if len(known) > 1:
        found = moves(together(Ahead(workflow).steps for workflow in workflows), searched=SEARCHED)
        known = dict.fromkeys((*(move.load for move in found), *known))
    return tuple(known)


def contents(rows: Sequence[RowIn]) -> list[Mapping[str, Any] | None]:
    """What the rows hold, None for those that cannot be read; places stay."""
    return list(_contents(rows))


def _contents(rows: Iterable[RowIn]) -> Iterator[Mapping[str, Any] | None]:
    for row in rows:
        content = row.content if isinstance(row, Item) else row
        yield None if isinstance(content, PlaitError) else content


def check_disabled(names: Collection[str], plan: bool = True) -> None:
    """Raise ConfigError for a name that neither a rule nor what comes after them has, and for any
    name where there is to be no plan."""
    if isinstance(names, str):
        hint = f"give a collection of names, such as [{names!r}]"
        raise ConfigError(f"disable={names!r} is a text: {hint}")
    check_names(names, further=(SINGLE_FLIGHT, LIVENESS, TRY_ORDERS))
    if names and not plan:
        both = f"plan=False (--no-plan) and disable={list(names)!r} (--disable)"
        raise ConfigError(f"{both} contradict: no plan has no rules")


def sharings(plan: Plan, disable: Collection[str] = ()) -> list[Sharing]:
    """What the parts of a plan share when they run, one per part."""
    flights = SingleFlight()
    reads = all(reads_may_merge(part.workflow) for part in plan.parts)
    left = array("i", plan.uses)
    found = SINGLE_FLIGHT not in disable
    liveness = Liveness(plan) if LIVENESS not in disable else None
    expanded = Expanded() if LIVENESS not in disable else None
    return [
        Sharing(
            flights,
            reads,
            part,
            left,
            found=found,
            liveness=liveness,
            number=number,
            expanded=expanded,
        )
        for number, part in enumerate(plan.parts)
    ]


def unplanned(workflow: Workflow, disable: Collection[str] = ()) -> Sharing:
    """What a run shares whose rows are not known when it begins."""
    return Sharing(SingleFlight(), reads_may_merge(workflow), found=SINGLE_FLIGHT not in disable)
