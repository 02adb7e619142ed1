"""Attention of many rows over many slots, as matrix products by packed weights.

Keys play the weight of one product and values of the other. Rows go in blocks, so that scores
stay in the cache and a causal chunk computes little of what it may not see. Scores are fp32
whatever the types; weights meet the values in the values' own type, as in a flash kernel.
"""

from __future__ import annotations

import torch

from .. import dense

BLOCK = 256
CAUSAL_BLOCK = 128
"""Rows of a block; of a causal one, where a larger block computes more for nothing."""


def can_attend_wide(dtype: torch.dtype) -> bool:
    return dtype in (torch.float32, torch.bfloat16) and dense.can_pack()


def attend_wide(
    query: torch.Tensor,
    keys: torch.Tensor,
    values: torch.Tensor,
    scale: float,
    past: int | None,
    out: torch.Tensor,
    lse: torch.Tensor | None,
) -> None:
    """query (R, Hq, D) over keys and values (T, Hkv, D), into out (R, Hq, D) and lse (R, Hq).

    With `past`, row i sees the first past + i + 1 slots. Without `lse` none is computed.
    """
    rows, heads, _ = query.shape
    group = heads // keys.shape[1]
    size = BLOCK if past is None else CAUSAL_BLOCK
    for head in range(keys.shape[1]):
        mine = slice(head * group, (head + 1) * group)
        key = keys[:, head].float().mul(scale).contiguous()
        value = values[:, head].t().contiguous()
        for first in range(0, rows, size):
            last = min(first + size, rows)
            end = len(key) if past is None else past + last
            asked = query[first:last, mine].float().flatten(0, 1)
            scores = dense.product(asked, key[:end])
            if past is not None:
                _hide_ahead(scores.view(last - first, group, end)[..., past + first :])
            top = scores.amax(-1) if lse is not None else None
            weights = torch.softmax(scores, -1)
            if lse is not None and top is not None:
                # The largest weight is e^(largest score - lse).
                found = top - weights.amax(-1).log_()
                lse[first:last, mine] = found.view(last - first, group)
            mixed = dense.product(weights.to(value.dtype), value[:, :end].contiguous())
            out[first:last, mine] = mixed.view(last - first, group, -1)


def _hide_ahead(own: torch.Tensor) -> None:
    """Mask (rows, group, rows) scores of a chunk on itself."""
    size = own.shape[-1]
    own += torch.full((size, size), float("-inf")).triu_(1)[:, None]
