"""The demo model's tasks: right by a second calculation, repeatable, never in two splits."""

import itertools
import json
import random
import re
import sys
from collections import defaultdict
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "examples"))

from demo_model.items import ROLES, SYSTEM, Item, ask
from demo_model.problems import calculate, quantities, run_plan
from demo_model.stories import make_problem
from demo_model.story import LIMIT
from demo_model.tables import Query, connect, make_query, make_rows
from demo_model.tasks import SPLITS, make_items, split_of

LENGTHS = range(1, 6)


def some(role: str, count: int = 60, split: str = "train", seed: int = 1) -> list[Item]:
    return list(itertools.islice(make_items(role, split, seed), count))


def independent_value(steps: tuple[str, ...]) -> int:
    """The plan as one nested expression, left to Python's own arithmetic."""
    nested: list[str] = []
    for step in steps:
        nested.append("(" + re.sub(r"#(\d+)", lambda m: nested[int(m[1]) - 1], step) + ")")
    value = eval(nested[-1].replace("/", "//"), {"__builtins__": {}})
    assert isinstance(value, int)
    return value


@pytest.mark.parametrize("num_steps", LENGTHS)
def test_problems_are_right(num_steps: int) -> None:
    rng = random.Random(num_steps)
    for _ in range(200):
        problem = make_problem(rng, num_steps)
        assert len(problem.steps) == len(problem.values) == num_steps
        assert problem.answer == independent_value(problem.steps) == run_plan([*problem.steps])
        assert all(0 < value <= LIMIT for value in problem.values)
        for expression, value in zip(problem.worked(), problem.values, strict=True):
            assert calculate(expression) == value


@pytest.mark.parametrize("num_steps", LENGTHS)
def test_every_number_of_a_plan_stands_in_the_text(num_steps: int) -> None:
    rng = random.Random(num_steps)
    for _ in range(100):
        problem = make_problem(rng, num_steps)
        said = re.findall(r"\d+", problem.text)
        used = re.findall(r"(?<![#\d])\d+", " ".join(problem.steps))
        assert set(used) <= set(said)
        assert [str(q["value"]) for q in quantities(problem.text)] == said


@pytest.mark.parametrize("role", ROLES)
def test_a_seed_decides_everything(role: str) -> None:
    assert some(role) == some(role)
    assert some(role) != some(role, seed=2)


def test_no_two_splits_share_an_item() -> None:
    keys: dict[str, set[str]] = defaultdict(set)
    texts: dict[str, set[str]] = defaultdict(set)
    for role, split in itertools.product(ROLES, SPLITS):
        for item in some(role, 80, split):
            problems = [item.problem.key] if item.problem else [item.key]
            assert {split_of(key) for key in problems} == {split}
            keys[split].update(problems)
            texts[split].add(item.messages[1]["content"])
    for one, other in itertools.combinations(SPLITS, 2):
        assert not keys[one] & keys[other]
        assert not texts[one] & texts[other]


def test_most_computations_are_for_training() -> None:
    counts = {split: 0 for split in SPLITS}
    for number in range(4000):
        counts[split_of(f"{number} + 1")] += 1
    assert counts["train"] > 3400
    assert min(counts.values()) > 120


@pytest.mark.parametrize("role", ["solve", "check"])
def test_worked_lines_are_true(role: str) -> None:
    for item in some(role):
        *worked, last = item.target.splitlines()
        for line in worked:
            left, right = line.split(" = ")
            assert calculate(left) == int(right)
        assert item.problem is not None
        value = worked[-1].split(" = ")[1]
        assert value == str(item.problem.answer)
        if role == "solve":
            assert last == f"#### {value}"
        else:
            proposed = item.messages[1]["content"].rpartition(" ")[2]
            assert last == ("correct" if proposed == value else "wrong")


def test_checks_are_balanced() -> None:
    verdicts = [item.answer for item in some("check", 400)]
    assert 150 < verdicts.count("correct") < 250


def test_plans_evaluate_to_the_answer() -> None:
    for item in some("plan"):
        assert item.problem is not None
        plan = json.loads(item.target)
        assert item.target == json.dumps(plan)
        assert run_plan(plan["steps"]) == item.problem.answer


def test_extracted_quantities_stand_in_the_text() -> None:
    for item in some("extract"):
        text = item.messages[1]["content"]
        found = json.loads(item.target)["quantities"]
        assert [str(q["value"]) for q in found] == re.findall(r"\d+", text)
        assert all(f" {q['unit']}" in text for q in found)


def test_agents_call_until_they_answer() -> None:
    for item in some("agent", 200):
        turns = item.messages[2:]
        assert [m["role"] for m in turns] == ["assistant", "tool"] * (len(turns) // 2) + [
            "assistant"
        ]
        assert item.target == f"#### {item.answer}"
        for call, result in zip(turns[::2], turns[1::2], strict=False):
            function = call["tool_calls"][0]["function"]
            assert function["name"] in item.tools
            if function["name"] == "calculator":
                value = calculate(function["arguments"]["expression"])
                assert float(result["content"]) == value


def select(query: Query, rows: list[dict[str, Any]]) -> list[tuple[Any, ...]]:
    """What the query means, in plain Python."""
    compare = {
        "=": lambda a, b: a == b,
        ">": lambda a, b: a > b,
        "<": lambda a, b: a < b,
        ">=": lambda a, b: a >= b,
        "<=": lambda a, b: a <= b,
    }
    rows = [row for row in rows if all(compare[op](row[c], v) for c, op, v in query.where)]

    def reduce(some: list[dict[str, Any]]) -> Any:
        if query.aggregate == "COUNT":
            return len(some)
        values = [row[query.column] for row in some]
        if not values:
            return None
        total = sum(values)
        ends = {"SUM": total, "AVG": total / len(values), "MAX": max(values), "MIN": min(values)}
        return ends[query.aggregate]

    if query.group:
        names = sorted({row[query.group] for row in rows})
        return [(name, reduce([r for r in rows if r[query.group] == name])) for name in names]
    if query.aggregate:
        return [(reduce(rows),)]
    if query.order:
        rows = sorted(rows, key=lambda row: row[query.order], reverse=query.descending)
        rows = rows[: query.limit]
    return [(row[query.column],) for row in rows]


def test_sql_means_what_python_says() -> None:
    rng = random.Random(3)
    for number in range(300):
        query, _ = make_query(rng)
        rows = make_rows(random.Random(number), query)
        if query.order and len({row[query.order] for row in rows}) < len(rows):
            continue  # with ties, which rows come first is SQLite's choice
        with closing(connect(random.Random(number), query)) as database:
            got = database.execute(query.sql()).fetchall()
        assert got == select(query, rows), query.sql()


def test_sql_targets_are_the_query() -> None:
    for item in some("sql"):
        assert item.query is not None
        assert item.target == item.query.sql()
        assert item.query.table.name in item.messages[1]["content"]


def test_a_role_is_asked_for_in_its_own_words() -> None:
    assert set(SYSTEM) == set(ROLES)
    system, user = ask("check", "What is 2 + 2?", answer=4)
    assert system == {"role": "system", "content": SYSTEM["check"]}
    assert user["content"] == "What is 2 + 2?\nProposed answer: 4"
