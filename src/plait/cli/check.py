"""`plait check`: everything wrong with a workflow, at once."""

from __future__ import annotations

from .options import Json, Models, Target, print_json


def check(target: Target, models: Models = None, as_json: Json = False) -> int:
    """Find every problem of a workflow.

    Nothing is run; each problem comes with file, line and a hint. Ends with 0 when there is
    none, else with 1.
    """
    from dataclasses import asdict

    from ..dag.errors import WorkflowError
    from ..engine.loading import load
    from .options import models_of

    aliases = models_of(None, models) if models else None
    try:
        loaded = load(target)
        problems = loaded.problems(aliases and [*aliases, "default"])
    except WorkflowError as error:
        problems = error.problems
    if as_json:
        print_json({"ok": not problems, "problems": [asdict(p) for p in problems]})
    elif problems:
        print("\n".join(map(str, problems)))
        print(f"{len(problems)} problem{'s' * (len(problems) != 1)}")
    else:
        graph = loaded.workflow
        print(f"{target}: {graph.name} is sound: {len(graph.nodes)} nodes")
    return 1 if problems else 0
