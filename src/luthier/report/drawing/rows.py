"""Charts of named rows: gains with intervals, base and tuned by field, counts, predicted against measured."""

from __future__ import annotations

from collections.abc import Sequence

from luthier.report.figures import Bars, Dots, Forest, Pair, Pairs, Versus
from luthier.report.scene import (
    Box,
    Marker,
    Role,
    Scene,
    Shape,
    Stroke,
    Words,
    fitted,
    scaled,
    text_width,
    ticks,
)

ROW = 24.0
GAP = 14.0
FEW = " (few)"
MARKS: dict[str, tuple[Role, Shape, bool]] = {
    "improved": ("good", "circle", False),
    "worse": ("bad", "square", False),
    "no evidence": ("soft", "circle", True),
    "too few examples": ("soft", "diamond", True),
}


def draw_forest(figure: Forest, width: float) -> Scene:
    """Return one row a metric: name, interval around its middle, the figures and the verdict in words."""
    top, names = 8.0, _name_room([row.name for row in figure.rows], width)
    told = [f"{row.middle:+.2f} ({row.low:+.2f} to {row.high:+.2f}) {row.verdict}" for row in figure.rows]
    edges = [edge for row in figure.rows for edge in (row.low, row.high)]
    scene, span, across = _around_zero(figure, edges, told, (top, names), width)
    for place, (row, words) in enumerate(zip(figure.rows, told, strict=True)):
        y = top + ROW * (place + 0.5)
        role, shape, hollow = MARKS.get(row.verdict, ("soft", "circle", True))
        low, middle, high = (scaled(value, span, across) for value in (row.low, row.middle, row.high))
        scene.add(Words(names, y + 4, fitted(row.name, names), "ink", "end"))
        scene.add(Stroke([(low, y), (high, y)], role, 2.0))
        scene.add(*(Stroke([(x, y - 4), (x, y + 4)], role, 2.0) for x in (low, high)))
        scene.add(Marker(middle, y, shape, role, hollow, 5.0))
        scene.add(Words(width, y + 4, words, "soft", "end", 11))
    return scene


def draw_dots(figure: Dots, width: float) -> Scene:
    """Return one row a thing: its repetitions as dots, the first filled, their mean as a bar, and a remark."""
    top, names = 8.0, _name_room([row.name for row in figure.rows], width)
    values = [value for row in figure.rows for value in row.values]
    told = [row.told for row in figure.rows]
    scene, span, across = _around_zero(figure, values, told, (top, names), width)
    for place, row in enumerate(figure.rows):
        y = top + ROW * (place + 0.5)
        places = [scaled(value, span, across) for value in row.values]
        mean = sum(places) / len(places)
        scene.add(Words(names, y + 4, fitted(row.name, names), "ink", "end"))
        scene.add(
            Stroke([(min(places), y), (max(places), y)], "soft", 1.5),
            Stroke([(mean, y - 7), (mean, y + 7)], "ink", 2.0),
        )
        scene.add(*(Marker(x, y, "circle", "tuned", hollow=True) for x in places[1:]))
        scene.add(Marker(places[0], y, "circle", "tuned"))
        scene.add(Words(width, y + 4, row.told, "soft", "end", 11))
    return scene


def _around_zero(
    figure: Forest | Dots, values: Sequence[float], told: Sequence[str], room_of: tuple[float, float], width: float
) -> tuple[Scene, tuple[float, float], tuple[float, float]]:
    """Return a scene for rows of values with its scale and a line at 0, the span of values, and its place across.

    Args:
        told: remarks behind the rows. room_of: what is left free above the rows, and before them for names.
    """
    top, names = room_of
    right = width - max(text_width(one, 11) for one in told) - GAP
    scene = Scene(width, top + ROW * len(figure.rows) + 44, figure.title)
    least, most = min(0.0, *values), max(0.0, *values)
    room = (most - least) * 0.05 or 0.5
    span, across = (least - room, most + room), (names + GAP, right)
    floor = top + ROW * len(figure.rows)
    _scale(scene, span, across, (top, floor), figure.x_label)
    zero = scaled(0.0, span, across)
    scene.add(Stroke([(zero, top), (zero, floor)], "ink", 1.2))
    return scene, span, across


def draw_pairs(figure: Pairs, width: float) -> Scene:
    """Return one row a value of the field: base hollow, tuned filled, joined; the difference with its interval."""
    top = 34.0
    names = _name_room([_label(row, width) for row in figure.rows], width)
    labels = [_label(row, names) for row in figure.rows]
    told = [_difference(row.tuned - row.base, row.low, row.high, row.items) for row in figure.rows]
    right = width - max(text_width(one, 11) for one in told) - GAP
    scene = Scene(width, top + ROW * len(figure.rows) + 44, figure.title)
    values = [value for row in figure.rows for value in (row.base, row.tuned)]
    room = (max(values) - min(values)) * 0.08 or 0.5
    span, across = (min(values) - room, max(values) + room), (names + GAP, right)
    floor = top + ROW * len(figure.rows)
    _scale(scene, span, across, (top, floor), figure.x_label)
    _pairs_legend(scene, across[0])
    for place, (row, label, words) in enumerate(zip(figure.rows, labels, told, strict=True)):
        y = top + ROW * (place + 0.5)
        base, tuned = scaled(row.base, span, across), scaled(row.tuned, span, across)
        scene.add(Words(names, y + 4, label, "soft" if row.small else "ink", "end"))
        scene.add(Stroke([(base, y), (tuned, y)], "soft", 1.5, (2, 3) if row.small else None))
        scene.add(Marker(base, y, "square", "base", True), Marker(tuned, y, "circle", "tuned"))
        scene.add(Words(width, y + 4, words, "soft", "end", 11))
    return scene


def draw_bars(figure: Bars, width: float) -> Scene:
    """Return one bar a name with its count behind it."""
    names = _name_room([name for name, _ in figure.rows], width)
    most = max((value for _, value in figure.rows), default=0.0) or 1.0
    scene = Scene(width, ROW * len(figure.rows) + 8, figure.title)
    counts = [f"{value:,.0f}" for _, value in figure.rows]
    room = width - names - GAP - max((text_width(one, 11) for one in counts), default=0.0) - 8
    for place, ((name, value), count) in enumerate(zip(figure.rows, counts, strict=True)):
        y, long = 4 + ROW * place, round(room * value / most, 1)
        scene.add(Words(names, y + 16, fitted(name, names), "ink", "end"))
        scene.add(Box(names + GAP, y + 4, max(long, 1.0), ROW - 8, "tuned", None, 0.55))
        scene.add(Words(names + GAP + long + 6, y + 16, count, "soft", "start", 11))
    return scene


def draw_versus(figure: Versus, width: float) -> Scene:
    """Return two bars a row, predicted hollow and measured filled, against the larger of the two."""
    names = _name_room([row.name for row in figure.rows], width)
    scene = Scene(width, (ROW * 2 + 10) * len(figure.rows) + 4, figure.title)
    left = names + GAP
    for place, row in enumerate(figure.rows):
        y = 4 + (ROW * 2 + 10) * place
        most = max(row.predicted, row.measured) or 1.0
        told = [f"predicted {_amount(row.predicted)} {row.unit}", f"measured {_amount(row.measured)} {row.unit}"]
        room = width - left - max(text_width(one, 11) for one in told) - 10
        scene.add(Words(names, y + ROW + 4, fitted(row.name, names), "ink", "end"))
        for line, (value, words) in enumerate(zip((row.predicted, row.measured), told, strict=True)):
            long = max(round(room * value / most, 1), 1.0)
            fill: Role | None = "tuned" if line else None
            scene.add(
                Box(left, y + ROW * line + 4, long, ROW - 7, fill, "tuned" if line else "base", 0.55 if line else 1)
            )
            scene.add(Words(left + long + 7, y + ROW * line + 16, words, "soft", "start", 11))
    return scene


def _name_room(names: Sequence[str], width: float) -> float:
    """Return the room for names at the left: what the longest needs, at most a third of the drawing."""
    return min(max((text_width(fitted(name, width)) for name in names), default=0.0), width * 0.32)


def _scale(
    scene: Scene, span: tuple[float, float], across: tuple[float, float], down: tuple[float, float], label: str
) -> None:
    for value in ticks(*span, wanted=min(5, max(1, int((across[1] - across[0]) / 60)))):
        x = scaled(value, span, across)
        scene.add(Stroke([(x, down[0]), (x, down[1])], "grid"))
        scene.add(Words(x, down[1] + 16, f"{value:.3g}", "soft", "middle", 11))
    scene.add(Words(across[0], down[1] + 34, fitted(label, scene.width - across[0], 11), "soft", "start", 11))


def _pairs_legend(scene: Scene, left: float) -> None:
    scene.add(Marker(left + 5, 14, "square", "base", True), Words(left + 15, 18, "base", "ink", "start", 11))
    scene.add(Marker(left + 65, 14, "circle", "tuned"), Words(left + 75, 18, "tuned", "ink", "start", 11))
    scene.add(Words(scene.width, 18, "difference (95 % interval), items", "soft", "end", 11))


def _label(row: Pair, room: float) -> str:
    return f"{fitted(row.name, room - text_width(FEW))}{FEW}" if row.small else fitted(row.name, room)


def _difference(difference: float, low: float | None, high: float | None, items: int) -> str:
    places = 1 if abs(difference) >= 10 else 3
    interval = "" if low is None or high is None else f" ({low:+.{places}f} to {high:+.{places}f})"
    return f"{difference:+.{places}f}{interval}, {items:,}"


def _amount(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
