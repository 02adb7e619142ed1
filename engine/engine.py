"""The Engine: what users hold. It owns the models and runs workflows over rows."""

from __future__ import annotations

import asyncio
import copy
from collections.abc import AsyncIterator, Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar, overload

from ..dag.errors import ConfigError
from ..dag.hints import Hints, hints_of
from ..dag.plan import Plan
from ..dag.workflow import as_workflow
from .backends.backend import Backend
from .backends.fake import FakeBackend
from .backends.local import LocalBackend
from .backends.workers import Workers
from .bridge import LoopThread
from .completions import complete
from .executor import Executor
from .given import all_rows, known_inputs, rows_of
from .history import History
from .options import DEFAULT_WINDOW, Options
from .planning import check_disabled
from .row import Row, RowIn
from .row_stream import RowStream
from .run import Run
from .together import Batches, explained, run_alone, run_together

R = TypeVar("R")
Expect = Mapping[str, float]
"""By the name of a call: tokens of its answers, or seconds of its tool."""


class Engine:
    """Runs workflows over rows on local models.

    model: directory, Hugging Face id or "demo"; `models` gives further aliases, `@llm(model=...)`
    names them. device: "auto", "cpu", "cuda". dtype: "auto" is float32 on a CPU and the
    checkpoint's own on a GPU. kv_memory: bytes or "2GiB" for the KV caches of each model.
    host_memory: the same on the host, for KV that is cheaper to move there than to compute. memory:
    a limit for all models together, weights and KV; idle models make room for others. devices: run
    on several, such as ["cuda:0", "cuda:1"], each with this memory; calls are divided. backend:
    "local", "fake" (answers with the last message) or an object with the methods of `Backend`.
    max_rows: most rows under way at once. plan: merge equal calls and order rows over the whole
    batch; without, every call of every row runs on its own. disable: rules to leave out by name.
    history: a folder such as "runs", whose history.json says what earlier runs have shown and is
    kept up by this engine's. Use it in a `with` block, or call `close`.

    An engine learns from what it runs: how long answers are and how long tools take is known to
    the plans of its later runs. Results do not depend on it.

    Raises ModelError when a model is not there, ConfigError for settings that cannot be.
    """

    def __init__(
        self, model: str | Path | None = None, *, models: Mapping[str, str | Path] | None = None,
        device: str = "auto", dtype: str = "auto", kv_memory: int | str | None = None,
        host_memory: int | str = 0, memory: int | str | None = None,
        devices: Sequence[str] = (), backend: str | Backend = "local",
        max_rows: int = DEFAULT_WINDOW, seed: int = 0, plan: bool = True,
        disable: Collection[str] = (), history: str | Path | None = None,
    ) -> None:  # fmt: skip
        if max_rows < 1:
            raise ConfigError(f"max_rows={max_rows} is out of range: at least 1")
        aliases = dict(models or {})
        if model is not None and str(aliases.get("default", model)) != str(model):
            both = f"model={str(model)!r} and models={{'default': {str(aliases['default'])!r}}}"
            raise ConfigError(f"{both} contradict: give one of them")
        if devices and device != "auto":
            both = f"device={device!r} and devices={list(devices)!r}"
            raise ConfigError(f"{both} contradict: give one of them")
        if model is not None or not aliases:
            aliases["default"] = model if model is not None else "demo"
        check_disabled(disable, plan)
        self._options = Options(max_rows, seed, plan, tuple(disable))
        names = {alias: str(name) for alias, name in aliases.items()}
        self._history = History(names, Path(history) if history is not None else None)
        self._loop = LoopThread()
        if backend == "local":
            workers = [
                LocalBackend(aliases, memory, device=place, dtype=dtype, kv_memory=kv_memory,
                             host_memory=host_memory)
                for place in devices or (device,)
            ]  # fmt: skip
            self.backend: Backend = Workers(workers) if devices else workers[0]
        elif backend == "fake":
            self.backend = FakeBackend()
        elif isinstance(backend, str):
            raise ConfigError(f"backend={backend!r} is not known: use 'local', 'fake' or an object")
        else:
            self.backend = backend

    def salted(self, salt: str) -> Engine:
        """This engine as one tenant's: whatever is asked of it shares neither cached KV nor answers
        with what is asked under other salts, or under none. The models, their memory, `close` and
        what is known of lengths are one for all."""
        tenant = copy.copy(self)
        tenant._options = replace(self._options, salt=salt)
        return tenant

    # -- workflows -----------------------------------------------------------------------------

    def run(
        self, workflow: Any, rows: Iterable[RowIn], *, plan: bool | None = None,
        disable: Collection[str] = (), expect: Expect | None = None,
    ) -> Run:  # fmt: skip
        """Run a workflow (or a lone operator) for every row; results in the rows' order.

        A row that fails becomes a Row with status "error"; the others go on. `plan` and `disable`
        stand for the engine's own in this run. `expect` says how long calls will take, such as
        `{"draft": 40, "look_up": 2.0}` (tokens of an answer, seconds of a tool), and goes before
        what earlier runs have shown. Raises UserError kinds for what concerns the whole run: the
        workflow, a model, the settings.
        """
        return self._loop.run(self.arun(workflow, rows, plan=plan, disable=disable, expect=expect))

    async def arun(
        self, workflow: Any, rows: Iterable[RowIn], *, plan: bool | None = None,
        disable: Collection[str] = (), expect: Expect | None = None,
    ) -> Run:  # fmt: skip
        self._loop.check_open()
        found = as_workflow(workflow)
        options = self._choose(plan, disable, hints_of(found, expect or {}))
        run = await run_alone(found, all_rows(rows), self.backend, options)
        await self._history.learn(found, run.stats.as_json())
        return run

    def run_together(
        self, batches: Iterable[tuple[Any, Iterable[RowIn]]], *, disable: Collection[str] = ()
    ) -> list[Run]:
        """Run several workflows at once, each for its own rows, under one plan; a Run for each.

        What they have in common is done once. Runs that must not share, such as repeats of one
        measurement, are to be run one by one.
        """
        return self._loop.run(self.arun_together(batches, disable=disable))

    async def arun_together(
        self, batches: Iterable[tuple[Any, Iterable[RowIn]]], *, disable: Collection[str] = ()
    ) -> list[Run]:
        self._loop.check_open()
        found, options = _read(batches), self._choose(True, disable)
        runs = await run_together(found, self.backend, options)
        for (workflow, _), run in zip(found, runs, strict=True):
            await self._history.learn(workflow, run.stats.as_json())
        return runs

    def _choose(
        self, plan: bool | None = None, disable: Collection[str] = (), said: Hints | None = None
    ) -> Options:
        """The options of one run: the engine's, unless it asks for others; what is known now."""
        chosen = self._options.plan if plan is None else plan
        check_disabled(disable, chosen)
        names = tuple(dict.fromkeys((*self._options.disable, *disable)))
        known = self._history.estimates({**self._options.known.given, **(said or {})})
        return replace(self._options, plan=chosen, disable=names, known=known)

    def stream(self, workflow: Any, rows: Iterable[RowIn]) -> RowStream:
        """Rows as they finish. `rows` is read only as far as there is room for further rows."""
        executor = Executor(as_workflow(workflow), self.backend, self._choose())
        return RowStream(executor, rows_of(rows), self._loop)

    def astream(self, workflow: Any, rows: Iterable[RowIn]) -> AsyncIterator[Row]:
        self._loop.check_open()
        return Executor(as_workflow(workflow), self.backend, self._choose()).run(rows_of(rows))

    @overload
    def call(self, workflow: Callable[..., R], /, **inputs: Any) -> R: ...
    @overload
    def call(self, workflow: Any, /, **inputs: Any) -> Any: ...
    def call(self, workflow: Any, /, **inputs: Any) -> Any:
        """Run a workflow once and return its output; a failure is raised as its own error."""
        return self._loop.run(self.acall(workflow, **inputs))

    @overload
    async def acall(self, workflow: Callable[..., R], /, **inputs: Any) -> R: ...
    @overload
    async def acall(self, workflow: Any, /, **inputs: Any) -> Any: ...
    async def acall(self, workflow: Any, /, **inputs: Any) -> Any:
        self._loop.check_open()
        executor = Executor(as_workflow(workflow), self.backend, self._choose())
        known_inputs(executor.workflow, inputs)
        await self.backend.open(executor.workflow.models())
        return await executor.call(inputs)

    def explain(
        self, workflow: Any, rows: Iterable[RowIn] = (), *, disable: Collection[str] = (),
        expect: Expect | None = None,
    ) -> Plan:  # fmt: skip
        """The plan for these rows; `print` it. Of the workflow nothing runs but pure tools that the
        plan takes for constants, as `run` calls them before the first row."""
        found, every = as_workflow(workflow), all_rows(rows)
        return self._loop.run(self.aexplain(found, every, disable=disable, expect=expect))

    async def aexplain(
        self, workflow: Any, rows: Iterable[RowIn] = (), *, disable: Collection[str] = (),
        expect: Expect | None = None,
    ) -> Plan:  # fmt: skip
        self._loop.check_open()
        found = as_workflow(workflow)
        options = self._choose(None, disable, hints_of(found, expect or {}))
        return await explained([(found, all_rows(rows))], self.backend, options)

    def explain_together(
        self, batches: Iterable[tuple[Any, Iterable[RowIn]]], *, disable: Collection[str] = ()
    ) -> Plan:
        """The one plan that `run_together` would follow; `print` it."""
        return self._loop.run(self.aexplain_together(_read(batches), disable=disable))

    async def aexplain_together(
        self, batches: Iterable[tuple[Any, Iterable[RowIn]]], *, disable: Collection[str] = ()
    ) -> Plan:
        self._loop.check_open()
        return await explained(_read(batches), self.backend, self._choose(True, disable))

    # -- plain generation ----------------------------------------------------------------------

    def generate(
        self, prompts: str | Sequence[str] | Sequence[int] | Sequence[Sequence[int]], *,
        model: str = "default", return_errors: bool = False, **sampling: Any,
    ) -> list[Any]:  # fmt: skip
        """Continue texts or token ids, without a chat template: one `Generation` per prompt.

        With n > 1 each prompt gives a list of them. `sampling` are the fields of `Sampling`. A
        prompt that fails raises its error once the others are done; with `return_errors` the
        error stands in its place instead.
        """
        work = self.agenerate(prompts, model=model, return_errors=return_errors, **sampling)
        return self._loop.run(work)

    async def agenerate(
        self, prompts: str | Sequence[str] | Sequence[int] | Sequence[Sequence[int]], *,
        model: str = "default", return_errors: bool = False, **sampling: Any,
    ) -> list[Any]:  # fmt: skip
        self._loop.check_open()
        salt = self._options.salt
        return await complete(self.backend, prompts, model, sampling, salt, return_errors)

    # -- end -----------------------------------------------------------------------------------

    def close(self) -> None:
        """Cancel what runs and give memory and threads back; a second call does nothing."""
        self._loop.close()
        self.backend.close()

    async def aclose(self) -> None:
        await asyncio.to_thread(self.close)

    def __enter__(self) -> Engine:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    async def __aenter__(self) -> Engine:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()


def _read(batches: Iterable[tuple[Any, Iterable[RowIn]]]) -> Batches:
    return [(as_workflow(workflow), all_rows(rows)) for workflow, rows in batches]
