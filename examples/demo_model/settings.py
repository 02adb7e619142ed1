"""The words of the arithmetic problems: names, things, and sentences for each kind of event.

Slots: `{N}` the person, `{p}` their pronoun, `{M}` somebody else, `{U}` the things counted, `{a}`
and `{b}` numbers in the order in which they stand in the sentence. Every number is followed by the
noun it counts, so that quantities can be read off the finished text. The kinds of event and their
arithmetic are in `stories.py`; this file has words only.
"""

from typing import NamedTuple


def words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


HE = words(
    "Tom Ben Sam Max Leo Omar Ivan Paul Noah Luis Hugo Amir Kofi Jack Finn Ravi Oscar Diego Yusuf "
    "Peter"
)
SHE = words(
    "Ann Mia Eva Lily Sara Nina Zoe Ella Rosa Maya Lena Aisha Emma Clara Ines Priya Nora Julia "
    "Olga Grace"
)

ADJECTIVES = words("red green blue small big fresh old new")
"""May stand between a number and its noun; like `FILLERS`, they are no unit."""

FILLERS = words("more full equal other")

LINKS = ("", "", "", "Then ", "Later ", "After that, ", "The next day ", "In the evening ")

DISTRACTIONS = (
    "{N} is {a} years old.",
    "{M} lives {a} minutes away.",
    "It all took {a} minutes.",
    "{N} has done this for {a} weeks.",
    "{M} watches for {a} seconds.",
)


class Setting(NamedTuple):
    """One surrounding of a story; each field holds the sentences of one kind of event."""

    units: tuple[str, ...]
    have: tuple[str, ...]
    groups: tuple[str, ...]
    add: tuple[str, ...]
    sub: tuple[str, ...]
    add_groups: tuple[str, ...]
    sub_groups: tuple[str, ...]
    mul: tuple[str, ...]
    div: tuple[str, ...]
    ask: tuple[str, ...]


SHOP = Setting(
    units=words("apples pears books toys shirts lamps cups candles hats bottles"),
    have=(
        "{N} has {a} {U} in the shop.",
        "There are {a} {U} in the shop of {N}.",
        "{N} opens a shop with {a} {U}.",
    ),
    groups=(
        "{N} orders {a} boxes with {b} {U} in each box.",
        "A truck brings {N} {a} crates of {b} {U} each.",
        "{N} fills {a} shelves with {b} {U} each.",
    ),
    add=(
        "{p} buys {a} more {U} for the shop.",
        "a truck brings {a} {U}.",
        "{M} returns {a} {U}.",
    ),
    sub=("{p} sells {a} {U}.", "{M} buys {a} {U} from {N}.", "{a} {U} are broken and thrown away."),
    add_groups=(
        "{p} orders {a} more boxes of {b} {U} each.",
        "a truck brings {a} bags with {b} {U} in each.",
    ),
    sub_groups=("{a} customers buy {b} {U} each.", "{p} sells {a} boxes of {b} {U} each."),
    mul=(
        "{p} orders so many that there are {a} times as many {U}.",
        "the number of {U} in the shop grows to {a} times as many.",
    ),
    div=(
        "{p} puts the {U} equally into {a} rooms and counts one room.",
        "{p} sends equal parts of the {U} to {a} shops and keeps one part.",
    ),
    ask=("How many {U} are in the shop now?", "How many {U} does {N} have left?"),
)

FARM = Setting(
    units=words("eggs sheep hens carrots melons plums cows seeds trees goats"),
    have=(
        "{N} has {a} {U} on a farm.",
        "A farm of {N} starts with {a} {U}.",
        "On the farm {N} counts {a} {U}.",
    ),
    groups=(
        "{N} has {a} fields with {b} {U} in each field.",
        "On the farm there are {a} rows of {b} {U}.",
        "{N} collects {a} baskets of {b} {U} each.",
    ),
    add=("{p} gets {a} more {U}.", "{M} brings {a} {U} to the farm.", "{p} finds {a} {U}."),
    sub=(
        "{p} sells {a} {U} at the market.",
        "a storm takes {a} {U}.",
        "{p} gives {a} {U} to {M}.",
    ),
    add_groups=(
        "{p} collects {a} more baskets of {b} {U} each.",
        "{a} friends bring {b} {U} each.",
    ),
    sub_groups=("{p} gives {a} neighbors {b} {U} each.", "{p} sells {a} bags of {b} {U} each."),
    mul=(
        "in a good year the {U} become {a} times as many.",
        "the farm grows and has {a} times as many {U}.",
    ),
    div=(
        "{p} shares the {U} equally between {a} barns and looks at one barn.",
        "the {U} are split equally among {a} farmers and {N} is one of them.",
    ),
    ask=("How many {U} does {N} have in the end?", "How many {U} are there now?"),
)

SCHOOL = Setting(
    units=words("pencils books stickers pens papers crayons folders badges cards chairs"),
    have=(
        "{N} has {a} {U} in the classroom.",
        "A school gives {N} {a} {U}.",
        "There are {a} {U} in the class of {N}.",
    ),
    groups=(
        "{N} opens {a} packs of {b} {U}.",
        "In a school {a} classes have {b} {U} each.",
        "{N} gets {a} boxes with {b} {U} each.",
    ),
    add=("{p} gets {a} {U} from {M}.", "the teacher adds {a} {U}.", "{p} wins {a} more {U}."),
    sub=("{p} gives {a} {U} to {M}.", "{p} loses {a} {U}.", "the class uses {a} {U}."),
    add_groups=("{a} students bring {b} {U} each.", "{p} buys {a} packs with {b} {U} each."),
    sub_groups=("{p} hands {a} students {b} {U} each.", "{a} groups use {b} {U} each."),
    mul=(
        "the school makes it {a} times as many {U}.",
        "after a gift there are {a} times as many {U}.",
    ),
    div=(
        "the {U} are shared equally among {a} students and {N} is one of them.",
        "{p} sorts the {U} into {a} equal piles and takes one pile.",
    ),
    ask=("How many {U} does {N} have now?", "How many {U} are there in the end?"),
)

TRAVEL = Setting(
    units=("kilometers", "miles"),
    have=("{N} drives {a} {U} on the first day.", "{N} starts a trip with {a} {U} by train."),
    groups=("{N} travels for {a} hours at {b} {U} per hour.", "{N} rides {a} days, {b} {U} a day."),
    add=("{p} drives {a} more {U}.", "{p} goes {a} {U} by bus.", "{p} walks {a} {U} with {M}."),
    sub=("{p} goes back {a} {U}.", "{p} turns around and drives {a} {U} back."),
    add_groups=(
        "{p} drives {a} hours at {b} {U} per hour.",
        "{p} rides on for {a} days, {b} {U} a day.",
    ),
    sub_groups=("{p} comes back for {a} hours at {b} {U} per hour.",),
    mul=("{p} goes on until it is {a} times as many {U}.",),
    div=("{M} has gone only as far as this trip split into {a} equal parts.",),
    ask=("How many {U} from the start is that?", "How many {U} is it in the end?"),
)

KITCHEN = Setting(
    units=words("cookies eggs rolls cakes muffins lemons pies beans tomatoes onions"),
    have=("{N} bakes {a} {U}.", "In the kitchen of {N} there are {a} {U}.", "{N} makes {a} {U}."),
    groups=(
        "{N} fills {a} trays with {b} {U} each.",
        "{N} makes {a} plates of {b} {U}.",
        "At a party of {N} there are {a} tables with {b} {U} each.",
    ),
    add=("{p} makes {a} more {U}.", "{M} brings {a} {U}.", "{p} adds {a} {U} from the store."),
    sub=("{p} eats {a} {U}.", "{a} {U} burn.", "{M} takes {a} {U} home."),
    add_groups=("{p} makes {a} more trays of {b} {U} each.", "{a} guests bring {b} {U} each."),
    sub_groups=("{a} guests eat {b} {U} each.", "{p} gives {a} cooks {b} {U} each."),
    mul=(
        "for a feast {p} makes it {a} times as many {U}.",
        "a larger recipe gives {a} times as many {U}.",
    ),
    div=(
        "{p} puts the {U} equally on {a} tables and serves one table.",
        "the {U} are shared equally by {a} families and {N} keeps one share.",
    ),
    ask=("How many {U} are left?", "How many {U} does {N} have?"),
)

MONEY = Setting(
    units=("dollars", "coins", "euros"),
    have=("{N} has {a} {U}.", "{N} saves {a} {U}.", "{N} starts with {a} {U} in the bank."),
    groups=(
        "{N} works {a} hours for {b} {U} an hour.",
        "{N} saves for {a} weeks, {b} {U} a week.",
        "{N} sells {a} tickets for {b} {U} each.",
    ),
    add=("{p} earns {a} {U}.", "{M} gives {N} {a} {U}.", "{p} finds {a} more {U}."),
    sub=("{p} spends {a} {U} on food.", "{p} pays {M} {a} {U}.", "a bill costs {N} {a} {U}."),
    add_groups=(
        "{p} works {a} days for {b} {U} a day.",
        "{p} sells {a} paintings for {b} {U} each.",
    ),
    sub_groups=("{p} buys {a} tickets for {b} {U} each.", "{p} pays {a} workers {b} {U} each."),
    mul=("luck turns it into {a} times as many {U}.", "{p} works on to get {a} times as many {U}."),
    div=(
        "{p} shares the {U} equally with others, {a} people in all.",
        "{p} splits the {U} into {a} equal parts and keeps one part.",
    ),
    ask=("How many {U} does {N} have now?", "How many {U} are left for {N}?"),
)

SETTINGS = (SHOP, FARM, SCHOOL, TRAVEL, KITCHEN, MONEY)
