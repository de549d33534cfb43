"""Losses over the vectors of one step: plain functions of tensors, row by row.

The definitions are those of sentence-transformers, which the tests hold them against: multiple negatives ranking
(Henderson et al. 2017, arXiv:1705.00652; with all directions Li et al. 2023, arXiv:2308.03281), triplet with cosine
distance (Schroff et al. 2015, arXiv:1503.03832), cosine similarity (mean squared error). Added here is the guard: a
text that may belong to a row (`related`) is never a negative of it.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import mse_loss, relu


@dataclass(frozen=True)
class Step:
    """The vectors of the texts of one step, length 1, and what each is.

    Attributes:
        vectors: [texts, dimensions], float32. row: [texts] the row of each. column: [texts] 0 the anchor, 1 the
            positive, 2 and more negatives; every row has one anchor and one positive, rows counted from 0.
        near: [texts] number of the cluster of near-duplicates. families: [texts, most], padded with -1.
        scores: [rows] of scored pairs, NaN where there is none.
    """

    vectors: Tensor
    row: Tensor
    column: Tensor
    near: Tensor
    families: Tensor
    scores: Tensor

    @property
    def rows(self) -> int:
        """How many rows there are."""
        return len(self.scores)

    def places(self, column: int) -> Tensor:
        """Return the texts of a column by row, [rows]."""
        found = (self.column == column).nonzero().squeeze(1)
        return found[self.row[found].argsort(stable=True)]


def related(step: Step) -> Tensor:
    """Tell which texts may belong to which row, [rows, texts]: those that can be no negatives of it.

    A text is related to a row when it is the row's anchor or positive, a near-duplicate of one of them, or of a family
    of one of them.
    """
    anchors, positives = step.places(0), step.places(1)
    return _alike(step, anchors) | _alike(step, positives)


def _alike(step: Step, places: Tensor) -> Tensor:
    same = step.near[places, None] == step.near[None]
    for own in step.families[places].unbind(1):
        for other in step.families.unbind(1):
            same |= (own[:, None] == other[None]) & (own[:, None] >= 0)
    return same


def multiple_negatives(step: Step, scale: float, both_ways: bool) -> Tensor:
    """Return the sum over rows of −log of the positive's share among all texts that the row may be told from.

    Args:
        scale: what cosine similarities are multiplied by: 1 / temperature.
        both_ways: anchors and positives are of one sort, as titles are: a row is told from the other anchors too, and
            its positive from the other anchors and texts. Else an anchor is told from positives and negatives alone.
    """
    anchors, positives = step.places(0), step.places(1)
    guard = related(step)
    own = step.row[None] == torch.arange(step.rows, device=step.row.device)[:, None]
    from_anchor = step.vectors[anchors] @ step.vectors.T * scale
    positive = from_anchor.gather(1, positives[:, None]).squeeze(1)
    is_positive = own & (step.column == 1)[None]
    documents = (step.column > 0)[None]
    logits = [_only(from_anchor, documents & (~guard | is_positive))]
    if both_ways:
        from_positive = step.vectors[positives] @ step.vectors.T * scale
        is_anchor = own & (step.column == 0)[None]
        logits += [
            _only(from_anchor, ~documents & ~guard),
            _only(from_positive, ~documents & (~guard | is_anchor)),
            _only(from_positive, documents & ~guard & ~own),
        ]
    shares: Tensor = torch.logsumexp(torch.cat(logits, 1), 1) - positive
    return shares.sum()


def triplet(step: Step, margin: float) -> Tensor:
    """Return the sum over rows of how far the positive is from being nearer than a negative by `margin`, in cosine.

    A row's own negatives count with their mean; a row without any is told from the nearest text of the step that the
    guard allows.
    """
    anchors, positives = step.places(0), step.places(1)
    similarity = step.vectors[anchors] @ step.vectors.T
    positive = similarity.gather(1, positives[:, None])
    allowed = ~related(step)
    row = torch.arange(step.rows, device=step.row.device)[:, None]
    own = allowed & (step.row[None] == row) & (step.column > 1)[None]
    short = relu(similarity - positive + margin)
    mean_own = (short * own).sum(1) / own.sum(1).clamp_min(1)
    hardest = short.masked_fill(~allowed, 0.0).max(1).values
    return torch.where(own.any(1), mean_own, hardest).sum()


def cosine(step: Step) -> Tensor:
    """Return the sum over rows of the squared difference between the cosine similarity of a pair and its score."""
    similarity = (step.vectors[step.places(0)] * step.vectors[step.places(1)]).sum(1)
    return mse_loss(similarity, step.scores, reduction="sum")


def _only(logits: Tensor, allowed: Tensor) -> Tensor:
    return logits.masked_fill(~allowed, -torch.inf)
