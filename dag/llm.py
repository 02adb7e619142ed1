"""`@llm` and `agent`: functions whose body is a prompt and whose result a model writes."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import Any, ParamSpec, TypedDict, TypeVar, Unpack, overload

from .arg import Args
from .capture import capture
from .errors import ConfigError, WorkflowError
from .messages import Message
from .nodes import Agent, LLMCall, Node, ToolSpec
from .operators import Operator
from .sampling import Sampling
from .source import Source, caller, problem_at
from .template import Template
from .types import item_type

P = ParamSpec("P")
R = TypeVar("R")
MAX_TURNS = 1_000
OPTION_HINT = "change the option, or leave it out for its default"


class SamplingOptions(TypedDict, total=False):
    """Keyword arguments of `@llm` that say how tokens are chosen; see `Sampling`."""

    max_tokens: int
    temperature: float
    top_p: float
    top_k: int
    min_p: float
    seed: int | None
    stop: str | Sequence[str]
    stop_token_ids: Sequence[int]
    n: int
    logprobs: int | None
    regex: str
    choice: Sequence[str]


class LLMOperator(Operator[P, R]):
    """A prompt body with a model and sampling settings."""

    def __init__(
        self, fn: Callable[P, R], model: str, dynamic: bool, options: SamplingOptions
    ) -> None:
        super().__init__(fn)
        if inspect.iscoroutinefunction(fn):
            message = f"@llm {self.name!r} is `async def`, and a prompt body returns its prompt"
            hint = "write a plain `def`; what must be awaited goes into a @tool"
            raise WorkflowError(problem_at(self.source, message, hint))
        self.model = model
        self.dynamic = dynamic
        try:
            self.sampling = Sampling(**options)  # type: ignore[arg-type]
        except TypeError as error:  # an option that is none
            message = str(error).replace("Sampling.__init__()", f"@llm {self.name!r}")
            hint = f"options are {', '.join(SamplingOptions.__annotations__)}"
            raise WorkflowError(problem_at(self.source, message, hint)) from None
        except ConfigError as error:
            message = f"@llm {self.name!r}: {error}"
            raise WorkflowError(problem_at(self.source, message, OPTION_HINT)) from None
        if self.sampling.n > 1 and item_type(self.signature.returns) is None:
            message = f"@llm {self.name!r} has n={self.sampling.n} and must return a list"
            raise WorkflowError(problem_at(self.source, message, "write -> list[...]"))
        self._template: Template | None = None

    @property
    def prompt(self) -> Template | Callable[..., Any]:
        """The body's template, captured at first use; for dynamic bodies the body itself."""
        if self.dynamic:
            return self.fn
        if self._template is None:
            self._template = capture(self.name, self.fn, self.signature.types)
        return self._template

    def node(self, id: str, bound: Args, source: Source | None) -> Node:
        return LLMCall(
            id=id, name=self.name, prompt=self.prompt, bound=bound, sampling=self.sampling,
            model=self.model, type=self.signature.returns, source=source,
        )  # fmt: skip


class AgentOperator(LLMOperator[P, R]):
    """A prompt body with tools: the model calls them until it answers."""

    def __init__(
        self, fn: Callable[P, R], model: str, dynamic: bool, options: SamplingOptions,
        tools: tuple[ToolSpec, ...], max_turns: int,
    ) -> None:  # fmt: skip
        super().__init__(fn, model, dynamic, options)
        self.tools, self.max_turns = tools, max_turns

    def node(self, id: str, bound: Args, source: Source | None) -> Node:
        return Agent(
            id=id, name=self.name, prompt=self.prompt, bound=bound, sampling=self.sampling,
            model=self.model, type=self.signature.returns, source=source,
            tools=self.tools, max_turns=self.max_turns,
        )  # fmt: skip


@overload
def llm(fn: Callable[P, R], /) -> LLMOperator[P, R]: ...
@overload
def llm(
    *, model: str = "default", dynamic: bool = False, **options: Unpack[SamplingOptions]
) -> Callable[[Callable[P, R]], LLMOperator[P, R]]: ...
def llm(
    fn: Callable[..., Any] | None = None, /, *, model: str = "default", dynamic: bool = False,
    **options: Unpack[SamplingOptions],
) -> Any:  # fmt: skip
    """Make a function an LLM call: its body returns the prompt, its annotation the result's type.

    A body returns a text (one user message) or a list of messages. The result is the model's
    text for `-> str`; any other annotation (a pydantic model, list[str], int, ...) makes the
    model write JSON of that type, which is returned validated.

    `model` is an alias given to the Engine. `dynamic` renders the prompt at run time with the
    values, for bodies that need to look at them. Other options are those of `Sampling`.
    Raises WorkflowError when options contradict each other.
    """
    if fn is not None:
        return LLMOperator(fn, model, dynamic, options)
    return lambda body: LLMOperator(body, model, dynamic, options)


def agent(
    *, tools: Sequence[Any], max_turns: int = 8, model: str = "default", dynamic: bool = False,
    **options: Unpack[SamplingOptions],
) -> Callable[[Callable[P, R]], AgentOperator[P, R]]:  # fmt: skip
    """Make a function a tool-using loop: the model calls `tools` until it answers without a call.

    Each turn's text and the tools' results join the conversation. An agent that has not answered
    after `max_turns` generations fails its row with LimitError. Tools are `@tool` functions.
    """
    specs = tuple(_spec(tool) for tool in tools)
    if not 1 <= max_turns <= MAX_TURNS:
        message = f"max_turns={max_turns} is out of range: 1 to {MAX_TURNS}"
        raise WorkflowError(problem_at(caller(), message, OPTION_HINT))
    return lambda body: AgentOperator(body, model, dynamic, options, specs, max_turns)


def _spec(tool: Any) -> ToolSpec:
    spec = getattr(tool, "spec", None)
    if not isinstance(spec, ToolSpec):
        raise WorkflowError(
            problem_at(caller(), f"{tool!r} is not a tool", "decorate it with @tool")
        )
    return spec


def prompt(*messages: Message) -> R:  # type: ignore[type-var]
    """Messages as the return value of an `@llm` body: `return prompt(system(...), user(...))`.

    The same as returning a list of them, but a type checker that reads the body accepts it where
    the annotation names the type of the *result*.
    """
    return list(messages)  # type: ignore[return-value]
