"""The report as one self-contained page: no script, no font, no picture from elsewhere; light and dark."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from luthier.report.content import Chart, Content, Forest

WIDTH, HEIGHT = 640, 240
LEFT, BOTTOM, TOP, RIGHT = 56, 34, 12, 12


def page(content: Content) -> str:
    """Return the page. All text is escaped by jinja2."""
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals.update(plot=plot, forest=forest)
    return environment.get_template("page.html.j2").render(content=content)


def ticks(low: float, high: float, wanted: int = 5) -> list[float]:
    """Return round values that span [low, high]: steps of 1, 2 or 5 times a power of ten."""
    if high <= low:
        return [low]
    rough = (high - low) / wanted
    power = 10.0 ** len(str(int(rough))) / 10 if rough >= 1 else 10.0 ** -_zeros(rough)
    step = next((power * factor for factor in (1, 2, 5, 10) if power * factor >= rough), power * 10)
    first = -(-low // step) * step
    return [round(first + step * k, 10) for k in range(int((high - first) / step + 1e-9) + 1)]


def plot(chart: Chart) -> dict[str, object]:
    """Return a chart in picture coordinates: ticks as (position, label), curves as lists of points."""
    xs = [x for curve in chart.curves for x, _ in curve.points]
    ys = [y for curve in chart.curves for _, y in curve.points]
    x_range, y_range = (min(xs), max(xs)), (min(ys), max(ys))

    def x_at(x: float) -> float:
        return round(LEFT + (WIDTH - LEFT - RIGHT) * _share(x, x_range), 1)

    def y_at(y: float) -> float:
        return round(HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * _share(y, y_range), 1)

    return {
        "width": WIDTH,
        "height": HEIGHT,
        "x_ticks": [(x_at(x), f"{x:g}") for x in ticks(*x_range)],
        "y_ticks": [(y_at(y), f"{y:.3g}") for y in ticks(*y_range)],
        "curves": [
            {"name": curve.name, "points": " ".join(f"{x_at(x)},{y_at(y)}" for x, y in thinned(curve.points))}
            for curve in chart.curves
        ],
    }


def forest(figure: Forest) -> dict[str, object]:
    """Return a forest plot in picture coordinates, zero always in view."""
    values = [0.0, *(value for row in figure.intervals for value in (row.low, row.high))]
    span = (min(values), max(values))
    room = max((span[1] - span[0]) * 0.05, 1e-9)
    span = (span[0] - room, span[1] + room)

    def at(value: float) -> float:
        return round(100 * _share(value, span), 2)

    rows = [
        {
            "name": row.name,
            "middle": at(row.middle),
            "low": at(row.low),
            "high": at(row.high),
            "verdict": row.verdict,
            "told": f"{row.middle:+.2f} ({row.low:+.2f} to {row.high:+.2f})",
        }
        for row in figure.intervals
    ]
    return {"zero": at(0.0), "rows": rows}


def thinned(points: Sequence[tuple[float, float]], most: int = 400) -> list[tuple[float, float]]:
    """Return at most about `most` of the points, evenly, the last one included: a picture shows no more."""
    step = max(1, len(points) // most)
    kept = list(points[::step])
    return kept if not points or kept[-1] == points[-1] else [*kept, points[-1]]


def _share(value: float, span: tuple[float, float]) -> float:
    return 0.5 if span[1] <= span[0] else (value - span[0]) / (span[1] - span[0])


def _zeros(value: float) -> int:
    """Return how many places after the point the first digit of a value below 1 stands."""
    places = 1
    while value * 10**places < 1:
        places += 1
    return places
