"""Measure a starter: held-out bits per byte, whether its answers stop, how fast it loads, and samples.

python -m luthier.starter.evaluate --model FOLDER --text FOLDER --out evaluation.json
"""

from __future__ import annotations

import argparse
import json
import math
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import torch
from torch.nn import functional

from luthier.starter.packing import encode_documents
from luthier.starter.text import Document, Exchange, read_corpus

if TYPE_CHECKING:
    from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

CHECKED = 50
"""Held-out instructions in the check that answers stop."""

LONGEST_ANSWER = 256
"""Tokens within which they must."""

PROMPTS = [
    "The city of",
    "In 1969, the first",
    "Machine learning is",
    "The old king looked at his dog and",
    "Once upon a time",
]


def load(folder: Path) -> tuple[LlamaForCausalLM, PreTrainedTokenizerFast]:
    """Model (in float32, whatever the machine) and tokenizer."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    return cast("LlamaForCausalLM", model), cast("PreTrainedTokenizerFast", AutoTokenizer.from_pretrained(folder))


@torch.inference_mode()
def document_nats(model: LlamaForCausalLM, ids: Sequence[int], context: int = 1024) -> float:
    """Nats of ``ids[1:]``; windows of ``context`` overlap by half, so that all but a document's start has that much.

    ``ids`` begins with the border that precedes every document in training.
    """
    total, done = 0.0, 1
    start = 0
    while done < len(ids):
        end = min(len(ids), start + context)
        window = torch.tensor([list(ids[start:end])])
        logits = model(window, use_cache=False).logits[0]
        first = done - start
        total += float(functional.cross_entropy(logits[first - 1 : -1], window[0, first:], reduction="sum"))
        done, start = end, end - context // 2
    return total


def text_nats(
    model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, documents: Sequence[Document], context: int
) -> list[tuple[str, float, int, int]]:
    """(source, nats, bytes, tokens) of every document, each on its own after ``<|endoftext|>``."""
    rows = []
    for document, ids in zip(documents, encode_documents(tokenizer, documents), strict=True):
        inner = [int(token) for token in ids[:-1]]  # the closing border is not part of the text
        nats = document_nats(model, inner, context)
        rows.append((document.source, nats, len(document.text.encode()), len(inner) - 1))
    return rows


def summary(rows: Sequence[tuple[str, float, int, int]]) -> dict[str, float]:
    """Bits per byte, perplexity per token and the sizes that they come from."""
    nats = sum(row[1] for row in rows)
    size = sum(row[2] for row in rows)
    tokens = sum(row[3] for row in rows)
    return {
        "documents": len(rows),
        "bytes": size,
        "tokens": tokens,
        "bits_per_byte": round(nats / size / math.log(2), 4),
        "perplexity": round(math.exp(nats / tokens), 2),
    }


@torch.inference_mode()
def generate(model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, text: str, tokens: int) -> list[int]:
    """Up to ``tokens`` token ids that greedy decoding puts after the text."""
    ids = tokenizer(text, return_tensors="pt", add_special_tokens=False)["input_ids"]
    greedy: Any = cast(Any, model).generate
    output = greedy(input_ids=ids, attention_mask=torch.ones_like(ids), max_new_tokens=tokens, do_sample=False)
    return [int(token) for token in output[0, ids.shape[1] :]]


def answer(model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, instruction: str) -> tuple[str, bool]:
    """The greedy answer to one instruction, and whether it ended with ``<|im_end|>`` within LONGEST_ANSWER tokens."""
    turns = [{"role": "user", "content": instruction}]
    prompt = str(tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True))
    new = generate(model, tokenizer, prompt, LONGEST_ANSWER)
    return str(tokenizer.decode(new, skip_special_tokens=True)), new[-1] == tokenizer.eos_token_id


def stops(
    model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, exchanges: Sequence[Exchange]
) -> tuple[int, list[dict[str, Any]]]:
    """How many of the greedy answers stop, and all of them."""
    answers = []
    for exchange in exchanges:
        text, stopped = answer(model, tokenizer, exchange.instruction)
        answers.append({"instruction": exchange.instruction, "answer": text, "stopped": stopped})
    return sum(bool(item["stopped"]) for item in answers), answers


def continuation(model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, prompt: str, tokens: int = 60) -> str:
    """The prompt and what greedy decoding adds to it."""
    new = generate(model, tokenizer, tokenizer.pad_token + prompt, tokens)
    return prompt + str(tokenizer.decode(new, skip_special_tokens=True))


def load_seconds(folder: Path) -> float:
    """Seconds to load model and tokenizer, after the imports; the median of five."""
    times = []
    for _ in range(5):
        start = time.perf_counter()
        load(folder)
        times.append(time.perf_counter() - start)
    return round(sorted(times)[2], 3)


def evaluate(folder: Path, text: Path, hold_out: float) -> dict[str, Any]:
    """Every figure of the model card, JSON-ready."""
    model, tokenizer = load(folder)
    corpus = read_corpus(text, hold_out)
    context = model.config.max_position_embeddings
    rows = text_nats(model, tokenizer, corpus.held_out, context)
    stopped, answers = stops(model, tokenizer, corpus.held_out_exchanges[:CHECKED])
    sources = sorted({row[0] for row in rows})
    return {
        "held_out": summary(rows),
        "by_source": {source: summary([row for row in rows if row[0] == source]) for source in sources},
        "answers_that_stop": {"stopped": stopped, "of": len(answers), "within_tokens": LONGEST_ANSWER},
        "load_seconds": load_seconds(folder),
        "continuations": [continuation(model, tokenizer, prompt) for prompt in PROMPTS],
        "answers": answers,
    }


def main(arguments: list[str] | None = None) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(
        "python -m luthier.starter.evaluate",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--model", type=Path, required=True, help="a transformers folder")
    parser.add_argument("--text", type=Path, required=True, help="the folder of text that it was trained on")
    parser.add_argument("--out", type=Path, required=True, help="JSON file to write")
    parser.add_argument("--hold-out", type=float, default=0.01, help="the share that pretrain held out")
    known = parser.parse_args(arguments)
    found = evaluate(known.model, known.text, known.hold_out)
    known.out.write_text(json.dumps(found, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    print(json.dumps({name: found[name] for name in ("held_out", "answers_that_stop")}, indent=2))


if __name__ == "__main__":
    main()
