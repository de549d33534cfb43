"""Charts over an axis: curves by step, and shares by bin."""

from __future__ import annotations

from collections.abc import Sequence

from luthier.report.figures import Curve, Histogram, Lines
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

HEIGHT = 262.0
LEFT, RIGHT, TOP, BOTTOM = 62.0, 16.0, 46.0, 44.0
MOST_POINTS = 400  # a picture shows no more
MARKED = 24  # with fewer points than this each gets a marker
Style = tuple[Role, Shape, tuple[float, float] | None]
FAINT: Style = ("soft", "circle", None)
STYLES: tuple[Style, ...] = (
    ("tuned", "circle", None),
    ("base", "square", (6, 3)),
    ("good", "triangle", (2, 3)),
)
Span = tuple[float, float]


def draw_lines(figure: Lines, width: float) -> Scene:
    """Return the curves with axes, a legend where there are several, bands and the spot."""
    scene = Scene(width, HEIGHT, figure.title)
    xs = [x for curve in figure.curves for x, _ in curve.points]
    ys = [y for curve in figure.curves for _, y in curve.points]
    x_span, y_span = _padded(min(xs), max(xs), 0), _padded(min(ys), max(ys), 0.06)
    if figure.from_zero:
        y_span = (0.0, max(y_span[1], 1e-12))
    across, down = (LEFT, width - RIGHT), (HEIGHT - BOTTOM, TOP)
    _bands(scene, figure.bands, x_span, across)
    _axes(scene, x_span, y_span, figure.x_label, figure.y_label)
    for curve, (role, shape, dash) in _styled(figure.curves):
        points = [(scaled(x, x_span, across), scaled(y, y_span, down)) for x, y in thinned(curve.points)]
        scene.add(Stroke(points, role, 0.8 if curve.faint else 2.0, dash))
        if len(points) <= MARKED:
            scene.add(*(Marker(x, y, shape, role, size=3.5) for x, y in points))
    if figure.spot:
        _spot(scene, figure.spot, (x_span, y_span), (across, down))
    if len(figure.curves) > 1:
        _legend(scene, figure.curves)
    return scene


def draw_histogram(figure: Histogram, width: float) -> Scene:
    """Return the shares of each sample: the last one filled, the others as an outline in front of it."""
    scene = Scene(width, HEIGHT, figure.title)
    shares = [(name, [count / max(sum(counts), 1) for count in counts]) for name, counts in figure.samples]
    most = max(max(values, default=0.0) for _, values in shares)
    x_span, y_span = (figure.edges[0], figure.edges[-1]), (0.0, most * 1.06 or 1.0)
    across, down = (LEFT, width - RIGHT), (HEIGHT - BOTTOM, TOP)
    _axes(scene, x_span, y_span, figure.x_label, "share of the items", percent=True)
    edges = [scaled(edge, x_span, across) for edge in figure.edges]
    floor = down[0]
    for name, values in shares:
        tops = [scaled(value, y_span, down) for value in values]
        if name == shares[-1][0]:
            bars = zip(edges, edges[1:], tops, strict=False)
            filled = [Box(x0, y, x1 - x0, floor - y, "tuned", "tuned", 0.35) for x0, x1, y in bars if y < floor]
            scene.items[:0] = filled
        else:
            points = [(edges[0], floor)]
            for place, y in enumerate(tops):
                points += [(edges[place], y), (edges[place + 1], y)]
            scene.add(Stroke([*points, (edges[-1], floor)], "base", 2.0, (6, 3)))
    if len(shares) > 1:
        _histogram_legend(scene, [name for name, _ in shares])
    return scene


def thinned(points: Sequence[tuple[float, float]], most: int = MOST_POINTS) -> list[tuple[float, float]]:
    """Return at most about `most` of the points, evenly, the last one included."""
    step = max(1, -(-len(points) // most))
    kept = list(points[::step])
    return kept if not points or kept[-1] == points[-1] else [*kept, points[-1]]


def number(value: float) -> str:
    """Return a tick's value in few characters."""
    if value and (abs(value) < 1e-3 or abs(value) >= 1e6):
        mantissa, _, power = f"{value:.0e}".partition("e")
        return f"{mantissa}e{int(power)}"
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"


def _padded(low: float, high: float, room: float) -> Span:
    if high <= low:
        half = abs(low) * 0.05 or 0.5
        return low - half, high + half
    return low - (high - low) * room, high + (high - low) * room


def _axes(scene: Scene, x_span: Span, y_span: Span, x_label: str, y_label: str, percent: bool = False) -> None:
    left, right, floor = LEFT, scene.width - RIGHT, scene.height - BOTTOM
    for value in ticks(*y_span, wanted=6):
        y = scaled(value, y_span, (floor, TOP))
        scene.add(Stroke([(left, y), (right, y)], "grid"))
        scene.add(Words(left - 7, y + 4, f"{value:.0%}" if percent else number(value), "soft", "end", 11))
    for value in ticks(*x_span, wanted=6):
        x = scaled(value, x_span, (left, right))
        scene.add(Stroke([(x, floor), (x, floor + 4)], "soft"))
        scene.add(Words(x, floor + 17, number(value), "soft", "middle", 11))
    scene.add(Stroke([(left, floor), (right, floor)], "soft"))
    scene.add(Words(left - 7, TOP - 10, fitted(y_label, right - left, 11), "soft", "start", 11))
    scene.add(Words(right, scene.height - 8, fitted(x_label, right - left, 11), "soft", "end", 11))


def _styled(curves: Sequence[Curve]) -> list[tuple[Curve, Style]]:
    """Return each curve with its style: faint ones thin and grey, the others told apart by dash and marker too."""
    styles = iter(STYLES)
    return [(curve, FAINT if curve.faint else next(styles)) for curve in curves]


def _bands(scene: Scene, bands: Sequence[tuple[float, float, str]], span: Span, across: Span) -> None:
    """Shade every second stretch and name each that has room for its name."""
    floor = scene.height - BOTTOM
    for place, (start, end, name) in enumerate(bands):
        x0, x1 = scaled(max(start, span[0]), span, across), scaled(min(end, span[1]), span, across)
        if place % 2 == 0:
            scene.add(Box(x0, TOP, x1 - x0, floor - TOP, "panel"))
        if text_width(name, 11) < x1 - x0 - 6:
            scene.add(Words((x0 + x1) / 2, floor - 7, fitted(name, x1 - x0, 11), "soft", "middle", 11))


def _spot(scene: Scene, spot: tuple[float, float, str], spans: tuple[Span, Span], rooms: tuple[Span, Span]) -> None:
    x, y = scaled(spot[0], spans[0], rooms[0]), scaled(spot[1], spans[1], rooms[1])
    word = fitted(spot[2], 220, 11)
    scene.add(Stroke([(x, y), (x, TOP)], "soft", 1.0, (2, 3)))
    scene.add(Marker(x, y, "diamond", "ink", size=5.5))
    before = x + text_width(word, 11) + 8 > scene.width - RIGHT
    scene.add(Words(x - 6 if before else x + 6, TOP + 11, word, "ink", "end" if before else "start", 11))


def _legend(scene: Scene, curves: Sequence[Curve]) -> None:
    x = scene.width - RIGHT
    needed = sum(text_width(curve.name, 11) + 50 for curve in curves)
    room = x if needed <= x else x / len(curves) - 50
    for curve, (role, shape, dash) in reversed(_styled(curves)):
        name = fitted(curve.name, room, 11)
        scene.add(Words(x, 14, name, "ink", "end", 11))
        x -= text_width(name, 11) + 6
        scene.add(Stroke([(x - 26, 10), (x, 10)], role, 0.8 if curve.faint else 2.0, dash))
        if len(curve.points) <= MARKED:
            scene.add(Marker(x - 13, 10, shape, role, size=3.5))
        x -= 44


def _histogram_legend(scene: Scene, names: Sequence[str]) -> None:
    x = scene.width - RIGHT
    for name in reversed(names):
        shown = fitted(name, 160, 11)
        scene.add(Words(x, 14, shown, "ink", "end", 11))
        x -= text_width(shown, 11) + 6
        if name == names[-1]:
            scene.add(Box(x - 20, 4, 20, 11, "tuned", "tuned", 0.35))
        else:
            scene.add(Stroke([(x - 24, 10), (x, 10)], "base", 2.0, (6, 3)))
        x -= 42
