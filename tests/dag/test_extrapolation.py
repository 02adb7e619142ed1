"""What some rows come to says what all rows come to, node by node."""

from __future__ import annotations

from typing import Any

import pytest

import plait
from plait import llm, tool, user, workflow
from plait.dag.extrapolation import extrapolated
from plait.dag.plan import make_plan
from plait.dag.pricing import cost_of
from plait.dag.profile import Profile
from plait.dag.rehearsed import Rehearsed, Tasks
from plait.dag.serving import Used
from plait.dag.workflow import as_workflow

from .test_cost import Flat

PROFILE = Profile({"default": Flat()}, loaded=frozenset({"default"}))


@llm(max_tokens=10)
def ask(text: str) -> str:
    return f"{text}"


@llm(max_tokens=10)
def names(text: str) -> list[str]:
    return plait.prompt(user(f"Names in {text}"))


@tool(effect="pure")
def look(text: str) -> str:
    return text


@workflow
def mapped(text: str, many: list[str]) -> Any:
    return [plait.map(ask, many), plait.map(look, names(text)), plait.loop(ask, text, max_iters=2)]


def rows(count: int) -> list[dict[str, Any]]:
    return [{"text": f"text {i % 2}", "many": [f"{i}", "same", "other"]} for i in range(count)]


def grown(found: Rehearsed, target: Any, part: int, whole: int, disable: Any = ()) -> Rehearsed:
    plan, some = (make_plan(as_workflow(target), rows(n), disable=disable) for n in (whole, part))
    return extrapolated(found, plan, some, cost_of(plan, PROFILE), cost_of(some, PROFILE))


def test_nodes_in_bodies_grow_with_their_items_or_with_the_node_around_them() -> None:
    found = Rehearsed(rows=2, seconds=1.0)
    found.nodes = {
        "map_ask/ask": Tasks(calls=6, merged=2, prompt=40, computed=40, generated=40),
        "map_look/look": Tasks(calls=8, merged=0, seconds=8.0),
        "loop_ask": Tasks(calls=4, merged=0, prompt=40, computed=40, generated=40),
        "unheard_of": Tasks(calls=4, merged=1),
    }
    nodes = grown(found, mapped, 2, 8).nodes
    assert {name: (t.calls, t.calls - t.merged) for name, t in nodes.items()} == {
        "map_ask/ask": (24, 10),  # 8 of their own, and two that all rows have
        "map_look/look": (32, 8),  # of lists that only two texts give
        "loop_ask": (16, 4),
        "unheard_of": (16, 12),
    }
    assert nodes["map_ask/ask"].generated == 100 and nodes["map_look/look"].seconds == 8.0
    apart = grown(found, mapped, 2, 8, ["merge_calls"]).nodes["map_ask/ask"]
    assert (apart.calls, apart.calls - apart.merged, apart.generated) == (24, 16, 160)


def test_what_computes_takes_its_time_and_waiting_is_what_is_left() -> None:
    used = Used(steps=20, decode_tokens=40, prefill_tokens=40, prefill_seconds=1, decode_seconds=1)
    found = Rehearsed(
        rows=4, seconds=10.0, used={"default": used}, busy={0: 2.0}, waited=8.0,
        nodes={"names": Tasks(calls=4, prompt=40, computed=40, generated=40)},
    )  # fmt: skip
    same = grown(found, mapped, 4, 4)
    assert same.used == found.used and same.busy == found.busy and same.seconds == 10.0
    more = grown(found, mapped, 4, 400, ["merge_calls"])
    assert more.used["default"].decode_tokens == 4_000
    assert more.seconds >= more.busy[0] > 50 and more.waited <= more.seconds - more.busy[0]
    assert more.used["default"].prefill_seconds == pytest.approx(
        more.used["default"].prefill_tokens / 40, rel=0.01
    )
