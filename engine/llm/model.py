"""Loading a Hugging Face causal LM, on the fastest forward that computes what it computes."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import transformers

from ...dag.errors import ModelError
from . import checkpoint, dense, forward, lean
from .family import check_causal, check_family, max_context
from .pool import KVShape
from .probe import SeenLayer, agrees, answers, probe


@dataclass(frozen=True, slots=True)
class LoadedModel:
    """A model ready to run, with what the engine needs to know of it."""

    name: str
    forward: forward.Forward
    tokenizer: Any | None
    layers: tuple[KVShape, ...]
    heads: int
    max_context: int
    vocab_size: int
    end_tokens: frozenset[int]
    device: torch.device
    dtype: torch.dtype
    body_parameters: int
    """Parameters that every row is multiplied with."""
    head_parameters: int
    last_parameters: int
    """Of the body's, those of the last layer that the forward leaves to sampled rows."""
    weight_bytes: int
    seconds: float
    """How long loading took."""


Weights = Callable[[str | Path, str, torch.device, torch.dtype], Any]
"""(path, name, device, dtype) -> the model there, with our attention in place of its own."""


def load(
    path: str | Path, device: str = "auto", dtype: str = "auto",
    weights: Weights = checkpoint.read_weights,
) -> LoadedModel:  # fmt: skip
    """Load from a directory or a Hugging Face id. ModelError says what is wrong in one sentence.

    weights: where they come from, if not from the model's files.
    """
    began = time.perf_counter()
    name = str(path)
    place = choose_device(device)
    config = checkpoint.read_config(path)
    check_family(config, name)
    kind = choose_dtype(dtype, config, place)
    tokenizer = checkpoint.read_tokenizer(path)
    text = config.get_text_config()
    with checkpoint.refusing(name, place):
        model = weights(path, name, place, kind)
        check_causal(model, config, name)
        seen, logits = probe(forward.FamilyForward(model), text, place, name)
        body, head = _parameters(model)
        end_tokens = checkpoint.end_tokens(model, config)
        tied = model.get_output_embeddings().weight is model.get_input_embeddings().weight
        weight_bytes = sum(p.nbytes for p in model.parameters())
        weight_bytes += _second_head(text, kind, place) if tied else 0
        run = _fast_forward(model, text, seen, logits)
    return LoadedModel(
        name=name,
        forward=run,
        tokenizer=tokenizer,
        layers=tuple(layer.shape for layer in seen),
        heads=int(text.num_attention_heads),
        max_context=max_context(text),
        vocab_size=int(text.vocab_size),
        end_tokens=end_tokens,
        device=place,
        dtype=kind,
        body_parameters=body,
        head_parameters=head,
        last_parameters=run.last_parameters if isinstance(run, lean.LeanModel) else 0,
        weight_bytes=weight_bytes,
        seconds=time.perf_counter() - began,
    )


def estimate_bytes(path: str | Path, dtype: str = "auto", device: str = "auto") -> int:
    """Bytes the weights of a model will take, by the size of its files; 0 when unknown."""
    files = list(Path(path).glob("*.safetensors"))
    size = sum(file.stat().st_size for file in files)
    if not files:
        return 0
    config = checkpoint.read_config(path)
    place, text = choose_device(device), config.get_text_config()
    kind = choose_dtype(dtype, config, place)
    own = getattr(config, "dtype", None)
    stored = own.itemsize if isinstance(own, torch.dtype) else kind.itemsize
    tied = getattr(text, "tie_word_embeddings", False)
    return size * kind.itemsize // stored + (_second_head(text, kind, place) if tied else 0)


def _second_head(text: Any, kind: torch.dtype, place: torch.device) -> int:
    """Bytes of a head that is the embedding too: on a CPU it is laid out for products once more."""
    return int(text.vocab_size * text.hidden_size) * kind.itemsize if place.type == "cpu" else 0


def choose_device(device: str) -> torch.device:
    """`auto`: a GPU if torch sees one. ModelError for what torch does not know or does not see.

    A GPU comes with its number, so that one device has one name.
    """
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        chosen = torch.device(device)
    except RuntimeError as error:
        raise ModelError(f"device {device!r} is not one that torch knows") from error
    if chosen.type not in ("cpu", "cuda"):
        raise ModelError(f"device {device!r} is not supported: use 'cpu' or 'cuda'")
    if chosen.type == "cpu":
        return torch.device("cpu")
    if not torch.cuda.is_available():
        raise ModelError(f"device {device!r} was asked for, but torch sees no CUDA device")
    index, count = chosen.index, torch.cuda.device_count()
    if index is not None and index >= count:
        raise ModelError(f"device {device!r} was asked for, but torch sees {count} CUDA devices")
    return torch.device("cuda", torch.cuda.current_device() if index is None else index)


def choose_dtype(dtype: str, config: Any, device: torch.device) -> torch.dtype:
    """`auto`: float32 on a CPU, the checkpoint's own on a GPU."""
    if dtype == "auto":
        own = getattr(config, "dtype", None)
        return own if device.type == "cuda" and isinstance(own, torch.dtype) else torch.float32
    names = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
    if dtype not in names:
        raise ModelError(f"dtype {dtype!r} is not one of auto, {', '.join(names)}")
    return names[dtype]


def _fast_forward(
    model: Any, config: Any, seen: tuple[SeenLayer, ...], wanted: torch.Tensor
) -> forward.Forward:
    """The fastest forward of this model on its device that asks and answers the same."""
    if model.device.type != "cpu":
        return forward.FamilyForward(model)
    if lean.fits(model):
        ours = lean.LeanModel(model, [layer.window for layer in seen])
        if agrees(ours, config, seen, wanted):
            if ours.decoder is not None and not answers(ours, seen, wanted):
                ours.decoder = None
            return ours
    replaced = dense.pack_linears(model)
    packed = forward.FamilyForward(model)
    if not agrees(packed, config, seen, wanted):
        dense.unpack_linears(replaced)
    return packed


def _parameters(model: Any) -> tuple[int, int]:
    """Numbers in the body that every row meets, and in the head that only sampled rows meet."""
    head = model.get_output_embeddings().weight
    embedding = model.get_input_embeddings().weight
    others = embedding.numel() + (0 if head is embedding else head.numel())
    return sum(p.numel() for p in model.parameters()) - others, head.numel()


def quiet() -> None:
    """Keep transformers' progress bars and warnings off the screen."""
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
