"""From easy rows to all rows: the order in which a curriculum brings the rows of each epoch.

A step draws at random from the easiest rows, whose share grows from `start` to all at `until` of the run (Bengio et
al., 2009, icml; Platanios et al., 2019, arXiv:1903.09848). No row is dropped or repeated: every epoch is a permutation
of all rows, as without a curriculum. Hence a step draws from what the epoch has not had yet, and where the share that
is open is used up, the easiest rows beyond it come next. From `until` on, what is left of that epoch is drawn
uniformly, and every later epoch is the one that there would be without a curriculum.

How the share c grows with x, the part of the way from the first step to `until`:

    linear       c = start + (1 - start) x                              Platanios et al.
    root         c = sqrt(start^2 + (1 - start^2) x): new rows come slower as there are more    Platanios et al.
    step         c = start, then all rows at once: two stages            Bengio et al.; Hacohen and Weinshall
    exponential  c is multiplied by 1.9 at equal distances               Hacohen and Weinshall, 2019, arXiv:1904.03626

The order is a pure function of difficulties, seed and epoch, so a resumed run sees what it would have seen.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from luthier.engine.batches import epoch_order, steps_per_epoch

GROWTH = 1.9  # of the exponential pacing, as in the paper


@dataclass(frozen=True)
class Pacing:
    """How a curriculum goes on.

    Attributes:
        by: what difficulty is measured by: "length", "loss", or the name of a field. shape: one of `SHAPES`.
        start: share of the rows, the easiest, that the run begins with. until: share of the run at which all are open.
    """

    by: str
    shape: str = "root"
    start: float = 0.2
    until: float = 0.5

    def share(self, way: float) -> float:
        """Return the share of the rows that is open at a part of the way to `until`."""
        return 1.0 if way >= 1.0 else min(SHAPES[self.shape](self.start, max(way, 0.0)), 1.0)


def _exponential(start: float, way: float) -> float:
    stages = max(1, math.ceil(math.log(1.0 / start) / math.log(GROWTH)))
    return start * GROWTH ** math.floor(way * stages)


SHAPES: Mapping[str, Callable[[float, float], float]] = {
    "linear": lambda start, way: start + (1.0 - start) * way,
    "root": lambda start, way: math.sqrt(start**2 + (1.0 - start**2) * way),
    "step": lambda start, _: start,
    "exponential": _exponential,
}


class Curriculum:
    """The order of the rows in each epoch; called with (rows, seed, epoch) as `batches.epoch_order` is.

    Args:
        difficulties: one for each row; equal ones are told apart by a draw from the seed. pacing: see `Pacing`.
        batch_size: rows a step. total: optimizer steps of the whole run.
    """

    def __init__(self, difficulties: Sequence[float], pacing: Pacing, batch_size: int, total: int) -> None:
        self._difficulties = np.asarray(difficulties, dtype=np.float64)
        self._pacing, self._batch_size, self._total = pacing, batch_size, total
        self._ordered = lru_cache(maxsize=2)(self._order)

    def __call__(self, rows: int, seed: int, epoch: int) -> list[int]:
        """Return the order of the rows in `epoch`, from 0.

        Raises:
            ValueError: there are not as many rows as difficulties.
        """
        if rows != len(self._difficulties):
            raise ValueError(f"{rows} rows and {len(self._difficulties)} difficulties")
        return self._ordered(rows, seed, epoch)

    def open_rows(self, step: int) -> int:
        """Return how many of the easiest rows are open at `step`, from 1."""
        way = (step - 1) / max(self._pacing.until * self._total, 1)
        return math.ceil(self._pacing.share(way) * len(self._difficulties) - 1e-9)

    def _order(self, rows: int, seed: int, epoch: int) -> list[int]:
        steps = steps_per_epoch(rows, self._batch_size)
        first = epoch * steps + 1
        if self.open_rows(first) >= rows:
            return epoch_order(rows, seed, epoch)
        ranked = self._ranked(rows, seed)
        draw = np.random.default_rng([seed, epoch, rows])
        pool: list[int] = []
        order: list[int] = []
        opened = 0
        for step in range(first, first + steps):
            wanted = min(self._batch_size, rows - len(order))
            reach = max(self.open_rows(step), len(order) + wanted)
            pool += ranked[opened:reach]
            opened = max(opened, reach)
            for _ in range(wanted):
                at = int(draw.integers(len(pool)))
                order.append(pool[at])
                pool[at] = pool[-1]
                pool.pop()
        return order

    def _ranked(self, rows: int, seed: int) -> list[int]:
        """Return the rows from easy to hard; the tie of equal ones is broken by the seed."""
        ties = np.random.default_rng([seed, rows]).permutation(rows)
        ranked: list[int] = np.lexsort((ties, self._difficulties)).tolist()
        return ranked
