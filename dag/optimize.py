"""Applying rules to a plan, each checked before the next."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import replace

from .errors import ConfigError, EngineError, PlaitError, WorkflowError, first_line, meant
from .logical import Plan
from .rules import RULES, Rule
from .verify import Malformed, verify, verify_same

Observer = Callable[[Rule, Plan, Plan], None]
"""(rule, plan before, plan after): one hook for explain, logging and tests."""


def unobserved(rule: Rule, before: Plan, after: Plan) -> None:
    """The observer that does nothing."""


def optimize(
    plan: Plan,
    rules: Sequence[Rule] = RULES,
    *,
    disable: Collection[str] = (),
    observe: Observer = unobserved,
) -> Plan:
    """The plan after the rules, without those whose names are in `disable`.

    Raises ConfigError for an unknown name, WorkflowError for a plan that is malformed to begin
    with, and EngineError naming the rule that broke it or that raised, which is its cause.
    """
    check_names(disable, rules)
    try:
        verify(plan)
    except Malformed as error:
        raise WorkflowError(f"the workflow cannot be planned: {error}") from error
    for rule in rules:
        if rule.__name__ in disable:
            continue
        rewritten = _applied(rule, plan)
        try:
            verify(rewritten, plan)
            verify_same(plan, rewritten)
        except Malformed as error:
            raise EngineError(f"rule {rule.__name__!r} broke the plan: {error}") from error
        observe(rule, plan, rewritten)
        plan = replace(rewritten, rules=(*rewritten.rules, rule.__name__))
    return plan


def _applied(rule: Rule, plan: Plan) -> Plan:
    """What a rule makes of a plan; what it raises is a fault of its own."""
    try:
        return rule(plan)
    except PlaitError:
        raise
    except Exception as error:
        kind, text = type(error).__name__, first_line(error)
        what = kind if text == kind else f"{kind}: {text}"
        raise EngineError(f"rule {rule.__name__!r} failed: {what}") from error


def check_names(
    names: Collection[str], rules: Sequence[Rule] = RULES, further: Sequence[str] = ()
) -> None:
    """Raise ConfigError for a name that no rule has; `further` names are known as well."""
    known = [*(rule.__name__ for rule in rules), *further]
    for name in names:
        if name not in known:
            near = meant(name, known)
            hint = f"; did you mean {near!r}?" if near else ""
            raise ConfigError(f"there is no rule {name!r}: known are {', '.join(known)}{hint}")
