"""The Engine: what users hold. It owns the models and runs workflows over rows."""

from __future__ import annotations

import asyncio
import copy
from collections.abc import AsyncIterator, Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar, overload

from ..dag.errors import ConfigError
from ..dag.plan import Plan
from ..dag.workflow import as_workflow
from .backends.backend import Backend, Places
from .backends.fake import FakeBackend
from .backends.local import LocalBackend
from .backends.workers import Workers
from .bridge import LoopThread
from .completions import complete
from .executor import Executor
from .given import all_rows, known_inputs, rows_of
from .known import make_known_calls
from .options import DEFAULT_WINDOW, Options
from .planning import check_disabled, planned
from .row import Row, RowIn
from .row_stream import RowStream
from .run import Run
from .together import run_alone, run_together
from .trials import in_best_order

R = TypeVar("R")


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
    Use it in a `with` block, or call `close`.

    Raises ModelError when a model is not there, ConfigError for settings that cannot be.
    """

    def __init__(
        self, model: str | Path | None = None, *, models: Mapping[str, str | Path] | None = None,
        device: str = "auto", dtype: str = "auto", kv_memory: int | str | None = None,
        host_memory: int | str = 0, memory: int | str | None = None,
        devices: Sequence[str] = (), backend: str | Backend = "local",
        max_rows: int = DEFAULT_WINDOW, seed: int = 0, plan: bool = True,
        disable: Collection[str] = (),
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
        with what is asked under other salts, or under none. The models, their memory and `close`
        are one for all."""
        tenant = copy.copy(self)
        tenant._options = replace(self._options, salt=salt)
        return tenant

    # -- workflows -----------------------------------------------------------------------------

    def run(
        self, workflow: Any, rows: Iterable[RowIn], *, plan: bool | None = None,
        disable: Collection[str] = (),
    ) -> Run:  # fmt: skip
        """Run a workflow (or a lone operator) for every row; results in the rows' order.

        A row that fails becomes a Row with status "error"; the others go on. `plan` and `disable`
        stand for the engine's own in this run. Raises UserError kinds for what concerns the whole
        run: the workflow, a model, the settings.
        """
        return self._loop.run(self.arun(workflow, rows, plan=plan, disable=disable))

    async def arun(
        self, workflow: Any, rows: Iterable[RowIn], *, plan: bool | None = None,
        disable: Collection[str] = (),
    ) -> Run:  # fmt: skip
        self._loop.check_open()
        options = self._choose(plan, disable)
        return await run_alone(as_workflow(workflow), all_rows(rows), self.backend, options)

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
        found = [(as_workflow(workflow), all_rows(rows)) for workflow, rows in batches]
        return await run_together(found, self.backend, self._choose(True, disable))

    def _choose(self, plan: bool | None, disable: Collection[str]) -> Options:
        """The options of one run: the engine's, unless it asks for others."""
        chosen = self._options.plan if plan is None else plan
        check_disabled(disable, chosen)
        names = tuple(dict.fromkeys((*self._options.disable, *disable)))
        return replace(self._options, plan=chosen, disable=names)

    def stream(self, workflow: Any, rows: Iterable[RowIn]) -> RowStream:
        """Rows as they finish. `rows` is read only as far as there is room for further rows."""
        executor = Executor(as_workflow(workflow), self.backend, self._options)
        return RowStream(executor, rows_of(rows), self._loop)

    def astream(self, workflow: Any, rows: Iterable[RowIn]) -> AsyncIterator[Row]:
        self._loop.check_open()
        return Executor(as_workflow(workflow), self.backend, self._options).run(rows_of(rows))

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
        executor = Executor(as_workflow(workflow), self.backend, self._options)
        known_inputs(executor.workflow, inputs)
        await self.backend.open(executor.workflow.models())
        return await executor.call(inputs)

    def explain(
        self, workflow: Any, rows: Iterable[RowIn] = (), *, disable: Collection[str] = ()
    ) -> Plan:
        """The plan for these rows; `print` it. Of the workflow nothing runs but pure tools that the
        plan takes for constants, as `run` calls them before the first row."""
        found, every = as_workflow(workflow), all_rows(rows)
        return self._loop.run(self.aexplain(found, every, disable=disable))

    async def aexplain(
        self, workflow: Any, rows: Iterable[RowIn] = (), *, disable: Collection[str] = ()
    ) -> Plan:
        self._loop.check_open()
        found, options = as_workflow(workflow), self._choose(None, disable)
        batch = [(found, all_rows(rows))]
        known = await make_known_calls([(w, len(rows)) for w, rows in batch], options.disable)
        plan = await planned(batch, options.disable, known, self.backend)
        if isinstance(self.backend, Places):  # it may load torch, and searches
            plan = await asyncio.to_thread(self.backend.placed, plan)
        return await in_best_order(plan, batch[0][1], self.backend, options)

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
