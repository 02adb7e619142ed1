"""One item's attention with its log-sum-exp, by torch's flash CPU operator or written out."""

from __future__ import annotations

import torch

WIDEN = 1 << 20
"""Up to this many numbers, 16-bit keys are made fp32 first: the flash operator does small 16-bit
products slower than fp32 ones, by more than the conversion takes."""
_FLASH_CPU = getattr(torch.ops.aten, "_scaled_dot_product_flash_attention_for_cpu", None)


def attend_part(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    *,
    scale: float,
    causal: bool = False,
    mask: torch.Tensor | None = None,
    softcap: float | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """(B, Hq, R, D) x (B, Hkv, T, D) -> output (B, Hq, R, D) and fp32 log-sum-exp (B, Hq, R).

    The output has the query's type or fp32.

    `causal` means R == T and row i sees slots 0 to i. `mask` is added to the scores; a row that
    sees nothing has to be masked out by the caller, because the flash operator says lse 0 for it.
    """
    assert query.shape[2] > 0 and key.shape[2] > 0, "the flash operator dies of empty parts"
    if softcap is None and _FLASH_CPU is not None and _fits_flash(query, key, value):
        if key.dtype != torch.float32 and key.numel() <= WIDEN:
            query, key, value = query.float(), key.float(), value.float()
        if mask is not None:
            mask = mask.to(query.dtype)
        out, lse = _FLASH_CPU(query, key, value, 0.0, causal, attn_mask=mask, scale=scale)
        return out, lse
    return attend_plainly(query, key, value, scale=scale, causal=causal, mask=mask, softcap=softcap)


def attend_plainly(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    *,
    scale: float,
    causal: bool = False,
    mask: torch.Tensor | None = None,
    softcap: float | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """The same, with the scores written out: any device, soft caps, unequal head sizes."""
    group = query.shape[1] // key.shape[1]
    keys = key.float().repeat_interleave(group, dim=1)
    values = value.float().repeat_interleave(group, dim=1)
    scores = torch.matmul(query.float(), keys.transpose(2, 3)).mul_(scale)
    if softcap is not None:
        scores = scores.div_(softcap).tanh_().mul_(softcap)
    if causal:
        rows, length = scores.shape[2:]
        ahead = torch.ones(rows, length, dtype=torch.bool, device=scores.device).triu_(1)
        scores.masked_fill_(ahead, float("-inf"))
    if mask is not None:
        scores = scores.add_(mask)
    lse = torch.logsumexp(scores, dim=-1)
    weights = torch.exp(scores - lse.clamp_min(-1e30)[..., None])
    return torch.matmul(weights, values), lse


def _fits_flash(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> bool:
    return query.device.type == "cpu" and query.shape[-1] == value.shape[-1] == key.shape[-1]
