"""Prompt capture: exact over generated bodies, and a clear refusal for bodies that look."""

from __future__ import annotations

import json
import textwrap
import unicodedata
from collections.abc import Callable
from typing import Any, Literal

import pytest
from hypothesis import HealthCheck, given, settings

import plait
from plait import Message, WorkflowError, system, user
from plait.dag.capture import capture

from .bodies import TYPES, Facts, arguments, body_from, prompt_expression


@settings(max_examples=250, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(prompt_expression, arguments)
def test_rendering_a_captured_template_gives_what_the_body_returns(
    expression: str, values: dict[str, Any]
) -> None:
    body = body_from(expression)
    template = capture("body", body, TYPES)
    expected = body(**values)
    if isinstance(expected, Message):
        expected = [expected]
    assert template.render(values) == expected


def test_the_static_prefix_is_the_text_before_the_first_slot() -> None:
    def body(topic: str) -> Any:
        return [system("Be brief."), user(f"Write about {topic}, please.")]

    template = capture("body", body, {"topic": str})
    assert template.static_prefix() == "Be brief.Write about "
    assert [str(slot) for slot in template.slots()] == ["{topic}"]


def _looks(line: str) -> Callable[..., Any]:
    scope: dict[str, Any] = {"json": json, "textwrap": textwrap, "user": user}
    exec(f"def body(text, n, facts, items, free):\n    {line}\n    return 'x'", scope)
    return scope["body"]  # type: ignore[no-any-return]


LOOKS = {
    "if text: pass": "text", "if len(text) > 9: pass": "text", "if n > 3: pass": "n",
    "n + 1": "n", "for item in items: pass": "items", "len(items)": "items",
    "text.upper()": "text", "text[0]": "text", "text == 'a'": "text", "'a' in text": "text",
    "facts.model_dump_json()": "facts", "if facts.tags: pass": "facts.tags",
    "facts.name.strip()": "facts.name", "int(text)": "text", "float(n)": "n",
    "{'a': 1}.get(text)": "text", "free or 'none'": "free", "free.upper()": "free.upper",
    "items[0].split()": "items[0]", "f'{text:>{n}}'": "text", "', '.join(items)": "items",
    "round(n, 2)": "n", "-n": "n", "items[1:]": "items", "text * 2": "text",
}  # fmt: skip


@pytest.mark.parametrize("line", LOOKS)
def test_a_body_that_looks_at_a_value_is_refused_with_the_argument_and_the_line(line: str) -> None:
    types = {"text": str, "n": int, "facts": Facts, "items": list[str], "free": Any}
    with pytest.raises(WorkflowError) as caught:
        capture("body", _looks(line), types)
    problem = caught.value.problems[0]
    assert f"argument {LOOKS[line]!r} of 'body'" in problem.message
    assert problem.line == 2
    assert "dynamic=True" in (problem.hint or "")


CHANGES = {
    "upper of the finished text": lambda text: f"Say {text}".upper(),
    "a slice of it": lambda text: f"Say {text}"[:20],
    "its last part": lambda text: f"Say {text}"[-3:],
    "stripped": lambda text: f"Say {text}".strip(),
    "dedented": lambda text: textwrap.dedent(f"    Say {text}"),
    "split and joined": lambda text: " ".join(f"Say {text}".split()),
    "replaced": lambda text: f"Say {text}".replace("a", "b"),
    "dumped": lambda text: json.dumps({"text": text}),
    "encoded": lambda text: str(f"Say {text}".encode()),
    "ascii": lambda text: f"Say {text!a}",
    "padded by %": lambda text: "Say %20s" % text,  # noqa: UP031
    "cut by %": lambda text: "Say %.3s" % text,  # noqa: UP031
    "centred": lambda text: f"Say {text}".center(300),
    "searched": lambda text: "yes" if "x" in f"Say {text}" else "no",
    "compared": lambda text: "first" if f"Say {text}" == "Say hello" else f"Say {text}",
    "looked up": lambda text: {"topic bees": "insects"}.get(f"topic {text}", "unknown"),
    "asked for its start": lambda text: f"{text}." if f"{text}.".startswith("Dr") else "none",
    "measured": lambda text: "long" if len(f"Say {text}") > 1000 else f"Say {text}",
    "a part of a constant": lambda text: "vowel" if text in "aeiou" else f"Say {text}",
    "normalized": lambda text: unicodedata.normalize("NFC", f"Say {text}"),
    "normalized for search": lambda text: unicodedata.normalize("NFKC", f"Say {text}"),
    "hidden in a helper": lambda text: _helper(f"Say {text}"),
}


def _helper(text: str) -> str:
    return "A secret word!" if "xyzzy" in text else text


@pytest.mark.parametrize("name", CHANGES)
def test_a_body_that_changes_or_inspects_finished_text_is_refused(name: str) -> None:
    with pytest.raises(WorkflowError) as caught:
        capture("body", CHANGES[name], {"text": str})
    assert caught.value.problems[0].line
    assert "'body'" in str(caught.value)


def test_types_a_symbol_cannot_show_are_found_by_sample_values() -> None:
    def kind(value: Any) -> str:
        return "number" if isinstance(value, int) else f"{value}"

    def absent(value: str | None) -> str:
        return "nothing" if value is None else f"{value}"

    for body, types in ((kind, {"value": int}), (absent, {"value": str | None})):
        with pytest.raises(WorkflowError, match="decides by its arguments"):
            capture("body", body, types)


def test_every_look_in_a_body_is_reported_at_once() -> None:
    def body(text: str, n: int) -> str:
        shout = text.upper()
        big = n > 3
        return f"{shout}{big}{n + 1}"

    with pytest.raises(WorkflowError) as caught:
        capture("body", body, {"text": str, "n": int})
    first = body.__code__.co_firstlineno
    assert [p.line for p in caught.value.problems] == [first + 1, first + 2, first + 3]


def test_a_body_that_waits_for_a_value_ends() -> None:
    def body(text: str) -> str:
        while text != "done":
            pass
        return text

    with pytest.raises(WorkflowError, match="compares argument 'text'"):
        capture("body", body, {"text": str})


def test_texts_are_texts_to_the_body() -> None:
    def body(text: str, kind: Literal["a", "b"]) -> str:
        assert isinstance(text, str)
        return "\n".join([text, kind])

    template = capture("body", body, {"text": str, "kind": Literal["a", "b"]})
    assert template.render({"text": "t", "kind": "b"}) == "t\nb"


def test_what_has_no_template_says_why() -> None:
    calls = Message("assistant", "", tool_calls=({"name": "f", "arguments": {}},))
    bodies: dict[str, Callable[..., Any]] = {
        "returns int": lambda text: 3,
        "returns list": lambda text: [],
        "tool calls have no template": lambda text: [calls],
        "division by zero": lambda text: 1 / 0,
    }
    for reason, body in bodies.items():
        with pytest.raises(WorkflowError, match=reason):
            capture("body", body, {"text": str})


def test_the_values_of_a_dynamic_body_are_its_own_business() -> None:
    @plait.llm(dynamic=True)
    def draft(text: str) -> str:
        return text.upper() if text else "nothing"

    assert draft.prompt is draft.fn
