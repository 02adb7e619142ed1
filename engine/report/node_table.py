"""Predicted beside measured of every node, as a table."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from .accounts import Account
from .charts import short_time
from .markup import e, short

NOTHING = "–"
SUM = "all together"
LEGEND = (
    "each: seconds of a call, from asking to having. engine: what the costs make of the tokens "
    "there were, then an engine's measured seconds, shared out among its nodes by their tokens. "
    f"{NOTHING}: not predicted, or nothing to measure."
)
_GROUPS = {
    "calls": ("asked for", "predicted", "made"),
    "prompt tokens": ("asked for", "predicted", "computed"),
    "generated tokens": ("predicted", "written"),
    "each": ("predicted", "took"),
    "engine": ("predicted", "took"),
}


def node_table(found: Mapping[str, Account]) -> str:
    """Every node that calls something."""
    rows = {name: _cells(a) for name, a in found.items() if a.calling}
    if not rows:
        return ""
    if len(rows) > 1:
        rows[SUM] = _sums([a for a in found.values() if a.calling])
    columns = [(group, name) for group, names in _GROUPS.items() for name in names]
    used = [i for i in range(len(columns)) if any(row[i] != NOTHING for row in rows.values())]
    top = "".join(
        f'<th class="g" colspan="{n}">{e(group)}</th>'
        for group in _GROUPS if (n := sum(columns[i][0] == group for i in used))
    )  # fmt: skip
    firsts = {next(i for i in used if columns[i][0] == columns[j][0]) for j in used}
    kinds = {i: "n g" if i in firsts else "n" for i in used}
    names = "".join(f'<th class="{kinds[i]}">{e(columns[i][1])}</th>' for i in used)
    lines = (
        f"<tr{' class=sum' if name is SUM else ''}><th>{e(name)}</th>"
        + "".join(f'<td class="{kinds[i]}">{e(row[i])}</td>' for i in used) + "</tr>"
        for name, row in rows.items()
    )  # fmt: skip
    return (
        f'<div class="scroll nodes"><table><tr><th></th>{top}</tr><tr><th>node</th>{names}</tr>'
        f"{''.join(lines)}</table></div>"
    )


def _cells(account: Account) -> list[str]:
    most = "≤ " if account.branch else ""
    calls, prefill = account.calls or (None, None), account.prefill or (None, None)
    planned = [_number(n) if n is None else most + _number(n) for n in calls]
    if account.calls is None and account.ran:
        planned[0] = _number(account.ran["calls"])
    engine = account.engine
    return [
        *planned, _number(account.made),
        *map(_number, (*prefill, account.computed, account.decode, account.written)),
        *map(_seconds, (account.each, account.took)),
        *map(_seconds, (engine.get("seconds"), engine.get("engine_seconds"))),
    ]  # fmt: skip


def _sums(found: list[Account]) -> list[str]:
    """The same for all nodes together. Seconds of single calls have no sum."""

    def total(numbers: Iterable[float | None]) -> float | None:
        known = [n for n in numbers if n is not None]
        return sum(known) if known else None

    calls = [a.calls or (None, None) for a in found]
    prefill = [a.prefill or (None, None) for a in found]
    counts = [
        *map(total, zip(*calls, strict=True)), total(a.made for a in found),
        *map(total, zip(*prefill, strict=True)), total(a.computed for a in found),
        total(a.decode for a in found), total(a.written for a in found),
    ]  # fmt: skip
    engine = [total(a.engine.get(k) for a in found) for k in ("seconds", "engine_seconds")]
    return [*map(_number, counts), NOTHING, NOTHING, *map(_seconds, engine)]


def _number(value: float | None) -> str:
    return NOTHING if value is None else short(int(value))


def _seconds(value: float | None) -> str:
    return NOTHING if value is None else short_time(value)
