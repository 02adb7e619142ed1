"""A workflow or a lone operator as a notebook shows it, in every form a notebook may know."""

from __future__ import annotations

from typing import Any

from .draw import mermaid, svg
from .errors import WorkflowError
from .workflow import draft


def painted(target: Any) -> dict[str, str]:
    """Pictures by MIME type; for a workflow that is wrong, its problems as text."""
    drafted = draft(target)
    graph = drafted.workflow
    if drafted.problems:
        return {"text/plain": f"workflow {graph.name!r}:\n{WorkflowError(*drafted.problems)}"}
    count = len(graph.nodes)
    return {
        "text/vnd.mermaid": mermaid(graph),
        "image/svg+xml": svg(graph),
        "text/plain": f"workflow {graph.name!r}: {count} node{'s' * (count != 1)}",
    }
