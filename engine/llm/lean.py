"""Our own forward for the llama-like families on a CPU.

A Hugging Face layer costs about a quarter of a millisecond in Python and small operators, as much
as the mathematics of a small model. This forward does the same mathematics in a dozen operators
per layer: one product for Q, K and V, the activation, the gate and the residuals inside products,
norm weights multiplied into the weights that follow, and rotary embedding as one complex
multiplication (rows of Q and K are reordered once so that the two numbers it rotates are
neighbours; scores do not see the order). Where our own kernels are, they do all layers in one call.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from .attention import StepAttention
from .attention.fused import FusedAttention
from .dense import Dense
from .native.decoder import WHOLE, OwnDecoder, OwnLayer

BLOCK = 512
"""Rows that go through products at a time: what lies between two products stays in the cache."""
LEAN_FAMILIES = ("llama", "qwen2", "qwen3", "mistral")


@dataclass(frozen=True, slots=True)
class LeanLayer:
    """One decoder layer's weights, and its attention settings."""

    qkv: Dense
    query_norm: torch.Tensor | None
    key_norm: torch.Tensor | None
    out: Dense
    gate: Dense
    up: Dense
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
        self._epsilon = float(config.rms_norm_eps)
        self.embedding: torch.Tensor = body.embed_tokens.weight
        self.rotation: torch.Tensor = body.rotary_emb.inv_freq.float()
        self.rotation_scale = float(body.rotary_emb.attention_scaling)
        self.layers = [
            self._layer(layer, window) for layer, window in zip(body.layers, windows, strict=True)
        ]
        self.head = _joined([model.lm_head], body.norm)
        self.decoder = self._decoder()
        """All layers in one call, where our own kernels can."""

    @property
    def last_parameters(self) -> int:
        """Those of the last layer that only rows are multiplied with whose logits are wanted."""
        if self.decoder is None:
            return 0
        last = self.layers[-1]
        products = (last.out, last.gate, last.up, last.down)
        return sum(p.in_features * p.out_features for p in products)

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
        if self.decoder is not None and isinstance(step, FusedAttention):
            return self.decoder(step, rows, turn, keep)
        asked: torch.Tensor | None = None
        for number, layer in enumerate(self.layers):
            asked = _by_blocks(self._asking, layer, (rows,), asked)
            mixed = self._attention(step, number, layer, asked, turn)
            rows = _by_blocks(self._mixing, layer, (rows, mixed), rows)
        out: torch.Tensor = self.head(norm(rows.index_select(0, keep), self._epsilon))
        return out

    def _asking(self, layer: LeanLayer, rows: torch.Tensor) -> torch.Tensor:
        """Queries, keys and values, side by side."""
        asked: torch.Tensor = layer.qkv(norm(rows, self._epsilon))
        return asked

    def _attention(
        self,
        step: StepAttention,
        number: int,
        layer: LeanLayer,
        asked: torch.Tensor,
        turn: torch.Tensor,
    ) -> torch.Tensor:
        both = self.heads + self.kv_heads
        qkv = asked.view(len(asked), -1, self.size)
        query, key, value = qkv[:, : self.heads], qkv[:, self.heads : both], qkv[:, both:]
        if layer.query_norm is not None and layer.key_norm is not None:
            query = norm(query, self._epsilon).mul_(layer.query_norm)
            key = norm(key, self._epsilon).mul_(layer.key_norm)
            rotate(query, turn)
            rotate(key, turn)
        else:
            rotate(qkv[:, :both], turn)
        mixed = step.attend(number, query, key, value, scale=layer.scale, window=layer.window)
        return mixed.reshape(len(asked), -1)

    def _mixing(self, layer: LeanLayer, rows: torch.Tensor, mixed: torch.Tensor) -> torch.Tensor:
        """What attention found goes into the rows, then the feed-forward part."""
        rows = layer.out.add(mixed, rows)
        normed = norm(rows, self._epsilon)
        return layer.down.add(layer.up.times(normed, layer.gate.silu(normed)), rows)

    def _layer(self, layer: Any, window: int | None) -> LeanLayer:
        attention, mlp = layer.self_attn, layer.mlp
        order = _interleaved(self.size)
        return LeanLayer(
            qkv=_joined(
                [attention.q_proj, attention.k_proj, attention.v_proj],
                layer.input_layernorm,
                [order, order, None],
            ),
            query_norm=_ordered(getattr(attention, "q_norm", None), order),
            key_norm=_ordered(getattr(attention, "k_norm", None), order),
            out=_joined([attention.o_proj]),
            gate=_joined([mlp.gate_proj], layer.post_attention_layernorm),
            up=_joined([mlp.up_proj], layer.post_attention_layernorm),
            down=_joined([mlp.down_proj]),
            scale=float(attention.scaling),
            window=window,
        )

    def _decoder(self) -> OwnDecoder | None:
        head, layers = self.head.own, [_own(layer) for layer in self.layers]
        whole = self.size % WHOLE == 0 and self.head.in_features % WHOLE == 0
        if head is None or None in layers or not whole:
            return None
        own = [layer for layer in layers if layer is not None]
        return OwnDecoder(own, head, self.heads, self._epsilon, BLOCK)


def _own(layer: LeanLayer) -> OwnLayer | None:
    """The layer for our own kernels, where all its products are theirs."""
    qkv, out, gate = layer.qkv.own, layer.out.own, layer.gate.own
    up, down = layer.up.own, layer.down.own
    if qkv is None or out is None or gate is None or up is None or down is None:
        return None
    norms, setting = (layer.query_norm, layer.key_norm), (layer.scale, layer.window)
    return OwnLayer(qkv, out, gate, up, down, *norms, *setting)


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


def norm(x: torch.Tensor, epsilon: float) -> torch.Tensor:
    """RMS norm without its weight, of (T, H) or (T, heads, D): x / sqrt(mean(x^2) + epsilon).

    Of the same type; reckoned in fp32.
    """
    size = x.shape[-1]
    length = torch.linalg.vector_norm(x, dim=-1, keepdim=True, dtype=torch.float32)
    floor = length.new_tensor((epsilon * size) ** 0.5)
    return x.div(length.hypot_(floor).mul_(size**-0.5)).to(x.dtype)


def rotate(x: torch.Tensor, turn: torch.Tensor) -> None:
    """Rotary embedding of (T, heads, D) in place, by complex factors (T, 1, D / 2), in fp32.

    The two numbers that a factor rotates are neighbours.
    """
    wide = x.float()
    torch.view_as_complex(wide.view(*x.shape[:-1], -1, 2)).mul_(turn)
    if wide is not x:
        x.copy_(wide)


def _by_blocks(
    compute: Callable[..., torch.Tensor],
    layer: LeanLayer,
    rows: Sequence[torch.Tensor],
    out: torch.Tensor | None,
) -> torch.Tensor:
    """compute(layer, *rows), a block of rows at a time when there are many, written to `out`.

    So that every layer uses the same memory: fresh memory costs more than the copy.
    """
    count = len(rows[0])
    if count <= BLOCK:
        return compute(layer, *rows)
    size = -(-count // -(-count // BLOCK))
    for at in range(0, count, size):
        part = compute(layer, *(r[at : at + size] for r in rows))
        if out is None:
            out = part.new_empty(count, part.shape[1])
        out[at : at + size] = part
    assert out is not None
    return out


def _interleaved(size: int) -> torch.Tensor:
    """0, size/2, 1, size/2 + 1, ...: the two halves that rotary embedding pairs, as neighbours."""
    return torch.arange(size).view(2, -1).t().flatten()


def _ordered(norm: Any | None, order: torch.Tensor) -> torch.Tensor | None:
    return None if norm is None else norm.weight.detach()[order]


def _joined(
    linears: Sequence[Any],
    norm: Any | None = None,
    orders: Sequence[torch.Tensor | None] | None = None,
) -> Dense:
    """One product for several, of rows that a norm is done with except for its weight."""
    orders = orders or [None] * len(linears)
    pairs = list(zip(linears, orders, strict=True))
    weight = torch.cat([_turn_rows(linear.weight, order) for linear, order in pairs])
    if norm is not None:
        weight = (weight.float() * norm.weight.float()).to(weight.dtype)
    if linears[0].bias is None:
        return Dense(weight, None)
    return Dense(weight, torch.cat([_turn_rows(linear.bias, order) for linear, order in pairs]))


def _turn_rows(weight: torch.Tensor, order: torch.Tensor | None) -> torch.Tensor:
    """Reorder the rows inside each head."""
    weight = weight.detach()
    if order is None:
        return weight
    return weight.view(-1, len(order), *weight.shape[1:])[:, order].flatten(0, 1)
