"""Drawings of things on their way: answers from base to tuned, rows from the files to the splits."""

from __future__ import annotations

from collections.abc import Sequence

from luthier.report.figures import Flow, Funnel, Step
from luthier.report.scene import Box, Ribbon, Role, Scene, Stroke, Words, fitted, text_width

HEIGHT = 300.0
NODE = 12.0
APART = 20.0
ROW = 26.0


def draw_flow(figure: Flow, width: float) -> Scene:
    """Return two columns of classes and the bands between them, as thick as they are many."""
    (left_name, left), (right_name, right) = figure.left, figure.right
    total = sum(count for *_, count in figure.links) or 1
    height = max(HEIGHT, 46 + APART * 2 * max(len(left), len(right)))
    scene = Scene(width, height, figure.title)
    room = width * 0.32
    scale = (height - 46 - APART * (max(len(left), len(right)) - 1)) / total
    starts, ends = _sums(figure.links, 0, len(left)), _sums(figure.links, 1, len(right))
    left_tops, right_tops = _tops(starts, scale), _tops(ends, scale)
    x0, x1 = room + NODE, width - room - NODE
    leaving, coming = list(left_tops), list(right_tops)
    for start, end, count in sorted(figure.links):
        thick = count * scale
        same = left[start] == right[end]
        role: Role = "soft" if same else "tuned"
        scene.add(
            Ribbon(
                x0, round(leaving[start], 1), x1, round(coming[end], 1), round(thick, 1), role, 0.55 if same else 0.3
            )
        )
        leaving[start] += thick
        coming[end] += thick
    scene.add(Words(room + NODE, 16, fitted(left_name, room), "soft", "end"))
    scene.add(Words(x1, 16, fitted(right_name, room), "soft", "start"))
    for place, name in enumerate(left):
        _node(scene, (room, left_tops[place], starts[place] * scale), (name, starts[place]), "base", room - 8)
    for place, name in enumerate(right):
        _node(scene, (x1, right_tops[place], ends[place] * scale), (name, ends[place]), "tuned", room - 8)
    return scene


def draw_funnel(figure: Funnel, width: float) -> Scene:
    """Return one row a step: what stands as a bar, what leaves as a hollow one at its end, what joins likewise."""
    names = min(max(text_width(fitted(step.name, width)) for step in figure.steps), width * 0.38)
    most = max([1.0, *_levels(figure.steps)])
    counts = [_count(step) for step in figure.steps]
    left = names + 14
    room = width - left - max(text_width(one, 11) for one in counts) - 8
    scene = Scene(width, ROW * len(figure.steps) + 8, figure.title)
    level, floor = 0.0, 0.0
    for place, (step, count) in enumerate(zip(figure.steps, counts, strict=True)):
        y, long = 4 + ROW * place, room * step.count / most
        if step.what == "stand":
            start, level, floor = 0.0, long, 0.0
        elif step.what == "lost":
            start = level = max(level - long, 0.0)
        elif step.what == "added":
            start, level = level, level + long
        else:
            start = floor
            floor += long
        scene.add(Words(names, y + 17, fitted(step.name, names), "ink", "end"))
        _bar(scene, step, (left + start, y + 4, max(long, 1.0)))
        scene.add(Words(left + start + max(long, 1.0) + 6, y + 17, count, "soft", "start", 11))
    return scene


def _bar(scene: Scene, step: Step, place: tuple[float, float, float]) -> None:
    x, y, long = (round(value, 1) for value in place)
    if step.what == "lost":
        scene.add(Box(x, y, long, ROW - 8, None, "bad"))
        scene.add(Stroke([(x, y + ROW - 8), (x + long, y)], "bad"))
    else:
        role: Role = {"stand": "soft", "added": "good", "part": "tuned"}[step.what]  # type: ignore[assignment]
        scene.add(Box(x, y, long, ROW - 8, role, role, 0.5))


def _count(step: Step) -> str:
    return f"{ {'lost': '−', 'added': '+'}.get(step.what, '') }{step.count:,}"


def _levels(steps: Sequence[Step]) -> list[float]:
    """Return how many rows there are after each step."""
    levels: list[float] = []
    level = 0.0
    for step in steps:
        level = {"stand": float(step.count), "lost": level - step.count, "added": level + step.count}.get(
            step.what, level
        )
        levels.append(level)
    return levels


def _node(scene: Scene, place: tuple[float, float, float], label: tuple[str, int], role: Role, room: float) -> None:
    x, y, height = place
    scene.add(Box(round(x, 1), round(y, 1), NODE, max(round(height, 1), 1.0), role))
    middle, count = round(y + height / 2 + 4, 1), f"{label[1]:,}"
    name = fitted(label[0], room - text_width(f"  {count}"))
    if role == "base":
        scene.add(Words(x - 8, middle, f"{name}  {count}", "ink", "end"))
    else:
        scene.add(Words(x + NODE + 8, middle, f"{count}  {name}", "ink", "start"))


def _sums(links: Sequence[tuple[int, int, int]], side: int, count: int) -> list[int]:
    sums = [0] * count
    for link in links:
        sums[link[side]] += link[2]
    return sums


def _tops(sums: Sequence[int], scale: float) -> list[float]:
    tops, y = [], 30.0
    for one in sums:
        tops.append(y)
        y += one * scale + APART
    return tops
