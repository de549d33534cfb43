"""Groups: rows that must stay on one side of a split, joined from every relation that is known."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from luthier.data.rows import Row


def join_groups(rows: Sequence[Row], field: str | None, clusters: Mapping[str, str]) -> list[int]:
    """Return the group number of each row: the position of the group's first row.

    Rows are joined (union-find, so relations chain) when they have the same value of `field`, when they stand in one
    cluster, or when one was made from the other. None and "" are no value: such rows are alone.

    Args:
        rows: all rows, of any side.
        field: name of the declared field, as `Row.label` takes it; None: no field joins rows.
        clusters: row id → name of its near-duplicate cluster; ids that are absent are alone.
    """
    parents = list(range(len(rows)))
    first_of: dict[tuple[str, str], int] = {}
    ids = {row.id: position for position, row in enumerate(rows)}
    for position, row in enumerate(rows):
        value = None if field is None else row.label(field)
        if value not in (None, ""):
            _union(parents, first_of.setdefault(("field", str(value)), position), position)
        if row.id in clusters:
            _union(parents, first_of.setdefault(("cluster", clusters[row.id]), position), position)
        if row.made_from in ids:
            _union(parents, ids[row.made_from], position)
    return [_find(parents, position) for position in range(len(rows))]


def _find(parents: list[int], item: int) -> int:
    while parents[item] != item:
        parents[item] = parents[parents[item]]  # path halving keeps the trees flat
        item = parents[item]
    return item


def _union(parents: list[int], left: int, right: int) -> None:
    left, right = _find(parents, left), _find(parents, right)
    parents[max(left, right)] = min(left, right)
