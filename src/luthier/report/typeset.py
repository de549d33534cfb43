"""PDF and PNG through typst. The templates are fixed; texts reach them as JSON values, so that none is ever run."""

from __future__ import annotations

from dataclasses import asdict
from functools import singledispatch
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import orjson

from luthier.errors import UserError
from luthier.report.content import Block, Content, Picture, Table
from luthier.report.drawing import WIDTH, draw
from luthier.report.escape import breakable, plain
from luthier.report.scene import LIGHT, Scene
from luthier.report.slides import Slide

TEMPLATES = Path(__file__).with_name("templates")
POINTS = 0.75  # of a page to one unit of a drawing that stands alone
SHARPNESS = 144.0  # pixels per inch


def need_typst(wanted: str) -> None:
    """Check that typst is installed.

    Raises:
        UserError: it is not; the message says how to get it.
    """
    if find_spec("typst") is None:
        raise UserError(
            f"{wanted} needs the package typst, which is not installed.",
            "report.formats",
            "Run: pip install 'luthier[report]', or ask for html alone: --set report.formats=[html]",
        )


def report_pdf(content: Content) -> bytes:
    """Return the report as a PDF on A4."""
    return _compiled("report.typ", {"content": _content(content), "colours": LIGHT})


def slides_pdf(content: Content, slides: list[Slide]) -> bytes:
    """Return the slides as a PDF, 16:9."""
    deck = [
        {"section": slide.section, "title": slide.title, "blocks": [_value(block) for block in slide.blocks]}
        for slide in slides
    ]
    return _compiled("slides.typ", {"content": _content(content), "slides": deck, "colours": LIGHT})


def picture_pdf(scene: Scene) -> bytes:
    """Return one drawing as a PDF of its own size."""
    return _compiled("picture.typ", {**_alone(scene), "filled": False})


def picture_png(scene: Scene) -> bytes:
    """Return one drawing as a PNG on a white ground."""
    return _compiled("picture.typ", {**_alone(scene), "filled": True}, "png")


def _alone(scene: Scene) -> dict[str, Any]:
    return {"scene": _scene(scene), "colours": LIGHT, "width": scene.width * POINTS}


def _content(content: Content) -> dict[str, Any]:
    head = {name: getattr(content, name) for name in ("title", "subtitle", "verdict", "headline", "facts")}
    sections = [
        {"title": one.title, "finding": one.finding, "blocks": [_value(block) for block in one.blocks]}
        for one in content.sections
    ]
    return {**head, "sections": sections}


@singledispatch
def _value(block: Block) -> dict[str, Any]:
    return asdict(block)


@_value.register
def _(block: Picture) -> dict[str, Any]:
    return {"block": "picture", "title": block.figure.title, "scene": _scene(draw(block.figure, WIDTH))}


@_value.register
def _(block: Table) -> dict[str, Any]:
    return {**asdict(block), "numeric": sorted(block.numeric), "prose": sorted(block.prose)}


def _scene(scene: Scene) -> dict[str, Any]:
    items = [{"item": type(item).__name__, **asdict(item)} for item in scene.items]
    return {"width": scene.width, "height": scene.height, "told": scene.told, "items": items}


def _compiled(template: str, data: dict[str, Any], form: Any = "pdf") -> bytes:
    import typst

    inputs = {"data": orjson.dumps(_shown(data)).decode()}
    made: Any = typst.compile(TEMPLATES / template, root=TEMPLATES, format=form, ppi=SHARPNESS, sys_inputs=inputs)
    return bytes(made)


def _shown(value: Any) -> Any:
    """Return the value with every text in it free of what cannot be set, and with places to break long words."""
    if isinstance(value, str):
        return breakable(plain(value))
    if isinstance(value, dict):
        return {name: _shown(one) for name, one in value.items()}
    return [_shown(one) for one in value] if isinstance(value, list | tuple) else value
