"""Measure the demo model on held-out items: `python examples/demo_model/evaluate.py`.

Prints accuracy per role and number of steps as the table of the model card, and the same as JSON.
Answers are judged by what they do: a plan is run, a query is executed, an agent has real tools.
The model runs through plait; `--plain` runs it through transformers instead, to compare the two.
"""

import argparse
import itertools
import json
import random
import re
import sqlite3
import sys
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from demo_model.items import ROLES, Item, Message
from demo_model.problems import calculate, run_plan
from demo_model.tables import connect
from demo_model.tasks import make_items

MODEL = Path(__file__).resolve().parents[2] / "engine" / "demo_model"
MAX_TOKENS, MAX_TURNS = 200, 8
LENGTHS = range(1, 6)
Chat = tuple[list[Message], list[dict[str, Any]] | None]
Write = Callable[[list[Chat]], list[str]]
"""From chats, each with its tools, to what the model says next."""
CALL = re.compile(r"<tool_call>(.*?)</tool_call>", re.DOTALL)


def with_plait(model: Path) -> Write:
    """The model as plait runs it. The template is applied here, as `generate` takes no tools."""
    from transformers import AutoTokenizer

    import plait

    tokenizer = AutoTokenizer.from_pretrained(model)
    engine = plait.Engine(model=str(model))

    def write(chats: list[Chat]) -> list[str]:
        prompts = [render(tokenizer, chat) for chat in chats]
        tokens = [tokenizer.encode(prompt, add_special_tokens=False) for prompt in prompts]
        done = engine.generate(tokens, max_tokens=MAX_TOKENS, temperature=0.0)
        return [generation.text for generation in done]

    return write


def with_transformers(model: Path) -> Write:
    """The model as `transformers.generate` runs it, in padded batches."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(model, padding_side="left")
    net = AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32)

    def write(chats: list[Chat]) -> list[str]:
        texts: list[str] = []
        for at in range(0, len(chats), 64):
            prompts = [render(tokenizer, chat) for chat in chats[at : at + 64]]
            inputs = tokenizer(prompts, padding=True, return_tensors="pt", add_special_tokens=False)
            done = net.generate(**inputs, max_new_tokens=MAX_TOKENS, do_sample=False)
            answers = done[:, inputs["input_ids"].shape[1] :]
            texts += tokenizer.batch_decode(answers, skip_special_tokens=True)
        return texts

    return write


def render(tokenizer: Any, chat: Chat) -> str:
    messages, tools = chat
    text: str = tokenizer.apply_chat_template(
        messages, tools=tools, add_generation_prompt=True, tokenize=False
    )
    return text


class Tools:
    """The real tools of one agent item; an SQL item gets a table with rows."""

    def __init__(self, item: Item) -> None:
        self.item = item
        self.database: sqlite3.Connection | None = None
        if item.query is not None:
            self.database = connect(random.Random(item.key), item.query)

    def use(self, call: str) -> str:
        """The result of one call as text; like any tool, it answers nonsense with an error."""
        try:
            wanted = json.loads(call)
            if wanted["name"] == "calculator":
                return str(calculate(wanted["arguments"]["expression"]))
            return json.dumps(self.fetch(wanted["arguments"]["query"]))
        except (ValueError, KeyError, TypeError, sqlite3.Error) as error:
            return f"error: {error}"

    def fetch(self, sql: str) -> list[Any]:
        if self.database is None:
            raise ValueError("there are no tables")
        return self.database.execute(sql).fetchall()

    def answer(self) -> str:
        """The right answer; for SQL it follows from the rows and the calculation after it."""
        if self.item.query is None:
            return self.item.answer
        value = self.fetch(self.item.query.sql())[0][0]
        extra = [m for m in self.item.messages if m.get("tool_calls")][1:]
        for message in extra:
            expression = message["tool_calls"][0]["function"]["arguments"]["expression"]
            value = calculate(f"{value} {expression.split(' ', 1)[1]}")
        return str(value)


def run_agents(items: Sequence[Item], write: Write) -> list[bool]:
    """Every agent takes a turn, then every tool; until all have answered or run out of turns."""
    chats: list[Chat] = [(item.prompt, item.tool_schemas) for item in items]
    tools = [Tools(item) for item in items]
    right = [False] * len(items)
    active = list(range(len(items)))
    for _ in range(MAX_TURNS):
        texts = write([chats[i] for i in active]) if active else []
        waiting: list[int] = []
        for i, text in zip(active, texts, strict=True):
            chats[i][0].append({"role": "assistant", "content": text})
            if calls := CALL.findall(text):
                chats[i][0].extend({"role": "tool", "content": tools[i].use(c)} for c in calls)
                waiting.append(i)
            else:
                right[i] = same_value(final(text), tools[i].answer())
        active = waiting
    return right


def final(text: str) -> str:
    """What follows the last `####`."""
    return text.rpartition("####")[2].strip()


def same_value(got: str, wanted: str) -> bool:
    try:
        return abs(float(got) - float(wanted)) < 1e-6 * max(1.0, abs(float(wanted)))
    except ValueError:
        return got == wanted


def judge(item: Item, text: str) -> bool:
    """Is what the model wrote right? (Agents have their own loop.)"""
    try:
        if item.role == "solve":
            return final(text) == item.answer
        if item.role == "check":
            return text.strip().splitlines()[-1] == item.answer
        if item.role == "extract":
            return bool(json.loads(text) == json.loads(item.target))
        if item.role == "plan":
            assert item.problem is not None
            return run_plan(json.loads(text)["steps"]) == item.problem.answer
        assert item.query is not None
        with closing(connect(random.Random(item.key), item.query)) as database:
            wanted = database.execute(item.query.sql()).fetchall()
            return database.execute(text).fetchall() == wanted
    except (ValueError, KeyError, TypeError, IndexError, sqlite3.Error):
        return False


def measure(name: str, items: Sequence[Item], write: Write) -> float:
    """The share of items answered right."""
    if name.startswith("agent"):
        right = run_agents(items, write)
    else:
        texts = write([(item.prompt, item.tool_schemas) for item in items])
        right = [judge(item, text) for item, text in zip(items, texts, strict=True)]
    return sum(right) / len(right)


def cells(count: int, split: str) -> dict[tuple[str, int], list[Item]]:
    """The items of each row and column; 0 steps stands for roles that have no number of steps."""

    def some(role: str, steps: int, wanted: Callable[[Item], bool]) -> list[Item]:
        stream = make_items(role, split, seed=7, num_steps=steps or None)
        return list(itertools.islice(filter(wanted, stream), count))

    table: dict[tuple[str, int], list[Item]] = {}
    for role in ROLES:
        for steps in (0,) if role in ("extract", "sql") else LENGTHS:
            wanted = (lambda item: item.query is None) if role == "agent" else lambda _: True
            name = "agent, calculator" if role == "agent" else role
            table[name, steps] = some(role, steps, wanted)
    table["agent, SQL", 0] = some("agent", 0, lambda item: item.query is not None)
    return table


def show(scores: dict[tuple[str, int], float], count: int) -> str:
    """The table of the model card."""
    lines = [f"| role ({count} items a cell) | 1 step | 2 | 3 | 4 | 5 | all |", "|---" * 7 + "|"]
    for name in dict.fromkeys(name for name, _ in scores):
        row = {steps: score for (of, steps), score in scores.items() if of == name}
        several = [f"{row[steps]:.0%}" if steps in row else "" for steps in LENGTHS]
        lines.append(f"| {' | '.join([name, *several, f'{sum(row.values()) / len(row):.0%}'])} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, default=MODEL)
    parser.add_argument("--count", type=int, default=60, help="items per cell")
    parser.add_argument("--split", default="test")
    parser.add_argument("--plain", action="store_true", help="transformers instead of plait")
    options = parser.parse_args()
    write = (with_transformers if options.plain else with_plait)(options.model)
    table = cells(options.count, options.split)
    scores = {cell: measure(cell[0], items, write) for cell, items in table.items()}
    print(show(scores, options.count))
    print(json.dumps({f"{name}/{steps}": score for (name, steps), score in scores.items()}))


if __name__ == "__main__":
    main()
