"""Partial results of a step's rows, and their exact merge."""

from __future__ import annotations

from dataclasses import dataclass

import torch


@dataclass(frozen=True, slots=True)
class Levels:
    """What each row has got so far: one partial result a level, in fp32 whatever the model's type.

    A level that a row does not use has weight 0. A plan writes the same places at every layer, so
    one set serves all layers of a step.
    """

    outs: torch.Tensor
    """(L, T, H, D)."""
    lses: torch.Tensor
    """(L, T, H): log-sum-exps of the scores."""

    @classmethod
    def empty(
        cls, count: int, rows: int, heads: int, size: int, device: torch.device | None = None
    ) -> Levels:
        outs = torch.zeros(count, rows, heads, size, device=device)
        return cls(outs, torch.full(outs.shape[:3], float("-inf"), device=device))

    def merge(self, sinks: torch.Tensor | None = None) -> torch.Tensor:
        """(T, H, D). Overwrites the first level: fresh memory would cost more than the mathematics.

        Softmax over a set is the mean of softmaxes over its parts, weighted by the parts' summed
        exponentials. A sink is one more part, whose output is zero.
        """
        out = self.outs[0]
        if len(self.outs) > 1:
            weights = torch.softmax(self.lses, dim=0)[..., None]
            out.mul_(weights[0])
            for level in range(1, len(self.outs)):
                out.addcmul_(self.outs[level], weights[level])
        if sinks is not None:
            lse = torch.logsumexp(self.lses, dim=0)
            out.mul_(torch.sigmoid(lse - sinks.float())[..., None])
        return out
