"""An agent with two tools: a calculator, and SQL over a real SQLite file (read-only)."""

import sqlite3
import tempfile
from pathlib import Path

import plait
from plait import Engine, calculator, prompt, sqlite_tool, system, user


def make_shop(path: Path) -> Path:
    """A small database of orders."""
    with sqlite3.connect(path) as db:
        db.execute("CREATE TABLE orders (id INTEGER, customer TEXT, price INTEGER)")
        rows = [(1, "Ann", 120), (2, "Tom", 45), (3, "Ann", 30), (4, "Mia", 210)]
        db.executemany("INSERT INTO orders VALUES (?, ?, ?)", rows)
    db.close()
    return path


def make_agent(database: Path) -> plait.dag.llm.AgentOperator[[str], str]:
    sql = sqlite_tool(database, name="sql")

    @plait.agent(tools=[calculator, sql], max_turns=8, max_tokens=120)
    def assistant(question: str) -> str:
        return prompt(system("Solve the problem with the tools."), user(question))

    return assistant


SCHEMA = "orders(id, customer, price)"
QUESTIONS = [
    f"{SCHEMA}\nWhat is the total price?",
    f"{SCHEMA}\nHow many orders are there?",
    "Tom has 12 boxes with 144 pens each. He gives away 529 pens. How many pens are left?",
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
