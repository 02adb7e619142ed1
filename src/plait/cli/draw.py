"""`plait draw`: a picture of a workflow."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .options import Json, Target, print_json


def draw(
    target: Target,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", metavar="FILE.{svg,mmd,html}",
                     help="Picture; its ending says which kind. [default: Mermaid, printed]"),
    ] = None,
    as_json: Json = False,
) -> None:  # fmt: skip
    """Draw a workflow as SVG, Mermaid or HTML."""
    from ..dag import draw as drawings
    from ..dag.errors import ConfigError
    from ..engine.loading import load
    from ..engine.rundir import write_text

    kinds = {".svg": drawings.svg, ".mmd": drawings.mermaid, ".html": drawings.html}
    suffix = output.suffix.lower() if output else ".mmd"
    if suffix not in kinds:
        raise ConfigError(f"-o {output}: a drawing ends in .svg, .mmd or .html")
    graph = load(target).workflow
    text = kinds[suffix](graph)
    if output is not None:
        try:
            write_text(output, text)
        except OSError as error:
            raise ConfigError(f"-o {output} cannot be written: {error.strerror}") from error
    elif not as_json:
        print(text)
    if as_json:
        shown = {"output": str(output)} if output else {"mermaid": text}
        print_json({"workflow": graph.name, "nodes": len(graph.nodes), **shown})
    elif output is not None:
        print(f"{output}: {graph.name}, {len(graph.nodes)} nodes")
