"""The rehearsal: batches worked out by hand, and what must not depend on anything."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import plait
from plait import llm, tool, workflow
from plait.dag.estimates import Estimates, operator_key
from plait.dag.expected import FEW
from plait.dag.names import named_nodes
from plait.dag.observed import Observed
from plait.dag.plan import make_plan
from plait.dag.pricing import cost_of
from plait.dag.profile import Profile
from plait.dag.rehearsal import Stage, rehearse
from plait.dag.rehearsed import Rehearsed
from plait.dag.rehearsed_calls import LATENCY
from plait.dag.rehearsed_device import Device
from plait.dag.rehearsed_heads import AT_ONCE, KNOWN
from plait.dag.serving import Ask, Done, Stepped, Times, Used
from plait.dag.workflow import as_workflow


@dataclass
class Simple:
    """A model without memory: a step of 10 ms gives every generation one token."""

    step_seconds: float = 0.01
    used: Used = field(default_factory=Used)
    calls: dict[int, tuple[list[int], int]] = field(default_factory=dict)
    """By number, what is left to generate and the tokens of the prompt."""
    asks: list[tuple[float, Ask]] = field(default_factory=list)
    heads: list[tuple[float, Sequence[int]]] = field(default_factory=list)
    awaited: list[list[list[tuple[float, float]]]] = field(default_factory=list)
    released: list[float] = field(default_factory=list)

    @property
    def busy(self) -> bool:
        return bool(self.calls)

    @property
    def waiting(self) -> int:
        return 0

    def drop(self, number: int, now: float) -> bool:
        return self.calls.pop(number, None) is not None

    def warm(
        self, tokens: Sequence[int], now: float, awaited: Sequence[Times] = ()
    ) -> Callable[[float], None]:
        self.heads.append((now, tokens))
        self.awaited.append([list(times) for times in awaited])
        return self.released.append

    def unload(self) -> None:
        assert not self.calls

    def add(self, number: int, ask: Ask, now: float) -> None:
        self.calls[number] = [len(answer) for answer in ask.answers], len(ask.prompt)
        self.asks.append((now, ask))
        self.used.prefill_tokens += len(ask.prompt)

    def step(self, now: float) -> Stepped:
        self.used.steps += 1
        for left, _ in self.calls.values():
            self.used.decode_tokens += len(left)
            left[:] = [tokens - 1 for tokens in left if tokens > 1]
        done = [Done(n, prompt) for n, (left, prompt) in self.calls.items() if not left]
        for end in done:
            del self.calls[end.number]
        return Stepped(self.step_seconds, tuple(done))


@llm(max_tokens=10)
def ask(text: str) -> str:
    return f"{text}"


@llm(max_tokens=10)
def again(text: str) -> str:
    return f"again {text}"


@llm(max_tokens=5, model="big")
def big(text: str) -> str:
    return f"big {text}"


@tool(effect="pure")
def look(text: str) -> str:
    return text


@tool(effect="pure")
def good(text: str) -> bool:
    return True


@workflow
def chain(text: str) -> str:
    return again(look(ask(text)))


def went(target: Any, rows: Sequence[dict[str, Any]], known: Estimates | None = None,
         **stage: Any) -> Rehearsed:  # fmt: skip
    workflow = as_workflow(target)
    models = stage.pop("models", None) or {alias: Simple() for alias in workflow.models()}
    plan = make_plan(workflow, rows)
    return rehearse(plan, [rows], known or Estimates(), Stage(models, **stage))


def knowing(target: Any, **seen: Observed) -> Estimates:
    nodes = dict(named_nodes(as_workflow(target)))
    return Estimates({operator_key(nodes[name]): found for name, found in seen.items()})


def of(answers: int | None = None, seconds: float | None = None, values: Sequence[str] = ()
       ) -> Observed:  # fmt: skip
    found = Observed()
    for _ in range(4):
        if answers is not None:
            found.answers.add(answers)
        if seconds is not None:
            found.seconds.add(seconds)
    for value in values:
        found.value(value)
    return found


def test_one_call_takes_a_step_for_each_token() -> None:
    found = went(ask, [{"text": "a"}])
    assert found.seconds == pytest.approx(0.1 + LATENCY) and found.rows == 1
    assert found.nodes["ask"].calls == 1 and found.nodes["ask"].generated == 10
    known = went(ask, [{"text": "a"}], knowing(ask, ask=of(answers=3)))
    assert known.seconds == pytest.approx(0.03 + LATENCY)


@llm(max_tokens=10, n=4, temperature=1.0)
def drafts(text: str) -> list[str]:
    return f"{text}"  # type: ignore[return-value]


@llm(max_tokens=10)
def best(texts: list[str]) -> str:
    return f"{texts}"


def test_a_call_of_several_generations_is_over_with_the_last_of_them() -> None:
    seen = Observed()
    for tokens in (2, 4, 6, 8) * 4:
        seen.answers.add(tokens)
    model, known = Simple(), knowing(drafts, drafts=seen)
    found = went(drafts, [{"text": "abcd"}], known, models={"default": model})
    ((_, asked),) = model.asks
    lengths = [len(answer) for answer in asked.answers]
    assert len(lengths) == 4 and len(set(lengths)) > 1 and asked.room <= 10
    node = found.nodes["drafts"]
    assert (node.calls, node.prompt, node.generated) == (1, len(asked.prompt), sum(lengths))
    assert found.seconds == pytest.approx(0.01 * max(lengths) + LATENCY)
    assert len({answer[0] for answer in asked.answers}) == 4, "they are different texts"


def test_what_is_made_of_generations_is_made_of_each_or_of_all() -> None:
    @workflow
    def chosen(text: str) -> Any:
        found = drafts(text)
        return [plait.map(again, found), ask(found[1]), best(found)]

    nodes = went(chosen, [{"text": "a"}]).nodes
    assert nodes["map_again/again"].calls == 4
    assert 10 <= nodes["ask"].prompt < 20 < 40 <= nodes["best"].prompt


def test_a_chain_waits_for_its_tool_and_the_model_does_not_compute_meanwhile() -> None:
    known = knowing(chain, ask=of(answers=2), again=of(answers=4), look=of(seconds=0.5))
    found = went(chain, [{"text": "a"}], known)
    assert found.seconds == pytest.approx(0.02 + 0.5 + 0.04 + 2 * LATENCY)
    assert found.waited == pytest.approx(0.5 + 2 * LATENCY)
    assert found.busy == {0: pytest.approx(0.06)}


def test_equal_rows_are_one_row_unless_nothing_is_merged() -> None:
    rows = [{"text": "a"}] * 5
    one, same = went(chain, rows[:1]), went(chain, rows)
    assert same.seconds == pytest.approx(one.seconds)
    assert same.nodes["ask"].merged == 4 and same.nodes["ask"].generated == 10
    apart = went(chain, rows, merging=False)
    assert apart.nodes["ask"].merged == 0 and apart.nodes["ask"].generated == 50


@pytest.mark.parametrize("same", [True, False])
def test_hundreds_of_rows_begin_without_a_deep_stack(same: bool) -> None:
    """Whose first task is a tool, or under way already: each makes room for the next."""

    @workflow
    def tool_first(text: str) -> str:
        return ask(look(text))

    rows = [{"text": "a" if same else str(i)} for i in range(600)]
    assert went(tool_first, rows).rows == 600
    assert went(chain, rows).rows == 600


def test_values_that_have_repeated_repeat_and_what_follows_is_merged() -> None:
    rows = [{"text": f"row {i}"} for i in range(12)]
    fresh = went(chain, rows, knowing(chain, look=of(values=[f"{i}" for i in range(12)])))
    assert fresh.nodes["again"].merged == 0
    drawn = went(chain, rows, knowing(chain, look=of(values=["x", "y", "z"] * 4)))
    assert drawn.nodes["again"].calls - drawn.nodes["again"].merged == 3


def test_a_narrow_window_lets_rows_in_one_after_the_other() -> None:
    rows = [{"text": f"row {i}"} for i in range(4)]
    wide, narrow = went(ask, rows), went(ask, rows, window=1)
    assert wide.seconds == pytest.approx(0.1 + LATENCY, abs=0.011)
    assert narrow.seconds == pytest.approx(4 * (0.1 + LATENCY))
    # Rows that wait for tools only let others begin.
    known = knowing(chain, look=of(seconds=3.0))
    assert went(chain, rows, known, busy=1).seconds < 3.0 + 8 * (0.1 + LATENCY)


def test_models_that_do_not_fit_together_are_loaded_in_turn() -> None:
    @workflow
    def turns(text: str) -> str:
        return ask(big(text))

    loads, sizes = {"default": 1.0, "big": 2.0}, {"default": 1, "big": 1}
    models = {"default": Simple(), "big": Simple()}
    one = Device(models, there=frozenset(), sizes=sizes, limit=1, loads=loads)
    found = went(turns, [{"text": "a"}, {"text": "b"}], devices=[one])
    assert found.loads == ["big", "default"] and found.load_seconds == 3.0
    assert found.loading == {0: 3.0} and 3.0 + 0.15 < found.seconds < 3.0 + 0.2
    both = went(turns, [{"text": "a"}, {"text": "b"}], devices=[replace(one, limit=2)])
    assert found.seconds - 0.06 < both.seconds < found.seconds + 0.06


def test_maps_loops_and_branches() -> None:
    @workflow
    def mapped(texts: list[str]) -> list[str]:
        return plait.map(ask, texts)

    @workflow
    def looped(text: str) -> str:
        return plait.loop(ask, text, max_iters=3)

    @workflow
    def branched(text: str) -> str:
        return plait.when(good(text), big(text), ask(text))

    found = went(mapped, [{"texts": ["a", "b", "a"]}])
    (name,) = found.nodes
    assert found.nodes[name].calls == 3 and found.nodes[name].merged == 1
    rounds = went(looped, [{"text": "a"}])
    assert rounds.seconds == pytest.approx(3 * (0.1 + LATENCY))
    sides = went(branched, [{"text": f"{i}"} for i in range(10)])
    taken = [sides.nodes[n].calls for n in ("big", "ask") if n in sides.nodes]
    assert sum(taken) == 10


def test_turns_of_an_agent_are_counted_each_as_in_a_run() -> None:
    @plait.agent(tools=[look], max_turns=4)
    def solve(text: str) -> str:
        return f"solve {text}"

    counted = went(solve, [{"text": f"{i}"} for i in range(10)]).nodes["solve"]
    assert counted.calls == 2 * 10 and counted.merged == 0
    same = went(solve, [{"text": "a"}] * 10).nodes["solve"]
    assert same.calls - same.merged == 2  # equal conversations are held once


def test_an_agent_goes_on_from_the_first_of_its_generations() -> None:
    @plait.agent(tools=[look], max_turns=4, max_tokens=10, n=3, temperature=1.0)
    def solve(text: str) -> list[str]:
        return f"solve {text}"  # type: ignore[return-value]

    model = Simple()
    counted = went(solve, [{"text": "a"}], models={"default": model}).nodes["solve"]
    assert (counted.calls, counted.generated) == (2, 2 * 3 * 10)
    (_, first), (_, second) = model.asks
    assert list(second.prompt) == [*first.prompt, *first.answers[0]]


def test_a_slow_machine_takes_longer_for_steps_and_not_for_tools() -> None:
    known = knowing(chain, look=of(seconds=0.5))
    once, twice = (went(chain, [{"text": "a"}], known, disturbed=d) for d in (1.0, 2.0))
    assert twice.seconds - once.seconds == pytest.approx(0.2)


LONG = "Read with care what was found, and say it in few words. " * 8


@llm(max_tokens=10)
def answer(text: str, found: str) -> str:
    return f"{LONG} {text}: {found}"


@workflow
def searched(text: str) -> str:
    return answer(text, look(ask(text)))


def test_a_prompt_is_begun_while_its_last_value_is_awaited() -> None:
    model = Simple()
    known = knowing(searched, look=of(seconds=0.5))
    went(searched, [{"text": "a"}, {"text": "a"}, {"text": "b"}], known, models={"default": model})
    assert [at for at, _ in model.heads] == pytest.approx([AT_ONCE] * 2)  # equal ones are one
    prompts = [ask.prompt for _, ask in model.asks]
    for _, tokens in model.heads:
        assert len(tokens) > 100
        assert any(prompt[: len(tokens)] == tuple(tokens) for prompt in prompts)
    assert len(model.released) == 2 and min(model.released) > 0.1 + 0.5 + 0.1


def test_a_beginning_is_held_by_how_long_its_tool_takes_once_some_calls_have_ended() -> None:
    model = Simple()
    seen = of(seconds=0.5)
    rows = [{"text": f"{i}"} for i in range(KNOWN + 3)]
    known = knowing(searched, look=seen)
    went(searched, rows, known, models={"default": model}, window=1)
    assert model.awaited == [[[]]] * KNOWN + [[seen.seconds.shares()]] * 3
    together = Simple()
    went(searched, rows, known, models={"default": together})
    assert together.awaited == [[[]]] * len(rows), "all begin before one has ended"


def test_nothing_is_begun_that_is_whole_at_once_or_that_no_rule_has_marked() -> None:
    model = Simple()
    went(answer, [{"text": "a", "found": "b"}], models={"default": model})
    plan = make_plan(as_workflow(searched), [{"text": "a"}], disable=["split_prefill"])
    rehearse(plan, [[{"text": "a"}]], Estimates(), Stage({"default": model}))
    assert model.asks and not model.heads


def test_room_is_made_for_answers_as_long_as_those_that_have_come() -> None:
    model = Simple()
    known = knowing(ask, ask=of(answers=4))  # too few for a run to go by
    went(ask, [{"text": f"{i}"} for i in range(10)], known, models={"default": model}, window=1)
    assert [ask.room for _, ask in model.asks] == [10] * FEW + [4] * (10 - FEW)


def test_a_tool_s_result_is_as_long_as_what_it_is_given_says() -> None:
    seen = Observed()
    for size in (10, 40, 100, 400):
        seen.value("x" * (size + 2), given=size)
    known = Estimates({operator_key(dict(named_nodes(as_workflow(twice)))["look"]): seen})
    found = went(twice, [{"text": "abcd" * 20, "more": "efgh" * 100}], known)
    assert found.nodes["ask"].prompt == pytest.approx(20, abs=6)
    assert found.nodes["ask_2"].prompt == pytest.approx(100, abs=6)


@workflow
def twice(text: str, more: str) -> Any:
    return [ask(look(text)), ask(look(more))]


@given(st.lists(st.sampled_from("abcdef"), min_size=1, max_size=10), st.integers(1, 4))
def test_a_rehearsal_repeats_itself_and_no_call_is_lost(texts: list[str], window: int) -> None:
    rows = [{"text": t} for t in texts]
    found = went(chain, rows, window=window)
    assert found == went(chain, rows, window=window)
    for node in ("ask", "look", "again"):
        assert found.nodes[node].calls == len(rows)
        assert found.nodes[node].calls - found.nodes[node].merged == len(set(texts))
    assert found.seconds >= 2 * 0.1


@dataclass(frozen=True)
class Flat:
    step: float = 0.01
    token: float = 0.001
    token_context: float = 0.0
    decode_row: float = 0.002
    kv_token: float = 0.0
    kv_bytes: int = 100
    load: float = 3.0
    offload: float = 1e9
    restore: float = 1e9
    matmul_peak: float = 1.0


def test_the_cost_is_the_rehearsal_s_and_its_range_holds_what_lengths_may_be() -> None:
    rows = [{"text": "a"}, {"text": "b"}]
    plan = make_plan(as_workflow(ask), rows)
    profile = Profile({"default": Flat()}, loaded=frozenset({"default"}))
    found = went(ask, rows)
    cost = cost_of(plan, profile, found)
    assert cost.seconds == found.seconds and cost.rehearsed is not None
    assert cost.rehearsed.nodes["ask"].generated_tokens == 20
    assert cost.known == "limit" and not cost.certain
    assert cost.low < cost.seconds / 2 < cost.seconds < cost.high
    known = knowing(ask, ask=of(answers=4))
    sure = cost_of(plan, Profile({"default": Flat()}, estimates=known), went(ask, rows, known))
    assert sure.known == "history" and sure.certain
    assert sure.seconds * 0.8 < sure.low < sure.seconds < sure.high < sure.seconds * 1.2
    more = make_plan(as_workflow(ask), [{"text": text} for text in "abcd"])
    twice = cost_of(more, profile, found, plan)
    assert twice.decode_tokens == 40 and cost.seconds < twice.seconds < 2 * cost.seconds


@llm(max_tokens=10, model="same")
def as_ask(text: str) -> str:
    return f"{text}"


@pytest.mark.parametrize(("names", "calls"), [({}, 2), ({"same": "default"}, 1)])
def test_calls_to_aliases_of_one_model_are_one_as_in_a_run(
    names: dict[str, str], calls: int
) -> None:
    @workflow
    def both(text: str) -> list[str]:
        return [ask(text), as_ask(text)]

    one, rows = Simple(), [{"text": "a"}]
    plan = make_plan(as_workflow(both), rows, disable=["merge_calls"], names=names)
    rehearse(plan, [rows], Estimates(), Stage({"default": one, "same": one}))
    assert len(one.asks) == calls
