"""Stop strings, found across token borders, and text that is safe to show while it grows."""

from __future__ import annotations

from collections.abc import Sequence

from .detokenizer import Decoder, Detokenizer


class TextStream:
    """The text of one generation as its tokens come, ended by the first stop string."""

    def __init__(self, decoder: Decoder, stops: Sequence[str] = ()) -> None:
        self._words = Detokenizer(decoder)
        self._stops = tuple(stops)
        self._longest = max(map(len, stops), default=0)
        self.text = ""
        """Everything decoded so far; without the stop string once it was met."""
        self.stopped = False
        self._shown = 0

    def push(self, token: int) -> bool:
        """Take one token; True when a stop string ends the text."""
        return self._grow(self._words.push(token))

    def finish(self) -> bool:
        """Take what was held back; True when that ends in a stop string."""
        return self.stopped or self._grow(self._words.flush())

    def take(self) -> str:
        """New text that can be shown: no stop string can begin inside it any more."""
        end = len(self.text) if self.stopped else len(self.text) - self._open_end()
        piece = self.text[self._shown : end]
        self._shown = max(self._shown, end)
        return piece

    def take_rest(self) -> str:
        """All text not shown yet."""
        piece, self._shown = self.text[self._shown :], len(self.text)
        return piece

    def _grow(self, piece: str) -> bool:
        if not piece:
            return False
        start = max(0, len(self.text) - self._longest + 1)
        self.text += piece
        found = [at for s in self._stops if (at := self.text.find(s, start)) >= 0]
        if found:
            self.text = self.text[: min(found)]
            self.stopped = True
        return self.stopped

    def _open_end(self) -> int:
        """Length of the longest end of the text that begins a stop string."""
        for length in range(min(self._longest - 1, len(self.text)), 0, -1):
            end = self.text[-length:]
            if any(s.startswith(end) for s in self._stops):
                return length
        return 0
