"""Drawings: what they show, that they are well-formed, and the same every time."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from html.parser import HTMLParser
from itertools import combinations
from typing import Any
from xml.etree import ElementTree

import pytest

import plait
from plait.dag.arg import Ref
from plait.dag.draw import html, mermaid, svg
from plait.dag.nodes import Input, LLMCall, Workflow
from plait.dag.picture import Picture, picture
from plait.dag.sampling import Sampling
from plait.dag.template import Template, Text
from plait.dag.workflow import as_workflow
from plait.dag.yaml_file import load_yaml

from .operators import draft, extract, good, lookup, review, search, send, solve


@plait.workflow
def inside(name: str, topic: str) -> str:
    return draft(lookup(name))


@plait.workflow
def desk(topic: str, limit: int = 3) -> dict[str, Any]:
    text = draft(topic)
    facts = extract(text)
    notes = plait.map(inside, facts.names, topic=topic)
    best = plait.loop(draft, text, until=good, max_iters=2)
    chosen = plait.when(good(best), best, lambda: solve(topic))
    send(chosen)
    return {"chosen": review(chosen, notes), "year": facts.year, "more": search(topic, limit)}


def lines_of(shown: Picture) -> set[tuple[str, str, str]]:
    titles = {box.id: box.title for box in shown.boxes}
    return {(titles[line.source], titles[line.target], line.label) for line in shown.lines}


def test_a_picture_shows_kinds_details_and_labelled_lines() -> None:
    shown = picture(desk.workflow)
    assert {(box.kind, box.title): box.detail for box in shown.boxes} == {
        ("input", "topic"): "str", ("input", "limit"): "int · = 3",
        ("llm", "draft"): "default · 64 tokens", ("llm", "extract"): "default · 128 tokens",
        ("map", "map_inside"): "inside, every item",
        ("loop", "loop_draft"): "draft, at most 2 times",
        ("tool", "good"): "pure", ("agent", "solve"): "default · lookup, search · 4 turns",
        ("branch", "when"): "one side runs", ("tool", "send"): "write",
        ("llm", "review"): "big · 256 tokens · T 0.7", ("tool", "search"): "read",
        ("output", "desk"): "dict[str, Any]",
    }  # fmt: skip
    assert lines_of(shown) >= {
        ("extract", "map_inside", "each .names"), ("topic", "map_inside", ""),
        ("draft", "loop_draft", "start"), ("good", "when", "if"), ("loop_draft", "when", "yes"),
        ("solve", "when", "no"), ("extract", "desk", ".year"), ("review", "desk", ""),
    }  # fmt: skip
    bodies = {box.title: [b.title for b in box.inside] for box in shown.boxes if box.inside}
    assert bodies == {
        "map_inside": ["for each name"], "loop_draft": ["repeat draft", "until good"],
    }  # fmt: skip


def test_the_svg_is_well_formed_and_holds_every_box_of_every_body() -> None:
    root = ElementTree.fromstring(svg(desk.workflow))
    space = "{http://www.w3.org/2000/svg}"
    titles = [e.text for e in root.iter(f"{space}text") if e.get("class") == "title"]
    for title in ("topic", "draft", "extract", "map_inside", "lookup", "loop_draft", "desk"):
        assert title in titles
    labels = {e.text for e in root.iter(f"{space}text") if e.get("class") == "label"}
    assert labels >= {"if", "yes", "no", "each .names", "start", ".year"}
    assert "prefers-color-scheme:dark" in svg(desk.workflow)


def test_labels_do_not_hide_each_other() -> None:
    root = ElementTree.fromstring(svg(desk.workflow))
    space = "{http://www.w3.org/2000/svg}"
    for group in root.iter(f"{space}g"):  # coordinates are those of the group
        plates = [
            [float(e.get(name, "")) for name in ("x", "y", "width", "height")]
            for e in group.findall(f"{space}rect") if e.get("class") == "plate"
        ]  # fmt: skip
        for (ax, ay, aw, ah), (bx, by, bw, bh) in combinations(plates, 2):
            assert ax + aw <= bx + 1 or bx + bw <= ax + 1 or ay + ah <= by + 1 or by + bh <= ay + 1


NASTY = 'a"b<script>alert(1)</script>&\x07{{x}}]|`#;--> 日本'


def nasty() -> Workflow:
    template = Template((Text("user", (NASTY,)),))
    call = LLMCall(
        id=NASTY, name=NASTY, prompt=template, bound=(), sampling=Sampling(), model=NASTY
    )
    return Workflow(NASTY, {"in": Input(id="in", default=NASTY), NASTY: call}, Ref(NASTY))


def test_any_text_is_escaped() -> None:
    root = ElementTree.fromstring(svg(nasty()))
    assert any("<script>" in (e.text or "") for e in root.iter())  # as text, not as an element
    assert not [e for e in root.iter() if e.tag.endswith("script")]
    page = Scripts()
    page.feed(html(nasty()))
    assert page.count == 2  # the data and our own
    for line in mermaid(nasty()).splitlines()[1:]:
        label = re.search(r'"(.*?)"', line)
        assert label is None or not set("<>&|`") & set(label[1].replace("<br/>", ""))
        assert line.count('"') in (0, 2)


class Scripts(HTMLParser):
    count = 0

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self.count += tag == "script"


def test_the_page_is_self_contained_and_knows_every_node() -> None:
    page = html(desk.workflow)
    assert not re.search(r"(src|href)=|https?://(?!www\.w3\.org/2000/svg)|@import|url\(", page)
    data = re.search(r'<script type="application/json" id="facts">(.*?)</script>', page, re.S)
    assert data
    facts = json.loads(data[1])
    ids = set(re.findall(r'data-id="([^"]+)"', page))
    assert ids == set(facts)
    (about,) = [f for f in facts.values() if f["title"] == "extract"]
    told = dict(about["facts"])
    assert told["prompt"] == "system: List the names as JSON.\nuser: {text}"
    assert told["text ="] == "draft" and told["gives"] == "Facts"
    assert told["source"].startswith("test_draw.py:")


def test_mermaid_says_the_same() -> None:
    text = mermaid(desk.workflow)
    assert text.startswith("flowchart TD\n")
    assert text.count("subgraph") == text.count("\n  end") + text.count("\n    end") == 4
    for part in ('"llm draft<br/>default · 64 tokens"', '-->|"each .names"|', '-->|"no"|'):
        assert part in text


def test_live_workflows_lone_operators_and_broken_ones_can_be_drawn() -> None:
    @plait.workflow
    async def live(topic: str) -> str:
        return topic

    assert "live" in svg(live.workflow)
    assert "draft" in svg(as_workflow(draft))
    broken = Workflow("broken", {"a": Input(id="a")}, Ref("nowhere"))
    assert "broken" in svg(broken) and "broken" in mermaid(broken) and "broken" in html(broken)


def test_drawings_are_the_same_in_every_process() -> None:
    code = (
        "from tests.dag.test_draw import desk; from plait.dag.draw import html, mermaid\n"
        "import hashlib; print(hashlib.sha256((html(desk.workflow) + mermaid(desk.workflow))"
        ".encode()).hexdigest())"
    )
    seen = {
        subprocess.run(
            [sys.executable, "-c", code], env={"PYTHONHASHSEED": seed, "PATH": ""}, check=True,
            capture_output=True, text=True, cwd=str(_root()),
        ).stdout
        for seed in ("1", "2")
    }  # fmt: skip
    assert len(seen) == 1


def _root() -> Any:
    from pathlib import Path

    return Path(__file__).parents[2]


KINDS = {"text/vnd.mermaid", "image/svg+xml", "text/plain"}
COMPILED = load_yaml(
    "workflow: w\ninputs: [a]\nnodes: {b: {llm: '{{a}}'}}\noutput: '{{b}}'", "w", lambda _: {}
)


@pytest.mark.parametrize("target", [desk, desk.workflow, draft, lookup, solve, COMPILED])
def test_whatever_can_be_run_shows_itself_in_a_notebook(target: Any) -> None:
    shown = target._repr_mimebundle_(include=None, exclude=None)
    assert set(shown) == KINDS
    assert shown["image/svg+xml"] == svg(as_workflow(target))
    assert shown["text/vnd.mermaid"] == mermaid(as_workflow(target))


def test_a_broken_workflow_shows_its_problems_in_a_notebook() -> None:
    @plait.workflow
    def broken(topic: str) -> str:
        return draft(topik=topic)  # type: ignore[call-arg]

    (text,) = broken._repr_mimebundle_().values()
    assert "has no argument 'topik'" in text and "test_draw.py" in text


def test_a_notebook_gets_the_picture_in_a_process_that_has_imported_nothing_else() -> None:
    code = (
        "import plait, sys\n"
        "assert 'plait.dag.nodes' not in sys.modules\n"
        "@plait.tool\n"
        "def f(x: int) -> int: return x\n"
        "print(sorted(f._repr_mimebundle_()))"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout == f"{sorted(KINDS)}\n"
