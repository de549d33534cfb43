"""Near-duplicate texts: MinHash to find candidates, the exact Jaccard similarity to decide.

A text is the set of its word 3-grams. A text of fewer than five words has too few of them to be compared so (one
changed word would leave nothing) and is the set of its words instead. Texts without any word match nothing.

MinHash (see `minhash`) proposes candidates; sketches discard the hopeless ones; the n-grams themselves decide.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from luthier.data.minhash import NGRAM, PERMUTATIONS, SHORT, U64, Index, Ints, index_of, signatures
from luthier.data.words import Ngrams, ngrams_of, word_ngrams, words
from luthier.run.progress import Progress, Silent

__all__ = ["NearPair", "clusters", "near_pairs", "near_pairs_between", "shingles", "signatures", "word_ngrams"]

BUCKET = 16  # bucket size up to which every pair is compared
PATIENCE = 64  # misses in a row after which a leader of a large bucket asks no further
CACHED_SHINGLES = 4096


class NearPair(NamedTuple):
    """Two texts whose exact Jaccard similarity reaches the threshold; `first` and `second` are their positions."""

    first: int
    second: int
    similarity: float


def shingles(text: str) -> Ngrams:
    """Return what a text is compared by: its word 3-grams, or its words when it has fewer than five."""
    found = words(text)
    return ngrams_of(found, NGRAM if len(found) >= SHORT else 1)


def near_pairs(
    texts: Sequence[str], threshold: float, seed: int = 0, progress: Progress | None = None
) -> list[NearPair]:
    """Return pairs of texts whose Jaccard similarity is at least `threshold`, ordered by position, first < second.

    Every pair returned has been verified exactly. At least 99.7 % of the pairs at the threshold are found, more above
    it. Masses of similar texts are given as chains, not as all their pairs, so that the work stays linear: copies
    (equal n-grams) are paired with their first appearance only, and where more than 16 texts share a bucket each is
    compared with up to 16 leaders of that bucket until one matches, and a leader gives up after 64 misses in a row. The
    connected components are what counts.

    Args:
        texts: n texts; read twice at most, so they may be computed on access.
        threshold: above 0, up to 1.
        seed: of the hash functions.
        progress: told the number of texts hashed.

    Raises:
        ValueError: the threshold is outside (0, 1].
    """
    index = index_of(texts, threshold, seed, progress or Silent())
    exact = _Exact(texts, threshold)
    documents = _collapse(index)
    for document in np.flatnonzero(np.diff(documents.starts) > 1):
        first, *copies = documents.members(int(document))
        for copy in copies:
            exact.check(first, copy)
    first_of = documents.firsts
    large: list[Ints] = []
    codes: list[Ints] = []
    for keys in index.keys:
        small, buckets = _bucket_pairs(keys[first_of])
        codes.append(_promising(small, index.sketch, first_of, threshold))
        large += buckets
    for low, high in _decoded(codes, len(first_of)):
        exact.check(int(first_of[low]), int(first_of[high]))
    for bucket in large:
        _chain(np.sort(first_of[bucket]), index.sketch, exact)
    return sorted(exact.pairs)


def near_pairs_between(
    left: Sequence[str], right: Sequence[str], threshold: float, seed: int = 0, progress: Progress | None = None
) -> list[NearPair]:
    """Return pairs (position in `left`, position in `right`) whose Jaccard similarity is at least `threshold`.

    As `near_pairs`, but across two sets of texts. Every text that has a copy or a near-duplicate on the other side is
    named in at least one pair; of many copies on one side, only the first is paired with all those on the other. Where
    a bucket holds more than 16 texts, each is compared with 16 of the other side at most, until one matches.

    Raises:
        ValueError: the threshold is outside (0, 1].
    """
    texts = [*left, *right]
    border = len(left)
    index = index_of(texts, threshold, seed, progress or Silent())
    exact = _Exact(texts, threshold)
    documents = _collapse(index)
    sides = documents.sides(border)
    for document in np.flatnonzero(sides[0] & sides[1]):
        _cross(documents.members(int(document)), documents.members(int(document)), border, exact)
    codes: list[Ints] = []
    large: list[Ints] = []
    for keys in index.keys:
        small, buckets = _bucket_pairs(keys[documents.firsts])
        low, high = small
        across = small[:, (sides[0][low] & sides[1][high]) | (sides[1][low] & sides[0][high])]
        codes.append(_promising(across, index.sketch, documents.firsts, threshold))
        large += buckets
    for low, high in _decoded(codes, len(documents.firsts)):
        _cross(documents.members(low), documents.members(high), border, exact)
        _cross(documents.members(high), documents.members(low), border, exact)
    for bucket in large:
        _chain_across(bucket, documents, border, index.sketch, exact)
    return sorted(NearPair(pair.first, pair.second - border, pair.similarity) for pair in exact.pairs)


def clusters(pairs: Sequence[NearPair]) -> dict[int, int]:
    """Return for each text that stands in a pair the first text of its connected component (union-find)."""
    union = _Union()
    for pair in pairs:
        union.join(pair.first, pair.second)
    return {member: union.find(member) for member in sorted(union.parent)}


class _Union:
    """Union-find over positions; the root of a component is its smallest member."""

    def __init__(self) -> None:
        self.parent: dict[int, int] = {}

    def find(self, item: int) -> int:
        root = item
        while (above := self.parent.setdefault(root, root)) != root:
            root = above
        while item != root:
            self.parent[item], item = root, self.parent[item]
        return root

    def join(self, one: int, other: int) -> None:
        low, high = sorted((self.find(one), self.find(other)))
        self.parent[high] = low


class _Exact:
    """Compares two texts exactly and keeps the pairs that reach the threshold."""

    def __init__(self, texts: Sequence[str], threshold: float) -> None:
        self.pairs: set[NearPair] = set()
        self.threshold = threshold
        self.union = _Union()
        self._texts = texts
        self._shingles: dict[int, Ngrams] = {}

    def check(self, first: int, second: int) -> bool:
        one, other = self._of(first), self._of(second)
        shared = len(one & other)
        similarity = shared / (len(one) + len(other) - shared)
        if similarity < self.threshold:
            return False
        self.pairs.add(NearPair(min(first, second), max(first, second), similarity))
        self.union.join(first, second)
        return True

    def _of(self, position: int) -> Ngrams:
        found = self._shingles.get(position)
        if found is None:
            if len(self._shingles) >= CACHED_SHINGLES:
                self._shingles.clear()
            found = self._shingles[position] = shingles(self._texts[position])
        return found


@dataclass(frozen=True, slots=True)
class _Documents:
    """Texts with equal n-grams taken together: the first text of each document, and all its texts."""

    firsts: Ints
    order: Ints
    starts: Ints

    def members(self, document: int) -> list[int]:
        members: list[int] = self.order[self.starts[document] : self.starts[document + 1]].tolist()
        return members

    def sides(self, border: int) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
        """Return which documents have texts before the border, and which have texts from it on."""
        lasts = self.order[self.starts[1:] - 1]
        return self.firsts < border, lasts >= border


def _collapse(index: Index) -> _Documents:
    worded = np.flatnonzero(index.worded)
    order = worded[np.argsort(index.whole[worded], kind="stable")]
    changes = np.flatnonzero(np.diff(index.whole[order])) + 1
    starts = np.concatenate([[0], changes, [len(order)]]) if len(order) else np.zeros(1, np.int64)
    return _Documents(order[starts[:-1]], order, starts)


def _bucket_pairs(keys: U64) -> tuple[Ints, list[Ints]]:
    """Return all pairs (2, p) of documents in buckets of up to 16, and the members of each larger bucket."""
    order = np.argsort(keys, kind="stable")
    ordered = keys[order]
    starts = np.concatenate([[0], np.flatnonzero(np.diff(ordered)) + 1, [len(ordered)]]).astype(np.int64)
    sizes = np.diff(starts)
    small = np.repeat(sizes <= BUCKET, sizes)
    found: list[Ints] = [np.zeros((2, 0), np.int64)]
    for distance in range(1, BUCKET):
        places = np.flatnonzero((ordered[:-distance] == ordered[distance:]) & small[:-distance])
        if not len(places):
            break
        found.append(np.stack([order[places], order[places + distance]]))
    large = [order[starts[bucket] : starts[bucket + 1]] for bucket in np.flatnonzero(sizes > BUCKET)]
    return np.concatenate(found, axis=1), large


def _alike(ones: Ints, others: Ints, sketch: NDArray[np.uint8], threshold: float) -> NDArray[np.bool_]:
    """Tell which pairs may reach the threshold: their sketches agree to within four standard errors of it."""
    least = threshold - 4 * (threshold * (1 - threshold) / PERMUTATIONS) ** 0.5
    result = np.empty(len(ones), np.bool_)
    for start in range(0, len(ones), 100_000):
        part = slice(start, start + 100_000)
        result[part] = (sketch[ones[part]] == sketch[others[part]]).mean(axis=1) >= least
    return result


def _promising(pairs: Ints, sketch: NDArray[np.uint8], firsts: Ints, threshold: float) -> Ints:
    low, high = pairs.min(axis=0), pairs.max(axis=0)
    keep = _alike(firsts[low], firsts[high], sketch, threshold)
    return np.unique(low[keep] * len(firsts) + high[keep])


def _decoded(codes: list[Ints], n: int) -> Iterator[tuple[int, int]]:
    for code in np.unique(np.concatenate(codes)).tolist():
        yield divmod(code, n)


def _chain(waiting: Ints, sketch: NDArray[np.uint8], exact: _Exact) -> None:
    """Compare the texts of a large bucket with leaders: a text joins the first leader it is near to, or may lead."""

    def near(leader: int, other: int) -> bool:
        return exact.union.find(leader) == exact.union.find(other) or exact.check(leader, other)

    for _ in range(BUCKET):
        if len(waiting) < 2:
            return
        leader, rest = int(waiting[0]), waiting[1:]
        alike = _alike(np.full(len(rest), leader), rest, sketch, exact.threshold)
        waiting = rest[~_settled(alike, lambda place: near(leader, int(rest[place])))]  # noqa: B023


def _chain_across(bucket: Ints, documents: _Documents, border: int, sketch: NDArray[np.uint8], exact: _Exact) -> None:
    """Compare a large bucket with leaders of either side, until each text of the other side has one match."""
    firsts = documents.firsts
    for side in (0, 1):
        leads, follows = documents.sides(border)[side][bucket], documents.sides(border)[1 - side][bucket]
        waiting = np.array([item for item in bucket[follows] if firsts[item] not in exact.union.parent], np.int64)
        for leader in bucket[leads][:BUCKET].tolist():
            others = waiting[waiting != leader]

            def near(place: int, leader: int = leader, others: Ints = others) -> bool:
                pair = documents.members(leader), documents.members(int(others[place]))
                return _cross(pair[side], pair[1 - side], border, exact)  # noqa: B023

            alike = _alike(np.full(len(others), firsts[leader]), firsts[others], sketch, exact.threshold)
            waiting = others[~_settled(alike, near)]


def _settled(alike: NDArray[np.bool_], near: Callable[[int], bool]) -> NDArray[np.bool_]:
    """Tell which places are near, asked in order; give up after 64 misses in a row.

    Thousands of texts from one template lie just below the threshold: comparing all of them would take hours.
    """
    settled = np.zeros(len(alike), np.bool_)
    misses = 0
    for place in np.flatnonzero(alike).tolist():
        settled[place] = near(place)
        misses = 0 if settled[place] else misses + 1
        if misses == PATIENCE:
            break
    return settled


def _cross(ones: list[int], others: list[int], border: int, exact: _Exact) -> bool:
    """Pair the left texts of one document with the right texts of another: each with the first of the other side."""
    lefts = [text for text in ones if text < border]
    rights = [text for text in others if text >= border]
    if not (lefts and rights and exact.check(lefts[0], rights[0])):
        return False
    for left in lefts[1:]:
        exact.check(left, rights[0])
    for right in rights[1:]:
        exact.check(lefts[0], right)
    return True
