"""How the base of an embedding model is loaded, and how what was tuned is written and held against it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from luthier.models import likeness, load, sentence
from luthier.models.vectors import Embedder

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from luthier.models.load import Base

GIVES = "vectors"


def load_base(base: Base, dtype: str = "auto", method: str = "lora") -> PreTrainedModel:
    """Load the transformer of the base. Arguments and errors: see `luthier.models.sentence.load_encoder`."""
    return sentence.load_encoder(base, dtype, method)


def load_tokenizer(base: Base) -> tuple[PreTrainedTokenizerBase, list[str]]:
    """Load the tokenizer, and say how the base makes one vector of a text where that is not plain.

    It reads as many tokens as the base does (`model_max_length`).
    """
    tokenizer, layout = load.load_tokenizer(base), sentence.layout_of(base)
    context = getattr(load.load_config(base), "max_position_embeddings", None)
    limits = [one for one in (layout.max_length, tokenizer.model_max_length, context) if one]
    tokenizer.model_max_length = int(min(limits))
    return tokenizer, list(layout.notes)


def embedder(
    model: PreTrainedModel, base: Base, tokenizer: PreTrainedTokenizerBase, max_length: int, unit: bool = True
) -> Embedder:
    """Return what makes vectors with a model, plain or adapted, through the base's pooling and what follows it.

    Args:
        max_length: tokens of a text at most; the base may read fewer. unit: give vectors of length 1 in any case.
    """
    length = min(max_length, tokenizer.model_max_length)
    return Embedder(model, sentence.load_head(base), tokenizer, length, unit)


def write_merged(
    model: PreTrainedModel, base: Base, tokenizer: PreTrainedTokenizerBase, max_length: int, folder: Path
) -> None:
    """Write a plain sentence-transformers folder of a merged model with the base's own pooling."""
    length = min(max_length, tokenizer.model_max_length)
    sentence.save_sentence_model(model, tokenizer, base, length, folder)


def probe(
    model: PreTrainedModel, base: Base, tokenizer: PreTrainedTokenizerBase, max_length: int, texts: Sequence[str]
) -> Any:
    """Return the vectors that a model, plain or adapted, makes of texts, [texts, dimensions]."""
    return embedder(model, base, tokenizer, max_length, unit=False).embed(texts)


def probe_folder(folder: Path, max_length: int, texts: Sequence[str]) -> Any:
    """Return the same of a merged folder, loaded by sentence-transformers alone."""
    del max_length  # the folder says it itself
    from sentence_transformers import SentenceTransformer

    model = SentenceTransformer(str(folder), device="cpu", local_files_only=True)
    return model.encode(list(texts), convert_to_numpy=True, show_progress_bar=False)


def alike(before: Any, after: Any) -> dict[str, Any]:
    """Compare two probes, see `likeness.compare_vectors`."""
    return likeness.compare_vectors(before, after)
