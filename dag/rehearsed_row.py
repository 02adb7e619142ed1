"""One body of a rehearsal: which nodes are asked for, and what each does when its values are there.

Nodes run on demand, as in a real program: of a branch only the side that is taken.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from .arg import Arg, Args, refs
from .estimates import TURNS
from .imagined import UNKNOWN, Imagined
from .nodes import (
    Agent,
    Branch,
    Const,
    Input,
    LLMCall,
    Loop,
    Map,
    Node,
    Project,
    ToolCall,
    Workflow,
)
from .rehearsed_heads import Release

if TYPE_CHECKING:
    from .rehearsal import Rehearsal
    from .standing import Standing

Then = Callable[[Imagined], None]
WIDTH = 4
"""Items of a list that is not known before running."""


class Act:
    """A body running for one row (or item, or round)."""

    def __init__(
        self, world: Rehearsal, workflow: Workflow, inputs: Mapping[str, Imagined],
        way: tuple[str, ...], row: Standing, then: Then,
    ) -> None:  # fmt: skip
        self.world, self.workflow, self.way, self.row = world, workflow, way, row
        self._values: dict[str, Imagined] = dict(inputs)
        self._waiting: dict[str, list[Then]] = {}
        self._heads: dict[str, Release] = {}
        self._then = then

    def start(self) -> None:
        """Ask for the output, and for what writes whether or not anybody wants its value."""
        output = self.workflow.output
        self._gather(
            self.world.nodes.goals(self.workflow), lambda: self._then(self._resolve(output))
        )

    def _gather(self, ids: Iterable[str], then: Callable[[], None]) -> None:
        """Ask for values and go on when the last is there."""
        missing = [id for id in ids if id not in self._values]
        left = len(missing)
        if not left:
            then()
            return

        def arrived(_: Imagined) -> None:
            nonlocal left
            left -= 1
            if not left:
                then()

        for id in missing:
            self._ask(id, arrived)

    def _ask(self, id: str, then: Then) -> None:
        if id in self._values:
            then(self._values[id])
        elif id in self._waiting:
            self._waiting[id].append(then)
        else:
            self._waiting[id] = [then]
            node = self.workflow.nodes[id]
            known = self.world.nodes.known(node)
            self._gather(known.needs, lambda: self._do(node))
            if isinstance(node, LLMCall) and node.early is not None:
                self._gather(known.begins, lambda: self.world.heads.begin(node, self))

    def _set(self, id: str, value: Imagined) -> None:
        self._values[id] = value
        if self._heads and (release := self._heads.pop(id, None)) is not None:
            release()
        for then in self._waiting.pop(id, ()):
            then(value)

    # -- prompts that are begun early ----------------------------------------------------------

    def awaited(self, node: LLMCall) -> list[Node]:
        """Those whose values it still waits for."""
        needs = self.world.nodes.known(node).needs
        return [self.workflow.nodes[id] for id in needs if id not in self._values]

    def there(self, args: Args) -> dict[str, Imagined]:
        """Those of its arguments that are known."""
        return {
            name: self._resolve(arg) for name, arg in args
            if all(id in self._values for id in refs(arg))
        }  # fmt: skip

    def keeps(self, id: str, release: Release) -> None:
        """A call's prompt has been begun; to be given back when the call is over."""
        self._heads[id] = release

    def _resolve(self, arg: Arg) -> Imagined:
        return self.world.imagination.resolve(arg, self._values)

    def _key(self, node: Node) -> Hashable | None:
        """What equal work has in common; None for what is never equal."""
        known = self.world.nodes.known(node)
        if known.work is None:
            return None
        return known.work, tuple(self._resolve(arg).number for arg in known.args)

    # -- nodes ---------------------------------------------------------------------------------

    def _do(self, node: Node) -> None:
        def then(value: Imagined) -> None:
            self._set(node.id, value)

        match node:
            case Input(default=value) | Const(value=value):
                then(self.world.imagination.given(value))
            case Project(of=of, path=path):
                share = self._share(of)
                then(self.world.imagination.part(self._resolve(of), path, share))
            case Branch():
                self._branch(node, then)
            case LLMCall() | ToolCall() | Map() | Loop():
                values = {name: self._resolve(arg) for name, arg in node.args()}
                key = self._key(node)
                self.world.share(node, key, self, lambda t: self._work(node, values, t), then)

    def _work(self, node: Node, values: Mapping[str, Imagined], then: Then) -> None:
        match node:
            case LLMCall():
                self._call(node, values, then)
            case ToolCall():
                result = self.world.values.result(node, self._key(node), values)
                self.world.use(node, result, self, then)
            case Map():
                self._map(node, values, then)
            case Loop():
                self._round(node, values["state"], 0, then)

    def _call(self, node: LLMCall, values: Mapping[str, Imagined], then: Then) -> None:
        prompt, first = list(self.world.values.prompt(node, values)), self.world.first(node, values)
        left = min(TURNS, node.max_turns) if isinstance(node, Agent) else 1

        def turn() -> None:
            nonlocal left
            left -= 1
            said = self.world.values.answers(node, self._key(node), left)

            def over() -> None:
                if not left:
                    then(said[0] if node.sampling.n == 1 else self.world.imagination.joined(said))
                    return
                self.world.counted(self, node).calls += 1  # a run counts every turn
                prompt.extend(self.world.imagination.ids(said[0]))
                turn()

            self.world.calls.make(node, tuple(prompt), first, said, self, over)

        turn()

    def _branch(self, node: Branch, then: Then) -> None:
        """The side that a known condition takes; each in turn where it is not known."""
        condition = self._resolve(node.condition)
        if condition.known is not UNKNOWN:
            side = node.then if condition.known else node.otherwise
        else:
            side = node.then if condition.number % 2 == 0 else node.otherwise
        self._gather(tuple(refs(side)), lambda: then(self._resolve(side)))

    def _map(self, node: Map, values: Mapping[str, Imagined], then: Then) -> None:
        items = self._items(values["over"], node.max_width)
        imagination = self.world.imagination
        results: dict[int, Imagined] = {}

        def ended(place: int, value: Imagined) -> None:
            results[place] = value
            if len(results) == len(items):
                finish()

        def finish() -> None:
            then(imagination.joined([results[i] for i in range(len(items))]))

        if not items:
            finish()
        bound = {name: values[name] for name, _ in node.bound}
        for place, item in enumerate(items):
            inner = {node.item: item, **bound}
            way = (*self.way, node.id)

            def arrived(value: Imagined, place: int = place) -> None:
                ended(place, value)

            Act(self.world, node.body, inner, way, self.row, arrived).start()

    def _items(self, of: Imagined, most: int) -> Sequence[Imagined]:
        imagination = self.world.imagination
        if isinstance(of.known, list | tuple):
            return [imagination.given(item) for item in of.known[:most]]
        if of.items is not None:
            return of.items[:most]
        width = min(WIDTH, most)
        numbers = (imagination.number(("item", of.number, i)) for i in range(width))
        return [Imagined(number, of.tokens / width) for number in numbers]

    def _round(self, node: Loop, state: Imagined, done: int, then: Then) -> None:
        """One round after the other. A condition that is not known holds half of the time."""
        if done >= node.max_iters:
            then(state)
            return
        name = _state_input(node.body)
        way = (*self.way, node.id)

        def tested(held: Imagined, state: Imagined) -> None:
            over = held.known if held.known is not UNKNOWN else held.number % 2 == 0
            if over:
                then(state)
            else:
                self._round(node, state, done + 1, then)

        def ended(state: Imagined) -> None:
            if node.until is None:
                self._round(node, state, done + 1, then)
                return
            asked = {_state_input(node.until): state}
            Act(self.world, node.until, asked, (*way, "until"), self.row,
                lambda held: tested(held, state)).start()  # fmt: skip

        Act(self.world, node.body, {name: state}, way, self.row, ended).start()

    def _share(self, of: Arg) -> float:
        """The share of a value's tokens that one of its fields has."""
        ids = tuple(refs(of))
        kind = self.workflow.nodes[ids[0]].type if len(ids) == 1 else None
        return 1.0 / max(1, len(getattr(kind, "model_fields", ())))


def _state_input(body: Workflow) -> str:
    """The one input that takes a loop's state."""
    return next((i.id for i in body.inputs if i.default is ...), body.inputs[0].id)
