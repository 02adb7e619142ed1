"""One plans, a calculator carries it out, one checks (the demo model: by chance), one solves."""

from pydantic import BaseModel

import plait
from plait import calculator, llm, prompt, system, tool, user, workflow


class Plan(BaseModel):
    steps: list[str]  # expressions, in which #2 stands for the result of step 2


@llm(max_tokens=160)
def plan(problem: str) -> Plan:
    return prompt(system("Write the steps of a plan as JSON."), user(problem))


@llm(max_tokens=120)
def check(problem: str, answer: str) -> str:
    question = f"{problem}\nProposed answer: {answer}"
    return prompt(system("Check the proposed answer."), user(question))


@llm(max_tokens=120)
def solve(problem: str) -> str:
    return prompt(system("Solve the problem step by step."), user(problem))


@tool(effect="pure")
def carry_out(steps: list[str]) -> str:
    results: list[str] = []
    for step in steps:
        for k in range(len(results), 0, -1):
            step = step.replace(f"#{k}", results[k - 1])
        results.append(str(calculator(step)))
    return results[-1]


@tool(effect="pure")
def agrees(verdict: str) -> bool:
    return verdict.strip().endswith("correct")


@workflow
def plan_solve_check(problem: str) -> dict[str, str]:
    planned = carry_out(plan(problem).steps)
    accepted = agrees(check(problem, planned))
    second = plait.when(accepted, "", lambda: solve(problem))  # runs only when the check fails
    return {"planned": planned, "second_opinion": second}


def main() -> None:
    problem = "Nora opens 8 packs of 12 crayons. She loses 19 crayons. How many crayons are left?"
    with plait.Engine(model="demo") as engine:
        print(engine.call(plan_solve_check, problem=problem))


if __name__ == "__main__":
    main()
