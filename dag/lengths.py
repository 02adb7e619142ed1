"""How many tokens texts and values take, as far as it can be known before running."""

from __future__ import annotations

from collections.abc import Callable, Hashable

from .arg import Arg, Ref
from .nodes import LLMCall, Workflow
from .numbering import Numbering
from .prefixes import Vertex
from .template import Slot

CHARS_PER_TOKEN = 4.0
"""Used where no tokenizer has been asked."""
OPENING, CLOSING = 3.0, 2.0
"""What a chat template puts before and behind a message: `<|im_start|>user` and a line break,
`<|im_end|>` and another. The opening of the answer ends every prompt."""
UNKNOWN_TOKENS = 64.0
"""Taken for a value whose length nothing limits, such as a tool's result."""

Measure = Callable[[str], float]
"""Tokens of a text."""


class Lengths:
    """How many tokens texts take, as far as it can be known before running."""

    def __init__(self, numbering: Numbering, measure: Measure | None) -> None:
        self._values = numbering.values
        self._measure = measure or (lambda text: len(text) / CHARS_PER_TOKEN)
        self._known: dict[Hashable, float] = {}

    def of_static(self, vertex: Vertex) -> float:
        if vertex.kind == "text":
            return self._measure(str(vertex.label))
        if vertex.kind != "role":
            return 0.0
        first = vertex.parent is not None and vertex.parent.kind == "model"
        return OPENING if first else CLOSING + OPENING

    def of_text(self, text: str) -> float:
        return self._measure(text)

    def in_slot(self, slot: Slot, expected: float) -> Callable[[int], float]:
        shape = (slot.path, slot.conversion, slot.spec)
        known, values = self._known, self._values

        def length(number: int) -> float:
            if number not in values:
                return expected
            key = (number, shape)
            if key not in known:
                shown = slot.shown({slot.name: values[number]})
                # The row will fail if nothing is shown; its prompt is never made.
                known[key] = expected if shown is None else self._measure(shown)
            return known[key]

        return length

    def expected(self, workflow: Workflow, arg: Arg | None) -> float:
        """Tokens of a value that is not known yet."""
        node = workflow.nodes.get(arg.id) if isinstance(arg, Ref) else None
        if not isinstance(node, LLMCall):
            return UNKNOWN_TOKENS
        return float(node.sampling.n * node.sampling.max_tokens)
