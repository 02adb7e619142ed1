"""A workflow as one HTML file: the SVG to pan and zoom, and what each node is on a click.

Self-contained: no network, no library; it opens from disk.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from html import escape

from .nodes import Workflow
from .picture import Box, Picture, picture
from .svg import svg

_PAGE = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width,initial-scale=1">
<title>{title}</title>
<style>{style}</style>
<main id="stage" title="drag to move, wheel to zoom, double-click to fit">{svg}</main>
<aside id="card" aria-live="polite"><p>Click a node to see what it does.</p></aside>
<script type="application/json" id="facts">{facts}</script>
<script>{script}</script>
</html>
"""
_STYLE = """
:root{color-scheme:light dark}
body{margin:0;display:flex;height:100vh;font:14px/1.45 ui-sans-serif,system-ui,sans-serif;
background:#fff;color:#1f2328}
main{flex:1;min-width:0;overflow:hidden;cursor:grab;touch-action:none}
main:active{cursor:grabbing}
main svg{width:100%;height:100%;display:block}
.node{cursor:pointer}.node.on>.box{stroke:#2f81d7;stroke-width:2}
aside{width:340px;box-sizing:border-box;padding:18px;overflow:auto;border-left:1px solid #d0d7de}
aside h1{font-size:17px;margin:0}aside h2{font-size:12px;margin:14px 0 3px;color:#59636e}
aside p{margin:4px 0;color:#59636e}
pre{margin:0;padding:9px;border-radius:6px;background:#f6f8fa;white-space:pre-wrap;
overflow-wrap:anywhere;font:12px/1.5 ui-monospace,monospace}
@media (prefers-color-scheme:dark){body{background:#0d1117;color:#f0f6fc}
aside{border-color:#3d444d}pre{background:#161b22}aside p,aside h2{color:#9198a1}}
@media (max-width:700px){body{flex-direction:column}aside{width:auto;height:40vh}}
"""
_SCRIPT = """
const facts = JSON.parse(document.getElementById("facts").textContent);
const stage = document.getElementById("stage"), card = document.getElementById("card");
const svg = stage.querySelector("svg"), whole = svg.getAttribute("viewBox").split(" ").map(Number);
let view = [...whole], drag = null, moved = false;
const show = () => svg.setAttribute("viewBox", view.join(" "));
const scale = () => Math.max(view[2] / stage.clientWidth, view[3] / stage.clientHeight);
function fit() {
  const w = Math.max(whole[2], stage.clientWidth), h = Math.max(whole[3], stage.clientHeight);
  view = [(whole[2] - w) / 2, (whole[3] - h) / 2, w, h];
  show();
}
stage.addEventListener("wheel", event => {
  event.preventDefault();
  const point = new DOMPoint(event.clientX, event.clientY)
    .matrixTransform(svg.getScreenCTM().inverse());
  const by = Math.exp(Math.max(-60, Math.min(60, event.deltaY)) / 240);
  if (view[2] * by > whole[2] * 20 || view[2] * by < 60) return;
  view = [point.x - (point.x - view[0]) * by, point.y - (point.y - view[1]) * by,
          view[2] * by, view[3] * by];
  show();
}, {passive: false});
stage.addEventListener("pointerdown", event => {
  drag = [event.clientX, event.clientY]; moved = false;
});
window.addEventListener("pointermove", event => {
  if (!drag) return;
  const dx = event.clientX - drag[0], dy = event.clientY - drag[1];
  if (!moved && Math.hypot(dx, dy) < 4) return;
  moved = true; view[0] -= dx * scale(); view[1] -= dy * scale();
  drag = [event.clientX, event.clientY]; show();
});
window.addEventListener("pointerup", () => { drag = null; });
stage.addEventListener("dblclick", fit);
function add(tag, text) {
  const made = document.createElement(tag);
  made.textContent = text; card.append(made);
}
stage.addEventListener("click", event => {
  if (moved) return;
  const node = event.target.closest(".node");
  document.querySelectorAll(".node.on").forEach(other => other.classList.remove("on"));
  if (!node) return;
  node.classList.add("on");
  const about = facts[node.dataset.id];
  card.replaceChildren();
  add("h1", about.title); add("p", [about.kind, about.detail].filter(Boolean).join(" · "));
  for (const [label, text] of about.facts) { add("h2", label); add("pre", text); }
});
window.addEventListener("resize", fit); fit();
"""


def html(workflow: Workflow) -> str:
    """The workflow's DAG as a self-contained HTML page."""
    facts = {box.id: _about(box) for box in _boxes(picture(workflow))}
    # "<" never stands in the data, so no text of the user's can end the script element.
    data = json.dumps(facts, ensure_ascii=True, sort_keys=True).replace("<", "\\u003c")
    title = escape(f"workflow {workflow.name}")
    return _PAGE.format(title=title, style=_STYLE, svg=svg(workflow), facts=data, script=_SCRIPT)


def _boxes(shown: Picture) -> Iterator[Box]:
    for box in shown.boxes:
        yield box
        for body in box.inside:
            yield from _boxes(body)


def _about(box: Box) -> dict[str, object]:
    facts = [[label, text] for label, text in box.facts if text]
    return {"title": box.title, "kind": box.kind, "detail": box.detail, "facts": facts}
