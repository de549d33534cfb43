"""Templates in the style of six model families, each with a tokenizer built like the family's own."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

from luthier.data.rows import Row
from tests import tiny

TEMPLATES = Path(__file__).parent / "templates"
FAMILIES = ("chatml", "llama3", "mistral", "phi3", "gemma", "falcon")
# template: (special tokens, beginning of text, end of text, what ends a turn)
SPECIALS: dict[str, tuple[tuple[str, ...], str, str, str]] = {
    "chatml": (("<|im_start|>",), "<|endoftext|>", "<|im_end|>", "<|im_end|>"),
    "llama3": (
        ("<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"),
        "<|begin_of_text|>",
        "<|end_of_text|>",
        "<|eot_id|>",
    ),
    "mistral": ((), "<s>", "</s>", "</s>"),
    "phi3": (("<|system|>", "<|user|>", "<|assistant|>", "<|end|>"), "<s>", "<|endoftext|>", "<|end|>"),
    "gemma": (("<start_of_turn>", "<end_of_turn>"), "<bos>", "<eos>", "<end_of_turn>"),
    "falcon": ((), "<|startoftext|>", "<|endoftext|>", "<|endoftext|>"),
}  # fmt: skip
ENDINGS = {name: values[3] for name, values in SPECIALS.items()}
TRIMS = ("llama3", "gemma")  # templates that strip the words
SENTENCEPIECE = ("mistral", "phi3", "gemma")
TEXTS = (
    *tiny.SENTENCES,
    "def f(x):\n    return x + 1\n\n\nclass A:\n\n    pass\n\n",
    "\n\n\n\n  \n\n",
    "a: b\n\n- c\n- d",
)


def template(name: str) -> str:
    return (TEMPLATES / f"{name}.jinja").read_text(encoding="utf-8")


def _byte_level(specials: list[str]) -> Any:
    """GPT-2's structure: Llama 3, Qwen, Falcon."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=600, special_tokens=specials, initial_alphabet=alphabet, show_progress=False
    )
    made.train_from_iterator(TEXTS, trainer)
    return made


def _sentencepiece(specials: list[str], dummy_prefix: bool, rstrip: bool) -> Any:
    """SentencePiece's structure with byte fallback: Gemma, and with a dummy prefix Mistral and Phi-3."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

    made = Tokenizer(models.BPE(byte_fallback=True, unk_token="<unk>", fuse_unk=True))
    made.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="never")
    bytes_ = [f"<0x{value:02X}>" for value in range(256)]
    trainer = trainers.BpeTrainer(vocab_size=800, special_tokens=["<unk>", *bytes_], show_progress=False)
    made.train_from_iterator(TEXTS, trainer)
    value = json.loads(made.to_str())
    value["added_tokens"] = [one for one in value["added_tokens"] if one["content"] == "<unk>"]
    value["pre_tokenizer"] = None
    made = Tokenizer.from_str(json.dumps(value))
    spaces = normalizers.Replace(" ", "▁")
    made.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), spaces]) if dummy_prefix else spaces
    steps = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
    made.decoder = decoders.Sequence([*steps, decoders.Strip(" ", 1, 0)] if dummy_prefix else steps)
    made.add_special_tokens([AddedToken(word, rstrip=rstrip, normalized=False, special=True) for word in specials])
    return made


@cache
def _backend(name: str) -> str:
    marks, bos, eos, _ = SPECIALS[name]
    specials = [bos, eos, *marks]
    if name in SENTENCEPIECE:
        return str(_sentencepiece(specials, name != "gemma", name == "phi3").to_str())
    return str(_byte_level(specials).to_str())


def tokenizer(name: str, other_template: str | None = None) -> Any:
    """Return a family's tokenizer with its template, or with another one."""
    from tokenizers import Tokenizer
    from transformers import PreTrainedTokenizerFast

    marks, bos, eos, _ = SPECIALS[name]
    return PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer.from_str(_backend(name)),
        bos_token=bos,
        eos_token=eos,
        pad_token=eos,
        additional_special_tokens=list(marks),
        chat_template=template(other_template or name),
        clean_up_tokenization_spaces=False,
    )


def chat(*words: str, system: str | None = None, line: int = 1, name: str = "") -> Row:
    """Return a chat row: user, assistant, user, assistant, …"""
    messages = [{"role": "system", "content": system}] if system is not None else []
    roles = ("user", "assistant")
    messages += [{"role": roles[place % 2], "content": word} for place, word in enumerate(words)]
    return Row(name or f"row:{line}", "chat", {"messages": messages}, "data/rows.jsonl", line)


def trained(example: Any) -> list[list[int]]:
    """Return the runs of trained tokens."""
    runs: list[list[int]] = []
    before = False
    for token, label in zip(example.input_ids, example.labels, strict=True):
        if label != -100:
            assert label == token
            runs = runs if before else [*runs, []]
            runs[-1].append(token)
        before = label != -100
    return runs
