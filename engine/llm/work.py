"""How much a step computes and reads, by formula: the numerators of MFU and MBU."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .attention.plan import Layout
    from .model import LoadedModel


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

    @classmethod
    def of(cls, loaded: LoadedModel, kv_bytes: int) -> Work:
        return cls(
            body_parameters=loaded.body_parameters,
            head_parameters=loaded.head_parameters,
            attention_width=sum(loaded.heads * shape.key_size for shape in loaded.layers),
            kv_bytes=kv_bytes,
            number_bytes=loaded.dtype.itemsize,
        )

    def flops(self, layout: Layout, sampled: int) -> float:
        """Of a step whose `sampled` rows choose a token."""
        return self.flops_of([(c.start, c.count) for c in layout.chunks], sampled)

    def flops_of(self, chunks: Iterable[tuple[int, int]], sampled: int) -> float:
        """Of (start, count) chunks. A multiply-add counts two; attention counts each row's
        context for QK and for PV."""
        rows = context = 0.0
        for start, count in chunks:
            rows += count
            context += count * start + count * (count + 1) / 2
        return (
            2.0 * self.body_parameters * rows
            + 2.0 * self.head_parameters * sampled
            + 4.0 * self.attention_width * context
        )

    def bytes_read(self, layout: Layout) -> float:
        return self.bytes_of(layout.distinct_read)

    def bytes_of(self, kv_tokens: float) -> float:
        """Weights once and each distinct KV token once."""
        weights = (self.body_parameters + self.head_parameters) * self.number_bytes
        return weights + float(self.kv_bytes) * kv_tokens
