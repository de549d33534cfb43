"""How the base of a causal language model is loaded, and how what was tuned is written and held against it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from luthier.errors import UserError
from luthier.kinds.causal_lm import rows
from luthier.models import likeness, load

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from luthier.models.load import Base
    from luthier.models.vectors import Embedder

GIVES = "words"


def load_base(base: Base, dtype: str = "auto", method: str = "lora") -> PreTrainedModel:
    """Load the base model. Arguments and errors: see `luthier.models.load.load_causal`."""
    return load.load_causal(base, dtype, method)


def load_tokenizer(base: Base) -> tuple[PreTrainedTokenizerBase, list[str]]:
    """Load the tokenizer and make it ready for training.

    Returns:
        The tokenizer, with padding, end of text and a chat template, and one sentence for each thing that was added.
    """
    tokenizer = load.load_tokenizer(base)
    return tokenizer, load.ready_tokenizer(tokenizer)


def embedder(
    model: PreTrainedModel, base: Base, tokenizer: PreTrainedTokenizerBase, max_length: int, unit: bool = True
) -> Embedder:
    """Refuse: a language model answers in words.

    Raises:
        UserError: always.
    """
    del model, tokenizer, max_length, unit
    raise UserError(f"{base.name} answers in words, not in vectors.", "kind", "Train a recipe with kind: embedding.")


def write_merged(
    model: PreTrainedModel, base: Base, tokenizer: PreTrainedTokenizerBase, max_length: int, folder: Path
) -> None:
    """Write a plain transformers folder of a merged model and its tokenizer. `AutoModelForCausalLM` loads it."""
    del base, max_length
    model.save_pretrained(str(folder))
    tokenizer.save_pretrained(str(folder))


def probe(
    model: PreTrainedModel, base: Base, tokenizer: PreTrainedTokenizerBase, max_length: int, texts: Sequence[str]
) -> Any:
    """Return what a model, plain or adapted, says to texts: rendered tokens, tokens that end, logits, dtype."""
    del base
    prompts = likeness.rendered(tokenizer, texts, max_length)
    dtype = str(next(model.parameters()).dtype).removeprefix("torch.")
    return prompts, rows.end_ids(tokenizer), likeness.logits(model, prompts), dtype


def probe_folder(folder: Path, max_length: int, texts: Sequence[str]) -> Any:
    """Return the same of a merged folder, loaded by transformers alone."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model = AutoModelForCausalLM.from_pretrained(str(folder), dtype="auto", local_files_only=True)
    tokenizer = AutoTokenizer.from_pretrained(str(folder), local_files_only=True)
    return probe(model, load.resolve(str(folder)), tokenizer, max_length, texts)


def alike(before: Any, after: Any) -> dict[str, Any]:
    """Compare two probes: `prompt_tokens_equal`, `stop_ids_equal`, and what `compare_logits` returns; `passed`."""
    tokens, stops = before[0] == after[0], before[1] == after[1]
    if not tokens:
        return {"prompt_tokens_equal": False, "stop_ids_equal": stops, "passed": False}
    found = likeness.compare_logits(before[2], after[2], before[3])
    equal = {"prompt_tokens_equal": tokens, "stop_ids_equal": stops}
    return {**equal, **found, "passed": found["passed"] and stops}
