"""Where models are: what `model=` may name, found without importing torch."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from ..dag.errors import ModelError, first_line

DEMO = Path(__file__).parent / "demo_model"
_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")
_FILES = ["*.json", "*.safetensors", "*.jinja", "*.txt", "tokenizer.model"]


def find_model(name: str | Path) -> Path:
    """The directory of a model: "demo", a local directory, or a Hugging Face id.

    Raises ModelError when there is no such directory and the name is no id that can be had.
    """
    if name == "demo":
        return DEMO
    path = Path(name).expanduser()
    if path.is_dir():
        return path
    if path.exists():
        raise ModelError(
            f"model {str(name)!r} is a file: give the directory that holds config.json"
        )
    if isinstance(name, Path) or not _HUB_ID.fullmatch(name) or name.startswith("."):
        hint = "give a directory, a Hugging Face id such as org/name, or 'demo'"
        raise ModelError(f"there is no model at {str(name)!r}: {hint}")
    return _from_hub(name)


def one_name(paths: Mapping[str, Path]) -> dict[str, str]:
    """By alias, the first of those that name the same directory: they share one engine."""
    first: dict[Path, str] = {}
    return {alias: first.setdefault(path.resolve(), alias) for alias, path in paths.items()}


def _from_hub(id: str) -> Path:
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(id, allow_patterns=_FILES))
    except Exception as error:
        where = "neither a local directory nor a model that the Hugging Face hub gives"
        raise ModelError(f"{id!r} is {where}: {first_line(error)}") from error
