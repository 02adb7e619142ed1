"""Our own forward for the llama-like families on a CPU.

A Hugging Face layer costs about a quarter of a millisecond in Python and small operators, as much
as the mathematics of a small model. This forward does the same mathematics in a dozen operators
per layer: one product for Q, K and V, one for gate and up, residuals added inside the products,
and rotary embedding as one complex multiplication (rows of Q and K are reordered once so that
the two numbers it rotates are neighbours; scores do not see the order).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from .attention import StepAttention
from .dense import Dense

BLOCK = 512
"""Rows that go through a feed-forward layer at a time."""
LEAN_FAMILIES = ("llama", "qwen2", "qwen3", "mistral")


@dataclass(frozen=True, slots=True)
class LeanLayer:
    """One decoder layer's weights, and its attention settings."""

    input_norm: torch.Tensor
    qkv: Dense
    query_norm: torch.Tensor | None
    key_norm: torch.Tensor | None
    out: Dense
    post_norm: torch.Tensor
    gate_up: Dense
    down: Dense
    scale: float
    window: int | None


class LeanModel:
    """A llama-like decoder over packed rows."""

    def __init__(self, model: Any, windows: Sequence[int | None]) -> None:
        config = model.config
        body = model.model
        attention = body.layers[0].self_attn
        self.size = int(attention.head_dim)
        self.heads = int(config.num_attention_heads)
        self.kv_heads = int(config.num_key_value_heads)
        self.epsilon = float(config.rms_norm_eps)
        self.hidden = int(config.hidden_size)
        self.intermediate = int(config.intermediate_size)
        self.embedding: torch.Tensor = body.embed_tokens.weight
        self.rotation: torch.Tensor = body.rotary_emb.inv_freq.float()
        self.rotation_scale = float(body.rotary_emb.attention_scaling)
        self.layers = [
            self._layer(layer, window) for layer, window in zip(body.layers, windows, strict=True)
        ]
        self.norm: torch.Tensor = body.norm.weight
        self.head = Dense(model.lm_head.weight, model.lm_head.bias)

    def __call__(
        self,
        step: StepAttention,
        ids: torch.Tensor,
        positions: torch.Tensor,
        keep: torch.Tensor,
    ) -> torch.Tensor:
        """Logits (len(keep), V)."""
        rows = self.embedding.index_select(0, ids)
        angles = positions[:, None] * self.rotation
        turn = torch.polar(torch.full_like(angles, self.rotation_scale), angles)[:, None]
        for number, layer in enumerate(self.layers):
            rows = self._attention(step, number, layer, rows, turn)
            rows = self._mlp(layer, rows)
        out: torch.Tensor = self.head(self._norm(rows.index_select(0, keep), self.norm))
        return out

    def _attention(
        self,
        step: StepAttention,
        number: int,
        layer: LeanLayer,
        rows: torch.Tensor,
        turn: torch.Tensor,
    ) -> torch.Tensor:
        both = self.heads + self.kv_heads
        qkv = layer.qkv(self._norm(rows, layer.input_norm)).view(len(rows), -1, self.size)
        query, key, value = qkv[:, : self.heads], qkv[:, self.heads : both], qkv[:, both:]
        if layer.query_norm is not None and layer.key_norm is not None:
            query = self._norm(query, layer.query_norm)
            key = self._norm(key, layer.key_norm)
            query, key = _rotate(query, turn), _rotate(key, turn)
        else:
            turned = _rotate(qkv[:, :both], turn)
            query, key = turned[:, : self.heads], turned[:, self.heads :]
        mixed = step.attend(number, query, key, value, scale=layer.scale, window=layer.window)
        return layer.out.add(mixed.reshape(len(rows), -1), rows)

    def _mlp(self, layer: LeanLayer, rows: torch.Tensor) -> torch.Tensor:
        if len(rows) > BLOCK:  # what lies between the products stays in the cache
            return torch.cat(
                [self._mlp(layer, block) for block in rows.chunk(-(-len(rows) // BLOCK))]
            )
        both = layer.gate_up(self._norm(rows, layer.post_norm))
        gated = torch.nn.functional.silu(both[:, : self.intermediate])
        return layer.down.add(gated.mul_(both[:, self.intermediate :]), rows)

    def _norm(self, x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        """RMS norm. torch's own is seven operators here; the norm and small ones are cheaper."""
        size = torch.linalg.vector_norm(x, dim=-1, keepdim=True, dtype=torch.float32)
        factor = size.square_().mul_(1.0 / x.shape[-1]).add_(self.epsilon).rsqrt_()
        return x.mul(factor).to(x.dtype).mul_(weight)

    def _layer(self, layer: Any, window: int | None) -> LeanLayer:
        attention, mlp = layer.self_attn, layer.mlp
        order = _interleaved(self.size)
        query, key, value = attention.q_proj, attention.k_proj, attention.v_proj
        weights = [_turn_rows(query.weight, order), _turn_rows(key.weight, order), value.weight]
        biases = None
        if query.bias is not None:
            biases = [_turn_rows(query.bias, order), _turn_rows(key.bias, order), value.bias]
        return LeanLayer(
            input_norm=layer.input_layernorm.weight,
            qkv=_joined(weights, biases),
            query_norm=_ordered(getattr(attention, "q_norm", None), order),
            key_norm=_ordered(getattr(attention, "k_norm", None), order),
            out=Dense(attention.o_proj.weight, attention.o_proj.bias),
            post_norm=layer.post_attention_layernorm.weight,
            gate_up=_joined(
                [mlp.gate_proj.weight, mlp.up_proj.weight],
                None if mlp.gate_proj.bias is None else [mlp.gate_proj.bias, mlp.up_proj.bias],
            ),
            down=Dense(mlp.down_proj.weight, mlp.down_proj.bias),
            scale=float(attention.scaling),
            window=window,
        )


def fits(model: Any) -> bool:
    """Whether the lean forward computes what this model computes."""
    config = model.config
    rope = getattr(getattr(model, "model", None), "rotary_emb", None)
    if config.model_type not in LEAN_FAMILIES or rope is None or config.hidden_act != "silu":
        return False
    layer = model.model.layers[0].self_attn
    return bool(
        getattr(rope, "rope_type", "default") in ("default", "linear", "llama3")
        and rope.inv_freq.shape[-1] * 2 == layer.head_dim
        and all(type(p) is torch.nn.Linear for p in (layer.q_proj, layer.o_proj, model.lm_head))
    )


def _rotate(x: torch.Tensor, turn: torch.Tensor) -> torch.Tensor:
    """Rotary embedding of (T, H, D) by complex factors (T, 1, D / 2). fp32 turns in place."""
    if x.dtype == torch.float32:
        torch.view_as_complex(_pairs(x)).mul_(turn)
        return x
    turned = torch.view_as_complex(_pairs(x.float())) * turn
    return torch.view_as_real(turned).flatten(-2).to(x.dtype)


def _pairs(x: torch.Tensor) -> torch.Tensor:
    return x.view(*x.shape[:-1], -1, 2)


def _interleaved(size: int) -> torch.Tensor:
    """0, size/2, 1, size/2 + 1, ...: the two halves that rotary embedding pairs, as neighbours."""
    return torch.arange(size).view(2, -1).t().flatten()


def _turn_rows(weight: torch.Tensor, order: torch.Tensor) -> torch.Tensor:
    """Reorder the rows inside each head."""
    heads = weight.detach().view(-1, len(order), *weight.shape[1:])
    return heads[:, order].flatten(0, 1)


def _ordered(norm: Any | None, order: torch.Tensor) -> torch.Tensor | None:
    return None if norm is None else norm.weight.detach()[order]


def _joined(weights: Sequence[torch.Tensor], biases: Sequence[torch.Tensor] | None) -> Dense:
    return Dense(torch.cat(list(weights)), None if biases is None else torch.cat(list(biases)))
