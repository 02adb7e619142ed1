"""Operators and workflows that several tests of runs put together."""

from __future__ import annotations

from pydantic import BaseModel

import plait
from plait import llm, tool, workflow


class Facts(BaseModel):
    names: list[str]


@llm
def draft(topic: str) -> str:
    return f"about {topic}"


@llm
def extend(text: str) -> str:
    return text + "."


@llm
def extract(text: str) -> Facts:
    return plait.prompt(plait.system("List names"), plait.user(text))


@tool(effect="pure")
async def upper(word: str) -> str:
    if word == "boom":
        raise ValueError("no boom")
    return word.upper()


@tool(effect="pure")
def words(text: str) -> list[str]:
    return text.split()


@tool(effect="pure")
def is_short(text: str) -> bool:
    return len(text) < 10


@llm(model="small", max_tokens=4)
def sketch(who: str, topic: str) -> str:
    return plait.prompt(plait.system(f"You are {who}."), plait.user(topic))


@llm(model="big", max_tokens=4)
def refine(text: str) -> str:
    return f"refine {text}"


@workflow
def pair(who: str, topic: str) -> str:
    return refine(sketch(who, topic))
