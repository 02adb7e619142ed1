"""One forward of a few tokens that shows what every layer asks of attention."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from ...dag.errors import ModelError
from .attention import step_attention
from .attention.plan import Layout, alone
from .forward import Forward
from .pool import KVShape, Pool


@dataclass(frozen=True, slots=True)
class SeenLayer:
    """What one layer asked of attention."""

    shape: KVShape
    scale: float
    window: int | None


def probe(
    run: Forward, config: Any, device: torch.device, name: str
) -> tuple[tuple[SeenLayer, ...], torch.Tensor]:
    """What every layer asks of attention, and logits, from one forward of a few tokens."""
    recorder = _Recorder()
    rows = torch.arange(4, device=device)
    with torch.inference_mode():
        logits = run(recorder, rows % int(config.vocab_size), rows, rows)
    layers = int(config.num_hidden_layers)
    if sorted(recorder.seen) != list(range(layers)):
        raise ModelError(
            f"model {name!r} is unsupported: {len(recorder.seen)} of its {layers} layers use the "
            "attention interface"
        )
    if not torch.isfinite(logits).all():
        raise ModelError(f"model {name!r} has weights that are not numbers (NaN or infinite)")
    return tuple(recorder.seen[i] for i in range(layers)), logits


def agrees(run: Forward, config: Any, seen: tuple[SeenLayer, ...], wanted: torch.Tensor) -> bool:
    """Whether a forward asks attention the same things as was seen, and gives those logits."""
    try:
        layers, logits = probe(run, config, wanted.device, "")
    except (AttributeError, RuntimeError, TypeError, ModelError):
        return False
    return layers == seen and _near(logits, wanted)


def answers(run: Forward, seen: tuple[SeenLayer, ...], wanted: torch.Tensor) -> bool:
    """Whether a forward gives those logits with the attention of a real step as well, in which
    every row sees itself alone as in the probe."""
    rows = torch.arange(len(wanted), device=wanted.device)
    shapes = [layer.shape for layer in seen]
    pool = Pool(shapes, 1, len(wanted), wanted.device, wanted.dtype)
    step = step_attention(pool, alone(len(wanted)), rows, rows)
    try:
        with torch.inference_mode():
            return _near(run(step, rows % wanted.shape[1], rows, rows), wanted)
    except (RuntimeError, TypeError):
        return False


def _near(logits: torch.Tensor, wanted: torch.Tensor) -> bool:
    error = (logits - wanted).abs().max() / wanted.abs().max().clamp_min(1e-6)
    return bool(error < (1e-4 if wanted.dtype == torch.float32 else 0.1))


class _Recorder:
    """Stands in for a step once, to see what each layer sends. Rows attend to themselves only."""

    def __init__(self) -> None:
        self.seen: dict[int, SeenLayer] = {}

    def attend(
        self,
        layer: int,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        *,
        scale: float,
        window: int | None = None,
        **_: Any,
    ) -> torch.Tensor:
        shape = KVShape(key.shape[1], key.shape[2], value.shape[2])
        self.seen[layer] = SeenLayer(shape, scale, window)
        return value.repeat_interleave(query.shape[1] // value.shape[1], dim=1)

    def advance(self, layout: Layout) -> None:
        """There is no next step."""
