"""The tool-using loop: generate, run the tools asked for, show their results, until an answer.

A turn's text goes back into the conversation as it was generated, so that the next prompt begins
with the tokens whose KV is already there.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Sequence
from typing import TYPE_CHECKING, Any

from ..dag.errors import LimitError, PlaitError
from ..dag.messages import Message, user
from ..dag.nodes import Agent
from ..tools.calls import ToolRequest, parse_calls, tool_result_text
from .conversation import Talk
from .llm_calls import generate, lease, prompt_of
from .program import Program
from .tool_calls import call_tool
from .values import decode

if TYPE_CHECKING:
    from .executor import Executor


async def run_agent(executor: Executor, program: Program, node: Agent) -> Any:
    """The agent's answer. Tool failures are shown to the model; running out of turns is not."""
    prompt = prompt_of(program, node)
    messages = [user(prompt)] if isinstance(prompt, str) else list(prompt)
    tools = {spec.name: spec for spec in node.tools}
    functions = tuple(spec.as_function() for spec in node.tools)
    ends = lease(executor, program, node)
    task = str(program.row.id), program.path + node.id
    talk = Talk(node, executor.heads, messages, ends, functions, task)
    try:
        for talk.turn in range(node.max_turns):
            generations = await generate(
                executor, program, node, talk.messages, talk.turn, functions, talk
            )
            talk.release()
            said = parse_calls(generations[0].text, tools)
            if not said.calls:
                return decode(node, generations)
            talk.messages = [*talk.messages, Message("assistant", generations[0].text)]
            answers = [_answer(executor, program, node, tools, call) for call in said.calls]
            paths = [f"{program.path}{node.id}/{call.name}" for call in said.calls]
            talk.messages += await _collect(talk, answers, paths)
    finally:
        talk.close()
    raise LimitError(f"no answer after max_turns={node.max_turns} turns")


async def _collect(
    talk: Talk, answers: Sequence[Coroutine[Any, Any, Message]], paths: Sequence[str]
) -> list[Message]:
    """The answers in their order, all worked for at once. While one is awaited the conversation is
    kept, and what the next prompt will show is computed as far as it is there."""
    tasks = [asyncio.ensure_future(answer) for answer in answers]
    there: list[Message] = []
    talk.tools_begin()
    try:
        for task in tasks:
            if talk.heads.possible:
                await asyncio.sleep(0)  # what is there at once is not worth it
                if not task.done():
                    at_work = [p for p, t in zip(paths, tasks, strict=True) if not t.done()]
                    await talk.keep(there, at_work)
            there.append(await task)
        return there
    finally:
        for task in tasks:
            task.cancel()


async def _answer(
    executor: Executor, program: Program, node: Agent, tools: dict[str, Any], call: ToolRequest
) -> Message:
    """The message that shows a call's result, or what was wrong with it, to the model."""
    if call.problem is not None:
        return Message("tool", f"error: {call.problem}", name=call.name)
    try:
        tool = tools[call.name].run
        value = await call_tool(executor, program, f"{node.id}/{call.name}", tool, call.arguments)
        return Message("tool", tool_result_text(value), name=call.name)
    except PlaitError as error:
        return Message("tool", f"error: {error}", name=call.name)
