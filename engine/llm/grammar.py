"""Output that must be JSON of a schema, match a regex, or be one of some choices.

llguidance (the extra `json`) does the work; the engine knows it as three methods: which tokens
may come next, that one came, and whether the text could end here.
"""

from __future__ import annotations

import json
import re
from typing import Any

import torch

from ...dag.errors import GenerationError, PromptError, first_line
from ...dag.sampling import Sampling

JSON_SPACE = r"\n?[ ]{0,8}"
"""Room for usual styles, but bounded: a small model can otherwise write spaces for ever."""

_BITS = torch.arange(8, dtype=torch.uint8)


class Grammar:
    """The constraint on one generation."""

    def __init__(self, matcher: Any, vocab_size: int, device: torch.device) -> None:
        self._matcher = matcher
        self._vocab_size = vocab_size
        self._device = device

    def allowed(self) -> torch.Tensor:
        """Boolean over the vocabulary: tokens that may come next."""
        packed = torch.frombuffer(bytearray(self._matcher.compute_bitmask()), dtype=torch.uint8)
        packed = packed.to(self._device)
        bits = (packed[:, None] >> _BITS.to(self._device)) & 1
        mask = bits.flatten().bool()
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
        """The text so far is a whole sentence of the grammar."""
        return bool(self._matcher.is_accepting() or self._matcher.is_stopped())


class Grammars:
    """Compiles constraints for one tokenizer."""

    def __init__(self, tokenizer: Any | None, vocab_size: int, device: torch.device) -> None:
        self._tokenizer = tokenizer
        self._vocab_size = vocab_size
        self._device = device
        self._ll_tokenizer: Any = None

    def compile(self, sampling: Sampling) -> Grammar | None:
        """The grammar of these settings, None without one. PromptError when it cannot be met."""
        if not sampling.constrained:
            return None
        llguidance = _llguidance()
        if self._tokenizer is None:
            raise PromptError("constrained output needs a tokenizer, and this model has none")
        if self._ll_tokenizer is None:
            from llguidance.hf import from_tokenizer

            self._ll_tokenizer = from_tokenizer(self._tokenizer, n_vocab=self._vocab_size)
        try:
            matcher = llguidance.LLMatcher(self._ll_tokenizer, _source(llguidance, sampling))
        except Exception as error:
            raise PromptError(f"the output constraint is invalid: {first_line(error)}") from error
        if problem := matcher.get_error():
            raise PromptError(f"the output constraint is invalid: {_first(problem)}")
        grammar = Grammar(matcher, self._vocab_size, self._device)
        if not grammar.complete and not bool(grammar.allowed().any()):
            raise PromptError("the output constraint allows no text at all")
        return grammar


def check_complete(grammar: Grammar, sampling: Sampling, text: str) -> None:
    """The finished text is whole and, for a schema, parses as JSON."""
    if not grammar.complete:
        raise GenerationError(
            f"the text ended before its constraint was met (max_tokens={sampling.max_tokens})"
        )
    if sampling.json_schema is not None:
        try:
            json.loads(text)
        except ValueError as error:
            raise GenerationError(f"the constrained text is not JSON: {error}") from error


def _source(llguidance: Any, sampling: Sampling) -> str:
    matcher = llguidance.LLMatcher
    if sampling.json_schema is not None:
        schema = json.dumps(dict(sampling.json_schema))
        spaces = {"whitespace_pattern": JSON_SPACE}
        return str(matcher.grammar_from_json_schema(schema, defaults=spaces))
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
    return text.strip().splitlines()[0][:300]
