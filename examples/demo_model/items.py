"""What the demo model reads and writes: six roles around the same problems, as chats.

`SYSTEM` and `ask` are what a workflow needs to speak to the model in the words it was trained on.
"""

from dataclasses import dataclass, field
from typing import Any, Final

from .problems import Problem
from .tables import Query

Message = dict[str, Any]
ROLES: Final = ("solve", "plan", "agent", "check", "extract", "sql")

SYSTEM: Final[dict[str, str]] = {
    "solve": "Solve the problem step by step.",
    "plan": "Write the steps of a plan as JSON.",
    "agent": "Solve the problem with the tools.",
    "check": "Check the proposed answer.",
    "extract": "List the quantities as JSON.",
    "sql": "Write one SQL query.",
}
"""The system prompt of each role, as the model was trained on it."""

TOOLS: Final[dict[str, dict[str, Any]]] = {
    name: {
        "type": "function",
        "function": {
            "name": name,
            "description": description,
            "parameters": {
                "type": "object",
                "properties": {argument: {"type": "string"}},
                "required": [argument],
            },
        },
    }
    for name, argument, description in (
        ("calculator", "expression", "Evaluate an arithmetic expression."),
        ("sql", "query", "Run one SQL query on the tables."),
    )
}
"""The tools of the `agent` role in OpenAI function form."""

_PROMPTS: Final[dict[str, tuple[str, ...]]] = {
    "solve": ("{text}", "Problem: {text}", "Question: {text}", "{text} Think step by step."),
    "plan": ("{text}", "Problem: {text}", "Question: {text}", "Plan this: {text}"),
    "agent": ("{text}", "Problem: {text}", "Question: {text}", "{text} Use the tools."),
    "check": (
        "{text}\nProposed answer: {answer}",
        "Problem: {text}\nProposed answer: {answer}",
        "{text}\nAnswer: {answer}",
        "Question: {text}\nAnswer: {answer}",
    ),
    "extract": ("{text}", "Text: {text}", "Document: {text}", "{text}"),
    "sql": ("{text}", "{text}", "{text}", "{text}"),
}
"""User wordings; the first is the usual one, the others make the model less brittle."""


@dataclass(frozen=True)
class Item:
    """One chat to learn from or to be measured on."""

    role: str
    key: str
    """The computation without its wording; `tasks.split_of` says which split it is of."""
    num_steps: int
    messages: tuple[Message, ...]
    """The whole chat: system, user, and every assistant and tool turn up to the answer."""
    answer: str
    """What the last assistant turn comes to, in its shortest form."""
    tools: tuple[str, ...] = ()
    problem: Problem | None = None
    query: Query | None = field(default=None)

    @property
    def prompt(self) -> list[Message]:
        """The messages before the first assistant turn."""
        return [message for message in self.messages[:2]]

    @property
    def target(self) -> str:
        """The last assistant turn."""
        return str(self.messages[-1]["content"])

    @property
    def tool_schemas(self) -> list[dict[str, Any]] | None:
        return [TOOLS[name] for name in self.tools] or None


def ask(role: str, text: str, *, answer: object = "", wording: int = 0) -> list[Message]:
    """The messages that put `text` to the model in a role.

    >>> ask("check", "What is 2 + 2?", answer=4)[1]["content"]
    'What is 2 + 2?\\nProposed answer: 4'
    """
    prompts = _PROMPTS[role]
    content = prompts[wording % len(prompts)].format(text=text, answer=answer)
    return [
        {"role": "system", "content": SYSTEM[role]},
        {"role": "user", "content": content},
    ]
