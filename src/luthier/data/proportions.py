"""The account of a split: what each side got of each stratum, beside what it should have."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from luthier.data.rows import SPLITS, SplitName

ALL = "(all)"


@dataclass(frozen=True, slots=True)
class Portion:
    """What one split got of one stratum.

    Attributes:
        rows, groups: how many it got.
        share: rows as a share of the stratum.
        wanted: the share it should have; where files are given for a split, the share that they give.
        deviation: share - wanted, in percentage points.
        without_groups: the deviation in points that whole rows alone would have left (largest remainder), had no
            group bound them. What goes beyond it is the price of grouping.
    """

    rows: int
    groups: int
    share: float
    wanted: float
    deviation: float
    without_groups: float


@dataclass(frozen=True, slots=True)
class Stratum:
    """Exact proportions of one stratum, or of all rows.

    Attributes:
        name: value of the stratify field, "(none)" where a row has none, "(all)" for the whole.
        rows, groups: how many there are in all; a group in two strata counts in both.
        portions: one per split.
    """

    name: str
    rows: int
    groups: int
    portions: dict[SplitName, Portion]

    @property
    def worst(self) -> float:
        """The largest absolute deviation of a split, in percentage points."""
        return max(abs(portion.deviation) for portion in self.portions.values())


@dataclass(frozen=True, slots=True)
class Deviation:
    """Wanted and exact proportions, of all rows and of each stratum in order of first appearance."""

    overall: Stratum
    strata: list[Stratum]

    def to_json(self) -> dict[str, Any]:
        """Return plain values, with the worst deviations in points beside them."""
        strata = max((stratum.worst for stratum in self.strata), default=None)
        return {**asdict(self), "worst_points": {"overall": self.overall.worst, "strata": strata}}


def account(
    groups: Sequence[int],
    strata: Sequence[str],
    chosen: Sequence[SplitName],
    free: Sequence[bool],
    shares: Mapping[SplitName, float],
) -> Deviation:
    """Return the exact proportions of a split.

    Args:
        groups, strata, chosen, free: for each row its group, its stratum, its side, and whether the side was drawn.
        shares: the wanted shares of the rows whose side was drawn.
    """
    members: defaultdict[str, list[int]] = defaultdict(list)
    for position, stratum in enumerate(strata):
        members[stratum].append(position)

    def of(name: str, positions: Sequence[int]) -> Stratum:
        got = Counter(chosen[position] for position in positions)
        given = Counter(chosen[position] for position in positions if not free[position])
        among = {(chosen[position], groups[position]) for position in positions}
        among_side = Counter(side for side, _ in among)
        total, drawn = len(positions), len(positions) - given.total()
        expected = {side: given[side] + drawn * shares.get(side, 0.0) for side in SPLITS}
        rounded = _largest_remainder(expected, total)
        portions = {
            side: Portion(
                rows=got[side],
                groups=among_side[side],
                share=_over(got[side], total),
                wanted=_over(expected[side], total),
                deviation=100 * _over(got[side] - expected[side], total),
                without_groups=100 * _over(rounded[side] - expected[side], total),
            )
            for side in SPLITS
        }
        return Stratum(name, total, len({group for _, group in among}), portions)

    return Deviation(of(ALL, range(len(chosen))), [of(name, positions) for name, positions in members.items()])


def _largest_remainder(expected: Mapping[SplitName, float], total: int) -> dict[SplitName, int]:
    """Return whole numbers that add up to `total`, each within 1 of what was expected (Hamilton's method)."""
    rounded = {side: int(value + 1e-9) for side, value in expected.items()}
    by_remainder = sorted(expected, key=lambda side: rounded[side] - expected[side])
    for side in by_remainder[: total - sum(rounded.values())]:
        rounded[side] += 1
    return rounded


def _over(part: float, total: int) -> float:
    return part / total if total else 0.0
