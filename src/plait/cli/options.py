"""Arguments and options that several commands share."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

Target = Annotated[
    str, typer.Argument(metavar="FILE[:NAME]", help="Workflow file: .py, .yaml or .yml.")
]
RunPath = Annotated[Path, typer.Argument(metavar="RUN_DIR", help="Directory of a run.")]
Json = Annotated[bool, typer.Option("--json", help="Print the result as one JSON object.")]
RowsIn = Annotated[
    str,
    typer.Option("--input", "-i", metavar="ROWS",
                 help="Rows: .jsonl, .csv, .tsv, .parquet, or - for JSONL on standard input."),
]  # fmt: skip
Model = Annotated[
    str | None,
    typer.Option(help="Model: a directory, a Hugging Face id, or 'demo' (the default)."),
]
Models = Annotated[
    list[str] | None,
    typer.Option("--models", metavar="ALIAS=MODEL", help="A further model under an alias."),
]
Disable = Annotated[
    list[str] | None,
    typer.Option("--disable", metavar="RULE", help="Leave out a rule of the planner, by name."),
]
Expect = Annotated[
    list[str] | None,
    typer.Option(metavar="NODE=NUMBER",
                 help="Tokens of an LLM's answers, or seconds of a tool; again for more."),
]  # fmt: skip
Memory = Annotated[
    str | None,
    typer.Option(help="Memory for all models together, such as 20GiB; else they all fit."),
]
HostMemory = Annotated[
    str | None,
    typer.Option(help="Memory on the host for KV of each model, such as 4GiB. [default: none]"),
]
Devices = Annotated[
    str | None,
    typer.Option(metavar="D,D", help="Several devices, each with this memory: cuda:0,cuda:1."),
]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No progress, no summary.")]


def models_of(model: str | None, further: list[str] | None) -> dict[str, str]:
    """Models by alias, as `--model` and `--models` name them.

    Raises ConfigError where two of them name different models for one alias.
    """
    from ..dag.errors import ConfigError

    found: dict[str, tuple[str, str]] = {}
    if model is not None or not further:
        found["default"] = (model or "demo", f"--model {model}")
    for text in further or ():
        alias, equals, path = text.partition("=")
        if not equals or not alias or not path:
            raise ConfigError(f"--models {text!r}: write it as ALIAS=MODEL")
        known, option = found.setdefault(alias, (path, f"--models {text}"))
        if known != path:
            what = f"both name the model {alias!r}: give one of them"
            raise ConfigError(f"{option} and --models {text} contradict: {what}")
    return {alias: path for alias, (path, _) in found.items()}


def devices_of(devices: str | None) -> tuple[str, ...]:
    """The devices that `--devices` names."""
    return tuple(name.strip() for name in (devices or "").split(",") if name.strip())


def print_json(value: Any) -> None:
    print(json.dumps(value, ensure_ascii=False, indent=1, default=str))
