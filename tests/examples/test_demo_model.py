"""The shipped demo model's files: small, ordinary, and with a template a KV cache can rely on."""

import itertools
import json
import math
import sys
from pathlib import Path
from typing import Any

import pytest
from safetensors import safe_open
from transformers import AutoTokenizer

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "examples"))

from demo_model.chat import content, encode, segments
from demo_model.items import ROLES, TOOLS, Item
from demo_model.tasks import make_items

MODEL = Path(__file__).resolve().parents[2] / "engine" / "demo_model"
TEXTS = (
    "12 * 4 = 48\n#### 48",
    "  héllo  wörld 日本\n\n\t🙂 ",
    '{"a": [1, 2.5]}',
    "<tool_call>",
    "\0",
)


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    return AutoTokenizer.from_pretrained(MODEL)


def items(role: str) -> list[Item]:
    return list(itertools.islice(make_items(role, "test", 5), 20))


def test_the_model_is_small_and_ordinary() -> None:
    files = {path.name: path.stat().st_size for path in MODEL.iterdir()}
    assert sum(files.values()) < 10_000_000
    assert {"config.json", "model.safetensors", "tokenizer.json", "README.md"} <= set(files)
    config = json.loads((MODEL / "config.json").read_text())
    assert config["model_type"] == "llama"
    assert "auto_map" not in config
    with safe_open(MODEL / "model.safetensors", "np") as weights:
        shapes = [weights.get_slice(name).get_shape() for name in weights.keys()]  # noqa: SIM118
    assert 2_000_000 <= sum(map(math.prod, shapes)) <= 6_000_000


@pytest.mark.parametrize("text", TEXTS)
def test_any_text_comes_back(tokenizer: Any, text: str) -> None:
    ids = tokenizer.encode(text, add_special_tokens=False)
    assert tokenizer.decode(ids, skip_special_tokens=True) == text


def test_digits_are_tokens(tokenizer: Any) -> None:
    assert len(tokenizer.encode("123456", add_special_tokens=False)) == 6


@pytest.mark.parametrize("role", ROLES)
def test_the_template_renders_what_was_trained(tokenizer: Any, role: str) -> None:
    for item in items(role):
        text = tokenizer.apply_chat_template(
            list(item.messages), tools=item.tool_schemas, tokenize=False
        )
        assert text == "".join(piece for piece, _ in segments(item))
        assert tokenizer.encode(text, add_special_tokens=False) == encode(tokenizer, item)[0]


def test_a_longer_chat_begins_with_the_shorter_one(tokenizer: Any) -> None:
    """Whether a turn comes back as tool calls or as the text that was generated."""

    def tokens(messages: list[dict[str, Any]], item: Item) -> list[int]:
        text = tokenizer.apply_chat_template(
            messages, tools=item.tool_schemas, add_generation_prompt=True, tokenize=False
        )
        ids: list[int] = tokenizer.encode(text, add_special_tokens=False)
        return ids

    for item in items("agent"):
        for end in range(2, len(item.messages) - 1, 2):
            before, said = list(item.messages[:end]), item.messages[end]
            wrote = tokenizer.encode(content(said), add_special_tokens=False)
            begin = [*tokens(before, item), *wrote, tokenizer.eos_token_id]
            as_text = {"role": "assistant", "content": content(said)}
            for turn in (said, as_text):
                after = tokens([*before, turn, item.messages[end + 1]], item)
                assert after[: len(begin)] == begin


def test_a_chat_needs_no_system_message(tokenizer: Any) -> None:
    def render(tools: list[dict[str, Any]] | None) -> str:
        text: str = tokenizer.apply_chat_template(
            [{"role": "user", "content": "Hi"}],
            tools=tools,
            add_generation_prompt=True,
            tokenize=False,
        )
        return text

    bare = "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n"
    assert render(None) == bare
    head = "<|im_start|>system\nTools: calculator(expression), sql(query)<|im_end|>\n"
    assert render([*TOOLS.values()]) == head + bare
