"""Curves in a terminal: block characters for one, a mark a column for several."""

from __future__ import annotations

import math
from collections.abc import Sequence

BLOCKS = " ▁▂▃▄▅▆▇█"
MARKS = "●○"
BOTH = "◉"
WIDTH, HEIGHT = 60, 11
Values = Sequence[float | None]  # a value for each column, None past the end of the curve


def columns(values: Sequence[float], most: int, width: int = WIDTH) -> list[float | None]:
    """Return one value for each column, evenly spread over `most` places; None where there are fewer values."""
    width = min(width, most)
    places = [round(at * (most - 1) / (width - 1)) if width > 1 else 0 for at in range(width)]
    return [values[place] if place < len(values) else None for place in places]


def draw(curves: Sequence[Values], low: float, high: float, log: bool = False, height: int = HEIGHT) -> list[str]:
    """Return the lines of a drawing with its y axis, the highest first.

    Args:
        curves: one or two, each with a value for every column. low, high: of the axis; low above 0 where `log`.
        log: equal ratios have equal heights.
    """
    shares = [[None if value is None else _share(value, low, high, log) for value in curve] for curve in curves]
    rows = _filled(shares[0], height) if len(curves) == 1 else _marked(shares, height)
    labels = {0: high, height - 1: low}
    if height % 2:
        labels[height // 2] = math.sqrt(low * high) if log else (low + high) / 2
    return [f"  {f'{labels[row]:.2g}' if row in labels else '':>8} ┤{line}" for row, line in enumerate(rows)]


def _share(value: float, low: float, high: float, log: bool) -> float:
    if high <= low:
        return 1.0
    if log:
        return math.log(max(value, low) / low) / math.log(high / low)
    return (value - low) / (high - low)


def _filled(shares: Values, height: int) -> list[str]:
    """Fill the area under a curve; what is drawn at all has the lowest block at least."""
    eighths = [0 if share is None else max(1, round(share * height * 8)) for share in shares]
    return ["".join(BLOCKS[min(max(one - 8 * row, 0), 8)] for one in eighths) for row in reversed(range(height))]


def _marked(curves: Sequence[Values], height: int) -> list[str]:
    cells = [[" "] * len(curves[0]) for _ in range(height)]
    for mark, shares in zip(MARKS, curves, strict=False):
        for column, share in enumerate(shares):
            if share is not None:
                row = cells[height - 1 - round(share * (height - 1))]
                row[column] = mark if row[column] == " " else BOTH
    return ["".join(row) for row in cells]
