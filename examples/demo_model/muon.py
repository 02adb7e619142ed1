"""Muon (Jordan et al., 2024): momentum whose update is orthogonalised, for weight matrices.

It learns more from each token than AdamW, which matters when tokens are what the clock limits.
Matrices of one shape are stepped together, as one batch of matrix products.
"""

from collections import defaultdict
from collections.abc import Iterable

import torch
from torch import Tensor

COEFFICIENTS = (3.4445, -4.7750, 2.0315)
"""Of the quintic Newton-Schulz iteration; from the Muon write-up."""


def orthogonalise(matrices: Tensor, steps: int = 5) -> Tensor:
    """Bring the singular values of a stack of matrices close to 1."""
    a, b, c = COEFFICIENTS
    x: Tensor = matrices.bfloat16()
    tall = x.size(-2) > x.size(-1)
    x = x.mT if tall else x
    x = x / (x.norm(dim=(-2, -1), keepdim=True) + 1e-7)
    for _ in range(steps):
        gram = x @ x.mT
        x = a * x + (b * gram + c * gram @ gram) @ x
    x = x.mT if tall else x
    return x.to(matrices.dtype)


class Muon:
    """Steps a set of matrices; the rate is given at each step."""

    def __init__(self, matrices: Iterable[Tensor], momentum: float, decay: float) -> None:
        self.groups: dict[torch.Size, list[Tensor]] = defaultdict(list)
        for matrix in matrices:
            self.groups[matrix.shape].append(matrix)
        self.momentum, self.decay = momentum, decay
        self.buffers = {
            shape: torch.zeros(len(group), *shape, device=group[0].device)
            for shape, group in self.groups.items()
        }

    @torch.no_grad()
    def step(self, rate: float) -> None:
        for shape, group in self.groups.items():
            gradient = torch.stack([matrix.grad for matrix in group if matrix.grad is not None])
            buffer = self.buffers[shape]
            buffer.lerp_(gradient, 1 - self.momentum)
            update = orthogonalise(gradient.lerp(buffer, self.momentum))
            scale = max(1.0, shape[0] / shape[1]) ** 0.5
            for matrix, change in zip(group, update.unbind(), strict=True):
                matrix.mul_(1 - rate * self.decay).sub_(change, alpha=rate * scale)
                matrix.grad = None
