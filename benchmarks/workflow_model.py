"""Models of the workflow benchmarks: the engine benchmark's, with the demo model's tokenizer."""

from __future__ import annotations

import shutil
from pathlib import Path


def models_for(model: str, place: Path) -> dict[str, str]:
    """Paths by alias: of a directory, of 'demo', or of 'random' weights.

    Two directories are two models, whatever is in them: `big` is a copy, but of what is no
    directory (an id) there is one only.
    """
    from plait.engine.models import find_model

    small = random_model(place / "small") if model == "random" else Path(find_model(model))
    big = shutil.copytree(small, place / "big") if small.is_dir() else small
    return {"default": str(small), "small": str(small), "big": str(big)}


def random_model(place: Path) -> Path:
    """The 26.8 M random weights of `plait bench engine`, reading and writing real text.

    Rows of the embedding that no token has are zero: with tied weights their logit is 0, so the
    model never writes what the tokenizer cannot read.
    """
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from plait.engine.models import DEMO

    from .engine import make_model

    tokenizer = AutoTokenizer.from_pretrained(DEMO)
    model = AutoModelForCausalLM.from_pretrained(make_model(place))
    if len(tokenizer) > model.config.vocab_size:
        model.resize_token_embeddings(len(tokenizer))
    with torch.no_grad():
        model.get_input_embeddings().weight[len(tokenizer) :] = 0.0
    for config in (model.config, model.generation_config):
        config.eos_token_id, config.pad_token_id = tokenizer.eos_token_id, tokenizer.pad_token_id
    model.save_pretrained(place)
    for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
        shutil.copy(DEMO / name, place / name)
    return place
