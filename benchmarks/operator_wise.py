"""One operator after the other, all rows of each: how frameworks with a barrier run a batch."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

from plait.dag.arg import resolve
from plait.dag.nodes import Branch, Project, Workflow
from plait.dag.template import project
from plait.engine.backends.backend import Backend
from plait.engine.executor import Executor
from plait.engine.options import Options
from plait.engine.program import Program
from plait.engine.row import Row, RowState
from plait.engine.values import read_inputs
from plait.engine.wiring import Kind


async def run_operator_wise(
    workflow: Workflow, backend: Backend, rows: Sequence[Mapping[str, Any]]
) -> list[Row]:
    """Every node for all rows before the next node begins. Nothing is merged."""
    executor = Executor(workflow, backend, Options(plan=False))
    await backend.open(workflow.models())
    programs = [_program(executor, index, row) for index, row in enumerate(rows)]
    wiring = executor.wiring
    for number, node in enumerate(wiring.nodes):
        assert not isinstance(node, Branch), "branches are not run operator by operator"
        if wiring.kinds[number] is Kind.PROJECT:
            assert isinstance(node, Project)
            for program in programs:
                program.values[node.id] = project(resolve(node.of, program.values), node.path)
        elif wiring.kinds[number] is Kind.WORK:
            values = await asyncio.gather(*(executor._work(p, number) for p in programs))
            for program, value in zip(programs, values, strict=True):
                program.values[node.id] = value
    return [p.row.finish(resolve(workflow.output, p.values)) for p in programs]


def _program(executor: Executor, index: int, row: Mapping[str, Any]) -> Program:
    inputs = read_inputs(executor.workflow.inputs, row)
    return Program(executor.wiring, inputs, RowState(index, index), "", executor._work)
