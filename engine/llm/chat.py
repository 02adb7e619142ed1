"""Prompts to token ids: the model's own chat template, or plain text."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from ...dag.errors import PromptError, first_line
from ...dag.messages import Message
from .controls import Controls

_NO_TOKENIZER = (
    "the model has no tokenizer (no tokenizer.json beside its weights): "
    "it takes token ids, not text"
)

Prompt = str | Sequence[Message] | Sequence[int]


class Encoder:
    """A tokenizer with its chat template. Raw text is never wrapped; messages always are.

    A model without a chat template gets the messages' contents, one per paragraph. Control tokens
    come from the template only: the text of one in a message is tokenized as text.
    """

    def __init__(self, tokenizer: Any | None) -> None:
        self.tokenizer = tokenizer
        self._controls = Controls(tokenizer)

    @property
    def has_chat_template(self) -> bool:
        return bool(getattr(self.tokenizer, "chat_template", None))

    def encode(self, prompt: Prompt, tools: Sequence[Mapping[str, Any]] | None = None) -> list[int]:
        """Token ids of a text, of messages, or of token ids."""
        if isinstance(prompt, str):
            return self._text(prompt, special=True)
        if all(isinstance(part, Message) for part in prompt):
            return self._messages([p for p in prompt if isinstance(p, Message)], tools)
        ids = [p for p in prompt if isinstance(p, int) and not isinstance(p, bool)]
        if len(ids) != len(prompt):
            raise PromptError("a prompt is a text, a list of messages or a list of token ids")
        return ids

    def decode(self, ids: Sequence[int]) -> str:
        """Text without special tokens; empty for a model without a tokenizer."""
        if self.tokenizer is None or not ids:
            return ""
        text: str = self.tokenizer.decode(
            list(ids), skip_special_tokens=True, clean_up_tokenization_spaces=False
        )
        return text

    def _text(self, text: str, special: bool) -> list[int]:
        if self.tokenizer is None:
            raise PromptError(_NO_TOKENIZER)
        with _valid(text):
            return list(self.tokenizer.encode(text, add_special_tokens=special))

    def _messages(
        self, messages: list[Message], tools: Sequence[Mapping[str, Any]] | None
    ) -> list[int]:
        if not messages:
            raise PromptError("the prompt has no messages")
        if self.tokenizer is None:
            raise PromptError(_NO_TOKENIZER)
        given = [m.as_dict() for m in messages]

        def render(shown: Sequence[Mapping[str, Any]]) -> str:
            return self._render(shown, tools)

        special = not self.has_chat_template
        if not self._controls.within(given):
            return self._text(render(given), special)
        with _valid("".join(m.content for m in messages)):
            return self._controls.encode(given, render, special)

    def _render(
        self, messages: Sequence[Mapping[str, Any]], tools: Sequence[Mapping[str, Any]] | None
    ) -> str:
        if not self.has_chat_template:
            return "\n\n".join(m["content"] for m in messages)
        assert self.tokenizer is not None
        try:
            text: str = self.tokenizer.apply_chat_template(
                list(messages),
                tools=[dict(t) for t in tools] if tools else None,
                add_generation_prompt=True,
                tokenize=False,
            )
        except Exception as error:  # a template raises whatever it likes
            what = f"the model's chat template failed: {first_line(error)}"
            raise PromptError(f"{what} (it is in chat_template.jinja or tokenizer_config.json "
                              "beside the weights)") from error  # fmt: skip
        return text


@contextmanager
def _valid(text: str) -> Iterator[None]:
    """PromptError for a text that a tokenizer cannot take: tokenizers raise various things."""
    try:
        yield
    except (UnicodeError, TypeError) as error:
        if any("\ud800" <= c <= "\udfff" for c in text):
            what = "the prompt holds half of a character (a lone surrogate)"
            hint = "cut texts between characters, and decode bytes with errors='replace'"
            raise PromptError(f"{what}: {hint}") from error
        raise PromptError(f"the prompt is not valid text: {first_line(error)}") from error


def check_prompt(prompt: Sequence[int], vocab_size: int, max_context: int, room: int) -> None:
    """PromptError unless these tokens can be served with `room` tokens of KV memory."""
    if not prompt:
        raise PromptError("the prompt is empty")
    if len(prompt) >= max_context:
        raise PromptError(
            f"the prompt has {len(prompt)} tokens, and the model's context of "
            f"{max_context} leaves no room for an answer"
        )
    if min(prompt) < 0 or max(prompt) >= vocab_size:
        bad = next(t for t in prompt if not 0 <= t < vocab_size)
        raise PromptError(f"token id {bad} is outside the vocabulary of {vocab_size}")
    if len(prompt) + 1 > room:
        raise PromptError(
            f"the prompt has {len(prompt):,} tokens, and the KV memory has room for a prompt of "
            f"{room - 1:,}"
        )
