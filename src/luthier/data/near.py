"""Near-duplicate texts: MinHash (rensa) to find candidates, the exact Jaccard similarity to decide.

A text is the set of its word 3-grams. A text of fewer than five words has too few of them to be compared so (one
changed word would leave nothing) and is the set of its words instead. Texts without any word match nothing.

Method: MinHash (Broder 1997) with banded locality-sensitive hashing (Leskovec, Rajaraman, Ullman, Mining of Massive
Datasets, 3.4). rensa was chosen over datasketch by measurement: `benchmarks/minhash.py`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from rensa import RMinHash, RMinHashLSH

from luthier.data.words import Ngrams, ngrams_of, word_ngrams, words
from luthier.run.progress import Advance, Progress, Silent

__all__ = ["NearPair", "clusters", "near_pairs", "near_pairs_between", "shingles", "word_ngrams"]

NGRAM = 3
SHORT = 2 * NGRAM - 1  # words below which a text is compared by single words
# Of the pairs that lie exactly at the threshold; 0.05 above it 0.997. More would cost memory: some 0.1 GiB for each
# band and million texts.
RECALL = 0.95
PERMUTATIONS = 256  # at most
MISSES = 64  # candidates compared in vain before a text is left alone: see `near_pairs`
MATCHES = 16  # pairs that `near_pairs_between` gives for one text
CROWD = 256  # candidates beyond which a text is not added to the index: it is one of a mass that is there already


class NearPair(NamedTuple):
    """Two texts whose exact Jaccard similarity reaches the threshold; `first` and `second` are their positions."""

    first: int
    second: int
    similarity: float


class Components:
    """Union-find over positions; a component is named by its smallest member."""

    def __init__(self) -> None:
        self._parent: dict[int, int] = {}

    def find(self, item: int) -> int:
        """Return the name of the component of `item`."""
        root = item
        while (above := self._parent.get(root, root)) != root:
            root = above
        while item != root:
            self._parent[item], item = root, self._parent[item]
        return root

    def join(self, one: int, other: int) -> None:
        """Make the components of both one."""
        low, high = sorted((self.find(one), self.find(other)))
        self._parent[high] = low

    def members(self) -> dict[int, int]:
        """Return for each member of a component of two or more its name, by position."""
        joined = set(self._parent) | set(self._parent.values())
        return {member: self.find(member) for member in sorted(joined)}


def shingles(text: str) -> Ngrams:
    """Return what a text is compared by: its word 3-grams, or its words when it has fewer than five."""
    found = words(text)
    return ngrams_of(found, NGRAM if len(found) >= SHORT else 1)


def near_pairs(
    texts: Sequence[str], threshold: float, seed: int = 0, progress: Progress | None = None
) -> list[NearPair]:
    """Return pairs of texts whose Jaccard similarity is at least `threshold`, ordered by position, first < second.

    Every pair returned has been verified exactly. Of the pairs at the threshold 95 % are found, above it nearly all.
    Masses of similar texts are given as chains, not as all their pairs, so that the work stays linear: a text is not
    compared with another of a component it has joined already, it is left alone after 64 comparisons in vain (thousands
    of texts from one template lie just below the threshold), and later texts are not compared with it when it had 256
    candidates or more. The connected components are what counts.

    Args:
        texts: n texts; may be computed on access, and are read again for each comparison.
        threshold: above 0, up to 1.
        seed: of the hash functions.
        progress: told the number of texts hashed.

    Raises:
        ValueError: the threshold is outside (0, 1].
    """
    index = _Index(threshold, seed)
    joined = Components()
    found: list[NearPair] = []
    with (progress or Silent()).task("near-duplicates", total=len(texts)) as advance:
        for position, grams in _hashed(texts, advance):
            signature = index.signature(grams)
            candidates = index.candidates(signature)
            misses = 0
            for earlier in candidates:
                if joined.find(earlier) == joined.find(position):
                    continue
                similarity = _jaccard(grams, shingles(texts[earlier]))
                if similarity >= threshold:
                    found.append(NearPair(earlier, position, similarity))
                    joined.join(earlier, position)
                else:
                    misses += 1
                    if misses == MISSES:
                        break
            if len(candidates) < CROWD:
                index.add(position, signature)
    return sorted(found)


def near_pairs_between(
    left: Sequence[str], right: Sequence[str], threshold: float, seed: int = 0, progress: Progress | None = None
) -> list[NearPair]:
    """Return pairs (position in `left`, position in `right`) whose Jaccard similarity is at least `threshold`.

    Each text on the left is compared with its candidates on the right, until 16 have matched or 64 have not: every text
    on the left that has a near-duplicate on the right is named, not every pair. Masses are kept short as above.

    Raises:
        ValueError: the threshold is outside (0, 1].
    """
    index = _Index(threshold, seed)
    found: list[NearPair] = []
    with (progress or Silent()).task("near-duplicates", total=len(left) + len(right)) as advance:
        for position, grams in _hashed(right, advance):
            signature = index.signature(grams)
            if len(index.candidates(signature)) < CROWD:
                index.add(position, signature)
        for position, grams in _hashed(left, advance):
            matches = misses = 0
            for other in index.candidates(index.signature(grams)):
                similarity = _jaccard(grams, shingles(right[other]))
                if similarity >= threshold:
                    found.append(NearPair(position, other, similarity))
                    matches += 1
                else:
                    misses += 1
                if matches == MATCHES or misses == MISSES:
                    break
    return sorted(found)


def clusters(pairs: Iterable[NearPair]) -> dict[int, int]:
    """Return for each text that stands in a pair the first text of its connected component."""
    components = Components()
    for pair in pairs:
        components.join(pair.first, pair.second)
    return components.members()


def bands(threshold: float) -> tuple[int, int]:
    """Return (bands, rows a band): the longest bands that still find a pair at the threshold with chance `RECALL`.

    Long bands let fewer hopeless candidates through. A pair of similarity s shares a band of r rows with chance s^r.

    Raises:
        ValueError: the threshold is outside (0, 1].
    """
    if not 0 < threshold <= 1:
        raise ValueError(f"a Jaccard threshold lies above 0 and up to 1, not at {threshold}")
    for rows in range(16, 1, -1):
        share = threshold**rows
        count = 1 if share == 1 else math.ceil(math.log(1 - RECALL) / math.log1p(-share))
        if count * rows <= PERMUTATIONS // 2:
            return count, rows
    return PERMUTATIONS, 1


class _Index:
    """The texts seen so far, by the bands of their signatures."""

    def __init__(self, threshold: float, seed: int) -> None:
        count, rows = bands(threshold)
        self._permutations = count * rows
        self._seed = seed
        self._bands = RMinHashLSH(threshold, self._permutations, count)

    def signature(self, grams: Ngrams) -> RMinHash:
        signature = RMinHash(self._permutations, self._seed)
        signature.update(["\x1f".join(gram) for gram in grams])
        return signature

    def candidates(self, signature: RMinHash) -> list[int]:
        """Return the positions that share a band, in order."""
        return sorted(self._bands.query(signature))

    def add(self, position: int, signature: RMinHash) -> None:
        self._bands.insert(position, signature)


def _hashed(texts: Sequence[str], advance: Advance) -> Iterator[tuple[int, Ngrams]]:
    """Yield position and n-grams of each text that has any."""
    for position, text in enumerate(texts):
        grams = shingles(text)
        if grams:
            yield position, grams
        advance(1)


def _jaccard(one: Ngrams, other: Ngrams) -> float:
    shared = len(one & other)
    return shared / (len(one) + len(other) - shared)
