"""Capturing prompts: from the body of an `@llm` function to a template.

The body runs twice on symbols whose markers have different shapes; a body that changes *finished*
text damages a marker or gives two different templates. What symbols cannot see, such as
`"x" in f"{a} and more"`, is looked for by running the body on sample values: the template must
render to exactly what the body returns.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from .errors import Problem, WorkflowError, first_line
from .messages import Message, Role
from .probe import disagreement
from .source import Source, of_error, of_function, problem_at
from .symbols import FILLS, HINT, Markers, Symbol
from .template import Part, Slot, Template, Text
from .unordered import fenced


def capture(name: str, body: Callable[..., Any], types: Mapping[str, Any]) -> Template:
    """The template of a prompt body.

    `types` gives the annotation of every argument. Raises WorkflowError naming every place where
    the body looks at a value, or what else keeps it from having a template.
    """
    source = of_function(body)
    first, second = (_trace(name, body, types, fill, source) for fill in FILLS)
    if first != second:
        message = f"the prompt body of {name!r} changes text made from its arguments"
        raise WorkflowError(problem_at(source, message, HINT, name))
    example = disagreement(body, types, first)
    if example:
        message = f"the prompt body of {name!r} decides by its arguments: {example}"
        raise WorkflowError(problem_at(source, message, HINT, name))
    return first


def _trace(
    name: str, body: Callable[..., Any], types: Mapping[str, Any], fill: str, source: Source | None
) -> Template:
    markers = Markers(fill)
    symbols = {arg: markers.argument(Slot(arg), kind) for arg, kind in types.items()}
    try:
        template = to_template(body(**symbols), markers.split)
    except WorkflowError as error:
        markers.problems += error.problems
    except Exception as error:
        if not markers.problems:  # otherwise it may just follow from what is noted
            message = f"the prompt body of {name!r} cannot be traced: {first_line(error)}"
            place = of_error(error) or source
            raise WorkflowError(problem_at(place, message, HINT, name)) from error
    if markers.problems:
        raise WorkflowError(*dict.fromkeys(_named(p, name) for p in markers.problems))
    return template


def _named(problem: Problem, name: str) -> Problem:
    message = f"{problem.message} of {name!r}"
    return Problem(message, problem.file, problem.line, problem.hint, problem.node or name)


def to_template(prompt: Any, split: Callable[[str], tuple[Part, ...]]) -> Template:
    """A template from what a body returned; `split` finds the slots in a text."""
    if isinstance(prompt, str | Symbol):
        return Template((_text("user", split(_content(prompt))),), bare=True)
    if isinstance(prompt, Message):
        prompt = [prompt]
    if isinstance(prompt, list | tuple) and prompt and all(isinstance(m, Message) for m in prompt):
        if any(m.tool_calls or m.name is not None for m in prompt):
            raise TypeError("messages with tool calls have no template")
        return Template(tuple(_text(m.role, split(_content(m.content))) for m in prompt))
    raise TypeError(f"it returns {type(prompt).__name__}, not a str or a list of messages")


def _text(role: Role, pieces: tuple[Part, ...]) -> Text:
    return Text(role, *fenced(pieces))


def _content(text: Any) -> str:
    if isinstance(text, Symbol):
        if text._type is not Any:
            raise TypeError(f"a message is text: write f'{text._slot}' to format the value")
        return format(text)
    if not isinstance(text, str):
        raise TypeError(f"a message is text, not {type(text).__name__}")
    return text
