"""How much of one side's texts can be found word for word on another side: n-gram containment.

The measure is the one by which language models are checked for contamination: GPT-3 (Brown et al. 2020, appendix C)
looks for n-grams of 8 to 13 words, by the length of the examples; PaLM (Chowdhery et al. 2022, section 8) for the share
of an example's 8-grams that the training data holds. Here: the share of a held-out text's n-grams, n = 13 unless told.

- A text shorter than n words is one n-gram of its own length; below `FEWEST_WORDS` it is not measured.
- Question and answer are separate texts: no n-gram spans both.
- An n-gram that a large share of the training rows has (`boilerplate_rows`) is a template, not a leak. It is set
  aside, on both sides of the share, and counted.

N-grams are compared by a 64-bit hash: among 10^8 of one side and 10^7 of the other, one false match is to be expected
in 20,000 such comparisons.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import count

import numpy as np
from numpy.typing import NDArray

from luthier.data.words import words

FEWEST_WORDS = 5  # fewer words than these coincide by chance; equal texts are found as exact
_CHUNK = 2_000_000  # words hashed at a time: bounds the buffers to some 100 MB
_TABLE_BITS = 24
_SAMPLE = 20_000

Ints = NDArray[np.int64]
Hashes = NDArray[np.uint64]


def boilerplate_rows(rows: int) -> float:
    """Return in how many of `rows` training rows an n-gram must occur to count as a template.

    5 % of them and at least 10; in a set of fewer than 20 rows, half of them and at least 3.
    """
    return max(3.0, min(rows / 2, max(10.0, rows / 20)))


@dataclass(frozen=True, slots=True)
class Side:
    """The texts of one side as word numbers.

    Attributes:
        numbers: (words,) the words of all texts, one after another.
        starts: (texts + 1,) where each text begins in `numbers`.
        row: (texts,) the row that each text belongs to, ascending.
        rows: how many rows there are.
    """

    numbers: NDArray[np.uint64]
    starts: Ints
    row: Ints
    rows: int

    @property
    def lengths(self) -> Ints:
        """Words of each text, (texts,)."""
        return np.diff(self.starts)


@dataclass(frozen=True, slots=True)
class Containment:
    """What was found of the held-out texts.

    Attributes:
        share: (texts,) share of a text's n-grams that the other side has; NaN where it has none to measure.
        found, total: (texts,) n-grams found and measured, each position counted, templates set aside.
        source: (texts,) a row of the other side that has the most of what was found; -1: none.
        boilerplate: number of distinct n-grams set aside.
    """

    share: NDArray[np.float64]
    found: Ints
    total: Ints
    source: Ints
    boilerplate: int


class Vocabulary:
    """Numbers words; one for all sides that are compared."""

    def __init__(self) -> None:
        self._numbers: defaultdict[str, int] = defaultdict(count().__next__)

    def side(self, rows: Sequence[Sequence[str]]) -> Side:
        """Return the texts of each row as word numbers."""
        numbers: list[NDArray[np.uint64]] = []
        lengths: list[int] = []
        owners: list[int] = []
        number_of = self._numbers.__getitem__
        for owner, texts in enumerate(rows):
            for text in texts:
                found = list(map(number_of, words(text)))
                numbers.append(np.array(found, dtype=np.uint64))
                lengths.append(len(found))
                owners.append(owner)
        flat = np.concatenate(numbers) if numbers else np.empty(0, np.uint64)
        starts = np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)]).astype(np.int64)
        return Side(_mixed(flat), starts, np.array(owners, dtype=np.int64), len(rows))


def contained(held: Side, other: Side, n: int) -> Containment:
    """Measure each text of `held` against all texts of `other`, with n-grams of `n` words."""
    sizes = np.minimum(held.lengths, n)
    sizes[held.lengths < min(FEWEST_WORDS, n)] = 0
    found = np.zeros(len(sizes), np.int64)
    total = np.zeros(len(sizes), np.int64)
    source = np.full(len(sizes), -1, np.int64)
    templates = 0
    for size in np.unique(sizes[sizes > 0]).tolist():
        mine = _Windows.of(held, size, sizes == size)
        grams, which = np.unique(mine.hashes, return_inverse=True)
        rows_with, first = _occurrences(grams, other, size)
        template = rows_with >= boilerplate_rows(other.rows)
        templates += int(template.sum())
        counted = ~template[which]
        hit = counted & (rows_with[which] > 0)
        total += np.bincount(mine.text[counted], minlength=len(sizes))
        found += np.bincount(mine.text[hit], minlength=len(sizes))
        _most_common(mine.text[hit], first[which][hit], source)
    share = np.divide(found, total, out=np.full(len(sizes), np.nan), where=total > 0)
    return Containment(share, found, total, source, templates)


def template_positions(sides: Mapping[str, Side], reference: str, size: int) -> dict[str, NDArray[np.bool_]]:
    """Return for each side which of its words stand in an n-gram of `size` words that is a template of `reference`.

    What counts as a template is told from some `_SAMPLE` of its rows, evenly spaced: at 5 % of the rows, none is
    missed.
    """
    main = sides[reference]
    sampled = main.row % max(1, main.rows // _SAMPLE) == 0
    windows = _Windows.of(main, size, sampled)
    pairs = np.stack([windows.hashes, main.row[windows.text].astype(np.uint64)])
    grams, rows_with = np.unique(np.unique(pairs, axis=1)[0], return_counts=True)
    templates = grams[rows_with >= boilerplate_rows(len(np.unique(main.row[sampled])))]
    return {name: _covered(side, templates, size) for name, side in sides.items()}


def _covered(side: Side, templates: Hashes, size: int) -> NDArray[np.bool_]:
    steps = np.zeros(len(side.numbers) + 1, np.int64)
    if len(templates):
        for hashes, _, start in _windows(side, size, np.ones(len(side.row), bool)):
            at = start[np.isin(hashes, templates)]
            np.add.at(steps, at, 1)
            np.add.at(steps, at + size, -1)
    return np.cumsum(steps)[:-1] > 0


@dataclass(frozen=True, slots=True)
class _Windows:
    """The n-grams of one size: hash, text and place in `Side.numbers` of each."""

    hashes: Hashes
    text: Ints
    start: Ints

    @classmethod
    def of(cls, side: Side, size: int, chosen: NDArray[np.bool_]) -> _Windows:
        parts = list(_windows(side, size, chosen))
        if not parts:
            return cls(np.empty(0, np.uint64), np.empty(0, np.int64), np.empty(0, np.int64))
        return cls(*(np.concatenate(column) for column in zip(*parts, strict=True)))


def _windows(side: Side, size: int, chosen: NDArray[np.bool_]) -> Iterator[tuple[Hashes, Ints, Ints]]:
    """Yield (hashes, texts, starts) of the n-grams of `size` words, some whole texts at a time."""
    counts = np.where(chosen, np.maximum(side.lengths - size + 1, 0), 0)
    ends = np.cumsum(counts)
    first = 0
    while first < len(counts):
        done = int(ends[first - 1]) if first else 0
        last = max(first + 1, int(np.searchsorted(ends, done + _CHUNK, side="right")))
        text = np.repeat(np.arange(first, last), counts[first:last])
        inside = np.arange(len(text)) - np.repeat(ends[first:last] - counts[first:last] - done, counts[first:last])
        start = side.starts[text] + inside
        hashes = np.zeros(len(start), np.uint64)
        for place in range(size):
            hashes = hashes * _FACTOR + side.numbers[start + place]
        if len(text):
            yield hashes, text, start
        first = last


def _occurrences(grams: Hashes, other: Side, size: int) -> tuple[Ints, Ints]:
    """Return for each of the sorted `grams` in how many rows of `other` it occurs, and the first such row (or -1)."""
    rows_with = np.zeros(len(grams), np.int64)
    first = np.full(len(grams), -1, np.int64)
    table = np.zeros(1 << _TABLE_BITS, bool)  # a cheap look that spares most n-grams the search
    shift = np.uint64(64 - _TABLE_BITS)
    table[grams >> shift] = True
    last_row = np.full(len(grams), -1, np.int64)
    for hashes, text, _ in _windows(other, size, np.ones(len(other.row), bool)):
        likely = np.flatnonzero(table[hashes >> shift])
        at = np.minimum(np.searchsorted(grams, hashes[likely]), len(grams) - 1)
        same = grams[at] == hashes[likely]
        at, row = at[same], other.row[text[likely[same]]]
        pairs = np.unique(at * other.rows + row)  # ascending by n-gram, then by row: each row counts once
        at, row = pairs // other.rows, pairs % other.rows
        new = row != last_row[at]  # a row whose question closed one chunk and whose answer opens the next
        np.add.at(rows_with, at[new], 1)
        fresh, where = np.unique(at, return_index=True)
        first[fresh] = np.where(first[fresh] < 0, row[where], first[fresh])
        last_row[at] = row
    return rows_with, first


def _most_common(text: Ints, row: Ints, source: Ints) -> None:
    """Set `source` of each text to the row that is named most often for it."""
    if not len(text):
        return
    order = np.lexsort((row, text))
    pairs = np.stack([text[order], row[order]], axis=1)
    distinct, counts = np.unique(pairs, axis=0, return_counts=True)
    for (place, named), _ in sorted(zip(distinct.tolist(), counts.tolist(), strict=True), key=lambda item: item[1]):
        source[place] = named


_FACTOR = np.uint64(0x9E3779B97F4A7C15)


def _mixed(numbers: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Spread word numbers over 64 bits (the finaliser of splitmix64, Steele et al. 2014)."""
    mixed = numbers + _FACTOR
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return np.asarray(mixed ^ (mixed >> np.uint64(31)), dtype=np.uint64)
