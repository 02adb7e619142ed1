"""YAML workflows: the same nodes as in Python, every problem with its line, bounds on bad input."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import plait
from plait import ConfigError, WorkflowError, assistant, system, user
from plait.dag.arg import Fill, Ref, resolve
from plait.dag.check import check
from plait.dag.errors import Problem
from plait.dag.nodes import LLMCall, Map, Node, ToolCall, Workflow
from plait.dag.operators import Operator
from plait.dag.template import Template, as_text
from plait.dag.yaml_file import load_yaml
from plait.dag.yaml_text import MAX_BYTES

from .operators import TOOLS, good, lookup, search, send


@plait.tool(effect="pure")
def take(value: Any) -> Any:
    return value


def load(text: str) -> Workflow:
    return load_yaml(text, "flow.yaml", lambda path: {**TOOLS, "take": take})


def problems(text: str) -> list[str]:
    with pytest.raises(WorkflowError) as caught:
        load(text)
    found = caught.value.problems
    assert all(p.file == "flow.yaml" and p.line and p.hint for p in found), found
    return [f"{p.line}: {p.message} ({p.hint})" for p in found]


PAGE = Path(__file__).parents[2] / "docs" / "yaml.md"


def test_the_example_on_the_page_of_keys_loads() -> None:
    (example,) = re.findall(r"```yaml\n(.*?)```", PAGE.read_text(), re.S)
    asked: list[str] = []

    def tools(path: str) -> Mapping[str, Operator[Any, Any]]:
        asked.append(path)
        return {**TOOLS, "is_short": good}

    flow = load_yaml(example, "report.yaml", tools)
    assert asked == ["mytools.py"] and check(flow, models=["default"]) == ()
    assert {n.operator for n in flow.nodes.values()} == {
        "Input", "Map", "LLMCall", "Project", "ToolCall", "Agent", "Branch", "Loop",
    }  # fmt: skip
    assert flow.type is dict


# -- the same workflow in Python ---------------------------------------------------------------


@plait.llm(max_tokens=64)
def text(topic: str) -> str:
    return plait.prompt(system("You write short notes."), user(f"Write about {topic}."))


@plait.llm
def facts(text: str) -> dict[str, list[str]]:
    return plait.prompt(user(f"List the names in: {text}"))


@plait.llm(temperature=0.5, seed=1, model="big", stop="END")
def shorter(text: str) -> str:
    return f"Make this shorter: {text}"


@plait.llm(choice=["good", "bad"])
def judge(text: str, found: list[str]) -> str:
    return plait.prompt(user("Judge."), assistant("Which?"), user(f"{text}, given {found}"))


@plait.agent(tools=[lookup, search], max_turns=3)
def solved(topic: str) -> str:
    return f"Solve {topic}"


@plait.workflow
def report(topic: str, limit: int = 3) -> Any:
    written = text(topic)
    named = facts(written)
    found = plait.map(lookup, named["names"])
    plait.map(search, named["names"], limit=limit)
    ok = good(written)
    chosen = plait.when(ok, written, solved(topic))
    final = plait.loop(shorter, chosen, until=good, max_iters=2)
    send(final)
    return {"final": final, "verdict": judge(final, found), "name": named["names"][0]}


SAME = """
workflow: report
inputs: {topic: string, limit: {type: integer, default: 3}}
tools: tools.py
operators:
  shorter:
    llm: "Make this shorter: {{text}}"
    temperature: 0.5
    seed: 1
    model: big
    stop: END
    inputs: {text: string}
nodes:
  # nodes may stand in any order
  judge:
    llm: [user: Judge., assistant: "Which?", user: "{{loop_shorter}}, given {{map_lookup}}"]
    choice: [good, bad]
  text: {llm: "Write about {{topic}}.", system: You write short notes., max_tokens: 64}
  facts: {llm: [user: "List the names in: {{text}}"], schema: {names: [string]}}
  map_lookup: {map: lookup, over: "{{facts.names}}"}
  map_search: {map: search, over: "{{facts.names}}", with: {limit: "{{limit}}"}}
  good: {tool: good, args: {text: "{{text}}"}}
  solved: {agent: "Solve {{topic}}", tools: [lookup, search], max_turns: 3}
  when: {when: "{{good}}", then: "{{text}}", else: "{{solved}}"}
  loop_shorter: {loop: shorter, state: "{{when}}", until: good, max_iters: 2}
  send: {tool: send, args: {text: "{{loop_shorter}}"}}
output: {final: "{{loop_shorter}}", verdict: "{{judge}}", name: "{{facts.names[0]}}"}
"""


def test_yaml_and_python_compile_to_nodes_that_run_the_same() -> None:
    in_yaml, in_python = load(SAME), report.workflow
    assert set(in_yaml.nodes) == set(in_python.nodes) - {"facts.names"} | {"facts.names"}
    values = {"topic": "bees", "limit": 2, "text": "a text", "map_lookup": [1],
              "loop_shorter": "short", "when": "w"}  # fmt: skip
    for id, node in in_python.nodes.items():
        if id.startswith("facts.names"):
            continue  # YAML names the path in a prompt, or makes the same projection
        assert_same(in_yaml.nodes[id], node, values)
    assert in_yaml.output == in_python.output
    order = list(in_yaml.nodes)
    for made in in_yaml.nodes.values():
        assert all(order.index(need) < order.index(made.id) for need in made.needs())


def assert_same(one: Node, two: Node, values: dict[str, Any]) -> None:
    assert one.operator == two.operator and one.needs() == two.needs()
    if isinstance(one, LLMCall) and isinstance(two, LLMCall):
        assert (one.model, one.sampling) == (two.model, two.sampling)
        assert rendered(one, values) == rendered(two, values)
    elif isinstance(one, ToolCall):
        assert one == replace(two, source=one.source)
    elif isinstance(one, Map) and isinstance(two, Map):
        assert (one.item, one.over, one.bound, one.type) == (
            two.item,
            two.over,
            two.bound,
            two.type,
        )
    else:
        drop = {"source": None, "type": Any}
        plain = [
            {k: getattr(n, k) for k in type(n).__dataclass_fields__ if k not in ("body", "until")}
            for n in (one, two)
        ]
        assert plain[0] | drop == plain[1] | drop


def rendered(node: LLMCall, values: dict[str, Any]) -> Any:
    assert isinstance(node.prompt, Template)
    return node.prompt.render({name: resolve(arg, values) for name, arg in node.bound})


# -- references --------------------------------------------------------------------------------


def filled(text: str, **inputs: Any) -> Any:
    """What an argument of a tool becomes for these inputs."""
    names = "".join(f"  {name}: any\n" for name in inputs)
    flow = load(
        f"inputs:\n{names or '  unused: any'}\ntools: t\nnodes:\n"
        f"  made: {{tool: take, args: {{value: {text}}}}}\noutput: '{{{{made}}}}'\n"
    )
    node = flow.nodes["made"]
    values = dict(inputs)
    for other in flow.nodes.values():
        if other.operator == "Project":
            values[other.id] = resolve_project(other, inputs)
    return resolve(dict(node.args())["value"], values)


def resolve_project(node: Any, values: Mapping[str, Any]) -> Any:
    from plait.dag.template import project

    return project(resolve(node.of, values), node.path)


def test_one_reference_passes_the_value_and_a_text_is_filled() -> None:
    assert filled("'{{a}}'", a=[1, 2]) == [1, 2]
    assert filled("'{{a.b[0]}}'", a={"b": ["x"]}) == "x"
    assert filled("'about {{ a }} and {{b}}'", a="bees", b=[1, "é"]) == 'about bees and [1, "é"]'
    assert filled("['{{a}}', {k: 'x{{a}}'}, 3]", a="v") == ["v", {"k": "xv"}, 3]
    assert filled(r"'\{{a}} {single} }}'", a=1) == "{{a}} {single} }}"
    assert filled("plain") == "plain"


@given(st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=5,
))  # fmt: skip
def test_values_stand_in_texts_as_json_and_texts_as_they_are(value: Any) -> None:
    flow = load("inputs: [a]\nnodes: {n: {llm: 'x {{a}} y'}}\noutput: '{{n}}'")
    call = flow.nodes["n"]
    assert isinstance(call, LLMCall)
    assert rendered(call, {"a": value}) == f"x {as_text(value)} y"


def test_edges_come_from_references_alone() -> None:
    flow = load(
        "inputs: [a]\ntools: t\nnodes:\n  one: {llm: '{{a}}'}\n"
        "  two: {tool: search, args: {query: 'q {{one}}', limit: 2}}\noutput: ['{{two}}', '{{a}}']"
    )
    assert set(flow.graph.edges) == {("a", "one"), ("one", "two")}
    assert isinstance(dict(flow.nodes["two"].args())["query"], Fill)
    assert flow.nodes["two"].needs() == ("one",)


def test_operators_may_be_small_workflows() -> None:
    flow = load(
        "inputs: {topics: [string]}\noperators:\n  study:\n    inputs: {topic: string}\n"
        "    nodes: {a: {llm: 'A {{topic}}'}, b: {llm: 'B {{a}}'}}\n    output: '{{b}}'\n"
        "nodes: {all: {map: study, over: '{{topics}}'}}\noutput: '{{all}}'"
    )
    node = flow.nodes["all"]
    assert isinstance(node, Map) and list(node.body.nodes) == ["topic", "a", "b"]
    assert node.type == list[str] and node.body.output == Ref("b")


# -- problems ----------------------------------------------------------------------------------

BAD = """workflow: bad
inputs: [topic, topic, "no name"]
tools: t.py
nods: {}
nodes:
  one: {llm: "{{topc}} {{ .x}}", max_token: 3, schema: strin}
  two: {lm: "x"}
  three: {tool: lookp, args: {name: "{{one}}"}}
  four: {tool: lookup, args: {nam: "{{one}}"}}
  five: {map: look, over: "{{one}}"}
  six: {when: "{{one}} is good", then: 1}
  six: {when: "{{one}} is good", then: 1, else: "{{seven}}"}
  seven: {llm: "{{six}}", system: [x], max_tokens: many, top_p: 3}
  eight: {agent: "x {{topic}}", tools: [lookup, luukup], max_turns: 0}
  nine: {loop: lookup, state: 3, max_iters: 0}
  ten: 5
  topic: {llm: x, tool: lookup}
output: "{{tenn}}"
"""


def test_all_problems_of_a_file_come_at_once_with_their_lines() -> None:
    found = problems(BAD)
    expected = """
2: the input 'topic' is given twice
2: 'no name' is not a name
4: a workflow has no key 'nods' (did you mean 'nodes'?)
6: {{topc}} refers to nothing (did you mean 'topic'?)
6: {{ .x}} is not a reference
6: a node with 'llm' has no key 'max_token' (did you mean 'max_tokens'?)
6: strin is not a type
7: node 'two' says nothing to do (did you mean 'llm'?)
8: there is no tool 'lookp' (did you mean 'lookup'?)
9: 'lookup' has no argument 'nam' (did you mean 'name'?)
9: 'lookup' misses argument 'name'
10: there is no operator or tool 'look' (did you mean 'lookup'?)
12: the key 'six' is given twice
12: 'when' must be exactly one reference
13: 'max_tokens' must be of type int
13: nodes need each other in a cycle: seven -> six -> seven
13: the system message must be a text
13: top_p=3 is out of range
14: 'max_turns' must be a whole number, 1 to 1000
14: there is no tool 'luukup' (did you mean 'lookup'?)
15: 'lookup' wants str for 'name'; it is given int
15: 'max_iters' must be a whole number, 1 to 10000
16: node 'ten' must be a mapping
17: 'topic' is both an input and a node
17: node 'topic' has llm and tool
18: {{tenn}} refers to nothing (did you mean 'ten'?)
"""
    for line in expected.strip().splitlines():
        assert [f for f in found if f.startswith(line)], f"{line}\nnot in\n" + "\n".join(found)
    numbers = [int(f.split(":")[0]) for f in found]
    assert numbers == sorted(numbers)


ONE = {
    "": "1: the file is empty",
    "- a": "1: the file must be a mapping of names to values",
    "a: [1,\n b": "2: this is not YAML",
    "a:\n\tb: 1": "2: this is not YAML",
    "workflow: {{x}}": '1: a key is a mapping or a list (write references in quotes: "{{name}}")',
    "a: &x [*x]": "1: an alias stands inside of what it names",
    "a: *x": "1: this is not YAML: found undefined alias",
    "a: " + "[" * 5000: "1: values are nested over 40 deep",
    "a: !!python/object/apply:os.system [id]": "1: the tag",
    "a: 1\n---\nb: 2": "2: this is not YAML",
    "a: \x00": "1: this is not YAML",
    "x" * (MAX_BYTES + 1): "1: the file is over 1 MiB",
    "nodes: {a: {llm: x}}\noutput: '{{a.b}}'": "2: 'a' is a str and has no 'b'",
    "nodes: {a: {llm: x, n: 2}}\noutput: '{{a}}'": "1: n=2 with temperature=0",
    "models: [m]\nnodes: {a: {llm: x, model: q}}\noutput: '{{a}}'": "2: 'a' asks for the unknown",
    "nodes: {a: {map: b, over: [1]}}\noperators: {b: {map: b, over: '{{x}}'}}\noutput: '{{a}}'":
        "2: operator 'b' uses itself",
    "nodes: {a: {llm: hi}}": "1: 'workflow' has no 'output'",
    "inputs: {n: {type: integer, default: x}}\nnodes: {a: {llm: '{{n}}'}}\noutput: '{{a}}'":
        "1: the default of 'n' is str, not int (change the default or the type)",
    "inputs: 3\nnodes: {a: {llm: x}}\noutput: '{{a}}'": "1: 'inputs' must be a list of names, or",
    "nodes: {a: {llm: x, model: 3}}\noutput: '{{a}}'": "1: 'model' must be a text (put it in",
    "nodes: {a: {llm: '{{b}}'}}\noutput: {}": "1: {{b}} refers to nothing (",
    "nodes: {a: {map: b, over: [1], with: 3}}\noperators: {b: {llm: '{{x}}'}}\noutput: '{{a}}'":
        "1: 'with' must be a mapping of input names to values (write with: {name: value})",
    "nodes: {a: {map: b, over: [1], with: {x: 1}}}\noutput: '{{a}}'\n"
    "operators: {b: {llm: '{{x}}'}}":
        "1: 'b' has no input left for the items (leave one input for them)",
    "tools: t\nnodes: {a: {tool: take, args: 3}}\noutput: '{{a}}'":
        "2: 'args' must be a mapping of argument names to values (write args: {name: value})",
    "nodes: {a: {when: 1}}\noutput: '{{a}}'": "1: node 'a' needs the key 'then' beside 'when' (add",
}  # fmt: skip


@pytest.mark.parametrize("text", ONE, ids=range(len(ONE)))
def test_one_clear_problem(text: str) -> None:
    assert problems(text)[0].startswith(ONE[text]), problems(text)


def test_aliases_cannot_unfold_without_bound() -> None:
    lines = ["a0: &a0 [1, 1, 1, 1, 1, 1, 1, 1, 1]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]" for i in range(1, 9)]
    assert "over 50000 values once its aliases are written out" in problems("\n".join(lines))[0]


def test_anchors_and_merges_may_be_used() -> None:
    flow = load(
        "inputs: [a]\nnodes:\n  one: &base {llm: '{{a}}', max_tokens: 9, seed: 1}\n"
        "  two: {<<: *base, seed: 2}\noutput: ['{{one}}', '{{two}}']"
    )
    one, two = flow.nodes["one"], flow.nodes["two"]
    assert isinstance(one, LLMCall) and isinstance(two, LLMCall)
    assert (one.sampling.seed, two.sampling.seed, two.sampling.max_tokens) == (1, 2, 9)


def test_words_stay_words() -> None:
    flow = load(
        "nodes: {a: {llm: x, choice: [yes, no, 'on', 2020-01-01, 12:30, '3']}}\noutput: '{{a}}'"
    )
    call = flow.nodes["a"]
    assert isinstance(call, LLMCall)
    assert call.sampling.choice == ("yes", "no", "on", "2020-01-01", "12:30", "3")


def test_problems_of_tools_files_are_problems_of_the_file() -> None:
    def broken(path: str) -> Mapping[str, Operator[Any, Any]]:
        raise ConfigError(f"{path} does not exist")

    with pytest.raises(WorkflowError, match="flow.yaml:1: tools cannot be loaded: t.py does not"):
        load_yaml("tools: t.py\nnodes: {a: {llm: x}}\noutput: '{{a}}'", "flow.yaml", broken)


def test_a_problem_of_a_module_without_a_file_is_told_where_the_yaml_names_it() -> None:
    def empty(path: str) -> Mapping[str, Operator[Any, Any]]:
        raise WorkflowError(Problem(f"{path!r} has no tools", hint="decorate a function"))

    text = "nodes: {a: {llm: x}}\ntools: builtins\noutput: '{{a}}'"
    with pytest.raises(WorkflowError, match="flow.yaml:2: 'builtins' has no tools"):
        load_yaml(text, "flow.yaml", empty)


def test_an_unused_node_is_left_to_check() -> None:
    flow = load("nodes: {a: {llm: x}, b: {llm: y}}\noutput: '{{a}}'")
    (problem,) = check(flow)
    assert (problem.node, problem.file, problem.line) == ("b", "flow.yaml", 1)


@given(st.text(st.sampled_from("ab:{}[]\"'-\n &*!|>#%@,?\\"), max_size=60))
def test_any_text_is_a_workflow_or_a_list_of_problems(text: str) -> None:
    assert problems(text)


def test_types() -> None:
    flow = load(
        "inputs: {a: string, b: [integer], c: {x: number, y: [{z: boolean}]}, d: any, e: object}\n"
        "nodes: {n: {llm: '{{a}}', schema: {ok: boolean}}}\noutput: ['{{n.ok}}', '{{c.y[0].z}}']"
    )
    kinds = {i.id: i.type for i in flow.inputs}
    assert (kinds["a"], kinds["b"], kinds["d"], kinds["e"]) == (str, list[int], Any, dict[str, Any])
    assert flow.nodes["n.ok"].type is bool and flow.nodes["c.y[0].z"].type is bool
