"""A workflow as Mermaid text, which GitHub, JupyterLab and many editors draw."""

from __future__ import annotations

from collections.abc import Iterator

from .nodes import Workflow
from .picture import Box, Picture, picture

_SHAPES = {  # kind: opening and closing bracket
    "input": ("([", "])"), "output": ("([", "])"), "tool": ("[[", "]]"), "branch": ("{{", "}}"),
    "agent": ("[/", "/]"),
}  # fmt: skip


def mermaid(workflow: Workflow) -> str:
    """The workflow's DAG as a Mermaid flowchart."""
    return "\n".join(["flowchart TD", *_picture(picture(workflow), "  ")]) + "\n"


def _picture(shown: Picture, indent: str) -> Iterator[str]:
    for box in shown.boxes:
        yield from _box(box, indent)
    for line in shown.lines:
        label = f"|{_quoted(line.label)}|" if line.label else ""
        yield f"{indent}{_id(line.source)} -->{label} {_id(line.target)}"


def _box(box: Box, indent: str) -> Iterator[str]:
    head = box.title if box.kind == "input" else f"{box.kind} {box.title}"
    text = _quoted(head, box.detail)
    if not box.inside:
        opening, closing = _SHAPES.get(box.kind, ("[", "]"))
        yield f"{indent}{_id(box.id)}{opening}{text}{closing}"
        return
    yield f"{indent}subgraph {_id(box.id)}[{text}]"
    for number, body in enumerate(box.inside):
        if len(box.inside) == 1:
            yield from _picture(body, indent + "  ")
            continue
        yield f"{indent}  subgraph {_id(box.id)}_part{number}[{_quoted(body.title)}]"
        yield from _picture(body, indent + "    ")
        yield f"{indent}  end"
    yield f"{indent}end"


def _id(id: str) -> str:
    return "n" + id.replace(".", "_")


def _quoted(*lines: str) -> str:
    """A label on one line of source, with everything Mermaid would read as markup spelled out."""
    texts = (" ".join(line.split()) for line in lines if line)
    shown = (
        "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in t) for t in texts
    )  # noqa: E501
    return '"' + "<br/>".join("".join(_entity(c) for c in text) for text in shown) + '"'


def _entity(char: str) -> str:
    return f"#{ord(char)};" if char in '"<>&#`\\|*_~$%' else char
