"""Loading a Hugging Face causal LM, and refusing by name what would not run right."""

from __future__ import annotations

import gc
import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import transformers
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

from ...dag.errors import ModelError, first_line, list_names
from . import dense, forward, lean
from .attention.plan import Layout
from .pool import KVShape


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
    weight_bytes: int
    seconds: float
    """How long loading took."""


def load(path: str | Path, device: str = "auto", dtype: str = "auto") -> LoadedModel:
    """Load from a directory or a Hugging Face id. ModelError says what is wrong in one sentence."""
    began = time.perf_counter()
    name = str(path)
    place = choose_device(device)
    config = _config(path)
    _check_files(path)
    family = _family(config, name)
    _check_family(config, family, name)
    kind = choose_dtype(dtype, config, place)
    model = _weights(path, name, place, kind)
    _check_causal(model, config, name)
    tokenizer = _tokenizer(path)
    text = config.get_text_config()
    seen, logits = _probe(forward.FamilyForward(model), text, place, name)
    body, head = _parameters(model)
    end_tokens = _end_tokens(model, config)
    weight_bytes = sum(p.nbytes for p in model.parameters())
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
        weight_bytes=weight_bytes,
        seconds=time.perf_counter() - began,
    )


def estimate_bytes(path: str | Path, dtype: str = "auto", device: str = "auto") -> int:
    """Bytes the weights of a model will take, by the size of its files; 0 when unknown."""
    files = list(Path(path).glob("*.safetensors"))
    size = sum(file.stat().st_size for file in files)
    if not files:
        return 0
    config = _config(path)
    kind = choose_dtype(dtype, config, choose_device(device))
    own = getattr(config, "dtype", None)
    stored = own.itemsize if isinstance(own, torch.dtype) else kind.itemsize
    return size * kind.itemsize // stored


def choose_device(device: str) -> torch.device:
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        chosen = torch.device(device)
    except RuntimeError as error:
        raise ModelError(f"device {device!r} is not one that torch knows") from error
    if chosen.type not in ("cpu", "cuda"):
        raise ModelError(f"device {device!r} is not supported: use 'cpu' or 'cuda'")
    if chosen.type == "cuda" and not torch.cuda.is_available():
        raise ModelError(f"device {device!r} was asked for, but torch sees no CUDA device")
    return chosen


def choose_dtype(dtype: str, config: Any, device: torch.device) -> torch.dtype:
    """`auto`: float32 on a CPU, the checkpoint's own on a GPU."""
    if dtype == "auto":
        own = getattr(config, "dtype", None)
        return own if device.type == "cuda" and isinstance(own, torch.dtype) else torch.float32
    names = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
    if dtype not in names:
        raise ModelError(f"dtype {dtype!r} is not one of auto, {', '.join(names)}")
    return names[dtype]


def max_context(config: Any) -> int:
    """Longest sequence that the model treats right through our attention."""
    limit = int(getattr(config, "max_position_embeddings", 0) or 0) or 1 << 20
    rope = _rope(config)
    if rope.get("rope_type") == "longrope":  # changes its table by the longest row of a batch
        limit = min(limit, int(rope.get("original_max_position_embeddings") or limit))
    chunk = getattr(config, "attention_chunk_size", None)  # chunked masks do not reach us
    return min(limit, int(chunk)) if chunk else limit


def _config(path: str | Path) -> Any:
    place = Path(path)
    if not place.is_dir() and (place.is_absolute() or str(path).count("/") != 1):
        raise ModelError(f"model path {str(path)!r} does not exist")
    if place.is_dir() and not (place / "config.json").is_file():
        raise ModelError(f"{str(path)!r} is not a model: it has no config.json")
    _run_no_code(_auto_map(place), str(path))
    try:
        config = AutoConfig.from_pretrained(path, trust_remote_code=False)
    except Exception as error:
        raise ModelError(f"cannot read the model {str(path)!r}: {first_line(error)}") from error
    _run_no_code(getattr(config, "auto_map", None), str(path))
    return config


def _run_no_code(auto_map: Any, name: str) -> None:
    """Refuse a model that is made of code of its own."""
    if auto_map:
        what = f"model {name!r} brings its own code (auto_map in config.json), which is never run"
        raise ModelError(f"{what}: take a model of a family that transformers has built in")


def _auto_map(place: Path) -> Any:
    """What a config says of code to run, read before transformers looks at it."""
    try:
        given = json.loads((place / "config.json").read_text("utf-8"))
    except (OSError, ValueError):
        return None  # not here, or not readable: whoever reads it next says so
    return given.get("auto_map") if isinstance(given, dict) else None


def _check_files(path: str | Path) -> None:
    place = Path(path)
    if not place.is_dir() or any(place.glob("*.safetensors")):
        return
    pickles = [*place.glob("*.bin"), *place.glob("*.pt"), *place.glob("*.pth")]
    if pickles:
        raise ModelError(
            f"model {str(path)!r} has only pickled weights ({pickles[0].name}), which can run "
            "code when read: convert them to safetensors"
        )
    raise ModelError(f"model {str(path)!r} has no safetensors weights")


def _family(config: Any, name: str) -> Any:
    try:
        return AutoModelForCausalLM._model_mapping[type(config)]
    except KeyError as error:
        raise ModelError(
            f"model {name!r} is a {config.model_type!r}, which is not a causal language model"
        ) from error


def _check_family(config: Any, family: Any, name: str) -> None:
    """Refuse what the attention interface would run wrongly."""
    text = config.get_text_config()
    reason = _unsupported(text, family)
    if reason:
        raise ModelError(f"model {name!r} of family {config.model_type!r} is unsupported: {reason}")


def _unsupported(config: Any, family: Any) -> str | None:
    if getattr(config, "is_encoder_decoder", False):
        return "it has an encoder"
    if not family._can_set_attn_implementation():
        return "its attention cannot be replaced"
    kinds = set(getattr(config, "layer_types", None) or ())
    if getattr(family, "_is_stateful", False) or "linear_attention" in kinds:
        return "some of its layers keep a state instead of keys and values"
    if getattr(config, "num_kv_shared_layers", 0):
        return "some of its layers share keys and values"
    if _rope(config).get("rope_type") == "dynamic":
        return "its rotary embedding depends on the other rows of a batch"
    return None


def _rope(config: Any) -> dict[str, Any]:
    rope = getattr(config, "rope_parameters", None) or getattr(config, "rope_scaling", None) or {}
    if "rope_type" not in rope:  # one set per layer type
        for part in rope.values():
            if isinstance(part, dict) and part.get("rope_type") in ("dynamic", "longrope"):
                return part
    return dict(rope)


def _weights(path: str | Path, name: str, device: torch.device, dtype: torch.dtype) -> Any:
    try:
        model, found = AutoModelForCausalLM.from_pretrained(
            path,
            dtype=dtype,
            attn_implementation=forward.ATTENTION,
            use_safetensors=True,
            trust_remote_code=False,
            output_loading_info=True,
        )
        _check_complete(found, name)
        return model.to(device).eval().requires_grad_(False)
    except ModelError:
        raise
    except (torch.OutOfMemoryError, MemoryError) as error:
        gc.collect()
        raise ModelError(f"not enough memory on {device} to load {name!r}") from error
    except Exception as error:
        raise ModelError(f"cannot load the model {name!r}: {first_line(error)}") from error


def _check_complete(found: Any, name: str) -> None:
    """Refuse a checkpoint with holes: transformers would fill them with random numbers."""
    holes = sorted([*found["missing_keys"], *(str(key) for key in found["mismatched_keys"])])
    if holes:
        shown = list_names(holes, 3)
        raise ModelError(f"the weights of model {name!r} are incomplete: it lacks {shown}")


def _check_causal(model: Any, config: Any, name: str) -> None:
    """Refuse attention that looks ahead: ours never does, so its answers would be others."""
    if any(getattr(module, "is_causal", None) is False for module in model.modules()):
        raise ModelError(
            f"model {name!r} of family {config.model_type!r} is unsupported: its attention looks "
            "ahead, as an encoder's does"
        )


def _tokenizer(path: str | Path) -> Any | None:
    """The tokenizer, or None for a model that comes without one."""
    place = Path(path)
    names = ("tokenizer.json", "tokenizer_config.json", "tokenizer.model", "vocab.json")
    if place.is_dir() and not any((place / n).is_file() for n in names):
        return None
    try:
        return AutoTokenizer.from_pretrained(path, trust_remote_code=False)
    except Exception as error:
        message = f"cannot read the tokenizer of {str(path)!r}: {first_line(error)}"
        raise ModelError(message) from error


def _end_tokens(model: Any, config: Any) -> frozenset[int]:
    ids = getattr(model.generation_config, "eos_token_id", None)
    if ids is None:
        ids = getattr(config, "eos_token_id", None)
    if ids is None:
        return frozenset()
    return frozenset([ids] if isinstance(ids, int) else ids)


@dataclass(frozen=True, slots=True)
class SeenLayer:
    """What one layer asked of attention."""

    shape: KVShape
    scale: float
    window: int | None


class _Probe:
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


def _probe(
    run: forward.Forward, config: Any, device: torch.device, name: str
) -> tuple[tuple[SeenLayer, ...], torch.Tensor]:
    """What every layer asks of attention, and logits, from one forward of a few tokens."""
    probe = _Probe()
    rows = torch.arange(4, device=device)
    with torch.inference_mode():
        logits = run(probe, rows % int(config.vocab_size), rows, rows)
    layers = int(config.num_hidden_layers)
    if sorted(probe.seen) != list(range(layers)):
        raise ModelError(
            f"model {name!r} is unsupported: {len(probe.seen)} of its {layers} layers use the "
            "attention interface"
        )
    if not torch.isfinite(logits).all():
        raise ModelError(f"model {name!r} has weights that are not numbers (NaN or infinite)")
    return tuple(probe.seen[i] for i in range(layers)), logits


def _fast_forward(
    model: Any, config: Any, seen: tuple[SeenLayer, ...], wanted: torch.Tensor
) -> forward.Forward:
    """The fastest forward of this model on its device that asks and answers the same."""
    if model.device.type != "cpu":
        return forward.FamilyForward(model)
    if lean.fits(model):
        ours = lean.LeanModel(model, [layer.window for layer in seen])
        if _agrees(ours, config, seen, wanted):
            return ours
    replaced = dense.pack_linears(model)
    packed = forward.FamilyForward(model)
    if not _agrees(packed, config, seen, wanted):
        dense.unpack_linears(replaced)
    return packed


def _agrees(
    run: forward.Forward, config: Any, seen: tuple[SeenLayer, ...], wanted: torch.Tensor
) -> bool:
    try:
        layers, logits = _probe(run, config, wanted.device, "")
    except (AttributeError, RuntimeError, TypeError, ModelError):
        return False
    error = (logits - wanted).abs().max() / wanted.abs().max().clamp_min(1e-6)
    return layers == seen and bool(error < (1e-4 if wanted.dtype == torch.float32 else 0.1))


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
