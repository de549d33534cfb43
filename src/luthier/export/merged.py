"""The merged model: adapter and base in one plain folder, loaded again and held against what was trained."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from luthier.kinds.base import Model
    from luthier.models.bases import Base


def write_merged(
    kind: Model,
    trained: Any,
    base: Base,
    tokenizer: PreTrainedTokenizerBase,
    max_length: int,
    texts: Sequence[str],
    folder: Path,
) -> dict[str, Any]:
    """Merge, write, load again with the library that users have, and compare.

    Args:
        kind: how this kind of model is written and probed. trained: base with adapter; spent afterwards.
        max_length: tokens of a text at most. texts: what both are asked.
        folder: is replaced.

    Returns:
        The entry of verify.json: what the kind compares, `texts`, and `passed`.
    """
    from luthier.models.lora import merge

    before = kind.probe(trained, base, tokenizer, max_length, texts)
    shutil.rmtree(folder, ignore_errors=True)
    kind.write_merged(merge(trained), base, tokenizer, max_length, folder)
    after = kind.probe_folder(folder, max_length, texts)
    return {**kind.alike(before, after), "texts": len(texts)}
