"""A live program: an `async def` workflow runs as plain Python, with ordinary loops and ifs.

It asks several times with chance, takes the majority, and stops early when three agree.
"""

from collections import Counter

import plait
from plait import llm, prompt, system, tool, user, workflow


@llm(max_tokens=120, temperature=0.7)
def solve(problem: str) -> str:
    return prompt(system("Solve the problem step by step."), user(problem))


@tool(effect="pure")
def final_number(reasoning: str) -> str:
    return reasoning.rpartition("####")[2].strip()


@workflow
async def majority(problem: str, rounds: int = 3) -> dict[str, object]:
    votes: Counter[str] = Counter()
    for _ in range(rounds):
        texts = await plait.gather(*(solve.acall(problem) for _ in range(3)))
        votes.update(await plait.gather(*(final_number.acall(text) for text in texts)))
        answer, count = votes.most_common(1)[0]
        if count >= 3:
            break
    return {"answer": answer, "votes": dict(votes)}


def main() -> None:
    problem = "Ann travels for 2 hours at 25 kilometers per hour. How many kilometers is it?"
    with plait.Engine(model="demo", seed=1) as engine:
        run = engine.run(majority, [{"problem": problem}])
    for row in run:
        print(row.output if row.ok else row.error)
    print({name: node.calls for name, node in run.stats.nodes.items()})


if __name__ == "__main__":
    main()
