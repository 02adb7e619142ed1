"""The step loop: schedule, run, sample, finish."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch

from ...dag.errors import EngineError, GenerationError, PlaitError, first_line
from ..generation import FinishReason, Generation, TokenLogprob, Usage
from .attention.plan import Layout, lay_out
from .counters import Tally
from .detokenizer import Decoder
from .request import Chunk, Request
from .sampler import Draw, choose
from .scheduler import CannotFit, Scheduler
from .steps import KEPT, Step
from .work import Work

log = logging.getLogger("plait")


class Runs(Protocol):
    """Turns a laid-out step into logits of the spans that sample, in order."""

    def run(self, layout: Layout) -> torch.Tensor: ...


@dataclass(frozen=True, slots=True)
class Outcome:
    """A request that is over."""

    request: Request
    generation: Generation | None = None
    error: PlaitError | None = None


TokenListener = Callable[[Request, int, str], None]
"""(request, token, text that can be shown now)."""


class StepLoop:
    """One model's requests, moved forward one step at a time."""

    def __init__(
        self,
        scheduler: Scheduler,
        runner: Runs,
        decoder: Decoder,
        end_tokens: frozenset[int],
        work: Work,
        clock: Callable[[], float],
        listener: TokenListener | None = None,
    ) -> None:
        self.scheduler = scheduler
        self.tally = Tally()
        self.steps: deque[Step] = deque(maxlen=KEPT)
        """The latest, oldest first."""
        self._runner = runner
        self._decoder = decoder
        self._end_tokens = end_tokens
        self._work = work
        self._clock = clock
        self._listener = listener
        self._last: tuple[Layout | None, int] = (None, 0)

    @property
    def busy(self) -> bool:
        return bool(self.scheduler.running) or self.scheduler.waiting > 0

    def step(self) -> list[Outcome]:
        """Run one step; the requests it ended. A step that breaks fails the requests in it only."""
        began = self._clock()
        try:
            chunks = self.scheduler.schedule(began)
        except CannotFit as stuck:
            return [self._fail(stuck.request, GenerationError(str(stuck)))]
        except BaseException as error:  # whose fault it is cannot be told
            log.exception("a step could not be scheduled")
            return self._fail_all(list(self.scheduler.requests()), error)
        try:
            return self._run(chunks, began)
        except BaseException as error:  # a panic of an extension is no Exception
            return self._fail_all([chunk.request for chunk in chunks], error)

    def _run(self, chunks: list[Chunk], began: float) -> list[Outcome]:
        layout = self._lay_out(chunks)
        ready = self._clock()
        logits = self._runner.run(layout)
        sampled = [c.request for c in layout.chunks if c.samples]
        draws, broken = _draws(sampled)
        chosen = choose(logits[: len(sampled)], draws)
        ran = self._clock()
        self.scheduler.commit(chunks, ran)
        outcomes: list[Outcome] = []
        for request, token, logprob in zip(sampled, chosen.tokens, chosen.logprobs, strict=True):
            error = broken.get(request.number)
            ended = self._fail(request, error) if error else self._take(request, token, logprob)
            if ended is not None:
                outcomes.append(ended)
        whole = self._clock() - began
        step = Step.of(layout, len(sampled), self._work, began, ran - ready, whole)
        self.steps.append(step)
        self.tally.add(step)
        return outcomes

    def _lay_out(self, chunks: list[Chunk]) -> Layout:
        """The step's layout: the last one a step on, if nothing but decoding has happened."""
        scheduler = self.scheduler
        last, changes = self._last
        if (
            last is not None
            and changes == scheduler.changes
            and last.grown < last.horizon
            and len(chunks) == last.rows
        ):
            layout = last.advance(chunks)
        else:
            layout = lay_out(chunks, scheduler.tree.version, scheduler.page_size)
        self._last = layout, scheduler.changes
        return layout

    def abort(self, requests: Iterable[Request]) -> None:
        """Drop requests, wherever they stand."""
        now = self._clock()
        for request in requests:
            self.scheduler.remove(request, now)
            self.tally.aborted += 1

    # ---- one request's token ---------------------------------------------------------------

    def _take(
        self, request: Request, token: int | None, logprob: TokenLogprob | None
    ) -> Outcome | None:
        """Append a token; the outcome when it is the last."""
        if token is None:
            return self._fail(request, GenerationError("the model's logits are not numbers"))
        request.tokens.append(token)
        if logprob is not None:
            request.logprobs.append(logprob)
        try:
            reason = self._reason(request, token)
            if reason is not None:
                return self._finish(request, reason)
        except BaseException as error:
            return self._fail(request, _as_plait(error, "a token could not be taken"))
        return None

    def _reason(self, request: Request, token: int) -> FinishReason | None:
        """Why the request ends with this token, if it does."""
        sampling = request.sampling
        ends = token in sampling.stop_token_ids or (
            token in self._end_tokens and not sampling.ignore_eos
        )
        if request.grammar is not None and not ends:
            request.grammar.accept(token)
            ends = request.grammar.stopped
        if request.stream is not None:
            ends = self._stream(request, token, ends) or ends
        if ends:
            return "stop"
        return "length" if len(request.tokens) >= request.limit else None

    def _stream(self, request: Request, token: int, ends: bool) -> bool:
        """Grow the text and show what is safe; True when a stop string was met."""
        stream = request.stream
        assert stream is not None
        grammar_end = request.grammar is not None and request.grammar.stopped
        if not ends or grammar_end:
            stream.push(token)
        last = ends or stream.stopped or len(request.tokens) >= request.limit
        if last:
            stream.finish()
        if self._listener is not None:
            self._listener(request, token, stream.take_rest() if last else stream.take())
        return stream.stopped

    def _finish(self, request: Request, reason: FinishReason) -> Outcome:
        text = self._text(request)
        if request.grammar is not None:
            cut = request.stream is not None and request.stream.stopped
            limit = f"max_tokens={request.sampling.max_tokens}"
            request.grammar.check(text, limit if reason == "length" else "a stop ended it", cut)
        self.scheduler.remove(request, self._clock())
        self.tally.finished += 1
        usage = Usage(completion_tokens=request.generated)
        if request.index == 0:
            usage += Usage(len(request.prompt), request.cached or 0)
        self.tally.cached_tokens += usage.cached_tokens
        generation = Generation(
            token_ids=tuple(request.tokens[len(request.prompt) :]),
            text=text,
            finish_reason=reason,
            logprobs=tuple(request.logprobs) if request.sampling.logprobs is not None else None,
            usage=usage,
        )
        return Outcome(request, generation)

    def _text(self, request: Request) -> str:
        if request.stream is not None:
            return request.stream.text
        tokens = request.tokens[len(request.prompt) :]
        ends = tokens[-1] in self._end_tokens and not request.sampling.ignore_eos
        if ends or tokens[-1] in request.sampling.stop_token_ids:
            tokens.pop()
        return self._decoder.decode(tokens)

    # ---- failure ---------------------------------------------------------------------------

    def _fail(self, request: Request, error: PlaitError) -> Outcome:
        self.scheduler.remove(request, self._clock(), keep=False)
        self.tally.failed += 1
        return Outcome(request, error=error)

    def _fail_all(self, requests: Sequence[Request], cause: BaseException) -> list[Outcome]:
        """A step broke: its requests fail, and what they computed in it is not trusted."""
        error = _as_plait(cause, "a step failed")
        alive = {id(r) for r in self.scheduler.requests()}
        return [self._fail(request, error) for request in requests if id(request) in alive]


def _draws(requests: Sequence[Request]) -> tuple[list[Draw], dict[int, PlaitError]]:
    """How to choose each request's token; and, by number, the requests whose grammar broke."""
    draws: list[Draw] = []
    broken: dict[int, PlaitError] = {}
    for request in requests:
        allowed = None
        try:
            allowed = request.grammar.allowed() if request.grammar is not None else None
        except BaseException as error:
            broken[request.number] = _as_plait(error, "the output constraint broke")
        draws.append(Draw(request.sampling, request.seed, request.generated, allowed))
    return draws, broken


def _as_plait(cause: BaseException, what: str) -> PlaitError:
    """An error of plait's own as it is, lack of memory by name, others as faults of the engine."""
    if isinstance(cause, PlaitError):
        return cause
    if isinstance(cause, torch.OutOfMemoryError | MemoryError):
        cause = cause.with_traceback(None)  # its frames hold the step's tensors
        error: PlaitError = GenerationError(f"{what}: out of memory: lower kv_memory")
    else:
        error = EngineError(f"{what}: {type(cause).__name__}: {first_line(cause)}")
    error.__cause__ = cause
    return error
