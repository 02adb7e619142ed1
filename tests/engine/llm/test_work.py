"""How much a step is counted to compute."""

from __future__ import annotations

from dataclasses import replace

from plait.engine.llm.work import Work

WORK = Work(body_parameters=100, head_parameters=10, attention_width=6, kv_bytes=1, number_bytes=4)


def test_every_row_goes_through_the_body_and_sampled_ones_through_the_head() -> None:
    context = 3 + 4 + 5 + 8  # what three rows behind two others read, and one behind seven
    assert WORK.flops_of([(2, 3, False), (7, 1, True)]) == 2 * (100 * 4 + 10) + 4 * 6 * context


def test_of_the_last_layer_only_sampled_rows_are_computed_whole() -> None:
    work = replace(WORK, last_parameters=20, last_width=2)
    asked = 2 * (80 * 4 + 10 + 20) + 4 * 4 * (3 + 4 + 5 + 8) + 4 * 2 * 8
    assert work.flops_of([(2, 3, False), (7, 1, True)]) == asked


def test_decode_rows_are_all_sampled_so_the_last_layer_is_as_any_other() -> None:
    chunks = [(9, 1, True), (4, 1, True)]
    assert replace(WORK, last_parameters=20, last_width=2).flops_of(chunks) == WORK.flops_of(chunks)
