"""Train the embedded demo model: `python examples/demo_model/train.py`.

A Llama of 4.5 million parameters, from nothing, on the tasks of `tasks.py`; a good hour on two CPU
cores, minutes on a GPU. The schedule follows the time that training has spent computing
(`--minutes`), not the clock on the wall, so that a machine that does other things too makes the
same model, later: a short warm-up, a long constant rate, a decay to zero. What is written is a
moving average of the weights, in bfloat16. A run that was stopped goes on from its checkpoint with
`--resume`, and with new items.
"""

import argparse
import itertools
import re
import signal
import sys
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import GenerationConfig, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from demo_model.attention import NAME as SHORT_ROWS
from demo_model.batches import ANSWER, PADDING, in_background
from demo_model.chat import END, MAX_LENGTH, START, segments, train_tokenizer
from demo_model.items import ROLES
from demo_model.muon import Muon
from demo_model.tasks import make_items

ROOT = Path(__file__).resolve().parents[2]
VOCAB_SIZE = 1280
WARM_UP, DECAY = 0.03, 0.45
"""Shares of the time budget in which the rate rises, and falls to zero."""
PROMPT_WEIGHT = 0.3
"""What predicting a token of a prompt counts at the start, beside 1 for one of an answer. It
teaches to copy names and numbers early; it falls to zero, as answers are the model's job."""


@dataclass(frozen=True)
class Options:
    """What the command line sets."""

    out: Path = ROOT / "engine" / "demo_model"
    checkpoint: Path = ROOT / "build" / "demo_model.pt"
    minutes: float = 72.0
    seed: int = 0
    batch_tokens: int = 5120
    muon_rate: float = 0.02
    adam_rate: float = 0.004
    threads: int = 2
    resume: bool = False
    device: str = "cuda" if torch.cuda.is_available() else "cpu"


def make_tokenizer(seed: int) -> PreTrainedTokenizerFast:
    """A vocabulary learned from items of every role, and the words that answers quote."""
    items = [
        item for role in ROLES for item in itertools.islice(make_items(role, "train", seed), 2500)
    ]
    texts = ("".join(text for text, _ in segments(item)) for item in items)
    plain = (text.replace(START, "").replace(END, "") for text in texts)
    quoted = Counter(
        word
        for item in items
        if item.role in ("extract", "sql")
        for word in re.findall(r"(?<=['\"(])[A-Za-z]{3,}", item.target)
    )
    bare = sorted(word for word, count in quoted.items() if count >= 8)
    return train_tokenizer(plain, VOCAB_SIZE, bare)


def make_model(tokenizer: PreTrainedTokenizerFast) -> LlamaForCausalLM:
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=256,
        intermediate_size=512,
        num_hidden_layers=7,
        num_attention_heads=8,
        num_key_value_heads=4,
        head_dim=32,
        max_position_embeddings=MAX_LENGTH,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    model = LlamaForCausalLM(config)
    model.set_attn_implementation(SHORT_ROWS)
    return model


def rate_at(progress: float) -> float:
    """The learning rate at a share of the time budget, as a share of its peak."""
    return min(1.0, progress / WARM_UP, max(0.0, 1 - progress) / DECAY)


class Trainer:
    """The model, its average, its optimizers, and the clock they follow."""

    def __init__(self, options: Options) -> None:
        torch.manual_seed(options.seed)
        torch.set_num_threads(options.threads)
        self.options = options
        self.tokenizer = make_tokenizer(options.seed)
        self.model = make_model(self.tokenizer).to(options.device)
        self.average = {k: v.detach().clone() for k, v in self.model.state_dict().items()}
        hidden = [p for n, p in self.model.named_parameters() if p.ndim == 2 and "layers" in n]
        chosen = {id(p) for p in hidden}
        others = [p for p in self.model.parameters() if id(p) not in chosen]
        self.muon = Muon(hidden, momentum=0.95, decay=0.01)
        self.adam = torch.optim.AdamW(others, lr=1.0, betas=(0.9, 0.98), weight_decay=0.0)
        self.steps = self.tokens = 0
        self.spent = 0.0
        if options.resume:
            self.load()

    def loss(self, tokens: Tensor, kinds: Tensor, prompt_weight: float) -> tuple[Tensor, Tensor]:
        """Cross entropy an answer token: with what prompts count, and without, to be read."""
        kinds = kinds[:, 1:]
        wanted = kinds != PADDING
        with torch.autocast(self.options.device, torch.bfloat16):
            states = self.model.model(tokens[:, :-1], use_cache=False).last_hidden_state
            logits = F.linear(states[wanted], self.model.lm_head.weight)
        each = F.cross_entropy(logits.float(), tokens[:, 1:][wanted], reduction="none")
        answers = kinds[wanted] == ANSWER
        weighed = torch.where(answers, each, each * prompt_weight)
        return weighed.sum() / answers.sum(), each.detach()[answers].mean()

    def step(self, tokens: Tensor, kinds: Tensor, progress: float) -> float:
        """One step of the optimizers at a share of the time budget; the loss of its answers."""
        rate = rate_at(progress)
        loss, shown = self.loss(tokens, kinds, PROMPT_WEIGHT * (1 - progress))
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.muon.step(self.options.muon_rate * rate)
        for group in self.adam.param_groups:
            group["lr"] = self.options.adam_rate * rate
        self.adam.step()
        self.adam.zero_grad()
        self.steps += 1
        self.tokens += tokens.numel()
        keep = min(0.997, self.steps / (self.steps + 10))
        with torch.no_grad():
            for name, value in self.model.state_dict().items():
                self.average[name].lerp_(value, 1 - keep)
        return float(shown)

    def run(self, batches: Iterator[Any]) -> None:
        """Train until the time budget is spent; log, and save now and then."""
        budget, saved, recent = self.options.minutes * 60, self.spent, 0.0
        while self.spent < budget:
            tokens, kinds = (torch.from_numpy(x).to(self.options.device) for x in next(batches))
            began = time.thread_time()
            loss = self.step(tokens, kinds, self.spent / budget)
            self.spent += time.thread_time() - began
            recent = 0.98 * recent + 0.02 * loss if recent else loss
            if self.steps % 25 == 0:
                print(
                    f"step {self.steps} {self.spent / 60:.1f} min loss {recent:.4f} "
                    f"{self.tokens / self.spent:.0f} tokens/s",
                    flush=True,
                )
            if self.spent - saved > 120:
                saved = self.spent
                self.save()
        self.save()
        self.export()

    def save(self) -> None:
        """A checkpoint to go on from, outside of what is committed."""
        self.options.checkpoint.parent.mkdir(parents=True, exist_ok=True)
        state = {
            "model": self.model.state_dict(),
            "average": self.average,
            "adam": self.adam.state_dict(),
            "muon": list(self.muon.buffers.values()),
            "count": (self.steps, self.tokens, self.spent),
        }
        partial = self.options.checkpoint.with_suffix(".partial")
        torch.save(state, partial)
        partial.replace(self.options.checkpoint)

    def load(self) -> None:
        state = torch.load(self.options.checkpoint, map_location=self.options.device)
        self.model.load_state_dict(state["model"])
        self.average = state["average"]
        self.adam.load_state_dict(state["adam"])
        self.muon.buffers = dict(zip(self.muon.buffers, state["muon"], strict=True))
        self.steps, self.tokens, self.spent = state["count"]

    def export(self) -> None:
        """Write the model directory: averaged weights in bfloat16, tokenizer, configurations."""
        model = make_model(self.tokenizer)
        model.load_state_dict(self.average)
        model = model.to(torch.bfloat16)
        model.generation_config = GenerationConfig(
            eos_token_id=self.tokenizer.eos_token_id,
            pad_token_id=self.tokenizer.pad_token_id,
            do_sample=False,
        )
        model.save_pretrained(self.options.out)
        self.tokenizer.save_pretrained(self.options.out)


def parse(arguments: list[str] | None = None) -> tuple[Options, bool]:
    """Every field of `Options` is a flag; `--export` only writes what the checkpoint holds."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--export", action="store_true", help="write the checkpoint's model")
    for name, value in asdict(Options()).items():
        flag = f"--{name.replace('_', '-')}"
        if isinstance(value, bool):
            parser.add_argument(flag, action="store_true")
        else:
            parser.add_argument(flag, type=type(value), default=value)
    values = vars(parser.parse_args(arguments))
    export = values.pop("export")
    return Options(**values), export


def main() -> None:
    # Leave by the front door when asked to stop, so that the process that makes batches ends too.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    options, export = parse()
    if export:
        Trainer(Options(**{**asdict(options), "resume": True})).export()
        return
    trainer = Trainer(options)
    seed = options.seed + trainer.steps
    trainer.run(in_background(trainer.tokenizer, seed, options.batch_tokens))


if __name__ == "__main__":
    main()
