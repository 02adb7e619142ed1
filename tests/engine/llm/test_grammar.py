"""Constrained output: met and checked, or a typed error for its own request."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch

from plait.dag.errors import EngineError, GenerationError, PromptError
from plait.dag.sampling import Sampling
from plait.engine.generation import Generation
from plait.engine.llm import LLM
from plait.engine.llm.grammar import KEPT, Grammar, Grammars
from plait.engine.llm.schema import Schema, written

pytest.importorskip("llguidance")

Build = Callable[..., LLM]
DIGIT = {
    "type": "object",
    "properties": {"n": {"type": "integer", "maximum": 9, "minimum": 0}},
    "required": ["n"],
    "additionalProperties": False,
}
UNSATISFIABLE: list[Any] = [
    {"type": "integer", "minimum": 5, "maximum": 1},
    {"enum": []},
    {"allOf": [{"type": "string"}, {"type": "integer"}]},
    {"allOf": [{"minimum": 5}, {"maximum": 1}], "type": "integer"},
    {"type": "string", "minLength": 5, "maxLength": 2},
    {"type": "array", "minItems": 3, "maxItems": 1, "items": {"type": "null"}},
    {"type": "object", "required": ["a"], "properties": {"a": False}},
    {"const": 1, "type": "string"},
    {"$ref": "#"},
]
INVALID: list[Any] = [
    {"type": "nonsense"},
    {"type": "integer", "minimum": "five"},
    {"type": "object", "required": "n"},
    {"type": "string", "pattern": "(["},
    {"$ref": "#/nowhere"},
    {"$ref": "http://localhost:9/schema"},
    {"type": "number", "minimum": float("nan")},
    {"type": "number", "minimum": object()},
    {"not": {"type": "string"}},
]


@pytest.fixture
def llm(engine: Build) -> LLM:
    return engine("bytes")


async def one(llm: LLM, sampling: Sampling, prompt: str = "pick") -> Generation:
    return (await llm.generate(llm.encode(prompt), sampling))[0]


async def test_constraints_shape_the_text(llm: LLM) -> None:
    choice = await one(llm, Sampling(max_tokens=40, choice=("red", "green.")))
    assert choice.text in ("red", "green.")
    digits = Sampling(max_tokens=40, regex="[0-9]{3}-[a-f]{2}", temperature=1.0)
    assert (await one(llm, digits)).text[3] == "-"
    assert (await one(llm, Sampling(max_tokens=4, regex="a?b?"))).text in ("", "a", "b", "ab")
    answer = await one(llm, Sampling(max_tokens=120, json_schema=DIGIT))
    assert json.loads(answer.text)["n"] in range(10)


@pytest.mark.parametrize("schema", [*UNSATISFIABLE, *INVALID])
async def test_a_schema_that_cannot_be_met_fails_its_request_only(llm: LLM, schema: Any) -> None:
    bad, good = await asyncio.gather(
        llm.generate([3, 4], Sampling(max_tokens=9, json_schema=schema)),
        llm.generate([3, 4], Sampling(max_tokens=3, ignore_eos=True)),
        return_exceptions=True,
    )
    assert isinstance(bad, PromptError) and ("schema" in str(bad) or "constraint" in str(bad))
    assert isinstance(good, list) and good[0].usage.completion_tokens == 3


async def test_a_regex_that_is_none_is_refused(llm: LLM) -> None:
    with pytest.raises(PromptError, match="constraint .*look-around.* not supported"):
        await one(llm, Sampling(regex="(?=a)b"))


@pytest.mark.parametrize("regex", [r"[^\s\S]", r"a[^\s\S]b", r"(x|yy)[^\s\S]"])
async def test_a_regex_that_no_text_matches_is_refused(llm: LLM, regex: str) -> None:
    with pytest.raises(PromptError, match="cannot be met"):
        await one(llm, Sampling(max_tokens=9, regex=regex))


async def test_a_text_where_the_matcher_gave_up_is_no_answer(
    llm: LLM, monkeypatch: pytest.MonkeyPatch
) -> None:
    """llguidance stops at an error, and then allows nothing but the end."""
    real = Grammar.allowed
    steps = iter(range(100))

    def allowed(self: Grammar) -> torch.Tensor:
        if next(steps) == 2:
            self._matcher.consume_token(3)  # a control character: refused, and it has given up
            assert self._matcher.is_stopped()
        return real(self)

    await one(llm, Sampling(max_tokens=9, regex="[a-f]{9}"))
    monkeypatch.setattr(Grammar, "allowed", allowed)
    with pytest.raises(GenerationError, match="cannot be met"):
        await one(llm, Sampling(max_tokens=20, regex="[a-f]{9}"))


@pytest.mark.parametrize(
    "more", [{"max_tokens": 3}, {"max_tokens": 120, "stop": ("n",)}, {"max_tokens": 1}]
)
async def test_json_that_is_cut_off_is_an_error(llm: LLM, more: dict[str, Any]) -> None:
    """By max_tokens and by a stop string alike."""
    with pytest.raises(GenerationError, match="ended before|not JSON"):
        await one(llm, Sampling(json_schema=DIGIT, **more))
    assert llm.counters().held_pages == 0 and llm.counters().failed == 1


@pytest.mark.parametrize(
    "more",
    [
        {"max_tokens": 2},
        {"max_tokens": 1, "stop": ("c",)},
        {"max_tokens": 40, "stop": ("c",)},
        {"max_tokens": 40, "stop_token_ids": (ord("c") - 30,)},
    ],
)
@pytest.mark.parametrize("regex", ["abcd", "ab(cd)+"])
async def test_a_text_that_is_cut_off_before_it_matches_is_an_error(
    llm: LLM, regex: str, more: dict[str, Any]
) -> None:
    assert llm.decode([ord("c") - 30]) == "c"
    with pytest.raises(GenerationError, match="ended before"):
        await one(llm, Sampling(regex=regex, **more))
    assert llm.counters().held_pages == 0 and llm.counters().failed == 1


async def test_a_text_that_is_cut_off_where_it_matches_is_an_answer(llm: LLM) -> None:
    with pytest.raises(GenerationError, match="a stop ended it"):
        await one(llm, Sampling(max_tokens=40, regex="ab, x", stop=(", x",)))
    answer = await one(llm, Sampling(max_tokens=40, regex="ab(, x)?", stop=(", x",)))
    assert answer.text == "ab"


async def test_what_can_never_end_is_cut_off(llm: LLM) -> None:
    endless = {"type": "array", "items": {"$ref": "#"}, "minItems": 1}
    with pytest.raises(GenerationError, match="ended before"):
        await one(llm, Sampling(max_tokens=60, json_schema=endless))


async def test_the_text_is_validated_whatever_the_grammar_lets_through(
    llm: LLM, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Schema, "__init__", _laxly(Schema.__init__))
    with pytest.raises(GenerationError, match=r"not of its schema at \$.n: 'x' is not of type"):
        await one(llm, Sampling(max_tokens=60, json_schema=DIGIT))


def _laxly(real: Any) -> Any:
    """A schema whose grammar asks for something else than its rules."""

    def init(self: Schema, text: str) -> None:
        real(self, text)
        self.text = json.dumps({**DIGIT, "properties": {"n": {"const": "x"}}})

    return init


async def test_a_grammar_that_leads_nowhere_fails_its_request_only(
    llm: LLM, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = Grammar.allowed
    steps = iter(range(100))

    def allowed(self: Grammar) -> torch.Tensor:
        if next(steps) == 3:
            self._matcher = Nothing()
        return real(self)

    await one(llm, Sampling(max_tokens=9, choice=("warm", "up")))
    monkeypatch.setattr(Grammar, "allowed", allowed)
    bad, good = await asyncio.gather(
        llm.generate([5, 6], Sampling(max_tokens=60, json_schema=DIGIT, temperature=1.0)),
        llm.generate([3, 4], Sampling(max_tokens=30, ignore_eos=True)),
        return_exceptions=True,
    )
    assert isinstance(bad, GenerationError) and "cannot be met" in str(bad)
    assert isinstance(good, list) and good[0].usage.completion_tokens == 30


class Nothing:
    """A matcher that allows no token."""

    def compute_bitmask(self) -> bytes:
        return bytes(64)


async def test_a_matcher_that_breaks_fails_its_request_only(
    llm: LLM, monkeypatch: pytest.MonkeyPatch
) -> None:
    def accept(self: Grammar, token: int) -> None:
        raise RuntimeError("out of fuel")

    monkeypatch.setattr(Grammar, "accept", accept)
    bad, good = await asyncio.gather(
        llm.generate([5, 6], Sampling(max_tokens=60, json_schema=DIGIT)),
        llm.generate([3, 4], Sampling(max_tokens=30, ignore_eos=True)),
        return_exceptions=True,
    )
    assert isinstance(bad, EngineError) and "out of fuel" in str(bad)
    assert isinstance(good, list) and good[0].usage.completion_tokens == 30


async def test_one_constraint_serves_many_requests_at_once(llm: LLM) -> None:
    hot = Sampling(max_tokens=120, json_schema=DIGIT, temperature=1.0, n=6)
    many = await llm.generate([5, 6], hot, seed=1)
    again = [await llm.generate([5, 6], hot, seed=1)][0]
    assert [g.text for g in many] == [g.text for g in again]
    assert all(json.loads(g.text)["n"] in range(10) for g in many)


@pytest.mark.parametrize(
    ("schema", "text", "words"),
    [
        ({"type": "integer"}, "3", None),
        ({"type": "number", "multipleOf": 0.1}, "0.3", None),
        ({"type": "number", "multipleOf": 0.1}, "0.35", "multiple"),
        ({"type": "array", "items": {"enum": ["a"]}}, '["a", "b"]', r"at \$\[1\]"),
        ({"type": "integer"}, "", "not JSON"),
        ({"type": "integer"}, "3 4", "not JSON"),
        ({"$ref": "#/$defs/x", "$defs": {"x": {"type": "null"}}}, "null", None),
        ({}, "[" * 100_000 + "]" * 100_000, "not JSON"),
    ],
)
def test_texts_and_schemas(schema: dict[str, Any], text: str, words: str | None) -> None:
    rules = Schema(written(schema))
    if words is None:
        rules.check(text)
    else:
        with pytest.raises(GenerationError, match=words):
            rules.check(text)


@pytest.fixture
def without_jsonschema(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    import builtins

    real = builtins.__import__

    def missing(name: str, *rest: Any) -> Any:
        if name.split(".")[0] == "jsonschema":
            raise ImportError(name)
        return real(name, *rest)

    monkeypatch.setattr(builtins, "__import__", missing)
    yield


def test_without_the_library_it_says_what_to_install(without_jsonschema: None) -> None:
    with pytest.raises(PromptError, match=r"plait\[json\]"):
        Schema('{"type": "integer"}')


async def test_a_constraint_is_compiled_once(llm: LLM, monkeypatch: pytest.MonkeyPatch) -> None:
    real, compiled = Grammars._compile, list[str | None]()

    def counted(self: Grammars, sampling: Sampling, text: str | None) -> Grammar:
        compiled.append(text)
        return real(self, sampling, text)

    monkeypatch.setattr(Grammars, "_compile", counted)
    for _ in range(3):
        await one(llm, Sampling(max_tokens=120, json_schema=dict(DIGIT)))
    assert len(compiled) == 1
    for number in range(KEPT + 1):
        await one(llm, Sampling(max_tokens=9, choice=(str(number),)))
    await one(llm, Sampling(max_tokens=120, json_schema=DIGIT))
    assert len(compiled) == 1 + KEPT + 1 + 1, "only so many are kept"
