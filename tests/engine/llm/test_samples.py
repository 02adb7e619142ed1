"""Samples: they depend on their seeds alone, and their logprobs are the model's."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from math import inf, isfinite, isnan, nan
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from plait.dag.sampling import Sampling
from plait.engine.llm.costs import Costs
from plait.engine.llm.sampler import Draw, choose, seed_of, uniform

from . import models
from .calls import HOT, Build, one


async def test_a_sample_depends_on_its_seed_alone(engine: Build) -> None:
    prompt = [5, 6, 7, 8]
    alone = engine()
    wanted = [(await one(alone, prompt, HOT, seed=s)).token_ids for s in range(6)]
    assert len(set(wanted)) == 6
    crowded = engine(max_batch_tokens=5, max_running=4, prefix_cache=False)
    again = await asyncio.gather(*(one(crowded, prompt, HOT, seed=s) for s in range(6)))
    assert [g.token_ids for g in again] == wanted


@pytest.mark.parametrize(
    "settings", [{"top_k": 1}, {"top_p": 1e-6}, {"min_p": 1.0}, {"top_k": 3, "top_p": 0.01}]
)
async def test_narrow_sampling_is_greedy(engine: Build, settings: dict[str, float]) -> None:
    llm = engine()
    narrow = Sampling(max_tokens=12, temperature=0.9, ignore_eos=True, **settings)  # type: ignore[arg-type]
    greedy = await one(llm, [9, 8, 7], Sampling(max_tokens=12, ignore_eos=True))
    assert (await one(llm, [9, 8, 7], narrow)).token_ids == greedy.token_ids


@pytest.mark.parametrize("temperature", [1e-6, 1e-30, 1e-40, 1e-320])
@pytest.mark.parametrize("more", [{}, {"top_p": 0.9}, {"min_p": 0.1}])
async def test_next_to_no_temperature_is_greedy(
    engine: Build, temperature: float, more: dict[str, float]
) -> None:
    llm = engine()
    cold = Sampling(max_tokens=8, temperature=temperature, ignore_eos=True, **more)  # type: ignore[arg-type]
    greedy = await one(llm, [9, 8, 7], Sampling(max_tokens=8, ignore_eos=True))
    assert (await one(llm, [9, 8, 7], cold)).token_ids == greedy.token_ids


def test_a_row_whose_allowed_tokens_the_model_rules_out_has_no_token() -> None:
    logits = torch.full((2, 8), float("-inf"))
    logits[:, 3] = 1.0
    allowed = torch.arange(8) > 4
    draws = [Draw(HOT, 1, 0, allowed), Draw(HOT, 1, 0)]
    assert choose(logits, draws).tokens == [None, 3]


GREEDY = Sampling(max_tokens=4)
ROWS = st.tuples(
    st.sampled_from([GREEDY, HOT, Sampling(max_tokens=4, logprobs=2)]),
    st.one_of(st.none(), st.lists(st.booleans(), min_size=6, max_size=6)),
    st.lists(
        st.one_of(st.floats(-9, 9, width=32), st.sampled_from([-inf, inf, nan])),
        min_size=6, max_size=6,
    ),
)  # fmt: skip


@given(st.lists(ROWS, min_size=1, max_size=6))
def test_a_row_has_the_token_it_would_have_alone(
    rows: list[tuple[Sampling, list[bool] | None, list[float]]],
) -> None:
    logits = torch.tensor([numbers for _, _, numbers in rows])
    before = logits.clone()
    draws = [
        Draw(sampling, 7, place, torch.tensor(mask) if mask is not None else None)
        for place, (sampling, mask, _) in enumerate(rows)
    ]
    together = choose(logits, draws)
    assert torch.equal(logits.nan_to_num(), before.nan_to_num()), "logits stay as they are"
    for place, (sampling, mask, numbers) in enumerate(rows):
        alone = choose(logits[place : place + 1], [draws[place]])
        assert together.tokens[place] == alone.tokens[0]
        likely = [n for n, ok in zip(numbers, mask or [True] * 6, strict=True) if ok]
        token = together.tokens[place]
        if sampling.greedy:
            sound = all(map(isfinite, (max(numbers), max(likely, default=nan)))) and not any(
                map(isnan, numbers)
            )
            assert (token is not None) == sound
            assert token is None or numbers[token] == max(likely) and (not mask or mask[token])


@pytest.mark.parametrize("length", [9, 16, 30, 41])
async def test_n_generations_share_their_prompt(engine: Build, length: int) -> None:
    llm = engine()
    sampling = Sampling(max_tokens=8, temperature=1.0, n=5, ignore_eos=True)
    prompt = list(range(10, 10 + length))
    answers = await llm.generate(prompt, sampling, seed=3)
    assert len({a.token_ids for a in answers}) == 5
    assert [a.usage.prompt_tokens for a in answers] == [length, 0, 0, 0, 0]
    assert [a.usage.cached_tokens for a in answers] == [0, 0, 0, 0, 0]
    assert llm.counters().prefill_tokens == length + 4, "their last token is computed for each"
    alone = await engine(prefix_cache=False).generate(prompt, sampling, seed=3)
    assert [a.token_ids for a in answers] == [a.token_ids for a in alone]


async def test_logprobs_are_the_models_own(
    engine: Build, model_path: Callable[[str], Path]
) -> None:
    llm = engine()
    prompt = [3, 4, 5]
    for temperature in (0.0, 0.5):  # which has no part in them
        sampling = Sampling(max_tokens=6, temperature=temperature, logprobs=3, ignore_eos=True)
        answer = await one(llm, prompt, sampling)
        assert answer.logprobs is not None and len(answer.logprobs) == 6
        with torch.inference_mode():
            tokens = torch.tensor([[*prompt, *answer.token_ids]])
            logits = models.oracle(model_path("llama"))(tokens).logits[0, len(prompt) - 1 : -1]
        logs = torch.log_softmax(logits, -1)
        best = logs.topk(3)
        for at, (token, shown) in enumerate(zip(answer.token_ids, answer.logprobs, strict=True)):
            assert shown.token_id == token
            assert shown.logprob == pytest.approx(float(logs[at, token]), abs=1e-4)
            assert [number for number, _ in shown.top] == best.indices[at].tolist()
            assert [log for _, log in shown.top] == pytest.approx(
                best.values[at].tolist(), abs=1e-4
            )


def test_a_small_vocabulary_has_no_more_logprobs_than_tokens() -> None:
    chosen = choose(torch.randn(1, 8), [Draw(Sampling(logprobs=20), 1, 0)])
    assert chosen.logprobs[0] is not None and len(chosen.logprobs[0].top) == 8


def test_draws_are_the_same_in_every_process_and_version() -> None:
    """Or a run that is resumed would go on differently."""
    assert (uniform(1, 0), uniform(7, 300)) == (0.9140224628703029, 0.3431892262116003)
    assert seed_of(1, 2) == 16171810823986729605


@pytest.mark.parametrize("host_memory", [0, 60 * 4 * 256])
async def test_samples_are_the_same_after_preemption(engine: Build, host_memory: int) -> None:
    prompt = [5, 6, 7, 8]
    alone = engine()
    wanted = [(await one(alone, prompt, HOT, seed=s)).token_ids for s in range(6)]
    tight = engine(page_size=4, kv_memory=14 * 4 * 256, host_memory=host_memory)
    tight.costs = Costs(token=1.0, kv_bytes=256)
    again = await asyncio.gather(
        *(one(tight, prompt, HOT, seed=s, expected_tokens=1) for s in range(6))
    )
    assert [g.token_ids for g in again] == wanted
    counters = tight.counters()
    assert counters.preemptions > 0
    assert counters.preempted_to_host == (counters.preemptions if host_memory else 0)
    assert (counters.restored_pages > 0) == bool(host_memory)
    way = "goes to the host" if host_memory else "is computed again"
    assert any("gave way" in line and way in line for line in tight.explain())
