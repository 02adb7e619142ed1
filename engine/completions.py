"""Plain generation: texts or token ids continued as they are, without a workflow."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

from ..dag.errors import ConfigError, RowError
from ..dag.sampling import Sampling
from .backends.backend import Backend, Call
from .generation import Generation
from .given import prompts_of
from .row import next_number


async def complete(
    backend: Backend, prompts: str | Sequence[str] | Sequence[int] | Sequence[Sequence[int]],
    model: str, sampling: Mapping[str, Any], salt: str, return_errors: bool,
) -> list[Any]:  # fmt: skip
    """One `Generation` per prompt, a list of them with n > 1; see `Engine.generate`. The error of a
    prompt is raised once the others are done, or stands in its place with `return_errors`."""
    try:
        settings = Sampling(**sampling)
    except TypeError as error:
        raise ConfigError(f"{error}".replace("Sampling.__init__()", "generate()")) from None
    await backend.open((model,))
    calls = [
        Call(
            prompt, settings, model, seed=i, priority=-next_number(), row=str(i), raw=True,
            salt=salt,
        )
        for i, prompt in enumerate(prompts_of(prompts))
    ]  # fmt: skip
    results = await asyncio.gather(*(_one(backend, call) for call in calls))
    if not return_errors:
        for result in results:
            if isinstance(result, RowError):
                raise result
    return results


async def _one(backend: Backend, call: Call) -> Generation | list[Generation] | RowError:
    try:
        generations = await backend.generate(call)
    except RowError as error:
        return error
    return generations if call.sampling.n > 1 else generations[0]
