"""The demo: does a plan and a calculator beat solving a word problem in one go?

Every problem is solved twice. Once the model writes the steps of a plan as JSON and a plain Python
tool carries them out; once it reasons to an answer by itself. Both are marked against the truth.
`plait demo` runs this file on the problems beside it.
"""

from pydantic import BaseModel

import plait
from plait import calculator, llm, prompt, system, tool, user, workflow


class Plan(BaseModel):
    steps: list[str]
    """Expressions; `#2` stands for the result of step 2."""


@llm(max_tokens=160)
def plan(problem: str) -> Plan:
    return prompt(system("Write the steps of a plan as JSON."), user(problem))


@llm(max_tokens=120)
def solve(problem: str) -> str:
    return prompt(system("Solve the problem step by step."), user(problem))


@tool(effect="pure")
def carry_out(steps: list[str]) -> str:
    """Compute the steps one by one; no answer when one of them cannot be computed."""
    results: list[str] = []
    for step in steps:
        for k in range(len(results), 0, -1):
            step = step.replace(f"#{k}", results[k - 1])
        try:
            results.append(str(calculator(step)))
        except plait.ToolError:
            return ""
    return results[-1] if results else ""


@tool(effect="pure")
def mark(planned: str, reasoning: str, answer: int, steps: int) -> dict[str, object]:
    alone = reasoning.rpartition("####")[2].strip()
    right = {"planned_right": planned == str(answer), "alone_right": alone == str(answer)}
    return {"answer": answer, "steps": steps, "planned": planned, "alone": alone, **right}


@workflow
def demo(problem: str, answer: int, steps: int) -> dict[str, object]:
    planned = carry_out(plan(problem).steps)
    return mark(planned, solve(problem), answer, steps)


if __name__ == "__main__":
    problem = "Tom has 3 boxes with 14 pens each. How many pens are there?"
    with plait.Engine(model="demo") as engine:
        print(engine.call(demo, problem=problem, answer=42, steps=1))
