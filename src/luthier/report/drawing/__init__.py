"""From typed figures to scenes: the one place where a figure gets its form, for every format alike."""

from __future__ import annotations

from luthier.report.drawing.flows import draw_flow, draw_funnel
from luthier.report.drawing.lines import draw_histogram, draw_lines
from luthier.report.drawing.rows import draw_bars, draw_dots, draw_forest, draw_pairs, draw_versus
from luthier.report.figures import Bars, Dots, Figure, Flow, Forest, Funnel, Histogram, Lines, Pairs
from luthier.report.scene import Scene

WIDTH = 720.0


def draw(figure: Figure, width: float = WIDTH) -> Scene:
    """Return the figure as a scene of this width; its height follows from what there is to show."""
    if isinstance(figure, Lines):
        return draw_lines(figure, width)
    if isinstance(figure, Histogram):
        return draw_histogram(figure, width)
    if isinstance(figure, Forest | Pairs):
        return draw_forest(figure, width) if isinstance(figure, Forest) else draw_pairs(figure, width)
    if isinstance(figure, Dots | Bars):
        return draw_dots(figure, width) if isinstance(figure, Dots) else draw_bars(figure, width)
    if isinstance(figure, Flow | Funnel):
        return draw_flow(figure, width) if isinstance(figure, Flow) else draw_funnel(figure, width)
    return draw_versus(figure, width)
