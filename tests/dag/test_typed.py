"""What a type checker makes of workflows: `make check` runs mypy over this file, in which every
`assert_type` must hold and every `type: ignore` must be needed."""

from __future__ import annotations

from typing import TYPE_CHECKING, assert_type

from pydantic import BaseModel

import plait
from plait import llm, prompt, system, tool, user, workflow
from plait.dag.nodes import Map
from plait.dag.workflow import as_workflow


class Facts(BaseModel):
    names: list[str]


@llm(max_tokens=64)
def draft(topic: str) -> str:
    return prompt(system("You write short factual notes."), user(f"Write about {topic}."))


@llm(max_tokens=128)
def extract(text: str) -> Facts:
    return prompt(system("List the names in the text as JSON."), user(text))


@tool(effect="pure", timeout=10, retries=2)
async def lookup(name: str) -> dict[str, str]:
    return {"name": name}


@tool(effect="read")
def dated(name: str, year: int) -> str:
    return f"{name} {year}"


@llm
def review(text: str, found: list[dict[str, str]]) -> str:
    return f"Rewrite {text} using {found}"


@workflow
def report(topic: str) -> str:
    text = draft(topic)
    found = plait.map(lookup, extract(text).names)
    if TYPE_CHECKING:
        assert_type(text, str)
        assert_type(extract(text).names, list[str])
        assert_type(found, list[dict[str, str]])
        assert_type(plait.map(dated, ["a"], year=3), list[str])
        assert_type(plait.map(report, ["a"]), list[str])
        assert_type(plait.when(text, text, lambda: text), str)
        assert_type(plait.loop(draft, text, max_iters=2), str)
        plait.map(lookup, [1, 2])  # type: ignore[arg-type]
        plait.map(dated, extract(text), year=3)  # type: ignore[arg-type]
        plait.map(lookup, text.names)  # type: ignore[attr-defined]
        draft(3)  # type: ignore[arg-type]
        draft(extract(text).nams)  # type: ignore[attr-defined]
        with plait.Engine() as engine:
            assert_type(engine.call(report, topic="bees"), str)
            assert_type(engine.call(extract, text="bees"), Facts)
    return review(text, found)


def test_what_passes_a_type_checker_is_traced_as_it_is_written() -> None:
    nodes = as_workflow(report).nodes
    assert isinstance(nodes["map_lookup"], Map)
    assert [n.operator for n in nodes.values()] == [
        "Input", "LLMCall", "LLMCall", "Project", "Map", "LLMCall"
    ]  # fmt: skip
