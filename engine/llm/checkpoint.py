"""A model's files: its config, weights and tokenizer, read without running code of theirs."""

from __future__ import annotations

import gc
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

from ...dag.errors import ModelError, first_line, list_names
from . import forward


def read_config(path: str | Path) -> Any:
    """The config of a directory or a Hugging Face id; ModelError when there is none to use."""
    place = Path(path)
    if not place.is_dir() and (place.is_absolute() or str(path).count("/") != 1):
        raise ModelError(f"model path {str(path)!r} does not exist")
    if place.is_dir() and not (place / "config.json").is_file():
        raise ModelError(f"{str(path)!r} is not a model: it has no config.json")
    _run_no_code(_auto_map(place), str(path))
    with _refusing(f"cannot read the model {str(path)!r}"):
        config = AutoConfig.from_pretrained(path, trust_remote_code=False)
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


def check_files(path: str | Path) -> None:
    """Refuse a directory without safetensors weights."""
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


@contextmanager
def _refusing(what: str) -> Iterator[None]:
    """Whatever goes wrong inside is a ModelError that begins with `what`."""
    try:
        yield
    except (ModelError, KeyboardInterrupt):
        raise
    except BaseException as error:  # a panic of an extension is no Exception
        raise ModelError(f"{what}: {first_line(error)}") from error


@contextmanager
def refusing(name: str, device: torch.device) -> Iterator[None]:
    """Whatever goes wrong inside is a ModelError that says whether memory was short."""
    with _refusing(f"cannot load the model {name!r}"):
        try:
            yield
        except Exception as error:
            if not _lacks_memory(error):
                raise
            gc.collect()
            raise ModelError(f"not enough memory on {device} to load {name!r}") from error


def _lacks_memory(error: Exception) -> bool:
    """On a CPU torch says so in words only."""
    known = isinstance(error, torch.OutOfMemoryError | MemoryError)
    return known or "can't allocate memory" in str(error)


def read_weights(path: str | Path, name: str, device: torch.device, dtype: torch.dtype) -> Any:
    """The model on its device, with our attention in place of its own."""
    check_files(path)
    model, found = AutoModelForCausalLM.from_pretrained(
        path,
        dtype=dtype,
        attn_implementation=forward.ATTENTION,
        use_safetensors=True,
        trust_remote_code=False,
        output_loading_info=True,
    )
    _check_complete(found, name)
    model = model.to(device).eval().requires_grad_(False)
    _check_numbers(model, name)
    return model


def _check_complete(found: Any, name: str) -> None:
    """Refuse a checkpoint with holes: transformers would fill them with random numbers."""
    holes = sorted([*found["missing_keys"], *(str(key) for key in found["mismatched_keys"])])
    if holes:
        shown = list_names(holes, 3)
        raise ModelError(f"the weights of model {name!r} are incomplete: it lacks {shown}")


def _check_numbers(model: Any, name: str) -> None:
    """Refuse weights with a NaN anywhere: the request that meets it would harm its neighbours."""
    for key, weight in model.named_parameters():
        if not weight.is_floating_point() or weight.itemsize == 1 or not weight.numel():
            continue  # fp8 and packed types: torch cannot compare them
        if not torch.stack(weight.aminmax()).isfinite().all():
            what = "weights that are not numbers (NaN or infinite)"
            raise ModelError(f"model {name!r} has {what}, in {key!r}")


def read_tokenizer(path: str | Path) -> Any | None:
    """The tokenizer, or None for a model that comes without one."""
    place = Path(path)
    names = ("tokenizer.json", "tokenizer_config.json", "tokenizer.model", "vocab.json")
    if place.is_dir() and not any((place / n).is_file() for n in names):
        return None
    with _refusing(f"cannot read the tokenizer of {str(path)!r}"):
        return AutoTokenizer.from_pretrained(path, trust_remote_code=False)


def end_tokens(model: Any, config: Any) -> frozenset[int]:
    """Tokens that end a generation; none when neither generation config nor config says."""
    ids = getattr(model.generation_config, "eos_token_id", None)
    if ids is None:
        ids = getattr(config, "eos_token_id", None)
    if ids is None:
        return frozenset()
    return frozenset([ids] if isinstance(ids, int) else ids)
