"""The page: self-contained, escaped, and drawn to scale."""

from __future__ import annotations

import re
from html.parser import HTMLParser

import pytest
from hypothesis import given
from hypothesis import strategies as st

from luthier.report.content import (
    Bars,
    Chart,
    Code,
    Content,
    Curve,
    Forest,
    Interval,
    Note,
    Passage,
    Section,
    Table,
)
from luthier.report.html import forest, page, plot, thinned, ticks

HOSTILE = '<script>alert("x")</script> & {{ 7 * 7 }} {% raw %} \u202e"\'> </section>'


def content(text: str) -> Content:
    blocks = [
        Table((text, "b"), [(text, "1")], text, frozenset({1})),
        Bars(text, [text], [3.0]),
        Chart(text, text, text, [Curve(text, [(1, 2.0), (2, 1.0)])]),
        Forest(text, [Interval(text, 0.5, 0.1, 0.9, "improved")]),
        Passage(text, text, [(text, text)], "good"),
        Note(text, "bad"),
        Code(text),
    ]
    return Content(text, text, "improved", text, [(text, text)], [Section("one", text, text, blocks)])


class Reader(HTMLParser):
    """Collects tags and text."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: set[str] = set()
        self.words: list[str] = []

    def handle_starttag(self, tag: str, attrs: object) -> None:
        self.seen.add(tag)
        if tag not in ("meta", "line", "polyline"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_startendtag(self, tag: str, attrs: object) -> None:
        self.seen.add(tag)

    def handle_data(self, data: str) -> None:
        self.words.append(data)


@given(text=st.text(max_size=40) | st.just(HOSTILE))
def test_any_text_is_shown_as_text(text: str) -> None:
    reader = Reader()
    reader.feed(page(content(text)))
    assert reader.open == []
    assert "script" not in reader.seen


def test_hostile_text_is_all_there() -> None:
    reader = Reader()
    reader.feed(page(content(HOSTILE)))
    assert reader.words.count(HOSTILE) >= 10


def test_nothing_is_loaded_from_elsewhere() -> None:
    text = page(content("plain"))
    assert not re.search(r"""(src|href)=["'](?!#)""", text)
    assert "@import" not in text
    assert "url(" not in text


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (0, 10, [0, 2, 4, 6, 8, 10]),
        (0, 228, [0, 50, 100, 150, 200]),
        (2.13, 6.4, [3, 4, 5, 6]),
        (0.0, 0.002, [0.0, 0.0005, 0.001, 0.0015, 0.002]),
        (5, 5, [5]),
    ],
)
def test_ticks_are_round_and_within(low: float, high: float, expected: list[float]) -> None:
    assert ticks(low, high) == pytest.approx(expected)


def test_a_chart_is_to_scale() -> None:
    drawn = plot(Chart("t", "x", "y", [Curve("a", [(0, 0.0), (5, 1.0), (10, 0.5)])]))
    [curve] = drawn["curves"]  # type: ignore[misc]
    points = [tuple(map(float, point.split(","))) for point in curve["points"].split()]
    xs, ys = zip(*points, strict=True)
    assert xs[1] - xs[0] == pytest.approx(xs[2] - xs[1])
    assert ys[0] > ys[2] > ys[1]  # pictures count downwards
    assert ys[2] == pytest.approx((ys[0] + ys[1]) / 2, abs=0.1)


def test_a_forest_keeps_zero_in_view_and_better_to_the_right() -> None:
    drawn = forest(Forest("t", [Interval("a", 2.0, 1.5, 2.5, "improved"), Interval("b", -0.5, -1.0, 0.0, "worse")]))
    first, second = drawn["rows"]  # type: ignore[misc]
    assert 0 < drawn["zero"] < first["low"] < first["middle"] < first["high"] < 100  # type: ignore[operator]
    assert second["high"] == pytest.approx(drawn["zero"])


def test_many_points_are_thinned_and_the_last_stays() -> None:
    points = [(float(n), float(n)) for n in range(10_007)]
    kept = thinned(points)
    assert len(kept) <= 420
    assert kept[0] == points[0]
    assert kept[-1] == points[-1]
    assert thinned([]) == []
