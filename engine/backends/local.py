"""The local backend: models of this machine, each served by an `LLM` engine of its own."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...dag.errors import ConfigError, EngineError, PromptError, list_names
from ...dag.messages import Message, user
from ...dag.sampling import Sampling
from ..generation import Generation
from ..models import find_model
from .backend import Call

if TYPE_CHECKING:
    from ..llm import LLM

log = logging.getLogger("plait")
MAX_CHARS_PER_TOKEN = 64
"""A text with more characters than this per token of context is refused without tokenizing it."""
INLINE_CHARS = 8_192
"""Longer prompts are tokenized in a thread, so that the event loop goes on."""


class LocalBackend:
    """Serves several models by alias; aliases that name one directory share one engine."""

    def __init__(self, models: Mapping[str, str | Path], **options: Any) -> None:
        self._names = dict(models)
        self._options = options
        self._paths = {alias: find_model(name) for alias, name in models.items()}
        self._llms: dict[Path, LLM] = {}
        self._lock = threading.Lock()
        self._tokenizing = ThreadPoolExecutor(1, "plait-tokenize")
        self._closed = False
        self._warned = False

    async def open(self, models: tuple[str, ...]) -> None:
        for alias in models:
            if alias not in self._paths:
                known = list_names(list(self._paths))
                raise ConfigError(f"no model is given for alias {alias!r}: known are {known}")
            if self._paths[alias] not in self._llms:
                await asyncio.to_thread(self.llm, alias)

    def llm(self, alias: str) -> LLM:
        """The engine of an alias, loaded at its first use. Blocks while it loads."""
        path = self._paths[alias]
        with self._lock:
            if self._closed:
                raise EngineError("the engine is closed")
            if path not in self._llms:
                from ..llm import LLM

                self._llms[path] = LLM(path, **self._options)
            return self._llms[path]

    async def generate(self, call: Call) -> list[Generation]:
        if call.model not in self._paths or self._paths[call.model] not in self._llms:
            await self.open((call.model,))
        llm = self._llms[self._paths[call.model]]
        token_ids = await self._encode(llm, call)
        sampling = self._supported(call.sampling)
        return await llm.generate(token_ids, sampling, priority=call.priority, seed=call.seed)

    async def _encode(self, llm: LLM, call: Call) -> Sequence[int]:
        prompt = call.prompt
        if isinstance(prompt, str):
            prompt = prompt if call.raw else [user(prompt)]
        elif not prompt or not isinstance(prompt[0], Message):
            return prompt  # type: ignore[return-value]
        size = len(prompt) if isinstance(prompt, str) else sum(len(m.content) for m in prompt)
        if size > llm.max_context * MAX_CHARS_PER_TOKEN:
            what = f"a prompt of {size:,} characters is longer than the context"
            raise PromptError(f"{what} of {llm.max_context:,} tokens")
        if size <= INLINE_CHARS:
            return llm.encode(prompt, call.tools or None)
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._tokenizing, llm.encode, prompt, call.tools or None)

    def _supported(self, sampling: Sampling) -> Sampling:
        """Without llguidance a JSON answer is validated but not constrained while it is written."""
        if sampling.json_schema is None or find_spec("llguidance") is not None:
            return sampling
        if not self._warned:
            self._warned = True
            log.warning("JSON is checked but not enforced: pip install 'plait[json]' enforces it")
        return replace(sampling, json_schema=None)

    def describe(self) -> dict[str, Any]:
        loaded = {
            alias: {"device": str(self._llms[p].device), "dtype": str(self._llms[p].dtype)}
            for alias, p in self._paths.items() if p in self._llms
        }  # fmt: skip
        names = {alias: str(name) for alias, name in self._names.items()}
        return {"backend": "local", "models": names, "loaded": loaded}

    def close(self) -> None:
        with self._lock:
            self._closed = True
            llms, self._llms = list(self._llms.values()), {}
        for llm in llms:
            llm.close()
        self._tokenizing.shutdown(wait=False, cancel_futures=True)
