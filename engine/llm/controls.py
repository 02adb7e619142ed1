"""Control tokens are the chat template's alone: in messages, their text is text.

A user's or a tool's text may hold `<|im_end|>`. Rendered into a chat template it would end the
message, and what follows would speak in another's name. So such text is marked before the template
is rendered, and the rendered prompt goes through a twin of the tokenizer that knows the control
tokens under secret names: those of the template are renamed, the marked text is put back as it was
and is tokenized like any other. Everything else about the twin is the tokenizer's own, so a prompt
has the same tokens in both, and prompts that begin alike share them.
"""

from __future__ import annotations

import json
import re
import secrets
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from typing import Any

from ...dag.errors import PromptError, first_line

_PRIVATE = range(0xE000, 0xF8FF)
"""Characters that no text should hold; one of them marks."""
_CANNOT = (
    "the prompt holds the text of a control token, and this model's tokenizer cannot be told to "
    "read it as text"
)


_BYTE = re.compile("<0x[0-9A-F]{2}>")


class Controls:
    """The control tokens of a tokenizer: added tokens that it calls special, but for those that
    stand for text (what is unknown, and single bytes)."""

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        added = getattr(tokenizer, "added_tokens_decoder", {})
        unknown = getattr(tokenizer, "unk_token", None)
        # The longest first: one may begin another.
        found = (t.content for t in added.values() if t.special and t.content != unknown)
        names = sorted((n for n in found if n and not _BYTE.fullmatch(n)), key=len, reverse=True)
        self._names = tuple(names)
        self._pattern = re.compile("|".join(map(re.escape, names))) if names else None

    def within(self, value: Any) -> bool:
        """Whether a text, or one in a list or mapping, holds the text of a control token."""
        if self._pattern is None:
            return False
        if isinstance(value, str):
            return self._pattern.search(value) is not None
        return any(map(self.within, _parts(value)))

    def encode(
        self, messages: Sequence[Mapping[str, Any]],
        render: Callable[[Sequence[Mapping[str, Any]]], str], special: bool,
    ) -> list[int]:  # fmt: skip
        """Token ids of rendered messages in which control tokens are the template's only.

        Raises PromptError for a tokenizer that cannot be told not to read them.
        """
        pattern = self._pattern
        assert pattern is not None
        text = json.dumps(messages, ensure_ascii=False, default=str)
        mark = next((c for c in map(chr, _PRIVATE) if c not in text), None)
        if mark is None:
            raise PromptError("the prompt holds control tokens and every private-use character")
        found: list[str] = []

        def hide(match: re.Match[str]) -> str:
            found.append(match[0])
            return f"{mark}{len(found) - 1}{mark}"

        def hidden(value: Any) -> Any:
            if isinstance(value, str):
                return pattern.sub(hide, value)
            if isinstance(value, Mapping):
                return {hidden(key): hidden(item) for key, item in value.items()}
            return [hidden(v) for v in value] if isinstance(value, list | tuple) else value

        rendered = render([hidden(message) for message in messages])
        renamed = pattern.sub(lambda m: self._twin[1][m[0]], rendered)
        whole = re.sub(f"{mark}(\\d+){mark}", lambda m: found[int(m[1])], renamed)
        return self._tokens(whole, special)

    def _tokens(self, text: str, special: bool) -> list[int]:
        twin, _, real = self._twin
        ids: list[int] = twin.encode(text, add_special_tokens=special).ids
        return [real.get(id, id) for id in ids]

    @cached_property
    def _twin(self) -> tuple[Any, dict[str, str], dict[int | None, int]]:
        """The tokenizer with its control tokens renamed, their new names, and the tokenizer's own
        ids of added tokens by those of the twin."""
        from tokenizers import Tokenizer

        backend = getattr(self._tokenizer, "backend_tokenizer", None)
        if backend is None:
            raise PromptError(_CANNOT)
        nonce = secrets.token_hex(8)
        names = {old: f"\U000f0000{nonce}x{i}\U000f0000" for i, old in enumerate(self._names)}
        try:
            twin = Tokenizer.from_str(json.dumps(_renamed(json.loads(backend.to_str()), names)))
        except Exception as error:  # tokenizers has no type of its own for it
            raise PromptError(f"{_CANNOT}: {first_line(error)}") from error
        added = self._tokenizer.added_tokens_decoder.items()
        real = {twin.token_to_id(names.get(t.content, t.content)): i for i, t in added}
        return twin, names, real


def _renamed(form: dict[str, Any], names: Mapping[str, str]) -> dict[str, Any]:
    """The form of a tokenizer with these tokens renamed, in its vocabulary too: else a model that
    takes whole words from it would find them there."""
    for token in form["added_tokens"]:
        token["content"] = names.get(token["content"], token["content"])
    model = form["model"]
    vocab = model["vocab"]
    if isinstance(vocab, dict):
        model["vocab"] = {names.get(piece, piece): id for piece, id in vocab.items()}
    else:
        model["vocab"] = [[names.get(piece, piece), score] for piece, score in vocab]
    return form


def _parts(value: Any) -> Sequence[Any]:
    if isinstance(value, Mapping):
        return [*value.keys(), *value.values()]
    return value if isinstance(value, list | tuple) else ()
