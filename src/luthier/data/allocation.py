"""Which groups go to which side, so that every stratum and the whole keep the wanted shares.

scikit-learn's `StratifiedGroupKFold` does this for k equal folds: the groups whose classes are least even first, each
to the fold that then deviates least. Shares such as 70/15/15 need unequal folds, and groups that are alike need no
search. Here alike groups (the same rows in the same strata) are one kind; each kind is dealt out by its shares, what is
left over goes where it lowers the cost most, largest first, and moves and swaps refine until none helps.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

TOLERANCE = 0.02  # a share this close to the wanted one counts as kept; past it a deviation costs more
_EXCESS = 1.0  # cost of each unit of share past the tolerance, beside the square
_BUDGET = 300_000  # trial moves at most, so that many different groups take seconds and not hours
_LEAST_GAIN = 1e-12

WHOLE = 0  # the stratum that holds every row


@dataclass(frozen=True, slots=True)
class Alike:
    """Groups with the same rows in the same strata.

    Attributes:
        counts: pairs (stratum number from 1, rows in it) of one such group.
        groups: how many such groups there are.
    """

    counts: tuple[tuple[int, int], ...]
    groups: int

    @property
    def rows(self) -> int:
        """Rows of one group."""
        return sum(count for _, count in self.counts)


class _Ledger:
    """Rows placed so far per stratum and side, and what a change would cost.

    The cost is the sum over strata and sides of h(share - wanted share), plus as much again, times the number of
    strata, for the whole. h(d) = d² + max(0, |d| - TOLERANCE): squares share a deviation out, the second term keeps
    as many shares as possible inside the tolerance.
    """

    def __init__(self, kinds: Sequence[Alike], shares: Sequence[float]) -> None:
        strata = 1 + max((stratum for kind in kinds for stratum, _ in kind.counts), default=0)
        self.shares = shares
        self.sizes = [0] * strata
        for kind in kinds:
            for stratum, count in self.entries(kind):
                self.sizes[stratum] += count * kind.groups
        self.weights = [float(max(strata - 1, 1))] + [1.0] * (strata - 1)
        self.rows = [[0] * len(shares) for _ in range(strata)]

    @staticmethod
    def entries(kind: Alike) -> tuple[tuple[int, int], ...]:
        return ((WHOLE, kind.rows), *kind.counts)

    def add(self, kind: Alike, side: int, groups: int) -> None:
        for stratum, count in self.entries(kind):
            self.rows[stratum][side] += count * groups

    def change(self, kind: Alike, to: int, origin: int | None = None) -> float:
        """Return how the cost changes when one group goes to side `to`, from `origin` or newly."""
        total = 0.0
        for stratum, count in self.entries(kind):
            total += self._step(stratum, to, count)
            if origin is not None:
                total += self._step(stratum, origin, -count)
        return total

    def _step(self, stratum: int, side: int, count: int) -> float:
        size, rows, wanted = self.sizes[stratum], self.rows[stratum][side], self.shares[side]
        before, after = abs(rows / size - wanted), abs((rows + count) / size - wanted)
        excess = max(0.0, after - TOLERANCE) - max(0.0, before - TOLERANCE)
        return self.weights[stratum] * (after * after - before * before + _EXCESS * excess)


def allocate(kinds: Sequence[Alike], shares: Sequence[float], fill: Sequence[int], seed: int) -> list[list[int]]:
    """Return for each kind how many of its groups go to each side.

    Args:
        kinds: the groups by kind. Time grows with the number of kinds, not of groups.
        shares: the wanted share of each side, all above 0, adding up to 1.
        fill: sides that must not stay empty while another can spare a group, most needed first. The first is filled
            in any case.
        seed: breaks ties.
    """
    order = list(range(len(kinds)))
    random.Random(seed).shuffle(order)
    order.sort(key=lambda number: -kinds[number].rows)  # stable: random among equals
    ledger = _Ledger(kinds, shares)
    placed = [[int(kind.groups * share + 1e-9) for share in shares] for kind in kinds]
    for kind, row in zip(kinds, placed, strict=True):
        for side, groups in enumerate(row):
            ledger.add(kind, side, groups)
    for number in order:
        for _ in range(kinds[number].groups - sum(placed[number])):
            side = min(range(len(shares)), key=lambda side: ledger.change(kinds[number], side))
            ledger.add(kinds[number], side, 1)
            placed[number][side] += 1
    _Search(kinds, placed, ledger, order).run()
    _fill_empty(kinds, placed, ledger, fill)
    return placed


class _Search:
    """Moves and swaps of single groups while they lower the cost, within the budget."""

    def __init__(self, kinds: Sequence[Alike], placed: list[list[int]], ledger: _Ledger, order: list[int]) -> None:
        self.kinds, self.placed, self.ledger, self.order = kinds, placed, ledger, order
        self.pairs = [(a, b) for a in range(len(ledger.shares)) for b in range(len(ledger.shares)) if a != b]
        self.left = _BUDGET

    def run(self) -> None:
        while self._moves() or self._swaps():
            pass

    def _moves(self) -> bool:
        better = False
        for number in self.order:
            for origin, to in self.pairs:
                if not self.placed[number][origin]:
                    continue
                self.left -= 1
                if self.left < 0:
                    return False
                if self.ledger.change(self.kinds[number], to, origin) < -_LEAST_GAIN:
                    self._move(number, origin, to)
                    better = True
        return better

    def _swaps(self) -> bool:
        """Take the first swap of two groups of different kinds that lowers the cost."""
        for position, first in enumerate(self.order):
            for origin, to in self.pairs:
                if not self.placed[first][origin]:
                    continue
                change = self.ledger.change(self.kinds[first], to, origin)
                self._move(first, origin, to)
                second = self._return_move(position, to, origin, change)
                if second is not None:
                    self._move(second, to, origin)
                    return True
                self._move(first, to, origin)
                if self.left < 0:
                    return False
        return False

    def _return_move(self, position: int, origin: int, to: int, change: float) -> int | None:
        for second in self.order[position + 1 :]:
            self.left -= 1
            if self.left < 0:
                return None
            if self.placed[second][origin]:
                both = change + self.ledger.change(self.kinds[second], to, origin)
                if both < -_LEAST_GAIN:
                    return second
        return None

    def _move(self, number: int, origin: int, to: int) -> None:
        self.ledger.add(self.kinds[number], origin, -1)
        self.ledger.add(self.kinds[number], to, 1)
        self.placed[number][origin] -= 1
        self.placed[number][to] += 1


def _fill_empty(kinds: Sequence[Alike], placed: list[list[int]], ledger: _Ledger, fill: Sequence[int]) -> None:
    """Give each empty side of `fill` the group that costs least, from a side that keeps one; the first in any case."""
    for to in fill:
        if any(row[to] for row in placed):
            continue
        spare = [sum(row[side] for row in placed) >= (1 if to == fill[0] else 2) for side in range(len(ledger.shares))]
        options = [
            (ledger.change(kinds[number], to, origin), number, origin)
            for number, row in enumerate(placed)
            for origin in range(len(ledger.shares))
            if row[origin] and spare[origin]
        ]
        if options:
            _, number, origin = min(options)
            ledger.add(kinds[number], origin, -1)
            ledger.add(kinds[number], to, 1)
            placed[number][origin] -= 1
            placed[number][to] += 1
