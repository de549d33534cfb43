"""report: the page that people read."""

from __future__ import annotations

from typing import TYPE_CHECKING

from luthier.run.atomic import write_text
from luthier.run.folder import RunFolder
from luthier.run.progress import Progress

if TYPE_CHECKING:
    from luthier.recipe.schema import Recipe


def report(recipe: Recipe, folder: RunFolder, progress: Progress) -> None:
    """Write 8-report/index.html from what the stages before have written."""
    from luthier.report.build import build
    from luthier.report.html import page

    if "html" in recipe.report.formats:
        write_text(folder.page, page(build(folder, recipe.name)))
        progress.say(f"  {folder.page}")
