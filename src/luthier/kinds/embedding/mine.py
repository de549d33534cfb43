"""Hard negatives: texts that the base takes for near a row and that belong to none of its families."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from luthier.kinds.embedding.rows import Example, Text
from luthier.run import ranks

if TYPE_CHECKING:
    from torch import Tensor

    from luthier.kinds.embedding.partners import Partners

DEPTH = 64  # nearest texts among which negatives are looked for
BLOCK = 1024


def mine(
    examples: Sequence[Example],
    partners: Partners,
    vectors_of: Callable[[Sequence[Text]], Tensor],
    count: int,
    margin: float,
) -> tuple[list[Example], list[dict[str, Any]], str]:
    """Give each row up to `count` negatives: the texts nearest to its anchor that are neither related nor too near.

    Too near is a text whose similarity to the anchor is not at least `margin` below that of the positive (of a title:
    the mean over its family): it may be a positive that nobody has told of (Moreira et al. 2024, arXiv:2407.15831).
    Similarities are those of the model before training, by exact matrix products; the same rows give the same
    negatives.

    Returns:
        The rows with their negatives; one line a row for the run folder (id, similarity to the positive, negatives by
        the id of a row that has them, with their similarities); and a sentence.
    """
    owners: dict[tuple[int, ...], tuple[str, Text]] = {}
    for example in examples:
        for text in example.texts[:2]:
            owners.setdefault(tuple(text.input_ids), (example.id, text))
    pool = [text for _, text in owners.values()]
    names = [name for name, _ in owners.values()]
    looked = _look(examples, partners, vectors_of(pool).numpy(), pool, (count, margin)) if ranks.leads() else None
    made, lines, found = [], [], 0
    # Rank 0 decides: on unlike machines similarities that are nearly equal may fall otherwise.
    for example, (positive, chosen) in zip(examples, ranks.share(looked), strict=True):
        found += len(chosen)
        made.append(dataclasses.replace(example, texts=(*example.texts, *(pool[at] for at, _ in chosen))))
        negatives = [{"id": names[at], "similarity": round(similarity, 4)} for at, similarity in chosen]
        lines.append({"id": example.id, "positive": round(positive, 4), "negatives": negatives})
    return made, lines, f"{found} hard negatives were mined for {len(examples)} rows"


def _look(
    examples: Sequence[Example],
    partners: Partners,
    vectors: np.ndarray[Any, Any],
    pool: Sequence[Text],
    limits: tuple[int, float],
) -> list[tuple[float, list[tuple[int, float]]]]:
    """Return for each row the similarity to its positive, and its negatives: place in the pool, similarity.

    Args:
        vectors: of the pool. limits: negatives of a row at most, and the margin; see `mine`.
    """
    count, margin = limits
    place = {tuple(text.input_ids): number for number, text in enumerate(pool)}
    found = []
    for start in range(0, len(examples), BLOCK):
        block = examples[start : start + BLOCK]
        anchors = vectors[[place[tuple(example.input_ids)] for example in block]]
        similar = anchors @ vectors.T
        for example, row in zip(block, similar, strict=True):
            own = _positives(example, partners)
            positive = float(np.mean([row[place[tuple(text.input_ids)]] for text in own]))
            chosen = _choose(example, own, row, pool, count, positive - margin)
            found.append((positive, [(at, float(row[at])) for at in chosen]))
    return found


def _positives(example: Example, partners: Partners) -> list[Text]:
    if example.form != "title":
        return [example.texts[1]]
    return [text for text in partners.family(example) if text.input_ids != example.input_ids]


def _choose(
    example: Example, own: Sequence[Text], similar: np.ndarray[Any, Any], pool: Sequence[Text], count: int, limit: float
) -> list[int]:
    families = {family for text in (example.texts[0], *own) for family in text.families}
    near = {text.near for text in (example.texts[0], *own)}
    depth = min(DEPTH + len(own), len(pool))
    best = np.argpartition(-similar, depth - 1)[:depth]
    ordered = best[np.lexsort((best, -similar[best]))].tolist()
    fitting = [
        at
        for at in ordered
        if similar[at] <= limit and pool[at].near not in near and families.isdisjoint(pool[at].families)
    ]
    return fitting[:count]
