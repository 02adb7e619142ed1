"""Tiny random models of many families, saved where the engine can load them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
import transformers
from transformers import AutoConfig, AutoModelForCausalLM

VOCAB = 128

_BASE: dict[str, Any] = {
    "vocab_size": VOCAB,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "max_position_embeddings": 512,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}

FAMILIES: dict[str, dict[str, Any]] = {
    "llama": {},
    "qwen2": {},
    "qwen3": {},
    "mistral": {"sliding_window": 12},
    "gemma2": {"sliding_window": 8, "query_pre_attn_scalar": 8},
    "gemma3_text": {"sliding_window": 8, "query_pre_attn_scalar": 8},
    "phi3": {},
    "gpt_oss": {"sliding_window": 8, "num_local_experts": 4, "num_experts_per_tok": 2},
    "stablelm": {},
    "olmo2": {},
}
_WIDE = {"hidden_size": 64, "intermediate_size": 96, "head_dim": 16}
WIDE = {f"{name}_wide": FAMILIES[name] | _WIDE for name in ("llama", "qwen2", "qwen3", "mistral")}
"""Large enough for our own kernels to do all layers in one call."""
FAMILIES |= WIDE


def save(family: str, place: Path, **changes: Any) -> Path:
    """A random model of the family in `place`."""
    torch.manual_seed(7)
    settings = {**_BASE, **FAMILIES.get(family, {}), **changes}
    config = AutoConfig.for_model(family.removesuffix("_wide"), **settings)
    model = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if weight.dim() > 1:  # far from the flat logits of a fresh start
                weight.normal_(0.0, 0.25)
            elif "sinks" in name:
                weight.normal_()
    model.save_pretrained(place)
    return place


def oracle(path: Path) -> Any:
    """The same model as plain transformers runs it."""
    transformers.logging.set_verbosity_error()
    model = AutoModelForCausalLM.from_pretrained(
        path, dtype=torch.float32, attn_implementation="eager"
    )
    return model.eval()


@torch.inference_mode()
def plainly(model: Any, prompt: list[int], max_tokens: int, ignore_eos: bool = True) -> list[int]:
    """Greedy tokens by plain `generate`."""
    ids = torch.tensor([prompt])
    end = {"eos_token_id": None} if ignore_eos else {}
    out = model.generate(
        ids,
        attention_mask=torch.ones_like(ids),
        max_new_tokens=max_tokens,
        do_sample=False,
        **end,
    )
    return out[0, len(prompt) :].tolist()  # type: ignore[no-any-return]


CHAT = (
    "{% for m in messages %}<|{{ m['role'] }}|>{{ m['content'] }}{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)


def save_with_tokenizer(place: Path, chat: bool = True) -> Path:
    """A random llama over bytes: token 3 + b is byte b, then four special tokens."""
    from tokenizers import Tokenizer, decoders, pre_tokenizers
    from tokenizers.models import BPE

    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocab = {"<pad>": 0, "<s>": 1, "</s>": 2} | {c: 3 + i for i, c in enumerate(letters)}
    tokenizer = Tokenizer(BPE(vocab=vocab, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    fast = transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", bos_token="<s>", eos_token="</s>"
    )
    fast.add_special_tokens({"additional_special_tokens": ["<|user|>", "<|assistant|>"]})
    if chat:
        fast.chat_template = CHAT
    fast.save_pretrained(place)
    return save("llama", place, vocab_size=264)
