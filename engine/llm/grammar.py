"""Output that must be JSON of a schema, match a regex, or be one of some choices.

llguidance (the extra `json`) says which tokens may come next; the engine knows it as three
methods: those tokens, that one came, and whether the text could end here. What it lets through is
checked against the schema once more at the end.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from ...dag.errors import GenerationError, PromptError, first_line
from ...dag.sampling import Sampling
from .schema import Schema, written

JSON_SPACE = r"\n?[ ]{0,8}"
"""Room for usual styles, but bounded: a small model can otherwise write spaces for ever."""
KEPT = 64
"""Compiled constraints kept for the calls to come."""
Split = Callable[[str], Sequence[int]]
"""A text as tokens, whichever: their bytes are the text's."""


class Grammar:
    """The constraint on one generation."""

    def __init__(
        self, matcher: Any, schema: Schema | None, split: Split, vocab_size: int, bits: torch.Tensor
    ) -> None:
        self._matcher = matcher
        self._schema = schema
        self._split = split
        self._vocab_size = vocab_size
        self._bits = bits

    def copy(self) -> Grammar:
        """The same constraint, from where this one is."""
        matcher = self._matcher.deep_copy()
        return Grammar(matcher, self._schema, self._split, self._vocab_size, self._bits)

    def allowed(self) -> torch.Tensor:
        """Boolean over the vocabulary: tokens that may come next.

        GenerationError when there are none: the constraint has led where it cannot be met.
        """
        packed = np.frombuffer(self._matcher.compute_bitmask(), dtype=np.uint8)
        if not packed.any():
            raise GenerationError("the output constraint cannot be met: no text can follow here")
        if problem := self._matcher.get_error():  # it then allows the end, wherever the text is
            raise GenerationError(f"the output constraint cannot be met: {_first(problem)}")
        mask = _unpack(packed, self._bits)
        if len(mask) < self._vocab_size:
            mask = torch.nn.functional.pad(mask, (0, self._vocab_size - len(mask)))
        return mask[: self._vocab_size]

    def accept(self, token: int) -> None:
        """The token was chosen."""
        if not self._matcher.consume_token(token):
            raise GenerationError(f"the grammar refused its own token {token}")

    @property
    def stopped(self) -> bool:
        """Nothing may follow."""
        return bool(self._matcher.is_stopped())

    @property
    def complete(self) -> bool:
        """The text so far is a whole sentence of the grammar. Not so where the matcher gave up:
        then it has stopped, too."""
        return bool(self._matcher.is_accepting())

    def check(self, text: str, why: str, cut: bool) -> None:
        """GenerationError unless the finished text is whole and, for a schema, JSON of it.

        why: what ended it. cut: a stop string did, which is no part of the text but has been
        accepted, so that the text is read once more.
        """
        whole = self.complete if not cut else self._schema is not None or self._matches(text)
        if not whole:
            raise GenerationError(f"the text ended before its constraint was met ({why})")
        if self._schema is not None:
            self._schema.check(text)

    def _matches(self, text: str) -> bool:
        """Whether this text, from its beginning, is a whole sentence of the grammar."""
        tokens, again = self._split(text), self._matcher.deep_copy()
        again.reset()
        return again.try_consume_tokens(tokens) == len(tokens) and bool(again.is_accepting())


class Grammars:
    """Compiles constraints for one tokenizer."""

    def __init__(self, tokenizer: Any | None, vocab_size: int, device: torch.device) -> None:
        self._tokenizer = tokenizer
        self._vocab_size = vocab_size
        self._bits = torch.arange(8, dtype=torch.uint8, device=device)
        self._ll_tokenizer: Any = None
        self._compiled: dict[object, Grammar] = {}
        self._lock = threading.Lock()

    def compile(self, sampling: Sampling) -> Grammar | None:
        """The grammar of these settings, None without one. PromptError when it cannot be met."""
        if not sampling.constrained:
            return None
        text = written(sampling.json_schema) if sampling.json_schema is not None else None
        key = (text, sampling.regex, sampling.choice)
        with self._lock:
            grammar = self._compiled.pop(key, None) or self._compile(sampling, text)
            self._compiled[key] = grammar  # the newest last
            if len(self._compiled) > KEPT:
                del self._compiled[next(iter(self._compiled))]
            return grammar.copy()

    def _compile(self, sampling: Sampling, text: str | None) -> Grammar:
        schema = Schema(text) if text is not None else None
        llguidance = _llguidance()
        if self._tokenizer is None:
            raise PromptError("constrained output needs a tokenizer, and this model has none")
        if self._ll_tokenizer is None:
            from llguidance.hf import from_tokenizer

            with _refusing("constrained output does not work with this model's tokenizer"):
                self._ll_tokenizer = from_tokenizer(self._tokenizer, n_vocab=self._vocab_size)
        with _refusing("the output constraint is invalid"):
            source = _source(llguidance, sampling, schema)
            matcher = llguidance.LLMatcher(self._ll_tokenizer, source)
            if problem := matcher.get_error():
                raise PromptError(f"the output constraint is invalid: {_first(problem)}")
            split = self._ll_tokenizer.tokenize_str
            grammar = Grammar(matcher, schema, split, self._vocab_size, self._bits)
            if not _has_text(grammar, schema):
                raise PromptError("the output constraint cannot be met: no text satisfies it")
        return grammar


@contextmanager
def _refusing(what: str) -> Iterator[None]:
    """Whatever goes wrong inside is a PromptError that begins with `what`."""
    try:
        yield
    except (PromptError, KeyboardInterrupt):
        raise
    except BaseException as error:  # a panic of an extension is no Exception
        raise PromptError(f"{what}: {first_line(error)}") from error


def _unpack(packed: npt.NDArray[np.uint8], bits: torch.Tensor) -> torch.Tensor:
    """Booleans, lowest bit first, on the device of `bits`; packed on the way to it."""
    if bits.device.type == "cpu":
        return torch.from_numpy(np.unpackbits(packed, bitorder="little")).view(torch.bool)
    moved = torch.from_numpy(packed.copy()).to(bits.device)
    return ((moved[:, None] >> bits) & 1).flatten().bool()


def _has_text(grammar: Grammar, schema: Schema | None) -> bool:
    """Whether some text can begin; the empty one is an answer to a regex, but is not JSON."""
    if schema is None and grammar.complete:
        return True
    try:
        grammar.allowed()
    except GenerationError:
        return False
    return schema is None or not grammar.complete


def _source(llguidance: Any, sampling: Sampling, schema: Schema | None) -> str:
    matcher = llguidance.LLMatcher
    if schema is not None:
        spaces = {"whitespace_pattern": JSON_SPACE}
        return str(matcher.grammar_from_json_schema(schema.text, defaults=spaces))
    if sampling.regex is not None:
        return str(matcher.grammar_from_regex(sampling.regex))
    assert sampling.choice is not None
    return str(matcher.grammar_from_regex("|".join(map(re.escape, sampling.choice))))


def _llguidance() -> Any:
    try:
        import llguidance
    except ImportError as error:
        raise PromptError(
            "constrained output needs llguidance: pip install 'plait[json]'"
        ) from error
    return llguidance


def _first(text: str) -> str:
    """What is wrong, in one line: of a regular expression the line that says why."""
    lines = text.strip().splitlines()
    why = next((line.removeprefix("error: ") for line in lines if line.startswith("error: ")), "")
    return (lines[0].removesuffix(" regex parse error:") + (f" {why}" if why else ""))[:300]
