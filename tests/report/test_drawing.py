"""Drawings: to scale, nothing outside the page, no text over another, whatever the names are."""

from __future__ import annotations

from itertools import combinations
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from luthier.report.drawing import draw
from luthier.report.drawing.lines import thinned
from luthier.report.figures import (
    Bars,
    Curve,
    Figure,
    Flow,
    Forest,
    Funnel,
    Held,
    Histogram,
    Interval,
    Lines,
    Pair,
    Pairs,
    Step,
    Versus,
)
from luthier.report.scene import Box, Marker, Ribbon, Scene, Stroke, Words, fitted, text_width, ticks, wrapped

LONG = "a name that is much longer than any drawing has room for, and then goes on " * 3
NAMES = ["a", "a middling name", LONG, "中文" * 30, "", "W" * 60]
WIDTHS = (460.0, 720.0, 950.0)


def figures(names: list[str]) -> list[Figure]:
    """Return one figure of each sort with these names."""
    count = len(names)
    steps = [Step("found", 905), Step("lost", 5, "lost"), Step("more", 270, "added"), Step("all", 1170)]
    return [
        Lines("l", "t", LONG, LONG, [Curve(name, [(1, 5.0), (99, 2.0)]) for name in names[:3]], (99, 2.0, LONG)),
        Lines("r", "t", "x", "y", [Curve("a", [(1, 0.0), (9, 2e-5)])], None, [(0.5, 5, LONG), (5, 9.5, "b")], True),
        Histogram("h", "t", LONG, [0, 1, 2, 3], [("base", [1, 2, 3]), ("tuned", [3, 2, 1])]),
        Bars("b", "t", [(name, place * 1e6) for place, name in enumerate(names)]),
        Forest("f", "t", LONG, [Interval(name, 0.5, -0.1, 1e4, "no evidence") for name in names]),
        Pairs("p", "t", LONG, [Pair(name, 0.1, 0.2, -1e3, 1e3, 10_000, True) for name in names]),
        Flow("w", "t", ("base", names), ("tuned", names), [(n, (n + 1) % count, n + 1) for n in range(count)]),
        Funnel("u", "t", [*steps, *(Step(name, 100, "part") for name in names)]),
        Versus("v", "t", [Held(name, 168.0, 1e6, "GiB") for name in names]),
    ]


def frame(words: Words) -> tuple[float, float, float, float]:
    """Return left, top, right and bottom of a text, as wide as letters are taken to be."""
    wide = text_width(words.text, words.size)
    left = words.x - {"start": 0.0, "middle": wide / 2, "end": wide}[words.anchor]
    return left, words.y - words.size * 0.75, left + wide, words.y + words.size * 0.2


def outside(scene: Scene) -> list[Any]:
    """Return what stands outside the drawing."""
    found: list[Any] = []
    for item in scene.items:
        if isinstance(item, Words):
            left, top, right, bottom = frame(item)
        elif isinstance(item, Stroke):
            xs, ys = zip(*item.points, strict=True)
            left, top, right, bottom = min(xs), min(ys), max(xs), max(ys)
        elif isinstance(item, Marker):
            left, top, right, bottom = item.x - item.size, item.y - item.size, item.x + item.size, item.y + item.size
        elif isinstance(item, Ribbon):
            left, top, right, bottom = item.x0, min(item.y0, item.y1), item.x1, max(item.y0, item.y1) + item.height
        else:
            left, top, right, bottom = item.x, item.y, item.x + item.width, item.y + item.height
        if left < -1 or top < -1 or right > scene.width + 1 or bottom > scene.height + 1:
            found.append(item)
    return found


def overlapping(scene: Scene) -> list[tuple[str, str]]:
    """Return the pairs of texts of which one covers the other."""
    texts = [item for item in scene.items if isinstance(item, Words) and item.text]
    found = []
    for one, other in combinations(texts, 2):
        a, b = frame(one), frame(other)
        if a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]:
            found.append((one.text, other.text))
    return found


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("names", [["a", "b", "c"], NAMES], ids=["plain", "any"])
@pytest.mark.parametrize("place", range(9))
def test_nothing_is_cut_off_and_no_text_covers_another(place: int, names: list[str], width: float) -> None:
    scene = draw(figures(names)[place], width)
    assert outside(scene) == []
    assert overlapping(scene) == []


def test_the_checks_of_the_layout_can_fail() -> None:
    scene = Scene(100, 50, "t", [Words(10, 20, "a text"), Words(12, 22, "another"), Box(90, 10, 20, 5, "ink")])
    assert overlapping(scene) == [("a text", "another")]
    assert outside(scene) == [scene.items[2]]


@given(text=st.text(max_size=300), room=st.floats(30, 500))
def test_a_fitted_text_fits_and_is_one_line(text: str, room: float) -> None:
    shown = fitted(text, room)
    assert text_width(shown) <= room + text_width("…") + 1
    assert "\n" not in shown
    assert shown


@given(text=st.text(max_size=300), lines=st.integers(1, 4))
def test_wrapped_text_keeps_to_its_lines(text: str, lines: int) -> None:
    made = wrapped(text, 200, 12, lines)
    assert 1 <= len(made) <= lines
    assert all(text_width(line) <= 200 + text_width("…") + 1 for line in made)


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (0, 10, [0, 2, 4, 6, 8, 10]),
        (0, 228, [0, 50, 100, 150, 200]),
        (2.13, 6.4, [3, 4, 5, 6]),
        (0.0, 0.002, [0.0, 0.0005, 0.001, 0.0015, 0.002]),
        (0.0, 3e-12, [0.0, 1e-12, 2e-12, 3e-12]),
        (5, 5, [5]),
    ],
)
def test_ticks_are_round_and_within(low: float, high: float, expected: list[float]) -> None:
    assert ticks(low, high) == pytest.approx(expected)


def test_curves_are_to_scale() -> None:
    scene = draw(Lines("l", "t", "x", "y", [Curve("a", [(0, 0.0), (5, 1.0), (10, 0.5)])]))
    [curve] = [item for item in scene.items if isinstance(item, Stroke) and item.role == "tuned"]
    (x0, y0), (x1, y1), (x2, y2) = curve.points
    assert x1 - x0 == pytest.approx(x2 - x1, abs=0.15)
    assert y0 > y2 > y1  # pictures count downwards
    assert y2 == pytest.approx((y0 + y1) / 2, abs=0.15)


def test_a_forest_keeps_zero_in_view_and_better_to_the_right() -> None:
    rows = [Interval("a", 2.0, 1.5, 2.5, "improved"), Interval("b", -0.5, -1.0, 0.0, "worse")]
    scene = draw(Forest("f", "t", "x", rows))
    [zero] = [item for item in scene.items if isinstance(item, Stroke) and item.role == "ink"]
    first, second = [item for item in scene.items if isinstance(item, Marker)]
    assert second.x < zero.points[0][0] < first.x
    edges = [item for item in scene.items if isinstance(item, Stroke) and item.role == "bad"]
    assert max(x for item in edges for x, _ in item.points) == pytest.approx(zero.points[0][0])
    assert (first.shape, second.shape) == ("circle", "square")  # told apart without colour


def test_a_flow_is_as_thick_as_its_counts() -> None:
    scene = draw(Flow("w", "t", ("base", ["a", "b"]), ("tuned", ["a", "c"]), [(0, 0, 10), (0, 1, 30), (1, 1, 20)]))
    heights = [item.height for item in scene.items if isinstance(item, Ribbon)]
    assert heights[1] == pytest.approx(3 * heights[0], abs=0.3)
    nodes = [item for item in scene.items if isinstance(item, Box)]
    assert nodes[0].height == pytest.approx(heights[0] + heights[1], abs=0.3)
    assert nodes[3].height == pytest.approx(heights[1] + heights[2], abs=0.3)


def test_a_funnel_adds_up() -> None:
    steps = [Step("found", 100), Step("rejected", 40, "lost"), Step("made", 20, "added"), Step("all", 80)]
    found, lost, added, whole = (item for item in draw(Funnel("u", "t", steps)).items if isinstance(item, Box))
    assert lost.x + lost.width == pytest.approx(found.x + found.width, abs=0.2)
    assert added.x == pytest.approx(lost.x, abs=0.2)
    assert whole.width == pytest.approx(0.8 * found.width, abs=0.2)
    assert added.x + added.width == pytest.approx(whole.x + whole.width, abs=0.2)


def test_many_points_are_thinned_and_the_last_stays() -> None:
    points = [(float(n), float(n)) for n in range(10_007)]
    kept = thinned(points)
    assert len(kept) <= 402
    assert kept[0] == points[0]
    assert kept[-1] == points[-1]
    assert thinned([]) == []
