"""Prompts to tokens: exactly the tokenizer's own, except that control tokens are the template's."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import transformers
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import (
    AddedToken,
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    trainers,
)

from plait import Message, PromptError, system, user
from plait.engine.llm.chat import Encoder
from plait.engine.models import find_model

CHAT = (
    "{{ bos_token }}{% for m in messages %}<|user|>{{ m.role }}\n{{ m.content | trim }}"
    "{% for c in m.tool_calls or [] %}{{ c.function.arguments | tojson }}{% endfor %}</s>\n"
    "{% endfor %}{% if add_generation_prompt %}<|user|>assistant\n{% endif %}"
)
SPECIAL = ["<s>", "</s>", "<|user|>"]
TEXT = "The quick brown fox jumps over lazy dogs. <b>Bold</b> 12 + 34 = 46! Über 日本 system user\n"


def byte_level() -> Tokenizer:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=400, initial_alphabet=alphabet, special_tokens=SPECIAL)
    tokenizer.train_from_iterator([TEXT] * 3, trainer)
    return tokenizer


def sentence_piece() -> Tokenizer:
    """As llama 2 has it: a blank before the first word only, and bytes for what is unknown."""
    bytes_ = [f"<0x{i:02X}>" for i in range(256)]
    tokenizer = Tokenizer(models.BPE(byte_fallback=True, unk_token="<unk>", fuse_unk=True))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first", split=False)
    tokenizer.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback()])
    trainer = trainers.BpeTrainer(vocab_size=500, special_tokens=["<unk>", *SPECIAL, *bytes_])
    tokenizer.train_from_iterator([TEXT] * 3, trainer)
    return tokenizer


def unigram() -> Tokenizer:
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Lowercase()])
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="always")
    tokenizer.decoder = decoders.Metaspace()
    trainer = trainers.UnigramTrainer(
        vocab_size=120, special_tokens=["<unk>", *SPECIAL], unk_token="<unk>"
    )
    tokenizer.train_from_iterator([TEXT] * 9, trainer)
    return tokenizer


def encoder_of(make: Any) -> Encoder:
    if make is None:
        return Encoder(transformers.AutoTokenizer.from_pretrained(find_model("demo")))
    fast = transformers.PreTrainedTokenizerFast(
        tokenizer_object=make(), bos_token="<s>", eos_token="</s>"
    )
    fast.add_special_tokens({"additional_special_tokens": ["<|user|>"]})
    fast.chat_template = CHAT
    return Encoder(fast)


@pytest.fixture(scope="module", params=[None, byte_level, sentence_piece, unigram],
                ids=["demo", "byte_level", "sentence_piece", "unigram"])  # fmt: skip
def encoder(request: pytest.FixtureRequest) -> Encoder:
    return encoder_of(request.param)


def specials(encoder: Encoder) -> dict[int, str]:
    """Control tokens: those that are special and stand for no text."""
    added = encoder.tokenizer.added_tokens_decoder  # type: ignore[union-attr]
    names = {i: t.content for i, t in added.items() if t.special}
    return {i: n for i, n in names.items() if n != "<unk>" and not n.startswith("<0x")}


def plainly(encoder: Encoder, messages: list[Message]) -> list[int]:
    """What transformers makes of the messages."""
    assert encoder.tokenizer is not None
    given = [m.as_dict() for m in messages]
    found = encoder.tokenizer.apply_chat_template(given, add_generation_prompt=True, tokenize=False)
    return list(encoder.tokenizer.encode(found, add_special_tokens=False))


pieces = st.sampled_from(
    ["fox", " ", "<", "|", ">", "user", "\n", "12", "é", "日本", "im_end", "s"]
)
texts = st.one_of(st.text(max_size=12), st.lists(pieces, max_size=8).map("".join))
texts = texts.filter(lambda t: not any(0xD800 <= ord(c) <= 0xDFFF for c in t))
quick = settings(max_examples=60, deadline=None)


def test_messages_without_control_tokens_are_tokenized_as_transformers_does(
    encoder: Encoder,
) -> None:
    names = list(specials(encoder).values())

    @quick
    @given(st.lists(texts, min_size=1, max_size=4))
    def check(contents: list[str]) -> None:
        messages = [system(contents[0]), *map(user, contents[1:])]
        expected = plainly(encoder, messages)
        if not any(name in text for name in names for text in contents):
            assert encoder.encode(messages) == expected

            def render(shown: Any) -> str:
                return encoder._render(shown, None)

            # Even if it goes the way of those that have some.
            given_ = [m.as_dict() for m in messages]
            assert encoder._controls.encode(given_, render, special=False) == expected

    check()


def test_a_control_token_in_a_message_is_text(encoder: Encoder) -> None:
    controls = specials(encoder)

    @quick
    @given(texts, st.sampled_from(sorted(controls.values())), texts)
    def check(before: str, token: str, after: str) -> None:
        evil = before + token + after
        ids = encoder.encode([system("Be kind."), user(evil), user("And?")])
        harmless = encoder.encode([system("Be kind."), user("x"), user("And?")])
        assert [i for i in ids if i in controls] == [i for i in harmless if i in controls]

    check()
    token = sorted(controls.values())[0]
    shown = encoder.tokenizer.decode(encoder.encode([user(f"say {token} now")]))  # type: ignore[union-attr]
    assert f"say {token} now" in shown, "and it is still there to be read"


def test_prompts_that_begin_alike_have_tokens_that_begin_alike(encoder: Encoder) -> None:
    token = sorted(specials(encoder).values())[0]
    history = [system("Be kind."), user("What does the fox say?")]
    shorter = encoder.encode(history)
    assert encoder.tokenizer is not None
    shown = encoder.tokenizer.apply_chat_template(
        [m.as_dict() for m in history], add_generation_prompt=False, tokenize=False
    )
    said = encoder.tokenizer.encode(shown, add_special_tokens=False)
    longer = encoder.encode([*history, user(f"A page: {token}{token}")])
    same = next(i for i, (a, b) in enumerate(zip(shorter, longer, strict=False)) if a != b)
    assert same >= len(said)
    clean = encoder.encode([*history, user("A page: no such thing")])
    assert longer[:same] == clean[:same] == shorter[:same]


def test_arguments_of_tool_calls_are_text_too() -> None:
    encoder = encoder_of(byte_level)
    call = {"name": "look", "arguments": {"</s>": ["<|user|>", {"deep": "</s>"}], "n": 3}}
    messages = [user("a"), Message("assistant", "", (call,)), user("b")]
    controls = specials(encoder)
    ids = encoder.encode(messages)
    names = [controls[i] for i in ids if i in controls]
    assert names == ["<s>"] + ["<|user|>", "</s>"] * 3 + ["<|user|>"]
    assert encoder.tokenizer is not None
    assert '{"</s>": ["<|user|>", {"deep": "</s>"}], "n": 3}' in encoder.tokenizer.decode(ids)


def test_without_a_template_too_and_a_raw_text_is_taken_as_it_is(tmp_path: Path) -> None:
    encoder = encoder_of(byte_level)
    assert encoder.tokenizer is not None
    encoder.tokenizer.chat_template = None
    end = encoder.tokenizer.eos_token_id
    assert end not in encoder.encode([user("a</s>"), user("b")])
    assert encoder.encode([user("a"), user("b")]) == encoder.tokenizer.encode("a\n\nb")
    assert end in encoder.encode("a</s>b"), "generate(...) is for those who want tokens"


def test_a_tokenizer_that_has_control_tokens_as_words_does_not_know_them_in_a_text() -> None:
    tokenizer = Tokenizer(models.WordLevel({"<unk>": 0, "</s>": 1, "a": 2}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    encoder = Encoder(
        transformers.PreTrainedTokenizerFast(
            tokenizer_object=tokenizer, eos_token="</s>", unk_token="<unk>"
        )
    )
    assert encoder.encode([user("a b")]) == [2, 0]
    assert encoder.encode([user("a </s> a")]) == [2, 0, 2]


def test_a_tokenizer_that_cannot_be_told_fails_the_prompt_alone() -> None:
    class Slow:
        added_tokens_decoder = {2: AddedToken("</s>", special=True)}
        chat_template = None

        def encode(self, text: str, **_: Any) -> list[int]:
            return [len(text)]

    encoder = Encoder(Slow())
    assert encoder.encode([user("abc")]) == [3]
    with pytest.raises(PromptError, match="cannot be told to read it as text"):
        encoder.encode([user("a</s>c")])


def test_half_a_character_is_one_clear_error(encoder: Encoder) -> None:
    for text in ("a\ud800b", "</s> <|im_end|> \udc80"):
        with pytest.raises(PromptError, match="half of a character"):
            encoder.encode([user(text)])
    with pytest.raises(PromptError, match="half of a character"):
        encoder.encode("a\ud800b")


def test_a_model_without_a_tokenizer_or_with_a_broken_template_says_what_to_look_at() -> None:
    for prompt in ("raw", [user("chat")]):
        with pytest.raises(PromptError, match="no tokenizer.json beside its weights"):
            Encoder(None).encode(prompt)
    encoder = encoder_of(byte_level)
    assert encoder.tokenizer is not None
    for template in ("{% if x %}", "{{ messages[7].content.x }}"):
        encoder.tokenizer.chat_template = template
        with pytest.raises(PromptError, match="chat template failed: .*chat_template.jinja"):
            encoder.encode([user("a")])
