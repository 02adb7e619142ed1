"""An agent with two tools: a calculator, and SQL over a real SQLite file (read-only)."""

import sqlite3
import tempfile
from pathlib import Path

import plait
from plait import Engine, calculator, prompt, sqlite_tool, system, user


def make_shop(path: Path) -> Path:
    """A small database of orders."""
    with sqlite3.connect(path) as db:
        db.execute("CREATE TABLE orders (id INTEGER, city TEXT, price INTEGER)")
        rows = [(1, "Lima", 120), (2, "Cairo", 45), (3, "Lima", 30), (4, "Paris", 210)]
        db.executemany("INSERT INTO orders VALUES (?, ?, ?)", rows)
    db.close()
    return path


def make_agent(database: Path) -> plait.dag.llm.AgentOperator[[str], str]:
    sql = sqlite_tool(database, name="sql")

    @plait.agent(tools=[calculator, sql], max_turns=8, max_tokens=120)
    def assistant(question: str) -> str:
        return prompt(system("Solve the problem with the tools."), user(question))

    return assistant


SCHEMA = "Table orders(id, city, price)"
QUESTIONS = [
    f"{SCHEMA}\nWhich city has the highest price in orders?",
    f"{SCHEMA}\nWhat is the average price of orders?",
    "Nora opens 28 packs of 31 crayons. The next day she loses 139 crayons. "
    "How many crayons are there in the end?",
]


def main() -> None:
    with tempfile.TemporaryDirectory() as folder, Engine(model="demo") as engine:
        assistant = make_agent(make_shop(Path(folder) / "shop.db"))
        run = engine.run(assistant, [{"question": q} for q in QUESTIONS])
        for question, row in zip(QUESTIONS, run, strict=True):
            print(f"{question}\n  -> {row.output if row.ok else row.error}")
        for name, node in run.stats.nodes.items():
            print(f"{name}: {node.calls} calls")


if __name__ == "__main__":
    main()
