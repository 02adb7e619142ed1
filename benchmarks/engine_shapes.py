"""The models of the engine benchmark: a shape, where it runs, and weights that mean nothing.

Random weights are made where the model is to run, matrix by matrix, so that a model of 16 GB needs
neither a disk nor the host's memory. Every process makes the same ones, in every type.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from plait.dag.errors import ConfigError, ModelError, list_names

from .engine_work import CONTEXT, VOCAB

if TYPE_CHECKING:
    import torch

    from plait.engine.llm.model import Weights

ROOM = 1.2
"""What has to be free on a device, of what the weights take: the rest is for KV and steps."""


@dataclass(frozen=True, slots=True)
class Shape:
    """A model's sizes."""

    says: str
    family: str
    sizes: Mapping[str, Any]
    deviation: float = 0.05
    """Of its weights: smaller ones make small models say the same token all the time."""

    def config(self) -> Any:
        """As transformers has it."""
        from transformers import AutoConfig

        return AutoConfig.for_model(self.family, initializer_range=self.deviation, **self.sizes)


def _qwen3(
    hidden: int, layers: int, heads: int, between: int, vocab: int, context: int,
    kv_heads: int = 8, size: int = 128, tied: bool = False,
) -> dict[str, Any]:  # fmt: skip
    return {
        "hidden_size": hidden, "num_hidden_layers": layers, "num_attention_heads": heads,
        "num_key_value_heads": kv_heads, "head_dim": size, "intermediate_size": between,
        "vocab_size": vocab, "max_position_embeddings": context, "tie_word_embeddings": tied,
    }  # fmt: skip


SHAPES: Mapping[str, Shape] = {
    "small": Shape("qwen2 of 26.8 M parameters", "qwen2", {
        "vocab_size": VOCAB, "hidden_size": 512, "num_hidden_layers": 8, "num_attention_heads": 8,
        "num_key_value_heads": 2, "intermediate_size": 1408, "max_position_embeddings": CONTEXT,
        "tie_word_embeddings": True,
    }),
    "tiny": Shape("qwen3 of 0.5 M parameters", "qwen3",
                  _qwen3(48, 2, 4, 64, VOCAB, CONTEXT, kv_heads=2, size=16, tied=True), 0.3),
    "qwen3-0.6b": Shape("weights in the shape of Qwen3-0.6B", "qwen3",
                        _qwen3(1024, 28, 16, 3072, 151_936, 40_960, tied=True)),
    "qwen3-8b": Shape("weights in the shape of Qwen3-8B", "qwen3",
                      _qwen3(4096, 36, 32, 12_288, 151_936, 40_960)),
}  # fmt: skip
"""Those of the Hub's own configs, where they carry their names."""


@dataclass(frozen=True, slots=True)
class Setting:
    """What every contender runs: a model's directory, where, and in which type."""

    model: str
    """With a config; without weights, they are random."""
    device: str = "cpu"
    dtype: str = "float32"
    threads: int = 2

    def kv_bytes(self) -> int:
        """Bytes of KV per token."""
        import torch
        from transformers import AutoConfig

        config = AutoConfig.from_pretrained(self.model)
        size = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
        numbers = 2 * config.num_hidden_layers * config.num_key_value_heads * size
        return int(numbers * getattr(torch, self.dtype).itemsize)

    def weights(self) -> Weights:
        """Where this model's weights come from."""
        from plait.engine.llm.checkpoint import read_weights

        there = any(Path(self.model).glob("*.safetensors"))
        return read_weights if there else random_weights

    def peer(self) -> Any:
        """The model as transformers runs it."""
        import torch
        from transformers import AutoModelForCausalLM

        place, kind = torch.device(self.device), getattr(torch, self.dtype)
        if self.weights() is random_weights:
            return random_weights(self.model, self.model, place, kind, attention="sdpa")
        model = AutoModelForCausalLM.from_pretrained(
            self.model, dtype=kind, attn_implementation="sdpa"
        )
        return model.to(place).eval()


def random_weights(
    path: str | Path, name: str, device: torch.device, dtype: torch.dtype,
    attention: str | None = None,
) -> Any:  # fmt: skip
    """A model of a directory's config on a device, its matrices drawn there one after another, in
    fp32 whatever their type. `attention`: transformers' name of one; None: ours."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    from plait.engine.llm.forward import ATTENTION

    config = AutoConfig.from_pretrained(path)
    with device:
        model = AutoModelForCausalLM.from_config(
            config, dtype=dtype, attn_implementation=attention or ATTENTION
        )
    torch.manual_seed(0)
    with torch.no_grad():
        for weight in model.parameters():
            if weight.dim() > 1:
                numbers = torch.randn(weight.shape, device=device)
                weight.copy_(numbers.mul_(config.initializer_range))
    return model.eval().requires_grad_(False)


def shape_of(name: str) -> Shape:
    """ConfigError for a name that is none."""
    if name not in SHAPES:
        raise ConfigError(f"shape {name!r} is not known: there are {list_names(list(SHAPES))}")
    return SHAPES[name]


def check_room(name: str, device: torch.device, dtype: str) -> None:
    """ModelError unless the weights of a shape fit on a device, with room for work."""
    import torch
    from transformers import AutoModelForCausalLM

    from plait.engine.llm.memory import free_memory
    from plait.engine.llm.shelf import told

    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(shape_of(name).config())
    size = sum(p.numel() for p in model.parameters()) * getattr(torch, dtype).itemsize
    free = free_memory(device)
    if size * ROOM > free:
        raise ModelError(
            f"shape {name!r} needs {told(int(size * ROOM))} in {dtype}, and {told(free)} are free "
            f"on {device}: choose a smaller one with --shape"
        )
