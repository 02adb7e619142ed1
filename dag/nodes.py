"""A workflow as a value: frozen typed nodes, and the arguments (`arg.py`) that are their edges.

Every front end (decorators, YAML, a planner model) compiles to a `Workflow`; everything behind
(checks, rules, cost model, executor, drawings) reads one. Nodes hold no state of a run.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

from .arg import Arg, Args, refs
from .sampling import Sampling
from .shown import Shown
from .source import Source
from .template import Path, Template

if TYPE_CHECKING:
    import networkx

Effect = Literal["pure", "read", "write"]


# -- tools as the IR sees them -----------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class ToolSpec:
    """What a plan needs to know of a tool; the tools room knows how to run it."""

    name: str
    effect: Effect = "write"
    description: str = ""
    parameters: Mapping[str, Any] = field(default_factory=dict)
    """JSON schema of its arguments."""
    timeout: float = math.inf
    """Seconds that one attempt of a call has."""
    attempts: int = 1
    """That a call has at most."""
    run: Any = None
    """The tool itself (`plait.tools.Tool`), opaque to this room."""

    def as_function(self) -> dict[str, Any]:
        """The tool as chat templates expect it (OpenAI form)."""
        function = {
            "name": self.name,
            "description": self.description,
            "parameters": self.parameters,
        }
        return {"type": "function", "function": function}


# -- operators ---------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """One operator in a workflow's DAG."""

    id: str
    """Unique in its workflow, stable between compilations of the same source."""
    type: Any = Any
    """Python type of its value."""
    source: Source | None = None

    def args(self) -> Args:
        """Arguments by name: the edges into this node."""
        return ()

    def needs(self) -> tuple[str, ...]:
        """Ids of the nodes whose values this one takes, each once."""
        return tuple(dict.fromkeys(id for _, arg in self.args() for id in refs(arg)))

    @property
    def operator(self) -> str:
        return type(self).__name__


@dataclass(frozen=True, slots=True, kw_only=True)
class Input(Node):
    """A column of the row."""

    default: Any = ...
    """Value when the row lacks the column; `...` when it must be there."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Const(Node):
    """A value known when the workflow is compiled."""

    value: Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Project(Node):
    """A field, key or item of a value."""

    of: Arg
    path: Path

    def args(self) -> Args:
        return (("of", self.of),)


@dataclass(frozen=True, slots=True, kw_only=True)
class LLMCall(Node):
    """One generation: a prompt filled with values, sampled from a model."""

    name: str
    """Name of the operator it is a call of."""
    prompt: Template | Callable[..., Any]
    """Template, or for dynamic prompts the body itself."""
    bound: Args
    sampling: Sampling
    model: str = "default"
    """Alias of the model."""
    early: int | None = None
    """Slots before the first whose value comes late: the KV of what goes before it is computed
    while that is awaited. None: the prompt is computed when it is whole."""

    def args(self) -> Args:
        return self.bound


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolCall(Node):
    """One call of a tool."""

    tool: ToolSpec
    bound: Args
    ahead: bool = False
    """May be called before it is asked for: nothing comes of it but its value."""

    def args(self) -> Args:
        return self.bound


def writes(node: Node) -> bool:
    """Whether it is a call with a side effect, which runs even when nothing uses its value."""
    return isinstance(node, ToolCall) and node.tool.effect == "write"


@dataclass(frozen=True, slots=True, kw_only=True)
class Agent(LLMCall):
    """A loop in which the model calls tools until it answers."""

    tools: tuple[ToolSpec, ...]
    max_turns: int


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanAndRun(Agent):
    """A model plans tasks, which then run; `tools` are all that they may come to use."""

    offered: Mapping[str, Any]
    """Operators that tasks may call, by name; opaque here."""
    max_tasks: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Map(Node):
    """A body run for every item of a list whose width is known only at run time."""

    body: Workflow
    item: str
    """Input of the body that takes the item."""
    over: Arg
    bound: Args = ()
    """Other inputs of the body, the same for every item."""
    max_width: int

    def args(self) -> Args:
        return (("over", self.over), *self.bound)


@dataclass(frozen=True, slots=True, kw_only=True)
class Branch(Node):
    """One of two values; only the side that is taken is computed."""

    condition: Arg
    then: Arg
    otherwise: Arg

    def args(self) -> Args:
        return (("condition", self.condition), ("then", self.then), ("otherwise", self.otherwise))


@dataclass(frozen=True, slots=True, kw_only=True)
class Loop(Node):
    """A body applied to its own result until a condition holds or a bound is reached."""

    body: Workflow
    state: Arg
    until: Workflow | None
    """From the state to a truth value; None runs exactly `max_iters` times."""
    max_iters: int

    def args(self) -> Args:
        return (("state", self.state),)


@dataclass(frozen=True, eq=False)
class Workflow(Shown):
    """A program made of operators: a DAG with named inputs and one output."""

    name: str
    nodes: Mapping[str, Node]
    """Nodes by id; every node stands after those it needs."""
    output: Arg
    type: Any = Any
    """Python type of the output."""
    source: Source | None = None
    body: Callable[..., Any] | None = None
    """For a live program (`async def`), its function; then `nodes` holds the inputs only."""

    @property
    def inputs(self) -> tuple[Input, ...]:
        return tuple(n for n in self.nodes.values() if isinstance(n, Input))

    @property
    def live(self) -> bool:
        return self.body is not None

    @cached_property
    def graph(self) -> networkx.DiGraph[str]:
        """The DAG as a networkx graph: node ids, each with its node as attribute `node`; edges
        carry the names of the arguments they feed as attribute `args`."""
        import networkx

        graph: networkx.DiGraph[str] = networkx.DiGraph(name=self.name)
        for node in self.nodes.values():
            graph.add_node(node.id, node=node)
        for node in self.nodes.values():
            for name, arg in node.args():
                for id in refs(arg):
                    known = graph.get_edge_data(node.id, id, {"args": ()})["args"]
                    graph.add_edge(id, node.id, args=(*known, name))
        return graph

    def bodies(self) -> Iterator[Workflow]:
        """This workflow and, depth first, every body nested in its nodes."""
        yield self
        for node in self.nodes.values():
            if isinstance(node, Map | Loop):
                yield from node.body.bodies()
            if isinstance(node, Loop) and node.until is not None:
                yield from node.until.bodies()

    def models(self) -> tuple[str, ...]:
        """Aliases of the models it calls, each once."""
        calls = (n for w in self.bodies() for n in w.nodes.values() if isinstance(n, LLMCall))
        return tuple(dict.fromkeys(n.model for n in calls))
