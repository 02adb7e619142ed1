"""Tool calls in the text that a model wrote, and tool results as text for the model to read.

Pure text work. What is wrong with a call (bad JSON, an unknown tool, wrong arguments) becomes its
`problem`, to be shown to the model, which may then do better; it does not fail the row.

Forms that are read:
    <tool_call>{"name": "add", "arguments": {"a": 1}}</tool_call>    Hermes, Qwen; several in a turn
    {"name": "add", "parameters": {"a": 1}}                          Llama; the text is nothing else
    [{"type": "function", "function": {"name": ...}}]                OpenAI; "tool_calls" around it
The last two are calls only when they name a known tool: an answer may well be JSON, too.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from pydantic_core import to_jsonable_python

from ..dag.errors import first_line, list_names
from ..dag.nodes import ToolSpec
from .tool import Tool

MAX_CALLS = 16
"""Calls in one turn; those beyond are not run, and the model is told."""
MAX_TEXT = 1_000_000
"""Characters of one turn in which calls are looked for."""
MAX_RESULT = 20_000
"""Characters of a result that a model is shown."""
OPEN, CLOSE = "<tool_call>", "</tool_call>"
_SPACE = re.compile(r"\s*")
_END_OF_THOUGHT = "</think>"


@dataclass(frozen=True, slots=True)
class ToolRequest:
    """One call a model asks for."""

    name: str
    arguments: Mapping[str, Any] = field(default_factory=dict)
    problem: str | None = None
    """What is wrong with it, in words for the model; None when it can be run."""


@dataclass(frozen=True, slots=True)
class ParsedTurn:
    """What a model said in one turn."""

    text: str
    """What it wrote besides the calls; all of it when it made none."""
    calls: tuple[ToolRequest, ...] = ()


def parse_calls(text: str, tools: Mapping[str, ToolSpec] | None = None) -> ParsedTurn:
    """The calls in a model's text, each checked against `tools` by name when these are given.

    A call is never looked for in a reasoning part (up to "</think>").
    """
    start = text.rfind(_END_OF_THOUGHT) + len(_END_OF_THOUGHT) if _END_OF_THOUGHT in text else 0
    body = text[start:]
    if len(body) > MAX_TEXT and (OPEN in body or body.lstrip()[:1] in ("{", "[")):
        problem = f"the turn has {len(body)} characters; calls may have {MAX_TEXT}"
        return ParsedTurn("", (ToolRequest("", problem=problem),))
    if OPEN in body:
        spoken, found = _tagged(body)
    else:
        spoken, found = "", _bare(body, tools)
    if not found:
        return ParsedTurn(text)
    calls = [_checked(call, tools) for call in found[:MAX_CALLS]]
    if len(found) > MAX_CALLS:
        problem = f"at most {MAX_CALLS} calls are run in one turn; the others were not run"
        calls.append(ToolRequest(found[MAX_CALLS].name, problem=problem))
    return ParsedTurn(spoken.strip(), tuple(calls))


def tool_result_text(value: Any, limit: int = MAX_RESULT) -> str:
    """A tool's result for a model to read: text as it is, anything else as JSON on one line.

    Cut at `limit` characters, with a mark that says how much is missing.
    """
    text = value if isinstance(value, str) else _json_line(value)
    if len(text) <= limit:
        return text
    return f"{text[:limit]}… [cut: {len(text) - limit} of {len(text)} characters are not shown]"


def _json_line(value: Any) -> str:
    """Spaced as chat templates write JSON, which is how models have seen it."""
    return json.dumps(to_jsonable_python(value, by_alias=False), ensure_ascii=False)


# -- finding calls -----------------------------------------------------------------------------


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


_DECODER = json.JSONDecoder(parse_constant=_refuse_constant)


def _tagged(text: str) -> tuple[str, list[ToolRequest]]:
    """Text outside the tags, and the requests inside them.

    The end of a call is where its JSON ends, since a string in it may hold the closing tag.
    """
    spoken: list[str] = []
    found: list[ToolRequest] = []
    position = 0
    while len(found) <= MAX_CALLS:
        begin = text.find(OPEN, position)
        if begin < 0:
            break
        spoken.append(text[position:begin])
        start = _SPACE.match(text, begin + len(OPEN)).end()  # type: ignore[union-attr]
        try:
            value, position = _DECODER.raw_decode(text, start)
        except (ValueError, RecursionError) as error:
            position = start
            requests = [ToolRequest("", problem=_not_json(error))]
        else:
            requests = _requests(value)
        end = _end_of_block(text, position)
        # a brace too many is a common slip; anything else after the call may be another one
        if requests[0].problem is None and text[position:end].strip(" \r\n\t}]"):
            requests.append(ToolRequest("", problem=f"one call in each {OPEN}, please"))
        found += requests
        position = end + len(CLOSE) if text.startswith(CLOSE, end) else end
    spoken.append(text[position:])
    return "".join(spoken), found


def _end_of_block(text: str, position: int) -> int:
    """Where the next tag stands; models may forget the closing one, or a stop string took it."""
    ends = (text.find(CLOSE, position), text.find(OPEN, position))
    return min((end for end in ends if end >= 0), default=len(text))


def _bare(text: str, tools: Mapping[str, ToolSpec] | None) -> list[ToolRequest]:
    """Requests of a text that is one JSON value; none unless each names a known tool."""
    stripped = text.strip()
    if stripped[:1] not in ("{", "["):
        return []
    try:
        value, end = _DECODER.raw_decode(stripped)
    except (ValueError, RecursionError):
        return []
    requests = _requests(value, strict=True) if end == len(stripped) else []
    known = all(r.problem is None and (tools is None or r.name in tools) for r in requests)
    return requests if known else []


def _requests(value: Any, strict: bool = False) -> list[ToolRequest]:
    """Requests from a decoded value in any of the forms; `strict` wants arguments to be there."""
    if isinstance(value, dict) and isinstance(value.get("tool_calls"), list):
        value = value["tool_calls"]
    if isinstance(value, list):
        items = [item for item in value if isinstance(item, dict)]
        if len(items) == len(value) > 0:
            return [_request(item, strict) for item in items[: MAX_CALLS + 1]]
    elif isinstance(value, dict):
        return [_request(value, strict)]
    return [ToolRequest("", problem=_SHAPE)]


_SHAPE = 'a call is {"name": "...", "arguments": {...}}'


def _request(value: dict[str, Any], strict: bool) -> ToolRequest:
    if isinstance(value.get("function"), dict):
        value = value["function"]
    name = value.get("name")
    if not isinstance(name, str) or not name:
        return ToolRequest("", problem=_SHAPE)
    given = value.get("arguments", value.get("parameters", None if strict else {}))
    if isinstance(given, str):
        try:
            given = json.loads(given, parse_constant=_refuse_constant)
        except (ValueError, RecursionError) as error:
            return ToolRequest(name[:64], problem=_not_json(error))
    if not isinstance(given, dict):
        return ToolRequest(name[:64], problem=f"its arguments must be an object; {_SHAPE}")
    return ToolRequest(name[:64], given)


# -- checking calls ----------------------------------------------------------------------------


def _checked(call: ToolRequest, tools: Mapping[str, ToolSpec] | None) -> ToolRequest:
    """The call with its problem, if it has one."""
    if call.problem is not None:
        return call
    problem = None
    if not _is_text(call.arguments):
        problem = "its arguments hold characters that are not text (lone surrogates)"
    elif tools is not None and call.name not in tools:
        names = list_names(list(tools)) or "none"
        problem = f"there is no tool {call.name!r}; the tools are {names}"
    elif tools is not None and isinstance(tools[call.name].run, Tool):
        try:
            tools[call.name].run.arguments.read(call.arguments)
        except Exception as error:  # OutputError, or whatever a type's own validator raises
            problem = first_line(error)
    return call if problem is None else ToolRequest(call.name, call.arguments, problem)


def _is_text(arguments: Mapping[str, Any]) -> bool:
    """JSON may spell half a surrogate pair, which no file and no tokenizer takes."""
    try:
        json.dumps(arguments, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return False
    return True


def _not_json(error: ValueError | RecursionError) -> str:
    if isinstance(error, json.JSONDecodeError):
        return f"the call is not JSON: {error.msg}"
    if isinstance(error, RecursionError):
        return "the call is not JSON: nested too deeply"
    return f"the call is not JSON: {error}"
