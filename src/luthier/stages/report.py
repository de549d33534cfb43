"""report: what people read of a run."""

from __future__ import annotations

from typing import TYPE_CHECKING

from luthier.run.folder import RunFolder
from luthier.run.progress import Progress

if TYPE_CHECKING:
    from pathlib import Path

    from luthier.recipe.schema import Recipe


def inputs(recipe: Recipe) -> list[Path]:
    """Return nothing, but check before any stage runs that the formats asked for can be written.

    Raises:
        UserError: a format needs a package that is not installed.
    """
    from luthier.report.write import check_formats

    check_formats(recipe.report.formats)
    return []


def report(recipe: Recipe, folder: RunFolder, progress: Progress) -> None:
    """Write the report into 8-report, in each format of the recipe, from what the stages before have written.

    Raises:
        UserError: a format needs a package that is not installed.
    """
    from luthier.report.build import build
    from luthier.report.write import write_report

    for path in write_report(folder, build(folder, recipe.name), recipe.report.formats):
        progress.say(f"  {path}")
