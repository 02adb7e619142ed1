"""The workflows of the benchmark: nine shapes of agent programs, each with a batch of rows."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import plait
from plait import llm, system, tool, user, workflow

from .workflow_text import documents, pick, questions, rows, text

WINDOW = 256
"""Rows under way at a time, in every mode but row by row."""
TOOL_SECONDS = 0.05
TOKENS = 48
"""Length of an answer."""
DESK_ROUNDS = 4


@dataclass(frozen=True, slots=True)
class Shape:
    """A workflow and how to make its rows."""

    name: str
    says: str
    workflow: Any
    rows: Callable[[int], list[dict[str, Any]]]
    batch: int = WINDOW
    """Rows, unless told: as many as run side by side here."""
    models: tuple[str, ...] = field(default=("default",))


def role(name: str, words: int = 60) -> str:
    """A system prompt."""
    return f"You are the {name}. {text(f'role/{name}', words)}."


def ask(name: str, tokens: int = TOKENS, model: str = "default") -> Callable[[Any, Any], str]:
    """An operator that shows a role some context and gives it a task."""

    @llm(max_tokens=tokens, model=model)
    def asked(context: str, task: str) -> str:
        return plait.prompt(system(role(name)), user(f"Context: {context}\nTask: {task}"))

    return asked


# -- chain, diamond, reflection -----------------------------------------------------------------

summarize, criticize, rewrite = ask("summarizer"), ask("critic"), ask("editor")
argue_for, argue_against, judge = ask("advocate"), ask("opponent"), ask("judge")
cautious = ask("cautious critic")


@workflow
def chain(document: str, question: str) -> str:
    summary = summarize(document, "Summarize the document.")
    return rewrite(criticize(summary, "Say what is missing."), question)


@workflow
def diamond(document: str, question: str) -> str:
    facts = summarize(document, "List the facts.")
    one, two = argue_for(facts, question), argue_against(facts, question)
    return joined(one, two, question)


@llm(max_tokens=TOKENS)
def joined(one: str, two: str, question: str) -> str:
    return plait.prompt(
        system(role("judge")), user(f"First: {one}\nSecond: {two}\nQuestion: {question}")
    )


@workflow
def reflection(document: str, question: str) -> str:
    draft = rewrite(document, question)
    one = criticize(draft, "Criticize the draft.")
    two = cautious(draft, "Criticize the draft.")
    return joined(one, two, question)


# -- fan-out, debate, trident, retrieval ---------------------------------------------------------


@llm(max_tokens=16)
def note(document: str, topic: str) -> str:
    return plait.prompt(system(role("reader")), user(f"Document: {document}\nTopic: {topic}"))


@llm(max_tokens=32)
def combine(notes: list[str], topic: str) -> str:
    return plait.prompt(system(role("writer")), user(f"Topic: {topic}\nNotes: {notes}"))


@workflow
def map_reduce(documents: list[str], topic: str) -> str:
    return combine(plait.map(note, documents, topic=topic), topic)


debaters = [ask(f"debater {i}") for i in range(3)]


@workflow
def debate(document: str, question: str) -> str:
    said = [speak(document, question) for speak in debaters]
    said = [speak(heard(said[i - 1], said[i - 2]), question) for i, speak in enumerate(debaters)]
    return joined(said[0], said[1], question)


@tool(effect="pure")
def heard(one: str, two: str) -> str:
    return f"{one} / {two}"


@tool(effect="pure")
async def look_up(words: str) -> str:
    await asyncio.sleep(TOOL_SECONDS)
    return text(f"looked up/{words[-24:]}", 40)


@workflow
def trident(document: str, question: str) -> str:
    ends: list[str] = []
    for start in (summarize, argue_for, argue_against):
        found = look_up(start(document, "Find what to look up."))
        ends.append(rewrite(found, question))
    return joined(heard(ends[0], ends[1]), ends[2], question)


@tool(effect="pure")
async def retrieve(question: str) -> str:
    """One of a few pages, whichever the question is about."""
    await asyncio.sleep(TOOL_SECONDS)
    return text(f"page/{sum(question.encode()) % 6}", 160)


@workflow
def retrieval(question: str) -> str:
    page = retrieve(question)
    answer = summarize(page, question)
    return judge(page, answer)


# -- a trading desk: 19 agents, 88 calls ---------------------------------------------------------

analysts = [ask(f"{name} analyst", 24) for name in ("market", "news", "social", "funds", "macro")]
researchers = [ask(f"{name} researcher", 24) for name in ("bull", "bear", "neutral")]
traders = [ask(f"trader {i}", 24) for i in range(4)]
risk = [ask(f"{name} risk manager", 24) for name in ("bold", "safe", "even")]
heads = [ask(f"head of {name}", 24) for name in ("desk", "risk", "research", "compliance")]


@workflow
def desk(report: str, ticker: str) -> str:
    """5 analysts; then four rounds of 20 calls by the others, and three last words."""
    views = [analyst(report, ticker) for analyst in analysts]
    brief = heard(views[0], views[4])
    for turn in range(DESK_ROUNDS):
        task = heard(f"Round {turn}", ticker)
        researched = [r(brief, task) for r in researchers]
        plans = [t(heard(researched[i % 3], views[i]), task) for i, t in enumerate(traders)]
        checks = [r(heard(plans[i], plans[i + 1]), task) for i, r in enumerate(risk)]
        again = [r(heard(c, brief), task) for r, c in zip(researchers, checks, strict=True)]
        fixed = [t(heard(plans[i], again[i % 3]), task) for i, t in enumerate(traders)]
        fixed[2] = heard(fixed[2], fixed[3])
        ends = [h(heard(fixed[i], checks[i]), task) for i, h in enumerate(heads[:3])]
        brief = heard(heard(ends[0], ends[1]), ends[2])
    last = [h(brief, ticker) for h in heads[1:]]
    return heard(last[0], heard(last[1], last[2]))


# -- two models ----------------------------------------------------------------------------------

sketch, refine = ask("sketcher", model="small"), ask("refiner", model="big")
proof, polish = ask("proofreader", model="small"), ask("polisher", model="big")


@workflow
def two_models(document: str, question: str) -> str:
    first = refine(sketch(document, question), question)
    return polish(proof(first, "Find mistakes."), question)


def _asked(shape: str, docs: int, asks: int, words: int = 160) -> Any:
    names = ("document", "question")
    return lambda count: rows(
        names, pick(shape, count, documents(shape, docs, words), questions(shape, asks))
    )


def _reading(count: int) -> list[dict[str, Any]]:
    pool = documents("map_reduce", 16, 100)
    lists = [pool[i : i + 4] for i in range(13)]
    return rows(("documents", "topic"), pick("map_reduce", count, lists, questions("mr", 3, 4)))


def _trading(count: int) -> list[dict[str, Any]]:
    reports, tickers = documents("desk", 6, 120), questions("desk", 4, 1)
    return rows(("report", "ticker"), pick("desk", count, reports, tickers))


def _retrieving(count: int) -> list[dict[str, Any]]:
    return rows(("question",), pick("retrieval", count, questions("retrieval", 4 * count)))


SHAPES: tuple[Shape, ...] = (
    Shape("chain", "3 calls in a row", chain, _asked("chain", 8, 24)),
    Shape("diamond", "1 -> 2 -> 1", diamond, _asked("diamond", 8, 24)),
    Shape("map_reduce", "4 documents a row, then one", map_reduce, _reading),
    Shape("debate", "3 agents, 2 rounds, a judge", debate, _asked("debate", 8, 24)),
    Shape("reflection", "a draft, 2 critics, a judge", reflection, _asked("reflection", 8, 24)),
    Shape("trident", "3 chains with a late tool each", trident, _asked("trident", 8, 24)),
    Shape("retrieval", "a page per row, an answer, a check", retrieval, _retrieving),
    Shape("desk", "19 agents, 88 calls", desk, _trading, 64),
    Shape("two_models", "small, big, small, big", two_models, _asked("two", 8, 24),
          models=("small", "big")),
)  # fmt: skip
