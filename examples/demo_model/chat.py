"""The demo model's tokenizer and chat template.

Byte-level BPE (any text comes back exactly), with digits one by one, as arithmetic wants them. A
space before a digit joins the token on its left, which saves a token per number. The template is
ChatML with Hermes-style tool calls. It is prefix-stable: a longer chat renders to what the shorter
one rendered to plus what the model wrote, token by token, so that a KV cache holds.
"""

import json
from collections.abc import Iterable

from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from .items import Item, Message

START, END, PAD = "<|im_start|>", "<|im_end|>", "<|endoftext|>"
PIECES = r"[0-9]| ?\p{L}+(?: (?=[0-9]))?| ?[^\s\p{L}0-9]+(?: (?=[0-9]))?|\s+"
SPACE = "\u0120"  # how byte-level BPE writes one
MAX_LENGTH = 2048

TEMPLATE = """
{%- macro signature(tool) -%}
  {%- set function = tool.function if tool.function is defined else tool -%}
  {{- function.name }}({{ ((function.parameters or {}).properties or {}) | join(', ') }})
{%- endmacro -%}
{%- macro call(it) -%}
  {%- set f = it.function if it.function is defined else it -%}
  {{- '<tool_call>{"name": ' + f.name | tojson + ', "arguments": ' }}
  {{- f.arguments if f.arguments is string else f.arguments | tojson }}
  {{- '}</tool_call>' }}
{%- endmacro -%}
{%- set first = messages[0] if messages and messages[0].role == 'system' else none -%}
{%- if first or tools -%}
  {{- '<|im_start|>system\\n' + (first.content if first else '') }}
  {%- if tools -%}
    {{- '\\nTools: ' if first else 'Tools: ' }}
    {%- for tool in tools %}{{ signature(tool) }}{{ ', ' if not loop.last }}{% endfor -%}
  {%- endif -%}
  {{- '<|im_end|>\\n' }}
{%- endif -%}
{%- for message in messages -%}
  {%- if not (loop.first and first) -%}
    {{- '<|im_start|>' + message.role + '\\n' + (message.content or '') }}
    {%- for it in message.tool_calls or [] %}{{ call(it) }}{% endfor -%}
    {{- '<|im_end|>\\n' }}
  {%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif -%}
"""


def content(message: Message) -> str:
    """The text of a message, tool calls included, as the template writes it."""
    calls = [call["function"] for call in message.get("tool_calls", ())]
    texts = [json.dumps({"name": f["name"], "arguments": f["arguments"]}) for f in calls]
    return str(message["content"]) + "".join(f"<tool_call>{text}</tool_call>" for text in texts)


def segments(item: Item) -> list[tuple[str, bool]]:
    """The rendered chat in pieces, each with whether the model is to learn it."""
    pieces: list[tuple[str, bool]] = []
    for message in item.messages:
        text = content(message)
        if message["role"] == "system" and item.tools:
            functions = [schema["function"] for schema in item.tool_schemas or ()]
            heads = [f"{f['name']}({', '.join(f['parameters']['properties'])})" for f in functions]
            text += f"\nTools: {', '.join(heads)}"
        learn = message["role"] == "assistant"
        pieces += [(f"{START}{message['role']}\n", False), (f"{text}{END}", learn), ("\n", False)]
    return pieces


def train_tokenizer(
    texts: Iterable[str], vocab_size: int, bare_words: Iterable[str] = ()
) -> PreTrainedTokenizerFast:
    """Learn a byte-level BPE vocabulary and wrap it as a transformers tokenizer.

    Those `bare_words` that are a token after a space become one without it too, as JSON and SQL
    quote them: what is one token in the text and three in the answer is hard to copy.
    """
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(PIECES), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    bpe.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=[PAD, START, END],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    bpe.train_from_iterator(texts, trainer)
    for word in bare_words:
        if bpe.token_to_id(f"{SPACE}{word}") is not None:
            bpe = add_word(bpe, word)
    return PreTrainedTokenizerFast(
        tokenizer_object=bpe,
        eos_token=END,
        pad_token=PAD,
        model_max_length=MAX_LENGTH,
        clean_up_tokenization_spaces=False,
        chat_template=TEMPLATE.strip(),
    )


def add_word(bpe: Tokenizer, word: str) -> Tokenizer:
    """Make a word one token by merging its pieces, after all merges there are."""
    pieces = bpe.encode(word).tokens
    state = json.loads(bpe.to_str())
    vocabulary, merges = state["model"]["vocab"], state["model"]["merges"]
    while len(pieces) > 1:
        pieces[:2], pair = [pieces[0] + pieces[1]], pieces[:2]
        merges.append(pair)
        vocabulary.setdefault(pieces[0], len(vocabulary))
    return Tokenizer.from_str(json.dumps(state))


def encode(tokenizer: PreTrainedTokenizerFast, item: Item) -> tuple[list[int], list[bool]]:
    """The tokens of a chat, and for each whether the model is to learn to write it."""
    ids: list[int] = []
    learn: list[bool] = []
    for text, wanted in segments(item):
        piece = tokenizer.encode(text, add_special_tokens=False)
        ids += piece
        learn += [wanted] * len(piece)
    return ids, learn
