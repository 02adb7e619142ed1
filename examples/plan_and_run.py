"""A model plans the tasks: they are checked, and run as soon as what they need is there.

The embedded model was not taught to plan, so a script plays the planner here. With a model that
can, give `Engine(model=...)` instead.
"""

import json

import plait
from plait import Engine, tool
from plait.testing import FakeBackend, scripted


@tool(effect="pure")
def population(city: str) -> int:
    """People who live in a city, in thousands."""
    return {"Lima": 10_092, "Cairo": 22_183, "Paris": 11_208}[city]


@tool(effect="pure")
def add(numbers: list[int]) -> int:
    """The sum of numbers."""
    return sum(numbers)


@plait.plan_and_run(calls=[population, add], max_tasks=8)
def answer(question: str) -> str:
    return question


PLANS = [
    {
        "tasks": [
            {"call": "population", "args": {"city": "Lima"}},
            {"call": "population", "args": {"city": "Cairo"}},
            {"call": "add", "args": {"numbers": ["#1", "#2"]}},
        ],
        "answer": "#3 thousand people live in Lima and Cairo.",
    },
    {"tasks": [{"call": "fly", "args": {"to": "Paris"}}], "answer": "#1"},
]


def main() -> None:
    backend = FakeBackend(scripted(json.dumps(plan) for plan in PLANS))
    with Engine(backend=backend) as engine:
        run = engine.run(answer, [{"question": "How many live there?"}, {"question": "Go!"}])
        for row in run:
            print(row.output if row.ok else row.error)
        for name, node in run.stats.nodes.items():
            print(f"{name}: {node.calls} calls")


if __name__ == "__main__":
    main()
