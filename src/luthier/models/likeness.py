"""Whether what was shipped answers as what was trained: token by token for words, by angle for vectors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

COSINE = 0.99999
# Share of the largest logit that merging may move one: a rounded sum in every layer.
LOGITS = {"float32": 1e-3, "bfloat16": 5e-2, "float16": 1e-2}


def rendered(tokenizer: PreTrainedTokenizerBase, texts: Sequence[str], max_length: int) -> list[list[int]]:
    """Return the tokens of each text as a user's message with room for an answer, cut to `max_length`."""
    ids: list[list[int]] = []
    for text in texts:
        messages = [{"role": "user", "content": text}]
        found: Any = tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_dict=True)
        ids.append(list(found["input_ids"])[:max_length])
    return ids


def logits(model: PreTrainedModel, prompts: Sequence[Sequence[int]]) -> list[NDArray[np.float32]]:
    """Return the logits of each prompt, [tokens, vocabulary], float32."""
    import torch

    found: list[NDArray[np.float32]] = []
    with torch.inference_mode():
        for ids in prompts:
            given = model(input_ids=torch.tensor([list(ids)], device=model.device), use_cache=False)
            found.append(given.logits[0].float().cpu().numpy())
    return found


def compare_logits(
    before: Sequence[NDArray[np.float32]], after: Sequence[NDArray[np.float32]], dtype: str
) -> dict[str, Any]:
    """Compare logits, position by position.

    Returns:
        `max_abs_logit_difference`, `tolerance` (a share of the largest logit, by dtype), `greedy_equal` (the likeliest
        token is the same everywhere but where the two likeliest are nearer than the tolerance), `passed`.
    """
    size = max(float(np.abs(one).max()) for one in before)
    tolerance = LOGITS.get(dtype, LOGITS["float32"]) * max(size, 1.0)
    worst, greedy = 0.0, True
    for one, other in zip(before, after, strict=True):
        worst = max(worst, float(np.abs(one - other).max()))
        chosen = other.argmax(axis=1)
        lost = one.max(axis=1) - one[np.arange(len(one)), chosen]
        greedy &= bool((lost <= tolerance).all())
    passed = bool(np.isfinite(worst)) and worst <= tolerance and greedy
    return {
        "max_abs_logit_difference": worst,
        "tolerance": tolerance,
        "greedy_equal": greedy,
        "passed": passed,
    }


def compare_vectors(before: NDArray[np.float32], after: NDArray[np.float32]) -> dict[str, Any]:
    """Compare vectors, text by text: `min_cosine`, `tolerance` (0.99999), `passed`."""
    norms = np.linalg.norm(before, axis=1) * np.linalg.norm(after, axis=1)
    cosine = float(((before * after).sum(axis=1) / np.maximum(norms, 1e-12)).min())
    return {"min_cosine": cosine, "tolerance": COSINE, "passed": cosine >= COSINE}
