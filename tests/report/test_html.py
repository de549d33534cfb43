"""The page: self-contained and escaped."""

from __future__ import annotations

import re
from html.parser import HTMLParser

from hypothesis import given, settings
from hypothesis import strategies as st

from luthier.report.content import Code, Content, Note, Passage, Picture, Section, Table
from luthier.report.escape import plain
from luthier.report.figures import Bars, Curve, Forest, Interval, Lines
from luthier.report.html import page

HOSTILE = '<script>alert("x")</script> & {{ 7 * 7 }} {% raw %} "\'> </section>'


def content(text: str) -> Content:
    blocks = [
        Table((text, "b"), [(text, "1")], text, frozenset({1})),
        Picture(Bars("bars", text, [(text, 3.0)])),
        Picture(Lines("lines", text, text, text, [Curve(text, [(1, 2.0), (2, 1.0)])])),
        Picture(Forest("forest", text, text, [Interval(text, 0.5, 0.1, 0.9, "improved")])),
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
        if tag != "meta":
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_startendtag(self, tag: str, attrs: object) -> None:
        self.seen.add(tag)

    def handle_data(self, data: str) -> None:
        self.words.append(data)


@settings(max_examples=40)
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
    assert "xmlns" not in text
    assert "@import" not in text
    assert "url(" not in text


def test_both_themes_have_every_colour() -> None:
    text = page(content("plain"))
    light, dark = re.findall(r":root\{(.*?)\}", text)[:2]
    names = [set(re.findall(r"--(\w+):", theme)) for theme in (light, dark)]
    assert names[0] == names[1]
    assert set(re.findall(r"var\(--(\w+)\)", text)) <= names[0]


def test_what_xml_cannot_hold_is_replaced() -> None:
    assert plain("a\x00b\x1bc\u202ed\r\ne\ud800") == "a�b�c�d\ne�"
    assert "\x00" not in page(content("a\x00b"))
