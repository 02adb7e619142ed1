"""The seam between the executor and whatever writes text: a local model, a server, a fake."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

from ...dag.ahead import Ahead
from ...dag.estimates import Estimates
from ...dag.logical import Plan
from ...dag.messages import Prompt
from ...dag.sampling import Sampling
from ..generation import Generation


@dataclass(frozen=True, slots=True)
class Call:
    """One generation asked of a backend, with what is known about who asks."""

    prompt: Prompt | list[int]
    """A text is one user message (raw text when `raw`); token ids are taken as they are."""
    sampling: Sampling
    model: str = "default"
    seed: int = 0
    """Seed for sampled calls whose settings have none: derived from run, row and node."""
    tools: tuple[Mapping[str, Any], ...] = ()
    """Tools the model may call, in OpenAI form, for the chat template."""
    priority: float = 0.0
    """Larger runs sooner; the executor prefers earlier rows, so that begun rows end."""
    node: str = ""
    row: str = ""
    raw: bool = False
    """Do not apply the chat template to a text."""
    salt: str = ""
    """Of a tenant: calls with different salts share no cached KV."""
    ahead: Ahead | None = None
    """What the plan knows of the run that asks; `node` names a step of it."""
    expected: int | None = None
    """Tokens that the answer is expected to take at most; None: max_tokens."""
    waits: Callable[[bool], None] | None = None
    """Told True when the call begins to wait for a model that is not in memory, False when it has
    come (or the call is cancelled)."""
    begun: Callable[[], None] | None = None
    """Told when an engine begins to compute the call, in the event loop that it came from."""
    taken: Callable[[int], None] | None = None
    """Told the number of the worker that takes the call, where there are several; again when
    another takes it over."""
    still_wanted: Callable[[], float] | None = None
    """To be called once when the call has ended well: the share of its prompt that other calls
    will begin with. What lies behind it may be forgotten first."""
    last: Callable[[Sequence[Generation]], bool] | None = None
    """Whether nobody goes on behind these generations; None: nobody does. Where somebody does,
    `still_wanted` is not asked and nothing is forgotten."""


class Backend(Protocol):
    """Writes text for calls. One instance serves one Engine, from its event loop."""

    async def generate(self, call: Call) -> list[Generation]:
        """`call.sampling.n` generations. Cancelling the awaiting task gives everything back.

        Raises RowError kinds (PromptError, GenerationError) for this call alone, and ModelError
        when its model cannot be loaded.
        """
        ...

    async def open(self, models: tuple[str, ...]) -> None:
        """Make models ready, by alias, before the first call.

        Raises ConfigError for an unknown alias and ModelError for a model that cannot be loaded.
        """
        ...

    def describe(self) -> dict[str, Any]:
        """What runs here, for run.json: kind, models, device, dtype."""
        ...

    def close(self) -> None:
        """Give memory and threads back. Calls still running fail with EngineError."""
        ...


@runtime_checkable
class TakesTurns(Protocol):
    """A backend whose models may have to make room for each other. It keeps a model for tools that
    run if the calls after them will ask for it."""

    def at_work(self, ahead: Ahead, step: str) -> AbstractContextManager[None]:
        """A tool is at work inside the block, as this step of a run."""
        ...


@runtime_checkable
class Reads(Protocol):
    """A backend that has the tokenizers of its models."""

    def characters(self, model: str, sample: str) -> float | None:
        """Characters per token in texts like this one; None while the model is not loaded."""
        ...


@runtime_checkable
class HasAliases(Protocol):
    """A backend that may know a model under several names."""

    @property
    def aliases(self) -> Mapping[str, str]:
        """By alias, the first of those that name the same model."""
        ...


def names_of(backend: Backend | None) -> Mapping[str, str]:
    """By alias, the one that stands for its model; those left out stand for themselves."""
    return backend.aliases if isinstance(backend, HasAliases) else {}


@runtime_checkable
class Places(Protocol):
    """A backend of several workers, which holds models where a plan places them."""

    def placed(self, plan: Plan, known: Estimates | None = None) -> Plan:
        """The plan with a placement, by what is known now; without where too little is known.

        `known` says how long answers are.
        """
        ...

    async def arrange(self, plan: Plan, known: Estimates | None = None) -> Plan:
        """The plan with its placement, or one that is found now, which is followed from now on.

        Raises ModelError when no model of its first stage can be loaded.
        """
        ...

    def ended(self, plan: Plan) -> None:
        """The run that an arranged plan was for has ended: no more calls of it will come."""
        ...
