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
    last_parameters: int = 0
    """Of the body, those that only sampled rows are multiplied with as well."""
    last_width: int = 0
    """Of the attention width, that of only these rows."""

    @classmethod
    def of(cls, loaded: LoadedModel, kv_bytes: int) -> Work:
        widths = [loaded.heads * shape.key_size for shape in loaded.layers]
        return cls(
            body_parameters=loaded.body_parameters,
            head_parameters=loaded.head_parameters,
            attention_width=sum(widths),
            kv_bytes=kv_bytes,
            number_bytes=loaded.dtype.itemsize,
            last_parameters=loaded.last_parameters,
            last_width=widths[-1] if loaded.last_parameters else 0,
        )

    def flops(self, layout: Layout) -> float:
        """Of a step."""
        return self.flops_of((c.start, c.count, c.samples) for c in layout.chunks)

    def flops_of(self, chunks: Iterable[tuple[int, int, bool]]) -> float:
        """Of chunks: start, count, whether the last row chooses a token. A multiply-add counts
        two; attention counts each row's context for QK and for PV."""
        rows = sampled = context = last = 0.0
        for start, count, samples in chunks:
            rows += count
            context += count * start + count * (count + 1) / 2
            if samples:
                sampled += 1
                last += start + count
        return 2.0 * (
            (self.body_parameters - self.last_parameters) * rows
            + (self.head_parameters + self.last_parameters) * sampled
            + 2.0 * (self.attention_width - self.last_width) * context
            + 2.0 * self.last_width * last
        )

    def bytes_read(self, layout: Layout) -> float:
        return self.bytes_of(layout.distinct_read)

    def bytes_of(self, kv_tokens: float) -> float:
        """Weights once and each distinct KV token once."""
        weights = (self.body_parameters + self.head_parameters) * self.number_bytes
        return weights + float(self.kv_bytes) * kv_tokens
