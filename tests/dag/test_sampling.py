"""Settings of a call: what no model could do is refused when they are written."""

from __future__ import annotations

from typing import Any, Literal

import pytest

from plait import ConfigError, Engine, Sampling, WorkflowError, agent, llm


@pytest.mark.parametrize(
    ("regex", "why"),
    [
        ("a(b", "missing )"), ("a)b", "unbalanced parenthesis at character 2"),
        ("[ab", "unterminated character set"), ("*a", "nothing to repeat"), ("[z-a]", "range"),
        ("a{3,2}", "min repeat"), (3, "must be a text"),
    ],
)  # fmt: skip
def test_a_regex_that_is_none_in_any_dialect_is_refused(regex: str, why: str) -> None:
    with pytest.raises(ConfigError, match="regex=") as caught:
        Sampling(regex=regex)
    assert why in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("regex", [r"\p{L}+", r"(?<year>\d{4})", r"[a-z&&[^b]]", r"\d+|x{2,3}", ""])
def test_a_regex_of_another_dialect_than_pythons_is_left_to_the_engine(regex: str) -> None:
    assert Sampling(regex=regex).regex == regex


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"stop": ["x", "ee"], "choice": ["red", "green"]}, ["stop='ee'", "choice='green'"]),
        ({"max_tokens": 2**20 + 1}, ["max_tokens=1048577", "1 to 1,048,576"]),
        ({"json_schema": [1]}, ["json_schema=[1]", "an object"]),
        ({"json_schema": True}, ["json_schema=True", "an object"]),
    ],
)
def test_what_could_never_be_met_is_refused_in_plain_words(
    settings: dict[str, Any], words: list[str]
) -> None:
    with pytest.raises(ConfigError) as caught:
        Sampling(**settings)
    assert all(word in str(caught.value) for word in words)
    assert Sampling(stop=("reds",), choice=("red",)).choice == ("red",)


def test_a_stop_within_a_literal_says_where() -> None:
    @llm(stop="oo")
    def verdict(text: str) -> Literal["good", "bad"]:
        return text  # type: ignore[return-value]

    with (
        Engine(backend="fake") as engine,
        pytest.raises(WorkflowError, match=r"test_sampling.py:\d+: .*stop='oo'.*choice='good'"),
    ):
        engine.call(verdict, text="x")


def test_a_decorator_says_where() -> None:
    with pytest.raises(WorkflowError, match=r"test_sampling.py:\d+: @llm 'year': regex='\(' is no"):

        @llm(regex="(")
        def year(text: str) -> str:
            return text


@pytest.mark.parametrize(
    ("make", "options", "message", "hint"),
    [
        (llm, {"temprature": 1}, "@llm 'year' got an unexpected keyword argument", "temperature"),
        (llm, {"top_p": 3}, "@llm 'year': top_p=3 is out of range", "leave it out"),
        (llm, {"seed": 10**5000}, "a whole number of 64 bits", "leave it out"),
        (llm, {"max_tokens": -(10**5000)}, "is out of range: 1 to", "leave it out"),
        (agent, {"tools": [], "max_turns": 0}, "max_turns=0 is out of range", "leave it out"),
        (agent, {"tools": [len]}, "is not a tool", "decorate it with @tool"),
    ],
)
def test_an_option_that_cannot_be_has_a_place_and_a_hint(
    make: Any, options: dict[str, Any], message: str, hint: str
) -> None:
    def year(text: str) -> str:
        return text

    with pytest.raises(WorkflowError) as caught:
        make(**options)(year)
    (problem,) = caught.value.problems
    assert message in problem.message and hint in str(problem.hint)
    assert problem.file == __file__ and problem.line
