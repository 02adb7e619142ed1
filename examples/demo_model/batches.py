"""Training batches, made in a process of their own so that the cores are left to the mathematics.

Items are sorted by length within a pool and cut into batches of about the same number of tokens:
little padding, and no attention mask, because padding stands on the right of a causal model. One
batch in sixteen has rows of several chats in a row instead, up to `LONG` tokens, so that distant
positions are not unknown to the model.
"""

import multiprocessing
import random
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from transformers import PreTrainedTokenizerFast

from .chat import encode
from .drills import make_drills
from .items import ROLES
from .tasks import make_items

Batch = tuple[NDArray[np.int64], NDArray[np.int8]]
"""Token ids, and whether each is PADDING, of a PROMPT or of an ANSWER; both (rows, length)."""
PADDING, PROMPT, ANSWER = 0, 1, 2
Row = tuple[list[int], list[bool]]

SHARES = {
    "solve": 15, "plan": 11, "agent": 24, "check": 11, "extract": 14, "sql": 14, "drill": 11,
}  # fmt: skip
"""Of each hundred items, how many are of a role."""
POOL = 512
LONG = 1024
LONG_SHARE = 1 / 16


def make_batches(tokenizer: PreTrainedTokenizerFast, seed: int, size: int) -> Iterator[Batch]:
    """Batches of about `size` tokens without end."""
    rng = random.Random(seed)
    streams = {role: make_items(role, "train", seed) for role in ROLES}
    streams["drill"] = make_drills(seed)

    def draw(count: int) -> list[Row]:
        roles = rng.choices(list(SHARES), list(SHARES.values()), k=count)
        return [encode(tokenizer, next(streams[role])) for role in roles]

    while True:
        batches = [pad(rows) for rows in cut(sorted(draw(POOL), key=lambda row: len(row[0])), size)]
        while rng.random() < LONG_SHARE * len(batches) / (1 + LONG_SHARE * len(batches)):
            batches.append(pad([join(draw(12)) for _ in range(max(1, size // LONG))]))
        rng.shuffle(batches)
        yield from batches


def cut(rows: list[Row], size: int) -> Iterator[list[Row]]:
    """Consecutive rows in groups of at most `size` tokens, padding counted."""
    group: list[Row] = []
    for row in rows:
        if group and len(row[0]) * (len(group) + 1) > size:
            yield group
            group = []
        group.append(row)
    if group:
        yield group


def join(rows: list[Row]) -> Row:
    """Several chats as one row of at most `LONG` tokens."""
    ids = [token for row in rows for token in row[0]]
    learn = [wanted for row in rows for wanted in row[1]]
    return ids[:LONG], learn[:LONG]


def pad(rows: list[Row]) -> Batch:
    length = max(len(ids) for ids, _ in rows)
    tokens = np.zeros((len(rows), length), dtype=np.int64)
    kinds = np.full((len(rows), length), PADDING, dtype=np.int8)
    for at, (ids, wanted) in enumerate(rows):
        tokens[at, : len(ids)] = ids
        kinds[at, : len(ids)] = np.where(wanted, ANSWER, PROMPT)
    return tokens, kinds


def in_background(tokenizer: PreTrainedTokenizerFast, seed: int, size: int) -> Iterator[Batch]:
    """`make_batches` in another process, a few batches ahead."""
    context = multiprocessing.get_context("spawn")
    queue = context.Queue(maxsize=8)
    process = context.Process(target=_fill, args=(queue, tokenizer, seed, size), daemon=True)
    process.start()
    while True:
        yield queue.get()


def _fill(
    queue: "multiprocessing.Queue[Batch]",
    tokenizer: PreTrainedTokenizerFast,
    seed: int,
    size: int,
) -> None:
    for batch in make_batches(tokenizer, seed, size):
        queue.put(batch)
