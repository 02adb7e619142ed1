"""Generated prompt bodies: source code that puts arguments into text in every way there is."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st
from pydantic import BaseModel

import plait


class Inner(BaseModel):
    count: int
    label: str


class Facts(BaseModel):
    name: str
    tags: list[str]
    inner: Inner


TYPES: dict[str, Any] = {
    "a": str, "b": str, "n": int, "x": float, "facts": Facts, "items": list[str],
    "d": dict[str, int], "free": Any,
}  # fmt: skip
TEXTS = ("a", "b", "facts.name", "facts.inner.label", "facts.tags[0]", "items[0]", "items[1]")
OTHERS = {
    "n": ("", "05d", ",", "+", ">9", "x"), "x": ("", ".2f", "e", ">+12.3f"),
    "facts.inner.count": ("", "d", "_"), "d['k']": ("", "03"), "facts": ("",), "items": ("",),
    "facts.tags": ("",), "d": ("",), "free": ("",),
}  # fmt: skip
TEXT_SPECS = ("", ">12", "^7.3", "*<9", "s")
HELPERS = """
def wrap(text):
    return "<" + text + ">"

def twice(text, sep="/"):
    return f"{text}{sep}{text}"
"""

# Static text: quotes, braces, percent signs, line breaks, other scripts. The control characters
# that fence markers are not text that a prompt holds.
plain = st.text(st.sampled_from("ab XY{}%'\"\\\n\té日🙂"), max_size=8)
values = st.text(max_size=12)


def _in_fstring(text: str) -> str:
    escaped = text.encode("unicode_escape").decode().replace('"', r"\x22")
    return escaped.replace("{", "{{").replace("}", "}}")


@st.composite
def placeholder(draw: st.DrawFn) -> str:
    """`{value!r:spec}` of an f-string."""
    name = draw(st.sampled_from((*TEXTS, *OTHERS)))
    conversion = draw(st.sampled_from(("", "", "!s", "!r")))
    specs = TEXT_SPECS if name in TEXTS or conversion else OTHERS[name]
    spec = draw(st.sampled_from(specs))
    return f"{{{name}{conversion}{':' + spec if spec else ''}}}"


@st.composite
def fstring(draw: st.DrawFn) -> str:
    parts = draw(st.lists(st.one_of(plain.map(_in_fstring), placeholder()), max_size=5))
    return 'f"' + "".join(parts) + '"'


@st.composite
def percent(draw: st.DrawFn) -> str:
    names = draw(st.lists(st.sampled_from((*TEXTS, *OTHERS)), min_size=1, max_size=3))
    pieces = [draw(plain).replace("%", "%%") + draw(st.sampled_from(("%s", "%r"))) for _ in names]
    return f"{''.join(pieces)!r} % ({', '.join(names)},)"


@st.composite
def formatted(draw: st.DrawFn) -> str:
    fields = {"{}": "a", "{:>8}": "b", "{!r}": "n", "{.name}": "facts", "{[0]}": "items",
              "{.inner.count:03d}": "facts", "{[k]}": "d", "{.tags[0]!s:>9}": "facts"}  # fmt: skip
    chosen = draw(st.lists(st.sampled_from(sorted(fields)), min_size=1, max_size=3))
    pieces = [_braces(draw(plain)) + field for field in chosen]
    return f"{''.join(pieces)!r}.format({', '.join(fields[f] for f in chosen)})"


def _braces(text: str) -> str:
    return text.replace("{", "{{").replace("}", "}}")


leaf = st.one_of(
    plain.map(repr), fstring(), percent(), formatted(), st.sampled_from(TEXTS),
    st.sampled_from(("str(n)", "repr(a)", "format(x, '.1f')", "str(facts.inner)", "str(b)")),
)  # fmt: skip


def _joined(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    return st.one_of(
        st.tuples(inner, inner).map(lambda two: f"({two[0]}) + ({two[1]})"),
        st.tuples(plain, st.lists(inner, max_size=3)).map(
            lambda p: f"{p[0]!r}.join([{', '.join(p[1])}])"
        ),
        inner.map(lambda e: f"wrap({e})"),
        inner.map(lambda e: f"twice({e}, sep=' and ')"),
        inner.map(lambda e: f"({e}) if True else ''"),
    )


text_expression = st.recursive(leaf, _joined, max_leaves=6)
prompt_expression = st.one_of(
    text_expression,
    st.lists(
        st.tuples(st.sampled_from(("system", "user", "assistant")), text_expression),
        min_size=1, max_size=3,
    ).map(lambda messages: f"[{', '.join(f'{role}({text})' for role, text in messages)}]"),
    text_expression.map(lambda text: f"user({text})"),
)  # fmt: skip

arguments = st.fixed_dictionaries(
    {
        "a": values, "b": values, "n": st.integers(), "x": st.floats(),
        "facts": st.builds(
            Facts, name=values, tags=st.lists(values, min_size=1, max_size=3),
            inner=st.builds(Inner, count=st.integers(), label=values),
        ),
        "items": st.lists(values, min_size=2, max_size=4),
        "d": st.dictionaries(st.just("k"), st.integers(), min_size=1),
        "free": st.one_of(st.none(), values, st.integers(), st.lists(values, max_size=2)),
    }
)  # fmt: skip


def body_from(expression: str) -> Any:
    """A function whose body returns this expression."""
    scope: dict[str, Any] = {
        "system": plait.system, "user": plait.user, "assistant": plait.assistant
    }  # fmt: skip
    source = f"{HELPERS}\ndef body({', '.join(TYPES)}):\n    return {expression}\n"
    exec(compile(source, "<generated>", "exec"), scope)
    return scope["body"]
