"""The run on one page: verdict, facts and the figures that matter, composed from the same drawings as the report's."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from luthier.report.content import Content, Note
from luthier.report.drawing import draw
from luthier.report.figures import Figure, Forest, Pairs
from luthier.report.scene import Box, Item, Marker, Ribbon, Role, Scene, Stroke, Words, text_width, wrapped

WIDTH = 1080.0
MARGIN = 48.0
GAP = 28.0
INSIDE = 18.0
FIRST, CHOSEN = ("forest",), ("loss", "flow", "lengths", "funnel", "versus")
ROLES: dict[str, Role] = {"improved": "good", "worse": "bad"}
LIMITS = 3


def infographic(content: Content) -> Scene:
    """Return the page as a scene; it is as high as what there is to show."""
    scene = Scene(WIDTH, 0.0, f"{content.title}: {content.headline}")
    y = _heading(scene, content)
    y = _facts(scene, content.facts, y)
    known = {picture.figure.id: picture.figure for picture in content.pictures()}
    where = [name for name, figure in known.items() if isinstance(figure, Pairs)][:1]
    y = _cards(scene, [known[name] for name in (*FIRST, *where, *CHOSEN) if name in known], y)
    y = _limits(scene, content, y)
    scene.height = y + MARGIN - 12
    scene.items.insert(0, Box(0, 0, WIDTH, scene.height, "page"))
    return scene


def _heading(scene: Scene, content: Content) -> float:
    room = WIDTH - 2 * MARGIN
    [title] = wrapped(content.title, room, 40, 1)
    [subtitle] = wrapped(content.subtitle, room, 15, 1)
    scene.add(
        Words(MARGIN, MARGIN + 34, title, size=40, bold=True), Words(MARGIN, MARGIN + 62, subtitle, "soft", size=15)
    )
    lines = wrapped(content.headline, room, 20, 4)  # the estimate of widths is generous
    top = MARGIN + 84
    high = 28 * len(lines) + 26
    scene.add(
        Box(MARGIN, top, room, high, "panel"), Box(MARGIN, top, 8, high, ROLES.get(content.verdict or "", "soft"))
    )
    scene.add(*(Words(MARGIN + 28, top + 34 + 28 * place, line, size=20) for place, line in enumerate(lines)))
    return top + high + GAP


def _facts(scene: Scene, facts: Sequence[tuple[str, str]], y: float) -> float:
    """Write the facts beside each other, each as wide as it needs and the rest shared out."""
    if not facts:
        return y
    needs = [max(text_width(name, 13), text_width(value, 24)) for name, value in facts]
    spare = max((WIDTH - 2 * MARGIN - sum(needs)) / max(len(facts) - 1, 1), 8.0)
    x = MARGIN
    for (name, value), need in zip(facts, needs, strict=True):
        scene.add(Words(x, y + 12, name, "soft", size=13), Words(x, y + 42, value, size=24, bold=True))
        x += need + spare
    return y + 42 + GAP


def _cards(scene: Scene, figures: Sequence[Figure], y: float) -> float:
    """Put the figures on cards: those with much text as wide as the page, the others two beside each other."""
    wide, half = WIDTH - 2 * MARGIN, (WIDTH - 2 * MARGIN - GAP) / 2
    waiting: Figure | None = None
    for figure in figures:
        if isinstance(figure, Forest | Pairs):
            y = _card(scene, figure, (MARGIN, y, wide)) + GAP
        elif waiting is None:
            waiting = figure
        else:
            left, right = (_measured(one, half) for one in (waiting, figure))
            high = max(left, right)
            _card(scene, waiting, (MARGIN, y, half), high)
            y = _card(scene, figure, (MARGIN + half + GAP, y, half), high) + GAP
            waiting = None
    return _card(scene, waiting, (MARGIN, y, wide)) + GAP if waiting is not None else y


def _card(scene: Scene, figure: Figure, place: tuple[float, float, float], high: float | None = None) -> float:
    """Draw one card and return where it ends."""
    x, y, width = place
    room = width - 2 * INSIDE
    lines = wrapped(figure.title, room, 15, 2)
    high = high or _measured(figure, width)
    scene.add(Box(x, y, width, high, None, "grid"))
    scene.add(*(Words(x + INSIDE, y + 30 + 20 * n, line, size=15, bold=True) for n, line in enumerate(lines)))
    top = y + 30 + 20 * len(lines) + (high - _measured(figure, width)) / 2
    scene.add(*(_moved(item, x + INSIDE, top) for item in draw(figure, room).items))
    return y + high


def _measured(figure: Figure, width: float) -> float:
    room = width - 2 * INSIDE
    return 30 + 20 * len(wrapped(figure.title, room, 15, 2)) + draw(figure, room).height + INSIDE


def _limits(scene: Scene, content: Content, y: float) -> float:
    notes = [
        block.text for one in content.sections if one.id == "limits" for block in one.blocks if isinstance(block, Note)
    ]
    if not notes:
        return y
    scene.add(Words(MARGIN, y + 14, "What it does not say", size=15, bold=True))
    y += 14
    for note in notes[:LIMITS]:
        [line] = wrapped(note, WIDTH - 2 * MARGIN, 14, 1)
        y += 22
        scene.add(Words(MARGIN, y, line, "soft", size=14))
    return y + 10


def _moved(item: Item, across: float, down: float) -> Item:
    if isinstance(item, Stroke):
        return replace(item, points=[(x + across, y + down) for x, y in item.points])
    if isinstance(item, Ribbon):
        return replace(item, x0=item.x0 + across, x1=item.x1 + across, y0=item.y0 + down, y1=item.y1 + down)
    assert isinstance(item, Box | Marker | Words)  # noqa: S101 - what is left of `Item`
    return replace(item, x=item.x + across, y=item.y + down)
