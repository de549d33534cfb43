"""Scenes as SVG. Colours are classes (f-: fill, s-: stroke), so that a page or a style sheet gives them."""

from __future__ import annotations

from collections.abc import Mapping

from markupsafe import Markup, escape

from luthier.report.escape import plain
from luthier.report.scene import Box, Item, Marker, Ribbon, Role, Scene, Stroke, Words

FONTS = "system-ui, -apple-system, 'Segoe UI', 'Helvetica Neue', Arial, 'Liberation Sans', sans-serif"


def inline(scene: Scene) -> Markup:
    """Return the drawing as an element of a page whose style sheet has the classes."""
    return Markup('<svg viewBox="0 0 {} {}" role="img" aria-label="{}">{}</svg>').format(
        number(scene.width), number(scene.height), plain(scene.told), shapes(scene)
    )


def document(scene: Scene, colours: Mapping[Role, str]) -> str:
    """Return the drawing as a file of its own, with its colours in it."""
    size = f'width="{number(scene.width)}" height="{number(scene.height)}"'
    head = Markup('<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {} {}" ').format(
        number(scene.width), number(scene.height)
    )
    title = Markup("<title>{}</title>").format(plain(scene.told))
    style = f"<style>text{{font-family:{FONTS}}}{sheet(colours)}</style>"
    return f'{head}{size} role="img">{title}{style}{shapes(scene)}</svg>\n'


def sheet(colours: Mapping[Role, str]) -> str:
    """Return the style sheet of the classes."""
    return "".join(f".f-{role}{{fill:{colour}}}.s-{role}{{stroke:{colour}}}" for role, colour in colours.items())


def shapes(scene: Scene) -> Markup:
    """Return the shapes of a scene, in their order."""
    return Markup("".join(_shape(item) for item in scene.items))  # noqa: S704 - texts are escaped in `_shape`


def number(value: float) -> str:
    """Return a coordinate with at most one place after the point."""
    return f"{value:.1f}".removesuffix(".0")


def _shape(item: Item) -> str:
    if isinstance(item, Words):
        weight = ' font-weight="600"' if item.bold else ""
        anchor = "" if item.anchor == "start" else f' text-anchor="{item.anchor}"'
        at = f'x="{number(item.x)}" y="{number(item.y)}" font-size="{number(item.size)}"'
        return f'<text {at}{anchor}{weight} class="f-{item.role}">{escape(plain(item.text))}</text>'
    if isinstance(item, Stroke):
        points = " ".join(f"{number(x)},{number(y)}" for x, y in item.points)
        dash = f' stroke-dasharray="{number(item.dash[0])} {number(item.dash[1])}"' if item.dash else ""
        return (
            f'<polyline points="{points}" fill="none" stroke-width="{number(item.width)}"{dash} class="s-{item.role}"/>'
        )
    if isinstance(item, Box):
        return _box(item)
    return _ribbon(item) if isinstance(item, Ribbon) else _marker(item)


def _box(item: Box) -> str:
    at = f'x="{number(item.x)}" y="{number(item.y)}" width="{number(item.width)}" height="{number(item.height)}"'
    fill = f'fill-opacity="{item.opacity}"' if item.fill else 'fill="none"'
    named = " ".join([*([f"f-{item.fill}"] if item.fill else []), *([f"s-{item.line}"] if item.line else [])])
    return f'<rect {at} {fill} class="{named}"/>'


def _ribbon(item: Ribbon) -> str:
    middle = number((item.x0 + item.x1) / 2)
    x0, x1 = number(item.x0), number(item.x1)
    y0, y1, under0, under1 = (number(y) for y in (item.y0, item.y1, item.y0 + item.height, item.y1 + item.height))
    there = f"M{x0} {y0}C{middle} {y0} {middle} {y1} {x1} {y1}"
    path = f"{there}L{x1} {under1}C{middle} {under1} {middle} {under0} {x0} {under0}Z"
    return f'<path d="{path}" fill-opacity="{item.opacity}" class="f-{item.fill}"/>'


def _marker(item: Marker) -> str:
    look = f'class="f-page s-{item.role}" stroke-width="2"' if item.hollow else f'class="f-{item.role}"'
    x, y, half = item.x, item.y, item.size
    if item.shape == "circle":
        return f'<circle cx="{number(x)}" cy="{number(y)}" r="{number(half)}" {look}/>'
    corners = {
        "square": ((-0.9, -0.9), (0.9, -0.9), (0.9, 0.9), (-0.9, 0.9)),
        "triangle": ((0.0, -1.1), (1.1, 0.9), (-1.1, 0.9)),
        "diamond": ((0.0, -1.2), (1.2, 0.0), (0.0, 1.2), (-1.2, 0.0)),
    }[item.shape]
    points = " ".join(f"{number(x + half * across)},{number(y + half * down)}" for across, down in corners)
    return f'<polygon points="{points}" {look}/>'
