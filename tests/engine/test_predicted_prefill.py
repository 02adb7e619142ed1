"""What the plan says will be prefilled, beside what the engine computes: right within a page."""

from __future__ import annotations

from pathlib import Path

import plait
from plait import Engine, llm, system, user, workflow
from plait.dag.plan import make_plan
from plait.engine.backends.local import LocalBackend

from .llm import models

PAGE = 16


@llm(max_tokens=2)
def answer(document: str, question: str) -> str:
    return plait.prompt(system("Read with care. " * 4), user(f"{document} Q: {question}"))


@workflow
def reading(document: str, question: str) -> str:
    return answer(document, question)


def test_prefill_tokens_are_right_within_a_page_a_call(tmp_path: Path) -> None:
    path = models.save_with_tokenizer(tmp_path)
    rows = [
        {"document": f"document {d} " * 12, "question": f"{q} what?"}
        for d in "abc" for q in "1234" for _ in range(2)
    ]  # fmt: skip
    with Engine(model=path, kv_memory="8MiB") as engine:
        engine.generate("warm up", max_tokens=1)
        assert isinstance(engine.backend, LocalBackend)
        llm_engine = engine.backend.llm("default")
        before = llm_engine.counters()
        engine.run(reading, rows)
        done = llm_engine.counters() - before
        plan = make_plan(reading.workflow, rows, measure=lambda t: float(len(llm_engine.encode(t))))
    assert plan.prefixes is not None
    assert done.requests == plan.merged_calls() == 12
    assert abs(plan.prefixes.merged - done.prompt_tokens) < PAGE * done.requests / 2
    assert abs(plan.prefixes.computed - done.prefill_tokens) < PAGE * done.requests / 2
    assert done.prefill_tokens < done.prompt_tokens / 3
