"""How the base of a causal language model is loaded."""

from __future__ import annotations

from typing import TYPE_CHECKING

from luthier.models import load

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from luthier.models.load import Base


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
