"""Learning rates as a picture: one curve a schedule, the phases of the first one marked."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from luthier.errors import UserError
from luthier.run.atomic import replacing

if TYPE_CHECKING:
    from luthier.engine.schedules import Schedule

ENDINGS = ("svg", "png", "pdf")
INCHES = (7.5, 3.6)
COLOURS = ("#1f5f99", "#c0641c")


def draw(schedules: Sequence[tuple[str, Schedule]], path: Path, log: bool = False) -> None:
    """Write a picture of one or two named schedules; the ending of `path` says in which format.

    The bytes depend on nothing but the arguments and the version of matplotlib.

    Raises:
        UserError: another ending, matplotlib is not installed, or the folder cannot be written to.
    """
    ending = path.suffix.removeprefix(".").lower()
    if ending not in ENDINGS:
        raise UserError(f"No picture of the format {path.suffix or 'without an ending'!r}.", str(path), _known())
    try:
        import matplotlib
        from matplotlib.figure import Figure
    except ImportError:
        raise UserError(
            "Pictures need matplotlib, which is not installed.", "--picture", "Run: pip install 'luthier[report]'"
        ) from None
    with matplotlib.rc_context({"svg.hashsalt": "luthier", "font.size": 9.0}):
        figure = Figure(figsize=INCHES, layout="constrained")
        axes = figure.add_subplot()
        for (name, schedule), colour in zip(schedules, COLOURS, strict=False):
            steps = range(1, schedule.steps + 1)
            axes.plot(steps, [schedule(step) for step in steps], color=colour, label=name)
        phases = schedules[0][1].get_phases()
        for phase in phases:
            axes.axvline(phase["start"], color="#888888", linewidth=0.6, linestyle=":")
        above = axes.secondary_xaxis("top")
        names = [phase["name"] for phase in phases]
        above.set_ticks([phase["start"] for phase in phases], labels=names, rotation=20, ha="left")
        axes.set(xlabel="optimizer step", ylabel="learning rate", yscale="log" if log else "linear")
        if not log:
            axes.set_ylim(bottom=0)
        if len(schedules) > 1:
            axes.legend(loc="upper right", frameon=False)
        with replacing(path) as file:
            figure.savefig(file, format=ending, metadata={"Date": None} if ending == "svg" else None)


def _known() -> str:
    return f"Choose a path that ends with {', '.join(f'.{one}' for one in ENDINGS)}."
