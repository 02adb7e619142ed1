"""From what a caller asks to requests: prompts checked, constraints compiled, seeds given out."""

from __future__ import annotations

import itertools
import operator
from collections.abc import Callable, Sequence

from ...dag.errors import PromptError, first_line
from ...dag.sampling import Sampling
from .chat import Encoder, check_prompt
from .grammar import Grammars
from .model import LoadedModel
from .request import Request
from .sampler import seed_of
from .stops import TextStream


class Intake:
    """The requests of one model's calls."""

    def __init__(
        self, loaded: LoadedModel, encoder: Encoder, room: int, clock: Callable[[], float]
    ) -> None:
        self.numbers = itertools.count()
        """Numbers of requests, in the order in which they came."""
        self._max_context = loaded.max_context
        self._vocab_size = loaded.vocab_size
        self._encoder = encoder
        self._grammars = Grammars(loaded.tokenizer, loaded.vocab_size, loaded.device)
        self._room = room
        self._clock = clock

    def requests(
        self,
        token_ids: Sequence[int],
        sampling: Sampling,
        *,
        priority: float,
        salt: str,
        seed: int,
        expected_tokens: int | None,
        shown: bool,
    ) -> list[Request]:
        """One for each of the `sampling.n` generations. PromptError when they cannot be served.

        shown: somebody wants to see the text while it grows.
        """
        prompt = _whole(token_ids)
        check_prompt(prompt, self._vocab_size, self._max_context, self._room)
        for token in sampling.stop_token_ids:
            if not 0 <= token < self._vocab_size:
                what = f"stop_token_ids: {token} is outside the vocabulary of {self._vocab_size}"
                raise PromptError(f"{what}, so that it would never end a text")
        base = sampling.seed if sampling.seed is not None else seed
        expected = min(expected_tokens or sampling.max_tokens, sampling.max_tokens)
        streams = shown or bool(sampling.stop)
        return [
            Request(
                number=next(self.numbers),
                prompt=prompt,
                sampling=sampling,
                seed=seed_of(base, index),
                arrival=self._clock(),
                priority=priority,
                salt=salt,
                limit=min(len(prompt) + sampling.max_tokens, self._max_context),
                expected=len(prompt) + expected,
                index=index,
                grammar=self._grammars.compile(sampling),
                stream=TextStream(self._encoder, sampling.stop) if streams else None,
            )
            for index in range(sampling.n)
        ]


def _whole(token_ids: Sequence[int]) -> tuple[int, ...]:
    """The ids as ints, whichever kind of whole number they are. PromptError for anything else."""
    try:
        return tuple(map(operator.index, token_ids))
    except TypeError as error:
        raise PromptError(f"token ids must be whole numbers: {first_line(error)}") from error
