"""How tokens are chosen and when a generation ends."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from numbers import Integral, Real
from typing import Any

from .errors import ConfigError, in_short

MAX_STOPS = 16
MAX_N = 64
MAX_LOGPROBS = 20
MAX_NEW_TOKENS = 1 << 20


@dataclass(frozen=True, slots=True)
class Sampling:
    """Sampling settings of one generation. The default is greedy: the likeliest token each time.

    Raises ConfigError naming the field when a value is out of range or two fields contradict.
    """

    max_tokens: int = 256
    """Most tokens generated, the end token included."""
    temperature: float = 0.0
    """Logits are divided by it. 0 is greedy: top_p, top_k and min_p then have no effect."""
    top_p: float = 1.0
    """Keep the likeliest tokens whose probabilities reach this sum."""
    top_k: int = 0
    """Keep this many of the likeliest tokens; 0 keeps all."""
    min_p: float = 0.0
    """Keep tokens at least this fraction as likely as the likeliest."""
    seed: int | None = None
    """With the token's position it alone determines the random draw, whatever the batch. Without
    a seed the engine derives one from the call (run, row, node), so runs repeat."""
    stop: tuple[str, ...] = ()
    """Text that ends the generation; it is not part of the output."""
    stop_token_ids: tuple[int, ...] = ()
    """Token ids that end the generation, besides the model's own end tokens."""
    ignore_eos: bool = False
    """Go on past the model's own end tokens (for benchmarks)."""
    n: int = 1
    """Generations per prompt; they share the prompt's KV."""
    logprobs: int | None = None
    """None: none. k: the chosen token's log-probability and the k likeliest ones."""
    json_schema: Mapping[str, Any] | None = None
    """Output must be JSON of this schema."""
    regex: str | None = None
    """Output must match this regular expression whole."""
    choice: tuple[str, ...] | None = None
    """Output must be one of these."""

    def __post_init__(self) -> None:
        for name in ("max_tokens", "top_k", "n", "seed", "logprobs"):
            _be_number(name, getattr(self, name), Integral, "a whole number")
        for name in ("temperature", "top_p", "min_p"):
            _be_number(name, getattr(self, name), Real, "a number")
        most = f"1 to {MAX_NEW_TOKENS:,}"
        _require(1 <= self.max_tokens <= MAX_NEW_TOKENS, "max_tokens", self.max_tokens, most)
        _require(0.0 <= self.temperature <= 100.0, "temperature", self.temperature, "0 to 100")
        _require(0.0 < self.top_p <= 1.0, "top_p", self.top_p, "over 0, at most 1")
        _require(self.top_k >= 0, "top_k", self.top_k, "0 (all) or more")
        _require(0.0 <= self.min_p <= 1.0, "min_p", self.min_p, "0 to 1")
        seed = self.seed if self.seed is not None else 0
        _require(-(1 << 63) <= seed < 1 << 64, "seed", seed, "a whole number of 64 bits")
        _require(1 <= self.n <= MAX_N, "n", self.n, f"1 to {MAX_N}")
        _require(
            self.logprobs is None or 0 <= self.logprobs <= MAX_LOGPROBS,
            "logprobs",
            self.logprobs,
            f"0 to {MAX_LOGPROBS}, or None",
        )
        object.__setattr__(self, "stop", _texts(self.stop, "stop"))
        object.__setattr__(self, "stop_token_ids", _token_ids(self.stop_token_ids))
        if self.choice is not None:
            object.__setattr__(self, "choice", _texts(self.choice, "choice"))
            _require(len(self.choice) > 0, "choice", self.choice, "at least one text")
            _be_writable(self.choice, self.stop)
        _require(len(self.stop) <= MAX_STOPS, "stop", self.stop, f"at most {MAX_STOPS} texts")
        if self.n > 1 and self.greedy:
            raise ConfigError(
                f"n={self.n} with temperature=0 gives {self.n} equal texts: set a temperature"
            )
        if self.regex is not None:
            _be_regex(self.regex)
        if self.json_schema is not None and not isinstance(self.json_schema, Mapping):
            what = "must be a schema, which is an object such as {'type': 'integer'}"
            raise ConfigError(f"json_schema={in_short(self.json_schema)} {what}")
        if sum(c is not None for c in (self.json_schema, self.regex, self.choice)) > 1:
            raise ConfigError("give only one of json_schema, regex and choice")

    @property
    def greedy(self) -> bool:
        return self.temperature == 0.0

    @property
    def constrained(self) -> bool:
        return self.json_schema is not None or self.regex is not None or self.choice is not None


def _require(ok: bool, name: str, value: object, rule: str) -> None:
    if not ok:
        raise ConfigError(f"{name}={in_short(value)} is out of range: {rule}")


def _be_writable(choice: Iterable[str], stop: Iterable[str]) -> None:
    for text in choice:
        for end in stop:
            if end in text:
                raise ConfigError(
                    f"stop={in_short(end)} occurs in choice={in_short(text)}, which could then "
                    "never be written whole: give only one of them"
                )


def _be_number(name: str, value: object, kind: type, what: str) -> None:
    optional = value is None and name in ("seed", "logprobs")
    if not optional and (isinstance(value, bool) or not isinstance(value, kind)):
        raise ConfigError(f"{name}={value!r} must be {what}")


_WRONG = ("missing )", "unbalanced parenthesis", "unterminated character set", "nothing to repeat",
          "bad character range", "min repeat greater than max repeat")  # fmt: skip
"""Mistakes in every dialect of regular expressions. The engine's own differs from Python's, and
says what else it cannot read when it compiles one."""


def _be_regex(regex: object) -> None:
    if not isinstance(regex, str):
        raise ConfigError(f"regex={regex!r} must be a text")
    try:
        with warnings.catch_warnings(action="ignore"):
            re.compile(regex)
    except re.error as error:
        if error.msg.startswith(_WRONG):
            message = f"regex={regex!r} is no regular expression: {error.msg}"
            raise ConfigError(f"{message} at character {(error.pos or 0) + 1}") from None


def _token_ids(value: Any) -> tuple[int, ...]:
    ids = tuple(value) if isinstance(value, Iterable) else (None,)
    if not all(isinstance(i, Integral) and not isinstance(i, bool) for i in ids):
        raise ConfigError(f"stop_token_ids={value!r} must be a list of token ids")
    return ids


def _texts(value: str | Sequence[str], name: str) -> tuple[str, ...]:
    given = [value] if isinstance(value, str) else value
    texts = tuple(given) if isinstance(given, Iterable) else (None,)
    if not all(isinstance(t, str) and t for t in texts):
        raise ConfigError(f"{name}={value!r} must be texts that are not empty")
    return texts
