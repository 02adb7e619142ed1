"""Map-reduce over documents: read the quantities out of each, then add them up by unit.

How many documents a row has is known only when it runs; all of them are read concurrently.
"""

from collections import Counter

from pydantic import BaseModel

import plait
from plait import llm, prompt, system, tool, user, workflow


class Quantity(BaseModel):
    value: int
    unit: str


class Quantities(BaseModel):
    quantities: list[Quantity]


@llm(max_tokens=200)
def extract(text: str) -> Quantities:
    return prompt(system("List the quantities as JSON."), user(text))


@tool(effect="pure")
def add_up(found: list[Quantities]) -> dict[str, int]:
    total: Counter[str] = Counter()
    for document in found:
        for quantity in document.quantities:
            total[quantity.unit] += quantity.value
    return dict(total)


@workflow
def inventory(documents: list[str]) -> dict[str, int]:
    return add_up(plait.map(extract, documents))


DOCUMENTS = [
    "Oscar has 777 apples in the shop. He buys 24 more apples for the shop.",
    "Rosa has 295 coins. Amir has 574 coins more than that.",
    "There are 110 lamps in the shop of Max. The next day he sells 91 lamps.",
]


def main() -> None:
    with plait.Engine(model="demo") as engine:
        run = engine.run(inventory, [{"documents": DOCUMENTS}, {"documents": DOCUMENTS[:1]}])
    for row in run:
        print(row.output if row.ok else row.error)


if __name__ == "__main__":
    main()
