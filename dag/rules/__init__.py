"""Rules: rewrites of a plan that keep its results. One module per rule, named like the rule.

A rule takes a plan and returns one that
- gives the same rows, in less time or memory, or knows more about how it will run;
- has the same inputs, outputs and side effects;
- is checked by `verify` before the next rule sees it.
To write one: a module here, an entry with its reason below, a fixture in `tests/dag/rules/`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from .fold_constants import fold_constants
from .hoist_tools import hoist_tools
from .merge_calls import merge_calls
from .order_rows import order_rows
from .prune_unused import prune_unused
from .reorder_parts import reorder_parts
from .share_prefixes import share_prefixes
from .split_prefill import split_prefill

if TYPE_CHECKING:
    from ..logical import Plan

Rule = Callable[["Plan"], "Plan"]

RULES: tuple[Rule, ...] = (
    # First: what is known makes branches go away, and with them what only they needed.
    fold_constants,
    # Before anything is counted: what is never used is no work.
    prune_unused,
    # Changes prompts, so before anything is found in them or compared.
    reorder_parts,
    # Marks prompts, whose parts have their order by now, and goes before the rules that keep nodes
    # in what they find.
    split_prefill,
    # Marks tools, for the same reason here, and behind fold_constants: a value that is known by now
    # need not be waited for.
    hoist_tools,
    # Needs the final nodes. Fewer calls also means fewer prompts to compare.
    merge_calls,
    # Looks at the prompts that are left, and at the numbers of their values.
    share_prefixes,
    # Last: it follows the prefix tree.
    order_rows,
)

BODY_RULES: tuple[Rule, ...] = (
    # For a workflow that comes into being while a batch runs, for one row. Its calls begin as soon
    # as what they need is there, only if they are asked for, and equal ones are found on the way:
    # nothing is left to fold, prune, hoist, merge or order.
    split_prefill,
)
