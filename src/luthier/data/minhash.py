"""MinHash signatures of texts, banded for locality-sensitive hashing, made with numpy in chunks.

Method: MinHash (Broder 1997) with multiply-shift hashing (Dietzfelbinger et al. 1997), banded locality-sensitive
hashing (Leskovec, Rajaraman, Ullman, Mining of Massive Datasets, 3.4), and the low 8 bits of each minimum kept as a
sketch (b-bit MinHash, Li and König 2010).

Measured for 50 n-grams and 128 permutations on one core: datasketch 300 µs a text, rensa 56 µs (6 µs of hashing and
50 µs to get the digests out as Python lists), numpy 17 µs. Hence numpy.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from luthier.data.words import words
from luthier.run.progress import Progress, Silent

NGRAM = 3
SHORT = 2 * NGRAM - 1  # words below which a text is compared by single words
PERMUTATIONS = 128
RECALL = 0.9975  # of the pairs that lie exactly at the threshold; above it, more
CHUNK = 1000  # texts hashed together: their buffers (about 0.4 MB each) stay in the processor's cache
CACHED_WORDS = 500_000

U64 = NDArray[np.uint64]
Ints = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Index:
    """What is kept of n texts: keys (bands, n), sketch (n, 128), the hash of all n-grams (n), whether any word (n)."""

    keys: U64
    sketch: NDArray[np.uint8]
    whole: U64
    worded: NDArray[np.bool_]


def bands(threshold: float) -> tuple[int, int]:
    """Return (bands, rows a band): the longest bands that still find a pair at the threshold with chance 0.9975.

    Raises:
        ValueError: the threshold is outside (0, 1].
    """
    if not 0 < threshold <= 1:
        raise ValueError(f"a Jaccard threshold lies above 0 and up to 1, not at {threshold}")
    for rows in range(PERMUTATIONS, 1, -1):
        count = PERMUTATIONS // rows
        if 1 - (1 - threshold**rows) ** count >= RECALL:
            return count, rows
    return PERMUTATIONS, 1


def signatures(texts: Sequence[str], seed: int = 0) -> NDArray[np.uint32]:
    """Return the MinHash signatures, (n, 128): the share of equal places estimates the Jaccard similarity of two texts.

    The standard error is sqrt(J (1 - J) / 128). A text without words has only the largest value.
    """
    result = np.full((len(texts), PERMUTATIONS), np.iinfo(np.uint32).max, dtype=np.uint32)
    for start, minima, filled, _ in _hashed(texts, seed, Silent()):
        result[start + filled] = (minima >> np.uint64(32)).astype(np.uint32).T
    return result


def index_of(texts: Sequence[str], threshold: float, seed: int, progress: Progress) -> Index:
    """Return what is needed of `texts` to find their near-duplicates; each text is read once."""
    count, rows = bands(threshold)
    n = len(texts)
    index = Index(
        np.zeros((count, n), np.uint64),
        np.zeros((n, PERMUTATIONS), np.uint8),
        np.zeros(n, np.uint64),
        np.zeros(n, np.bool_),
    )
    factors = _odd(rows, seed + 1)[:, None]
    for start, minima, filled, whole in _hashed(texts, seed, progress):
        places = start + filled
        index.worded[places] = True
        index.whole[places] = whole
        index.sketch[places] = (minima >> np.uint64(32)).astype(np.uint8).T
        for band in range(count):
            part = minima[band * rows : (band + 1) * rows] >> np.uint64(32)
            index.keys[band, places] = _mixed((_mixed(part) * factors).sum(axis=0, dtype=np.uint64))
    return index


def _hashed(texts: Sequence[str], seed: int, progress: Progress) -> Iterator[tuple[int, U64, Ints, U64]]:
    """Yield for each chunk: its start, the minima (128, filled), the places of texts with words, their whole hashes."""
    hashes = _WordHashes()
    multipliers = _odd(PERMUTATIONS, seed)
    with progress.task("near-duplicates", total=len(texts)) as advance:
        for start in range(0, len(texts), CHUNK):
            flat: list[int] = []
            counts: list[int] = []
            stop = min(start + CHUNK, len(texts))
            for position in range(start, stop):
                found = words(texts[position])
                flat += [hashes[word] for word in found]
                counts.append(len(found))
            advance(stop - start)
            lengths = np.array(counts, dtype=np.int64)
            filled = np.flatnonzero(lengths)
            if not len(filled):
                continue
            grams, begins = _gram_hashes(np.array(flat, dtype=np.uint64), lengths[filled])
            yield start, _minima(grams, begins, multipliers), filled, np.add.reduceat(grams, begins)


def _gram_hashes(tokens: U64, lengths: Ints) -> tuple[U64, Ints]:
    """Return the hashes of the n-grams of all texts side by side, and where each text begins among them."""
    first, second, third, single = _odd(4, 0)
    grams = np.zeros_like(tokens)
    grams[:-2] = tokens[:-2] * first + tokens[1:-1] * second + tokens[2:] * third
    short = np.repeat(lengths < SHORT, lengths)
    grams = np.where(short, tokens * single, grams)
    ends = np.repeat(np.cumsum(lengths), lengths)
    keep = short | (np.arange(len(tokens)) + NGRAM <= ends)
    counts = np.where(lengths < SHORT, lengths, lengths - NGRAM + 1)
    return _mixed(grams[keep]), np.cumsum(counts) - counts


def _minima(grams: U64, begins: Ints, multipliers: U64) -> U64:
    result = np.empty((PERMUTATIONS, len(begins)), np.uint64)
    buffer = np.empty_like(grams)
    for row, multiplier in enumerate(multipliers):
        np.multiply(grams, multiplier, out=buffer)
        np.minimum.reduceat(buffer, begins, out=result[row])
    return result


def _odd(count: int, seed: int) -> U64:
    return np.random.default_rng([seed, count]).integers(1, 2**63, size=count, dtype=np.uint64) * np.uint64(
        2
    ) + np.uint64(1)


def _mixed(values: U64) -> U64:
    """Scatter 64-bit values (the finaliser of SplitMix64, Steele et al. 2014)."""
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))


class _WordHashes(dict[str, int]):
    """A 64-bit hash of each word, the same in every process (unlike `hash`); forgotten when too many."""

    def __missing__(self, word: str) -> int:
        if len(self) >= CACHED_WORDS:
            self.clear()
        digest = hashlib.blake2b(word.encode("utf-8", "surrogatepass"), digest_size=8).digest()
        value = self[word] = int.from_bytes(digest, "little")
        return value
