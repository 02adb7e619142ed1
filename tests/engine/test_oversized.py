"""Prompts that are too long are found before anything runs, in bodies of maps too."""

from __future__ import annotations

from typing import Any

import pytest

import plait
from plait import llm, workflow
from plait.dag.messages import Prompt
from plait.dag.workflow import as_workflow
from plait.engine.oversized import Oversized, Search, oversized


class Words:
    """A model whose tokens are words."""

    max_context, kv_tokens = 21, 11

    def encode(self, prompt: Prompt) -> list[int]:
        assert not isinstance(prompt, str)
        assert sum(len(m.content) for m in prompt) <= 64 * self.max_context
        return [0] * sum(len(m.content.split()) for m in prompt)


@llm
def draft(topic: str, style: str = "plain") -> str:
    return f"{topic} {style}"


@llm
def review(text: str, topic: str) -> str:
    return f"{text} {topic}"


@workflow
def inner(topic: str, hint: str) -> str:
    return review(draft(topic), hint)


def words(number: int) -> str:
    return "word " * number


def found(target: Any, *rows: dict[str, Any]) -> list[Oversized]:
    return oversized(as_workflow(target), rows, {"default": Words()})


def test_the_longest_prompt_of_a_call_is_named_with_its_row() -> None:
    rows = [{"topic": words(n), "style": ""} for n in (10, 11, 14)]
    (one,) = found(draft, *rows)
    assert (one.node, one.row, one.tokens, one.room, one.rows) == ("draft", 2, 14, 10, 2)
    assert one.limit == "KV memory"


def test_more_memory_is_not_asked_for_where_it_would_not_help() -> None:
    (one,) = found(draft, {"topic": words(Words().max_context), "style": ""})
    assert (one.room, one.limit) == (Words().max_context - 1, "context")
    assert "shorten it" in str(one)


def test_a_text_that_is_refused_for_its_characters_is_not_tokenized(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(Words, "encode", lambda *_: pytest.fail("it was tokenized"))
    (one,) = found(draft, {"topic": words(300_000), "style": ""})
    characters = 300_000 * len("word ")
    assert 10 < one.tokens == characters // 64 < 300_000


def test_a_search_ends_within_a_row_when_it_has_read_enough() -> None:
    @workflow
    def flow(topics: list[str], style: str) -> list[str]:
        return plait.map(draft, topics, style=style)

    search = Search(as_workflow(flow), {"default": Words()}, characters=1_200)
    search.look(0, {"topics": ["a"] * 5, "style": "b"})
    assert not search.over and not search.found
    search.look(1, {"topics": ["a", words(12), "a", words(15)], "style": words(40)})
    (one,) = search.found
    assert search.over and one.row == 1 and one.tokens == 52, "the longest was not read any more"


def test_bodies_of_maps_over_known_lists_are_looked_at() -> None:
    @workflow
    def flow(given: dict[str, list[str]], hint: str) -> list[str]:
        return plait.map(inner, given["topics"], hint=hint)

    rows = [
        {"given": {"topics": ["a", words(12), words(15)]}, "hint": "b"},
        {"given": {"topics": ["a"]}, "hint": words(13)},
    ]
    one, two = found(flow, *rows)
    assert (one.node, one.row, one.tokens, one.rows) == ("map_inner/draft", 0, 16, 1)
    # What it reviews is not known: the hint alone is too long.
    assert (two.node, two.row, two.tokens, two.rows) == ("map_inner/review", 1, 13, 1)


def test_what_no_row_knows_is_not_guessed() -> None:
    @workflow
    def flow(topics: list[str]) -> list[str]:
        texts = plait.map(draft, topics)
        return plait.map(inner, texts, hint=texts[0])

    bad: list[dict[str, Any]] = [{"topics": [1]}, {"topics": words(30)}, {}]
    assert found(flow, {"topics": ["a", "b"]}, *bad) == []
    (one,) = found(flow, *bad, {"topics": [words(10)]})
    assert (one.node, one.tokens) == ("map_draft/draft", 11)
