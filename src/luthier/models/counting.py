"""Counting tokens with nothing but a tokenizer.json: quick, and without transformers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from luthier.models.bases import Base


def tokenizer_file(base: Base) -> Path | None:
    """Return the tokenizer.json of a base: in its folder or in the Hub's cache; None when it is not at hand."""
    if base.path is not None:
        file = base.path / "tokenizer.json"
        return file if file.is_file() else None
    from huggingface_hub import try_to_load_from_cache

    cached = try_to_load_from_cache(base.source, "tokenizer.json")
    return Path(cached) if isinstance(cached, str) else None


def token_counter(base: Base) -> Callable[[Sequence[str]], list[int]] | None:
    """Return a function from texts to their numbers of tokens, special tokens left out; None without a tokenizer."""
    file = tokenizer_file(base)
    if file is None:
        return None
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(file))
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return lambda texts: [len(one.ids) for one in tokenizer.encode_batch_fast(list(texts), add_special_tokens=False)]
