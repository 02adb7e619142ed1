"""Stories of 1 to 5 steps, told together with their own solution.

A story is how somebody's heap of things starts, events that change it, and a question. Each event
writes a sentence *and* the steps that compute it, so text, plan and answer cannot disagree.
Two-step events (`3 boxes of 4 more`) make plans that are trees, not just chains.
"""

import random
from collections.abc import Callable
from typing import Final

from .problems import Problem
from .settings import ADJECTIVES, DISTRACTIONS, HE, MONEY, SETTINGS, SHE, TRAVEL
from .story import Dead, Story, each, factor, invent, number

MAX_STEPS: Final = 5

# How a story starts: each writes the first sentence or two and sets the running total.


def have(s: Story) -> None:
    a = number(s.rng)
    unit = s.unit
    if s.setting not in (TRAVEL, MONEY) and s.rng.random() < 0.2:
        s.unit = f"{s.rng.choice(ADJECTIVES)} {unit}"
    s.say(s.rng.choice(s.setting.have), a)
    s.unit = unit
    s.ref, s.total = str(a), a


def groups(s: Story) -> None:
    a, b = each(s.rng)
    s.say(s.rng.choice(s.setting.groups), a, b)
    s.move(s.step(str(a), "*", str(b)))


def compared(s: Story) -> None:
    a = number(s.rng)
    s.say("{M} has {a} {U}.", a)
    kind = s.rng.choice("*+-")
    b = factor(s.rng) if kind == "*" else number(s.rng)
    s.say(
        {
            "*": "{N} has {a} times as many {U}.",
            "+": "{N} has {a} {U} more than that.",
            "-": "{N} has {a} {U} fewer.",
        }[kind],
        b,
    )
    s.move(s.step(str(a), kind, str(b)))


def together(s: Story) -> None:
    a, b = number(s.rng), factor(s.rng)
    s.say("{M} has {a} {U}.", a)
    s.say("{N} has {a} times as many {U}.", b)
    s.say("They put all their {U} together.")
    s.move(s.step(str(a), "*", str(b)))
    s.move(s.step(str(a), "+", s.ref))


# What happens then: each writes a sentence and changes the running total.


def add(s: Story) -> None:
    a = number(s.rng)
    s.say(s.rng.choice(s.setting.add), a, link=True)
    s.change("+", str(a))


def sub(s: Story) -> None:
    a = min(number(s.rng), s.total - s.rng.randint(1, 9))
    if a < 2:
        raise Dead
    s.say(s.rng.choice(s.setting.sub), a, link=True)
    s.change("-", str(a))


def mul(s: Story) -> None:
    a = factor(s.rng)
    s.say(s.rng.choice(s.setting.mul), a, link=True)
    s.change("*", str(a))


def div(s: Story) -> None:
    a = divisor(s)
    s.say(s.rng.choice(s.setting.div), a, link=True)
    s.change("/", str(a))


def divisor(s: Story) -> int:
    fits = [a for a in range(2, 13) if s.total % a == 0 and s.total > a]
    if not fits:
        raise Dead
    return s.rng.choice(fits)


def add_groups(s: Story) -> None:
    a, b = each(s.rng)
    s.say(s.rng.choice(s.setting.add_groups), a, b, link=True)
    s.change("+", s.step(str(a), "*", str(b)))


def sub_groups(s: Story) -> None:
    a, b = each(s.rng)
    s.say(s.rng.choice(s.setting.sub_groups), a, b, link=True)
    s.change("-", s.step(str(a), "*", str(b)))


def sell(s: Story) -> None:
    """All things are sold: from here on the story counts money."""
    if s.setting in (TRAVEL, MONEY):
        raise Dead
    a = factor(s.rng)
    sentence = s.rng.choice(("{p} sells all {U} for {a} dollars each.", "all {U} are sold at {a} "
                             "dollars each."))  # fmt: skip
    s.say(sentence, a, link=True)
    s.change("*", str(a))
    s.setting, s.unit = MONEY, "dollars"


# What is asked: the plain question, or one that takes a step of its own.


def ask(s: Story) -> str:
    return s.rng.choice(s.setting.ask).format(N=s.name, U=s.unit)


def ask_packs(s: Story) -> str:
    a = divisor(s)
    s.change("/", str(a))
    return s.rng.choice(
        (
            f"How many boxes of {a} {s.unit} can be filled?",
            f"The {s.unit} are shared equally among {a} people. How many does each get?",
            f"With {a} {s.unit} in each bag, how many bags are there?",
        )
    )


def ask_difference(s: Story) -> str:
    a = min(number(s.rng), s.total - 1)
    if a < 2:
        raise Dead
    s.say("{M} has {a} {U}.", a)
    s.change("-", str(a))
    return f"How many more {s.unit} does {s.name} have than {s.other}?"


def ask_sum(s: Story) -> str:
    a = number(s.rng)
    s.say("{M} has {a} {U}.", a)
    s.change("+", str(a))
    return f"How many {s.unit} do they have in all?"


Event = Callable[[Story], None]
STARTS: dict[Event, int] = {have: 0, groups: 1, compared: 1, together: 2}
EVENTS: dict[Event, int] = {add: 1, sub: 1, mul: 1, div: 1, sell: 1, add_groups: 2, sub_groups: 2}
ASKS: dict[Callable[[Story], str], int] = {
    ask: 0,
    ask_packs: 1,
    ask_difference: 1,
    ask_sum: 1,
}
"""Each with the number of steps that it takes."""


def tell(rng: random.Random, num_steps: int) -> Problem:
    """Tell one story of exactly `num_steps` steps, or raise `Dead`."""
    he = rng.random() < 0.5
    name, other = rng.sample(HE if he else SHE, 1)[0], rng.choice(SHE if he else HE)
    if rng.random() < 0.15:
        name, other = invent(rng).capitalize(), invent(rng).capitalize()
    setting = rng.choice(SETTINGS)
    unit = rng.choice(setting.units)
    if setting not in (TRAVEL, MONEY) and rng.random() < 0.15:
        unit = f"{invent(rng)}s"
    story = Story(rng, setting, name, "he" if he else "she", other, unit)
    rng.choices(list(STARTS), (5, 3, 2, 1))[0](story)
    question = rng.choices(list(ASKS), (6, 1, 1, 1))[0]
    while len(story.steps) + ASKS[question] < num_steps:
        left = num_steps - len(story.steps) - ASKS[question]
        events = [event for event, cost in EVENTS.items() if cost <= left]
        rng.choice(events)(story)
    if rng.random() < 0.08:
        story.say(rng.choice(DISTRACTIONS), number(rng))
    asked = question(story)
    if len(story.steps) != num_steps:
        raise Dead
    text = " ".join(story.sentences)
    return Problem(text, asked, tuple(story.steps), tuple(story.values))


def bare(rng: random.Random) -> Problem:
    """A sum without a story: `What is 12 * 4?`"""
    operator = rng.choice("+-*/")
    a, b = number(rng), factor(rng) if operator in "*/" else number(rng)
    if operator == "/":
        a *= b
    if operator == "-":
        a, b = a + b, min(a, b)
    value = {"+": a + b, "-": a - b, "*": a * b, "/": a // b}[operator]
    return Problem("", f"What is {a} {operator} {b}?", (f"{a} {operator} {b}",), (value,))


def make_problem(rng: random.Random, num_steps: int, plain: float = 0.0) -> Problem:
    """A problem of `num_steps` steps; with probability `plain`, one-step problems have no story."""
    if num_steps == 1 and rng.random() < plain:
        return bare(rng)
    while True:
        try:
            return tell(rng, num_steps)
        except Dead:
            continue
