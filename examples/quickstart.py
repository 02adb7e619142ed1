"""One operator, one workflow, a batch of rows: python examples/quickstart.py"""

import plait
from plait import llm, prompt, system, tool, user, workflow


@llm(max_tokens=120)
def solve(problem: str) -> str:
    return prompt(system("Solve the problem step by step."), user(problem))


@tool(effect="pure")
def final_number(reasoning: str) -> str:
    """What stands behind the last `####`."""
    return reasoning.rpartition("####")[2].strip()


@workflow
def answer(problem: str) -> dict[str, str]:
    reasoning = solve(problem)
    return {"answer": final_number(reasoning), "reasoning": reasoning}


PROBLEMS = [
    "Tom has 12 boxes with 4 pens each. He gives away 5 pens. How many pens are left?",
    "There are 30 apples in the shop of Mia. She sells 12 apples. How many apples are left?",
    "Ben reads 15 pages a day for 6 days. How many pages does he read?",
]


def main() -> None:
    with plait.Engine(model="demo") as engine:
        run = engine.run(answer, [{"problem": text} for text in PROBLEMS])
    for row, text in zip(run.rows, PROBLEMS, strict=True):
        print(f"{text}\n  -> {row.output['answer'] if row.ok else row.error}")
    print(f"{run.stats.completion_tokens} tokens in {run.stats.seconds:.2f} s")


if __name__ == "__main__":
    main()
