"""Operators that the tests of this room share."""

from __future__ import annotations

from pydantic import BaseModel

import plait
from plait import system, tool, user


class Facts(BaseModel):
    names: list[str]
    year: int


@plait.llm(max_tokens=64)
def draft(topic: str) -> str:
    return plait.prompt(system("You write short notes."), user(f"Write about {topic}."))


@plait.llm(max_tokens=128)
def extract(text: str) -> Facts:
    return plait.prompt(system("List the names as JSON."), user(text))


@plait.llm(temperature=0.7, model="big")
def review(text: str, found: list[str]) -> str:
    return f"Rewrite {text} using {found}"  # the body is a prompt


@tool(effect="pure")
def lookup(name: str) -> str:
    """Look a name up."""
    return name


@tool(effect="pure")
def good(text: str) -> bool:
    return bool(text)


@tool(effect="read")
def search(query: str, limit: int = 5) -> list[str]:
    """Search the archive."""
    return [query] * limit


@tool
def send(text: str) -> str:
    """Send a text to someone."""
    return text


@plait.agent(tools=[lookup, search], max_turns=4)
def solve(question: str) -> str:
    return f"Solve {question}"


TOOLS = {op.name: op for op in (lookup, good, search, send)}
