"""The formats of a report and what writes each of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from luthier.report import html, infographic, latex, svg, typeset
from luthier.report.content import Content
from luthier.report.drawing import draw
from luthier.report.scene import LIGHT
from luthier.report.slides import deck
from luthier.run.atomic import replacing, write_text
from luthier.run.folder import RunFolder

Writer = Callable[[RunFolder, Content], list[Path]]


def write_report(folder: RunFolder, content: Content, formats: Sequence[str]) -> list[Path]:
    """Write each format and return the files that people open.

    Raises:
        UserError: a format needs a package that is not installed.
    """
    check_formats(formats)
    if not LATEX.isdisjoint(formats):
        _write_figures(folder, content)
    return [path for name in formats for path in WRITERS[name](folder, content)]


def check_formats(formats: Sequence[str]) -> None:
    """Check that what each format needs is installed.

    Raises:
        UserError: it is not; the message says how to get it.
    """
    for name in formats:
        if name != "html":
            typeset.need_typst(f"The report format {name}")


def _write_html(folder: RunFolder, content: Content) -> list[Path]:
    write_text(folder.page, html.page(content))
    return [folder.page]


def _write_pdf(folder: RunFolder, content: Content) -> list[Path]:
    return [_write_bytes(folder.document("report.pdf"), typeset.report_pdf(content))]


def _write_latex(folder: RunFolder, content: Content) -> list[Path]:
    path = folder.document("report.tex")
    write_text(path, latex.report_tex(content))
    return [path]


def _write_slides(folder: RunFolder, content: Content) -> list[Path]:
    slides = deck(content)
    source = folder.document("slides.tex")
    write_text(source, latex.slides_tex(content, slides))
    return [_write_bytes(folder.document("slides.pdf"), typeset.slides_pdf(content, slides)), source]


def _write_infographic(folder: RunFolder, content: Content) -> list[Path]:
    scene = infographic.infographic(content)
    write_text(folder.infographic, svg.document(scene, LIGHT))
    return [folder.infographic, _write_bytes(folder.infographic.with_suffix(".png"), typeset.picture_png(scene))]


def _write_figures(folder: RunFolder, content: Content) -> None:
    """Write what LaTeX sources include, and the settings of latexmk."""
    write_text(folder.document("latexmkrc"), latex.latexmkrc())
    for picture in content.pictures():
        scene = draw(picture.figure)
        _write_bytes(folder.figures / f"{picture.figure.id}.pdf", typeset.picture_pdf(scene))
        write_text(folder.figures / f"{picture.figure.id}.svg", svg.document(scene, LIGHT))


def _write_bytes(path: Path, content: bytes) -> Path:
    with replacing(path) as file:
        file.write(content)
    return path


WRITERS: dict[str, Writer] = {
    "html": _write_html,
    "pdf": _write_pdf,
    "latex": _write_latex,
    "slides": _write_slides,
    "infographic": _write_infographic,
}
LATEX = frozenset({"latex", "slides"})  # formats with LaTeX sources, which include the figures
