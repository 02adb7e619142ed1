"""Tokens in the prefix tree: what names of slots, and the order of nodes, may not change."""

from __future__ import annotations

from typing import Any

from plait import llm, workflow
from plait.dag.plan import make_plan
from plait.dag.prefixes import Prefixes
from plait.dag.workflow import WorkflowFunction


@llm(max_tokens=4)
def answer(document: str, question: str) -> str:
    return f"Text: {document} Question: {question}"


@llm(max_tokens=4)
def judge(document: str, question: str) -> str:
    return f"Text: {document} Question: {question} Is it one?"


@llm(max_tokens=4)
def judge_swapped(question: str, document: str) -> str:
    """The same words, with the names of the arguments exchanged."""
    return f"Text: {question} Question: {document} Is it one?"


@workflow
def alike(text: str, asked: str) -> list[str]:
    return [answer(text, asked), judge(text, asked)]


@workflow
def swapped(text: str, asked: str) -> list[str]:
    return [answer(text, asked), judge_swapped(text, asked)]


ROWS = [
    {"text": f"document {n % 3} " * 30, "asked": f"question {n} " * (n % 2 + 1)} for n in range(6)
]


def counted(flow: WorkflowFunction[Any, Any]) -> Prefixes:
    prefixes = make_plan(flow.workflow, ROWS).prefixes
    assert prefixes is not None
    return prefixes


def test_slots_of_other_names_are_counted_by_their_own_values() -> None:
    one, two = counted(alike), counted(swapped)
    assert two.as_dict() == one.as_dict()
    assert [g.columns for g in two.groups] == [g.columns for g in one.groups]
    tokens = [[v.tokens for v in tree.vertices()] for tree in (one, two)]
    assert tokens[0] == tokens[1]
    # Both calls of a row read the same text and the same question: once each.
    judged = next(leaf for leaf in one.leaves if leaf.name == "judge")
    assert judged.computed < judged.merged / 4
