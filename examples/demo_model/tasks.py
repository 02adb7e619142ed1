"""What the demo model learns: items of every role, made from a seed.

`make_items` is what training and evaluation draw from. No two splits share an item: a problem
belongs to the split that the hash of its computation names (`split_of`), whatever the wording, role
or seed, and `Draw` drops what is not its own.
"""

import hashlib
import json
import random
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from .items import ROLES, Item, Message, ask
from .problems import Problem, quantities
from .stories import MAX_STEPS, make_problem
from .story import invent
from .tables import Query, make_query

SPLITS: Final = ("train", "valid", "test")
_LENGTHS: Final = range(1, MAX_STEPS + 1)


def split_of(key: str) -> str:
    """The one split that a computation belongs to: 90 % train, 5 % valid, 5 % test."""
    bucket = hashlib.sha256(key.encode()).digest()[0] * 100 // 256
    return "test" if bucket < 5 else "valid" if bucket < 10 else "train"


def make_items(
    role: str, split: str, seed: int = 0, num_steps: int | None = None
) -> Iterator[Item]:
    """Items of a role and split without end; `num_steps` keeps to one length of problem."""
    if role not in ROLES or split not in SPLITS:
        raise ValueError(f"no role {role!r} or no split {split!r}; see ROLES and SPLITS")
    rng = random.Random(f"{seed}/{role}/{split}/{num_steps}")
    draw = Draw(rng, split)
    while True:
        yield _MAKERS[role](draw, num_steps or rng.choices(_LENGTHS, (4, 4, 5, 5, 5))[0])


@dataclass(frozen=True)
class Draw:
    """The chance of one stream of items, and the split that all it draws must belong to."""

    rng: random.Random
    split: str

    def problem(self, num_steps: int, plain: float = 0.0) -> Problem:
        while True:
            problem = make_problem(self.rng, num_steps, plain)
            if split_of(problem.key) == self.split:
                return problem

    def query(self, scalar: bool = False) -> tuple[Query, str]:
        while True:
            query, question = make_query(self.rng, scalar)
            if split_of(query.key) == self.split:
                return query, question


def say(role: str, rng: random.Random, text: str, answer: object = "") -> tuple[Message, ...]:
    """`ask` in a wording drawn at random, the usual one in most cases."""
    wording = rng.randrange(4) if rng.random() < 0.35 else 0
    return tuple(ask(role, text, answer=answer, wording=wording))


def reply(content: str) -> Message:
    return {"role": "assistant", "content": content}


def lines(problem: Problem) -> str:
    """The worked steps, one a line: `12 * 4 = 48`."""
    worked = zip(problem.worked(), problem.values, strict=True)
    return "\n".join(f"{expression} = {value}" for expression, value in worked)


def make_solve(draw: Draw, num_steps: int) -> Item:
    rng, problem = draw.rng, draw.problem(num_steps, plain=0.3)
    target = f"{lines(problem)}\n#### {problem.answer}"
    messages = (*say("solve", rng, problem.text), reply(target))
    return Item("solve", problem.key, num_steps, messages, str(problem.answer), problem=problem)


def make_plan(draw: Draw, num_steps: int) -> Item:
    rng, problem = draw.rng, draw.problem(num_steps, plain=0.05)
    target = json.dumps({"steps": list(problem.steps)})
    messages = (*say("plan", rng, problem.text), reply(target))
    return Item("plan", problem.key, num_steps, messages, target, problem=problem)


def call(name: str, argument: str, value: str) -> Message:
    """An assistant turn that calls a tool, in OpenAI form."""
    function = {"name": name, "arguments": {argument: value}}
    return {"role": "assistant", "content": "", "tool_calls": [{"type": "function",
                                                               "function": function}]}  # fmt: skip


def result(content: str) -> Message:
    return {"role": "tool", "content": content}


def make_agent(draw: Draw, num_steps: int) -> Item:
    """A chat with tools: the calculator for a problem, SQL for a question over a table."""
    if draw.rng.random() < 0.4:
        return make_sql_agent(draw)
    rng, problem = draw.rng, draw.problem(num_steps, plain=0.05)
    tools = rng.choice((("calculator",), ("calculator",), ("calculator", "sql"),
                        ("sql", "calculator")))  # fmt: skip
    turns: list[Message] = []
    as_float = rng.random() < 0.05
    for expression, value in zip(problem.worked(), problem.values, strict=True):
        turns.append(call("calculator", "expression", expression))
        turns.append(result(f"{value}.0" if as_float else str(value)))
    messages = (*say("agent", rng, problem.text), *turns, reply(f"#### {problem.answer}"))
    return Item(
        "agent", problem.key, num_steps, messages, str(problem.answer), tools, problem=problem
    )


def make_sql_agent(draw: Draw) -> Item:
    """One query whose result, made up here, is the answer; or is calculated with once more."""
    rng, (query, question) = draw.rng, draw.query(scalar=True)
    tools = rng.choice((("sql",), ("calculator", "sql"), ("sql", "calculator")))
    value = made_result(rng, query)
    turns = [call("sql", "query", query.sql()), result(shown(rng, query, value))]
    final = str(value)
    if isinstance(value, int) and len(tools) == 2 and rng.random() < 0.4:
        operator, words = rng.choice((("*", "multiply it by"), ("+", "add"), ("-", "subtract")))
        other = rng.randint(2, 99)
        if operator == "-":
            other = rng.randint(1, value) if value > 1 else 1
        question += f" Then {words} {other}."
        final = str({"*": value * other, "+": value + other, "-": value - other}[operator])
        turns += [call("calculator", "expression", f"{value} {operator} {other}"), result(final)]
    text = f"{schema(rng, query)}\n{question}"
    messages = (*say("agent", rng, text), *turns, reply(f"#### {final}"))
    return Item("agent", query.key, len(turns) // 2, messages, final, tools, query=query)


def made_result(rng: random.Random, query: Query) -> int | float | str:
    """Something the query could have returned; training does not need the rows themselves."""
    if not query.aggregate:
        return rng.choice(("Ann", "Paris", "blue", "lamp", invent(rng).capitalize(), "Lions"))
    if query.aggregate == "AVG" and rng.random() < 0.8:
        mean = rng.randint(20, 9000) / rng.randint(3, 40)
        return mean if rng.random() < 0.6 else round(mean, rng.randint(1, 3))
    return rng.randint(0, 50) if query.aggregate == "COUNT" else rng.randint(1, 4000)


def shown(rng: random.Random, query: Query, value: int | float | str) -> str:
    """A result as tools print it: bare, as rows, or as rows with column names."""
    column = f"{query.aggregate}({query.column})" if query.aggregate else query.column
    shapes = (value, [[value]], [{column: value}], {column: value})
    shape = rng.choice(shapes)
    return str(shape) if shape is value else json.dumps(shape)


def schema(rng: random.Random, query: Query) -> str:
    return query.table.short() if rng.random() < 0.5 else query.table.create()


def make_check(draw: Draw, num_steps: int) -> Item:
    rng, problem = draw.rng, draw.problem(num_steps, plain=0.3)
    right = rng.random() < 0.5
    proposed = problem.answer if right else wrong_answer(rng, problem)
    verdict = "correct" if right else "wrong"
    target = f"{lines(problem)}\n{verdict}"
    messages = (*say("check", rng, problem.text, proposed), reply(target))
    return Item("check", problem.key, num_steps, messages, verdict, problem=problem)


def wrong_answer(rng: random.Random, problem: Problem) -> int:
    """A plausible mistake: a step forgotten, a wrong operator at the end, or a slip in a digit."""
    worked = problem.worked()[-1].split()
    a, b = int(worked[0]), int(worked[2])
    guesses = [*problem.values[:-1], a + b, abs(a - b), a * b]
    digits = [10**k * rng.choice((-2, -1, 1, 2)) for k in range(len(str(problem.answer)))]
    slips = [problem.answer + slip for slip in digits]
    pool = guesses if rng.random() < 0.5 else slips
    fits = [guess for guess in pool if 0 < guess != problem.answer]
    return rng.choice(fits or [problem.answer + 10])


def make_extract(draw: Draw, num_steps: int) -> Item:
    """A text of one or two stories, with or without a question, and its quantities in order."""
    rng, first = draw.rng, draw.problem(num_steps)
    second = draw.problem(rng.randint(1, 2)) if rng.random() < 0.25 else None
    text = first.text if rng.random() < 0.3 else first.story
    key = first.key
    if second is not None:
        text, key = f"{text} {second.story}", f"{key}; {second.key}"
    target = json.dumps({"quantities": quantities(text)})
    messages = (*say("extract", rng, text), reply(target))
    return Item("extract", key, num_steps, messages, target, problem=first)


def make_sql(draw: Draw, num_steps: int) -> Item:
    """A schema and a question; `num_steps` means nothing here."""
    rng, (query, question) = draw.rng, draw.query()
    messages = (*say("sql", rng, f"{schema(rng, query)}\n{question}"), reply(query.sql()))
    return Item("sql", query.key, 1, messages, query.sql(), query=query)


_MAKERS: Final = {
    "solve": make_solve,
    "plan": make_plan,
    "agent": make_agent,
    "check": make_check,
    "extract": make_extract,
    "sql": make_sql,
}
