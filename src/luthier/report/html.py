"""The report as one self-contained page: no script, no font, no picture from elsewhere; light and dark."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from luthier.report import svg
from luthier.report.content import Content
from luthier.report.drawing import draw
from luthier.report.escape import plain
from luthier.report.figures import Figure
from luthier.report.scene import DARK, LIGHT, Role

TEMPLATES = Path(__file__).with_name("templates")
VERDICT_MARKS = {"improved": "▲", "worse": "▼", "no evidence": "○", "too few examples": "◇"}
PAGE = "#fbfaf7"  # softer than the white of paper


def page(content: Content) -> str:
    """Return the page. All text is escaped by jinja2, after what cannot be shown has been replaced."""
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_shown,
    )
    environment.globals.update(drawn=_drawn, marks=VERDICT_MARKS)
    return environment.get_template("page.html.j2").render(content=content, colours=_colours())


def _drawn(figure: Figure) -> Markup:
    return svg.inline(draw(figure))


def _shown(value: object) -> object:
    return plain(value) if isinstance(value, str) and not isinstance(value, Markup) else value


def _colours() -> Markup:
    """Return the two themes as variables, and the classes of the drawings, which take their colours from them."""
    light, dark = (_variables(colours) for colours in ({**LIGHT, "page": PAGE}, DARK))
    themes = f":root{{color-scheme:light dark;{light}}}@media (prefers-color-scheme:dark){{:root{{{dark}}}}}"
    printed = f"@media print{{:root{{color-scheme:light;{_variables(LIGHT)}}}}}"
    return Markup(themes + printed + svg.sheet({role: f"var(--{role})" for role in LIGHT}))  # noqa: S704 - of constants


def _variables(colours: Mapping[Role, str]) -> str:
    return "".join(f"--{role}:{colour};" for role, colour in colours.items())
