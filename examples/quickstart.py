"""Two operators, one workflow, a batch of rows: python examples/quickstart.py"""

from pydantic import BaseModel

import plait
from plait import calculator, llm, prompt, system, tool, user, workflow


class Plan(BaseModel):
    steps: list[str]  # expressions, in which #2 stands for the result of step 2


@llm(max_tokens=160)
def plan(problem: str) -> Plan:
    return prompt(system("Write the steps of a plan as JSON."), user(problem))


@tool(effect="pure")
def carry_out(steps: list[str]) -> str:
    results: list[str] = []
    for step in steps:
        for k in range(len(results), 0, -1):
            step = step.replace(f"#{k}", results[k - 1])
        results.append(str(calculator(step)))
    return results[-1]


@workflow
def answer(problem: str) -> str:
    return carry_out(plan(problem).steps)


PROBLEMS = [
    "Nora opens 28 packs of 31 crayons. The next day she loses 139 crayons. "
    "How many crayons are there in the end?",
    "Omar has 64 hens on a farm. He sells 28 hens at the market. "
    "In the evening all hens are sold at 25 dollars each. How many dollars are left for Omar?",
    "Oscar has 777 apples in the shop. He buys 24 more apples for the shop. "
    "The apples are shared equally among 3 people. How many does each get?",
]


def main() -> None:
    with plait.Engine(model="demo") as engine:
        run = engine.run(answer, [{"problem": text} for text in PROBLEMS])
    for row, text in zip(run.rows, PROBLEMS, strict=True):
        print(f"{text}\n  -> {row.output if row.ok else row.error}")
    print(f"{run.stats.completion_tokens} tokens in {run.stats.seconds:.2f} s")


if __name__ == "__main__":
    main()
