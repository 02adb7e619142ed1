"""What is expected of an operator before it runs, from where that is known, and how surely.

history   earlier runs: the same operator, model and settings
sample    the calls of this batch that have finished
limit     nothing has been seen: an answer takes max_tokens, a tool no time
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Literal

from .nodes import LLMCall, Node, ToolCall
from .observed import Observed, Sketch
from .template import Template

Known = Literal["given", "history", "sample", "limit"]
SURE = 2.0
"""Standard errors on either side of a mean."""
DRIFT = 0.05
"""What a mean may differ by from one batch to the next, however many calls it was taken from."""
LEAST_ANSWER = 0.1
"""Share of max_tokens that answers of unknown length take at least."""
FEW = 3
"""Values below which nothing is said of how they repeat."""
TURNS = 2
"""Turns of an agent: one that calls a tool, one that answers."""
VALUE_CHARACTERS = 256.0
"""Of a tool's result of which nothing is known."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """A mean, and between which values it lies."""

    low: float
    mean: float
    high: float
    known: Known
    calls: int = 0
    """Calls it was taken from."""

    def __str__(self) -> str:
        return f"{self.mean:.3g} ({self.low:.3g} to {self.high:.3g}, {self.known})"


def estimate(sketch: Sketch, known: Known, most: float = math.inf) -> Estimate:
    """The mean of what a sketch holds, give or take its standard error and drift."""
    mean = sketch.mean
    # A single call says nothing of how calls differ: it is taken to be half off.
    error = sketch.deviation / math.sqrt(sketch.count) if sketch.count > 1 else mean / 4
    doubt = SURE * error + DRIFT * mean
    return Estimate(max(0.0, mean - doubt), mean, min(mean + doubt, most), known, sketch.count)


def operator_key(node: Node, model: str | None = None) -> str:
    """What history keeps an operator under: what it does, its model and its settings.

    `model` is what the alias stands for; the same in every process.
    """
    if isinstance(node, LLMCall):
        prompt = str(node.prompt) if isinstance(node.prompt, Template) else node.name
        parts: tuple[str, ...] = ("llm", model or node.model, repr(node.sampling), prompt)
    elif isinstance(node, ToolCall):
        parts = ("tool", node.tool.name, node.tool.effect, node.tool.description)
    else:
        parts = (node.operator, node.id)
    digest = blake2b("\0".join(parts).encode("utf-8", "surrogatepass"), digest_size=9)
    return f"{parts[0]}-{digest.hexdigest()}"


@dataclass(frozen=True, slots=True)
class Operator:
    """What is expected of the calls of one operator."""

    key: str
    whole: Estimate
    """Tokens of an answer, or seconds of a tool."""
    seen: Observed | None
    lengths: Sketch | None
    """Of what was seen, the answers or the seconds."""
    pool: float
    """From how many different values its own are drawn; infinite when nothing is known."""

    def draw(self, share: float) -> float:
        """The length or the seconds of one call, at this place of all that were seen."""
        if self.lengths is None or not self.lengths.count or self.whole.known == "given":
            return self.whole.mean
        return self.lengths.draw(share)

    def times(self) -> Sequence[tuple[float, float]]:
        """Seconds, ascending, and the share of a tool's calls that take no longer."""
        if self.lengths is None or self.whole.known in ("given", "limit"):
            return [(self.whole.mean, 1.0)]
        return self.lengths.shares()

    def size(self, given: float) -> float:
        """Characters of a tool's result, where it is given so many."""
        if self.seen is None or not self.seen.sizes.count:
            return VALUE_CHARACTERS
        told = self.seen.growth.at(given)
        return max(0.0, told) if told is not None else self.seen.sizes.mean


@dataclass(frozen=True, slots=True)
class Estimates:
    """What is known of operators; `sample` goes before `history`."""

    history: Mapping[str, Observed] = field(default_factory=dict)
    """By `operator_key`."""
    sample: Mapping[str, Observed] = field(default_factory=dict)
    given: Mapping[str, float] = field(default_factory=dict)
    """Tokens of answers, seconds of tools, as somebody says; these go before all else."""
    names: Mapping[str, str] = field(default_factory=dict)
    """Model alias -> what it stands for, as history knows it."""

    def seen(self, node: Node) -> tuple[Observed, Known] | None:
        """What was observed of a node's operator, and where."""
        if not self.sample and not self.history:
            return None
        model = self.names.get(node.model) if isinstance(node, LLMCall) else None
        key = operator_key(node, model)
        if key in self.sample:
            return self.sample[key], "sample"
        return (self.history[key], "history") if key in self.history else None

    def answer(self, node: LLMCall) -> Estimate:
        """Tokens of an answer."""
        said = self._said(node)
        if said is not None:
            return said
        most = float(node.sampling.max_tokens)
        found = self.seen(node)
        if found is None or not found[0].answers.count:
            return Estimate(LEAST_ANSWER * most, most, most, "limit")
        return estimate(found[0].answers, found[1], most)

    def tool(self, node: ToolCall) -> Estimate:
        """Seconds of a tool call."""
        said = self._said(node)
        if said is not None:
            return said
        found = self.seen(node)
        if found is None or not found[0].seconds.count:
            return Estimate(0.0, 0.0, 0.0, "limit")
        return estimate(found[0].seconds, found[1])

    def operator(self, node: LLMCall | ToolCall) -> Operator:
        """All that is expected of a node's operator."""
        whole = self.answer(node) if isinstance(node, LLMCall) else self.tool(node)
        found = self.seen(node)
        seen, known = found or (None, None)
        pool = seen.pool if seen is not None else math.inf
        if seen is not None and known == "sample" and isinstance(node, LLMCall):
            pool = self._answers_differ(seen)
        lengths = None
        if seen is not None:
            lengths = seen.answers if isinstance(node, LLMCall) else seen.seconds
        return Operator(operator_key(node), whole, seen, lengths, pool)

    def _answers_differ(self, seen: Observed) -> float:
        """See `Operator.pool`. An LLM of which the sample has seen too little repeats itself like
        the others in it."""
        if seen.sizes.count >= FEW:
            return seen.pool
        others = [o.pool for o in self.sample.values() if o.answers.count >= FEW]
        return statistics.median_low(others) if others else seen.pool

    def _said(self, node: Node) -> Estimate | None:
        value = self.given.get(operator_key(node)) if self.given else None
        if value is None:
            return None
        return Estimate(value * (1 - DRIFT), value, value * (1 + DRIFT), "given")
