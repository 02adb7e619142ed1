"""Model families: what runs right through our attention, and what is refused by name."""

from __future__ import annotations

from typing import Any

from transformers import AutoModelForCausalLM

from ...dag.errors import ModelError


def check_family(config: Any, name: str) -> None:
    """Refuse what the attention interface would run wrongly."""
    reason = _unsupported(config.get_text_config(), _family(config, name))
    if reason:
        raise ModelError(f"model {name!r} of family {config.model_type!r} is unsupported: {reason}")


def check_causal(model: Any, config: Any, name: str) -> None:
    """Refuse attention that looks ahead: ours never does, so its answers would be others."""
    if any(getattr(module, "is_causal", None) is False for module in model.modules()):
        raise ModelError(
            f"model {name!r} of family {config.model_type!r} is unsupported: its attention looks "
            "ahead, as an encoder's does"
        )


def max_context(config: Any) -> int:
    """Longest sequence that the model treats right through our attention."""
    limit = int(getattr(config, "max_position_embeddings", 0) or 0) or 1 << 20
    rope = _rope(config)
    if rope.get("rope_type") == "longrope":  # changes its table by the longest row of a batch
        limit = min(limit, int(rope.get("original_max_position_embeddings") or limit))
    chunk = getattr(config, "attention_chunk_size", None)  # chunked masks do not reach us
    return min(limit, int(chunk)) if chunk else limit


def _family(config: Any, name: str) -> Any:
    try:
        return AutoModelForCausalLM._model_mapping[type(config)]
    except KeyError as error:
        raise ModelError(
            f"model {name!r} is a {config.model_type!r}, which is not a causal language model"
        ) from error


def _unsupported(config: Any, family: Any) -> str | None:
    if getattr(config, "is_encoder_decoder", False):
        return "it has an encoder"
    if not family._can_set_attn_implementation():
        return "its attention cannot be replaced"
    kinds = set(getattr(config, "layer_types", None) or ())
    if getattr(family, "_is_stateful", False) or "linear_attention" in kinds:
        return "some of its layers keep a state instead of keys and values"
    if getattr(config, "num_kv_shared_layers", 0):
        return "some of its layers share keys and values"
    if _rope(config).get("rope_type") == "dynamic":
        return "its rotary embedding depends on the other rows of a batch"
    return None


def _rope(config: Any) -> dict[str, Any]:
    rope = getattr(config, "rope_parameters", None) or getattr(config, "rope_scaling", None) or {}
    if "rope_type" not in rope:  # one set per layer type
        for part in rope.values():
            if isinstance(part, dict) and part.get("rope_type") in ("dynamic", "longrope"):
                return part
    return dict(rope)
