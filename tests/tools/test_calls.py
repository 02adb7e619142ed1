"""Tool calls in a model's text, and results as text."""

import datetime as dt
import json
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel

from plait import tool
from plait.dag.nodes import ToolSpec
from plait.tools import calculator
from plait.tools.calls import MAX_CALLS, ParsedTurn, ToolRequest, parse_calls, tool_result_text


@tool(effect="pure")
def echo(text: str = "", times: int = 1) -> str:
    return text * times


TOOLS = {t.name: t.spec for t in (calculator, echo)}
ADD = '{"name": "calculator", "arguments": {"expression": "1 + 1"}}'
ADDED = ToolRequest("calculator", {"expression": "1 + 1"})


def tagged(*calls: str) -> str:
    return "".join(f"<tool_call>{call}</tool_call>" for call in calls)


@pytest.mark.parametrize(
    "text",
    [
        tagged(ADD),
        f"<tool_call>\n{ADD}\n</tool_call>",
        f"<tool_call>{ADD}",  # a stop string took the end
        f"<tool_call>{ADD}}}</tool_call>",  # a brace too many
        f"<think>maybe {tagged('{}')}</think>\n{tagged(ADD)}",
        f"  {ADD}\n",
        ADD.replace("arguments", "parameters"),
        f"[{ADD}]",
        json.dumps({"tool_calls": [{"type": "function", "function": json.loads(ADD)}]}),
        '[{"function": {"name": "calculator", "arguments": "{\\"expression\\": \\"1 + 1\\"}"}}]',
        tagged('{"name": "calculator", "arguments": "{\\"expression\\": \\"1 + 1\\"}"}'),
    ],
)
def test_forms_of_a_call(text: str) -> None:
    assert parse_calls(text, TOOLS) == ParsedTurn("", (ADDED,))


def test_text_around_calls_is_kept() -> None:
    turn = parse_calls(f"Let me see. {tagged(ADD, ADD)} Done.", TOOLS)
    assert turn == ParsedTurn("Let me see.  Done.", (ADDED, ADDED))


def test_the_closing_tag_inside_a_string() -> None:
    text = "ends with </tool_call> and <tool_call>"
    call = json.dumps({"name": "echo", "arguments": {"text": text}})
    turn = parse_calls(f"a {tagged(call, ADD)} b", TOOLS)
    assert turn == ParsedTurn("a  b", (ToolRequest("echo", {"text": text}), ADDED))


def test_a_call_without_arguments() -> None:
    assert parse_calls(tagged('{"name": "echo"}'), TOOLS).calls == (ToolRequest("echo"),)


@pytest.mark.parametrize(
    "text",
    [
        "The answer is 4.",
        "",
        '{"name": "Ann", "age": 3}',
        '{"name": "Ann", "arguments": {"a": 1}}',
        '{"name": "calculator"}',
        '[{"name": "Ann"}]',
        "[1, 2]",
        "[]",
        '{"answer": [1',
        ADD + " and more",
        "<think>" + tagged(ADD) + "</think>four",
        "[" * 100_000,
    ],
)
def test_an_answer_is_not_a_call(text: str) -> None:
    assert parse_calls(text, TOOLS) == ParsedTurn(text)


@pytest.mark.parametrize(
    ("text", "name", "problem"),
    [
        (tagged("{'name': 'x'}"), "", "the call is not JSON: Expecting property name"),
        (tagged(""), "", "the call is not JSON"),
        (tagged('{"name": "calc", "arguments": {"a": NaN}}'), "", "NaN is not JSON"),
        (tagged("[" * 100_000), "", "the call is not JSON: nested too deeply"),
        (tagged('{"name": "calculator", "arguments": {"expression": "1'), "", "not JSON"),
        (tagged("[1]"), "", "a call is"),
        (tagged("3"), "", "a call is"),
        (tagged('{"arguments": {}}'), "", "a call is"),
        (tagged('{"name": 3}'), "", "a call is"),
        (tagged('{"name": "echo", "arguments": [1]}'), "echo", "must be an object"),
        (tagged('{"name": "echo", "arguments": "x"}'), "echo", "not JSON"),
        (tagged('{"name": "rm", "arguments": {}}'), "rm", "the tools are 'calculator', 'echo'"),
        (tagged('{"name": "calculator"}'), "calculator", "misses argument 'expression'"),
        (tagged('{"name": "echo", "arguments": {"times": "x"}}'), "echo", "argument 'times'"),
        (tagged('{"name": "echo", "arguments": {"zip": 1}}'), "echo", "no argument 'zip'"),
        (tagged('{"name": "echo", "arguments": {"text": "\\ud800"}}'), "echo", "not text"),
        (tagged('{"name": "echo", "arguments": {"times": ' + "9" * 5000 + "}}"), "", "not JSON"),
        (tagged(ADD) + "x" * 1_000_001, "", "calls may have 1000000"),
    ],
    ids=range(18),
)
def test_a_bad_call_has_a_problem_and_does_not_raise(text: str, name: str, problem: str) -> None:
    (call,) = parse_calls(text, TOOLS).calls
    assert call.name == name
    assert call.problem is not None and problem in call.problem
    assert len(call.problem) < 500 and "\n" not in call.problem


def test_a_bad_call_does_not_hide_a_good_one() -> None:
    calls = parse_calls(tagged("{oops", ADD), TOOLS).calls
    assert [call.problem is None for call in calls] == [False, True]


def test_a_second_call_in_one_block_is_not_lost_silently() -> None:
    first, second = parse_calls(tagged(f"{ADD}\n{ADD}"), TOOLS).calls
    assert first == ADDED and second.problem == "one call in each <tool_call>, please"


@pytest.mark.parametrize("text", [tagged(*[ADD] * 1_000), "[" + ", ".join([ADD] * 1_000) + "]"])
def test_a_thousand_calls(text: str) -> None:
    calls = parse_calls(text, TOOLS).calls
    assert calls[:MAX_CALLS] == (ADDED,) * MAX_CALLS
    (rest,) = calls[MAX_CALLS:]
    assert rest.problem is not None and "at most 16" in rest.problem


def test_a_tool_of_another_kind_has_only_its_name_checked() -> None:
    tools = {"far": ToolSpec(name="far")}
    turn = parse_calls(tagged('{"name": "far", "arguments": {"x": 1}}'), tools)
    assert turn.calls == (ToolRequest("far", {"x": 1}),)
    assert parse_calls(ADD).calls == (ADDED,)


@pytest.mark.parametrize("bad", ["<tool_call>", '<tool_call>"', "<tool_call>[", '<tool_call>{"a":'])
def test_hostile_repetition_is_read_quickly(bad: str) -> None:
    begun = time.perf_counter()
    parse_calls(bad * (900_000 // len(bad)), TOOLS)
    assert time.perf_counter() - begun < 1


pieces = st.sampled_from(
    ["<tool_call>", "</tool_call>", ADD, "{", "}", '"', "name", "[", "]", ",", "</think>", " ", "x"]
)


@given(st.lists(pieces, max_size=30).map("".join) | st.text())
def test_any_text_can_be_parsed(text: str) -> None:
    turn = parse_calls(text, TOOLS)
    assert len(turn.calls) <= MAX_CALLS + 1
    assert turn.calls or turn.text == text


@given(st.dictionaries(st.sampled_from("abc"), st.text(st.characters(exclude_categories=["Cs"]))))
def test_what_is_written_is_read(arguments: dict[str, Any]) -> None:
    call = json.dumps({"name": "f", "arguments": arguments})
    assert parse_calls(f"so {tagged(call)}").calls == (ToolRequest("f", arguments),)


class Place(BaseModel):
    city: str


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("as it is", "as it is"),
        (48, "48"),
        (None, "null"),
        ([{"n": 1, "é": "ü"}], '[{"n": 1, "é": "ü"}]'),
        (Place(city="Bern"), '{"city": "Bern"}'),
        (dt.date(2024, 2, 3), '"2024-02-03"'),
        ({3}, "[3]"),
    ],
)
def test_results_as_text(value: Any, text: str) -> None:
    assert tool_result_text(value) == text


def test_a_long_result_is_cut_with_a_mark() -> None:
    text = tool_result_text("x" * 1_000, limit=100)
    assert text == "x" * 100 + "… [cut: 900 of 1000 characters are not shown]"
    assert tool_result_text("x" * 100, limit=100) == "x" * 100
