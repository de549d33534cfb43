"""Divide rows into train, validation and test: stratified, and with no group on two sides."""

from __future__ import annotations

import random
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from luthier.data.allocation import TOLERANCE, Alike, allocate
from luthier.data.groups import join_groups
from luthier.data.proportions import ALL, Deviation, Stratum, account
from luthier.data.rows import SPLITS, Row, SplitName
from luthier.errors import UserError

NONE = "(none)"
_FILL_ORDER: tuple[SplitName, ...] = ("train", "test", "validation")  # what is needed most comes first
_NAMED = 5  # strata that a warning names; the others it counts


@dataclass(frozen=True, slots=True)
class Division:
    """Rows by side, with the account of how it went.

    Attributes:
        sides: all three splits, each with its rows in the order of the source.
        deviation: exact proportions per split and stratum, with what grouping forced.
        warnings: plain sentences for what could not be as wanted.
        groups: number of joined groups; a row alone is one.
        group_of: row id → id of the first row of its joined group, as `measure_overlap` takes it.
    """

    sides: dict[SplitName, list[Row]]
    deviation: Deviation
    warnings: list[str]
    groups: int
    group_of: dict[str, str]


def split(
    rows: Sequence[Row],
    shares: Mapping[SplitName, float],
    stratify: str | None,
    group: str | None,
    clusters: Mapping[str, str],
    seed: int,
) -> Division:
    """Divide `rows` by `shares`; groups stay whole, strata keep their proportions as well as groups allow.

    Groups join by equal `group` field, by near-duplicate cluster and by `made_from`. A stratum with fewer groups than
    there are splits cannot be in all of them; such strata are divided together, as one. With fewer groups than splits
    in all, train comes first, then test, then validation.

    Rows with a given side (`row.split`, from files given for a split) stay there. Where files are given for some
    splits only, the others are carved out of the train rows, at the ratio of their shares to train's: with train and
    test given and 70/15/15 wanted, validation gets 15/85 of the train rows. Rows without a given side go to the side
    of their group, if that has one. Groups astride the given files are left as they are, for the overlap report.

    Args:
        rows: in the order of the source, ids unique.
        shares: the wanted share of each split, adding up to 1; absent is 0, and a split of 0 gets no row.
        stratify: field whose proportions each split keeps; None: none.
        group: field whose equal values stay together; None: only clusters bind.
        clusters: row id → name of its near-duplicate cluster.
        seed: of the draw. The same rows and seed give the same division.

    Raises:
        UserError: shares that do not add up, a field that no row has, no row left to train on.
    """
    wanted = _checked_shares(shares)
    strata = _strata(rows, stratify)
    if group != "group":  # the recipe's default names it whether or not the rows have groups
        _require_field(rows, group, "data.split.group")
    joined = join_groups(rows, group, clusters)
    fixed, pool = _given_sides(rows, joined, wanted)
    chosen, small = _divide(joined, strata, fixed, pool, seed)
    sides: dict[SplitName, list[Row]] = {name: [] for name in SPLITS}
    for row, side in zip(rows, chosen, strict=True):
        sides[side].append(row)
    if rows and not sides["train"]:
        raise UserError(
            "Every row is given for another split; none is left to train on.",
            "data.source",
            "Name a file for train as well, or give one source and let Luthier divide it.",
        )
    deviation = account(joined, strata, chosen, [side is None for side in fixed], pool)
    warnings = [
        *_small_warnings(deviation, stratify, small, len(pool)),
        *_stratum_warnings(deviation, stratify, small),
        *_side_warnings(deviation.overall, pool),
        *_astride_warnings(joined, chosen),
    ]
    group_of = {row.id: rows[first].id for row, first in zip(rows, joined, strict=True)}
    return Division(sides, deviation, warnings, len(set(joined)), group_of)


def _checked_shares(shares: Mapping[SplitName, float]) -> dict[SplitName, float]:
    wanted: dict[SplitName, float] = {name: float(shares.get(name, 0.0)) for name in SPLITS}
    if not abs(sum(wanted.values()) - 1) <= 1e-6 or min(wanted.values()) < 0 or wanted["train"] <= 0:
        told = ", ".join(f"{name} {share:g}" for name, share in wanted.items())
        raise UserError(
            f"The shares of the splits do not work: {told}.",
            "data.split",
            "Give shares of 0 or more that add up to 1, with train above 0.",
        )
    return wanted


def _strata(rows: Sequence[Row], stratify: str | None) -> list[str]:
    if stratify is None:
        return [ALL] * len(rows)
    _require_field(rows, stratify, "data.split.stratify")
    values = (row.label(stratify) for row in rows)
    return [NONE if value in (None, "") else str(value) for value in values]


def _require_field(rows: Sequence[Row], name: str | None, place: str) -> None:
    if name is None or not rows or any(row.label(name) not in (None, "") for row in rows):
        return
    found = sorted({label for row in rows for label in row.labels})
    raise UserError(
        f"No row has the field {name!r}.",
        place,
        f"Fields found: {', '.join(found) or 'none besides the text'}. Name one of them, or set the key to null.",
    )


def _given_sides(
    rows: Sequence[Row], joined: Sequence[int], wanted: Mapping[SplitName, float]
) -> tuple[list[SplitName | None], dict[SplitName, float]]:
    """Return the side of each row that is not drawn, and the shares among which the others are drawn."""
    given = {row.split for row in rows if row.split is not None}
    if not given:
        return [None] * len(rows), {name: share for name, share in wanted.items() if share > 0}
    carved = [name for name in SPLITS if name != "train" and name not in given and wanted[name] > 0]
    fixed: list[SplitName | None] = [None if row.split == "train" and carved else row.split for row in rows]
    bound = {number for number, side in zip(joined, fixed, strict=True) if side is not None}
    known: defaultdict[int, set[SplitName]] = defaultdict(set)
    for row, number in zip(rows, joined, strict=True):
        if row.split is not None and number in bound:
            known[number].add(row.split)
    for position, number in enumerate(joined):
        if fixed[position] is None and number in bound:
            fixed[position] = min(known[number], key=SPLITS.index)  # train, if the group has rows there
    total = wanted["train"] + sum(wanted[name] for name in carved)
    return fixed, {name: wanted[name] / total for name in SPLITS if name == "train" or name in carved}


def _divide(
    joined: Sequence[int],
    strata: Sequence[str],
    fixed: Sequence[SplitName | None],
    pool: Mapping[SplitName, float],
    seed: int,
) -> tuple[list[SplitName], list[str]]:
    """Return the side of each row, and the strata that were too small to be divided on their own."""
    drawn = [(number, stratum) for number, stratum, side in zip(joined, strata, fixed, strict=True) if side is None]
    pairs = Counter(drawn)  # rows by group and stratum, in order of first appearance
    groups_in = Counter(stratum for _, stratum in pairs)
    small = [name for name, groups in groups_in.items() if groups < len(pool)]
    large = [name for name, groups in groups_in.items() if groups >= len(pool)]
    numbers = {name: 1 + place for place, name in enumerate(large)} | dict.fromkeys(small, 1 + len(large))
    alike = _alike(pairs, numbers)
    side_of = _draw(list(alike.items()), pool, seed)
    return [side or side_of[number] for number, side in zip(joined, fixed, strict=True)], small


def _alike(
    pairs: Mapping[tuple[int, str], int], numbers: Mapping[str, int]
) -> dict[tuple[tuple[int, int], ...], list[int]]:
    """Return the groups by what they hold: sorted pairs (stratum number, rows)."""
    held: dict[int, tuple[tuple[int, int], ...]] = {}
    for (number, stratum), rows in pairs.items():
        entry = (numbers[stratum], rows)
        held[number] = (*held[number], entry) if number in held else (entry,)
    alike: defaultdict[tuple[tuple[int, int], ...], list[int]] = defaultdict(list)
    for number, entries in held.items():
        alike[entries if len(entries) == 1 else _merged(entries)].append(number)
    return alike


def _merged(entries: Iterable[tuple[int, int]]) -> tuple[tuple[int, int], ...]:
    totals: Counter[int] = Counter()
    for stratum, rows in entries:  # small strata share a number
        totals[stratum] += rows
    return tuple(sorted(totals.items()))


def _draw(
    alike: list[tuple[tuple[tuple[int, int], ...], list[int]]], pool: Mapping[SplitName, float], seed: int
) -> dict[int, SplitName]:
    """Return the side of each group: how many of each kind is computed, which of them is drawn."""
    kinds = [Alike(counts, len(members)) for counts, members in alike]
    names = list(pool)
    fill = [names.index(name) for name in _FILL_ORDER if name in pool]
    placed = allocate(kinds, list(pool.values()), fill, seed)
    side_of: dict[int, SplitName] = {}
    draw = random.Random(seed)
    for (_, members), row in zip(alike, placed, strict=True):
        draw.shuffle(members)
        start = 0
        for name, groups in zip(names, row, strict=True):
            side_of |= dict.fromkeys(members[start : start + groups], name)
            start += groups
    return side_of


def _small_warnings(deviation: Deviation, stratify: str | None, small: Sequence[str], splits: int) -> list[str]:
    """Tell which strata have too few groups, and where their rows went."""
    if stratify is None or not small:
        return []
    chosen = set(small)
    told = [_placed(stratum) for stratum in deviation.strata if stratum.name in chosen]
    return [
        f"{_count(len(told), 'stratum', 'strata')} of {stratify!r} with fewer groups than the {splits} splits: a group "
        "stays whole, so not every split can have rows of each. They were divided together as one stratum: "
        f"{_listed(told)}."
    ]


def _placed(stratum: Stratum) -> str:
    got = ", ".join(f"{name} {portion.rows}" for name, portion in stratum.portions.items())
    return f"{stratum.name!r} ({_count(stratum.groups, 'group')}, {_count(stratum.rows, 'row')}: {got})"


def _stratum_warnings(deviation: Deviation, stratify: str | None, small: Sequence[str]) -> list[str]:
    if stratify is None:
        return []
    found: list[str] = []
    missing = next((stratum for stratum in deviation.strata if stratum.name == NONE), None)
    if missing is not None:
        found.append(
            f"{_count(missing.rows, 'row')} of {deviation.overall.rows:,} without {stratify!r}; "
            f"they form a stratum of their own, {NONE!r}."
        )
    if len(deviation.strata) == 1:
        found.append(
            f"Every row has the same {stratify!r}, {deviation.strata[0].name!r}: stratifying by it changes nothing."
        )
    too_small = set(small)
    far = [one for one in deviation.strata if one.worst > 100 * TOLERANCE and one.name not in too_small]
    if far:
        far.sort(key=lambda stratum: -stratum.worst)
        told = [f"{stratum.name!r} by {stratum.worst:.1f} ({_count(stratum.groups, 'group')})" for stratum in far]
        found.append(
            f"More than {100 * TOLERANCE:.0f} points from the wanted shares, because groups stay whole: "
            f"{_listed(told)}."
        )
    return found


def _side_warnings(overall: Stratum, pool: Mapping[SplitName, float]) -> list[str]:
    """Tell which wanted splits stayed empty and what that costs, and how far the whole is off."""
    if not overall.rows:
        return ["There are no rows to divide."]
    costs: dict[SplitName, str] = {
        "train": "nothing can be trained",
        "validation": "early stopping and the choice of the best checkpoint have nothing to go by",
        "test": "there will be no test evidence",
    }
    empty = [name for name in pool if not overall.portions[name].rows]
    found = [
        f"The {name} split is empty, so {costs[name]}: {_count(overall.rows, 'row')} in "
        f"{_count(overall.groups, 'group')}, and a group stays whole."
        for name in empty
    ]
    if not empty and overall.worst > 100 * TOLERANCE:
        got = ", ".join(f"{name} {100 * portion.share:.1f} %" for name, portion in overall.portions.items())
        found.append(
            f"The splits are {got}; that is {overall.worst:.1f} points from what was wanted, because "
            f"{_count(overall.groups, 'group')} of {_count(overall.rows, 'row')} stay whole."
        )
    return found


def _astride_warnings(joined: Sequence[int], chosen: Sequence[SplitName]) -> list[str]:
    sides: dict[int, SplitName] = {}
    astride = {number for number, side in zip(joined, chosen, strict=True) if sides.setdefault(number, side) != side}
    if not astride:
        return []
    return [
        f"{_count(len(astride), 'group')} with rows in more than one of the files given for the splits; "
        "the rows stay where they were given, and the overlap report counts them."
    ]


def _count(number: int, one: str, many: str = "") -> str:
    return f"{number:,} {one if number == 1 else many or one + 's'}"


def _listed(told: Iterable[str]) -> str:
    names = list(told)
    more = f" and {len(names) - _NAMED:,} more" if len(names) > _NAMED else ""
    return "; ".join(names[:_NAMED]) + more
