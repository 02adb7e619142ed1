"""How much a step computes and reads, by formula: the numerators of MFU and MBU."""

from __future__ import annotations

from dataclasses import dataclass

from .attention.plan import Layout


@dataclass(frozen=True, slots=True)
class Work:
    """Sizes of one model, enough to count FLOPs and bytes of a step."""

    body_parameters: int
    """Parameters every row is multiplied with (without embedding and head)."""
    head_parameters: int
    """Parameters only sampled rows are multiplied with."""
    attention_width: int
    """Sum over layers of query heads x head size."""
    kv_bytes: int
    """KV bytes per token, all layers."""
    number_bytes: int
    """Bytes per weight."""

    def flops(self, layout: Layout, sampled: int) -> float:
        """A multiply-add counts two; attention counts each row's context for QK and for PV."""
        context = sum(_seen(c.start, c.count) for c in layout.chunks)
        return (
            2.0 * self.body_parameters * layout.rows
            + 2.0 * self.head_parameters * sampled
            + 4.0 * self.attention_width * context
        )

    def bytes_read(self, layout: Layout) -> float:
        """Weights once and each distinct KV token once."""
        weights = (self.body_parameters + self.head_parameters) * self.number_bytes
        return weights + float(self.kv_bytes) * layout.distinct_read


def _seen(start: int, count: int) -> float:
    """Sum of context lengths of `count` rows from position `start`."""
    return count * start + count * (count + 1) / 2
