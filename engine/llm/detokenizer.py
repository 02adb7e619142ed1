"""Token ids to text, as they come."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol


class Decoder(Protocol):
    """The one thing needed of a tokenizer."""

    def decode(self, ids: Sequence[int]) -> str: ...


class Detokenizer:
    """Text of a growing list of tokens, without ever showing half a character.

    A tokenizer may decode a token differently after another (a leading space, bytes of one
    character), so the newest tokens are decoded together with a few before them and only the
    difference is taken: `tokens[settled:shown]` is that context.
    """

    def __init__(self, decoder: Decoder) -> None:
        self._decoder = decoder
        self._tokens: list[int] = []
        self._settled = 0
        self._shown = 0

    def push(self, token: int) -> str:
        """The text this token completes, perhaps none."""
        self._tokens.append(token)
        return self._advance(final=False)

    def flush(self) -> str:
        """What was held back because a character was not complete."""
        return self._advance(final=True)

    def _advance(self, final: bool) -> str:
        known = self._decoder.decode(self._tokens[self._settled : self._shown])
        text = self._decoder.decode(self._tokens[self._settled :])
        if len(text) <= len(known) or (text.endswith("\ufffd") and not final):
            return ""
        self._settled, self._shown = self._shown, len(self._tokens)
        return text[len(known) :]
