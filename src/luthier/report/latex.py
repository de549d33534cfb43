"""LaTeX sources: an article and Beamer slides, for those who go on writing. Every text is escaped on its way in.

They are for LuaLaTeX, which latexmk takes from the latexmkrc beside them: data hold any script, and pdfTeX stops at the
first letter that it does not know. `\\VAR{}` and `\\BLOCK{}` mark the gaps of the templates: braces stay braces.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from luthier.report.content import Content, Picture, Table
from luthier.report.escape import latex, plain
from luthier.report.scene import LIGHT
from luthier.report.slides import Slide

TEMPLATES = Path(__file__).with_name("templates")
# Fonts for letters that Latin Modern lacks, tried in this order where they are installed.
FALLBACKS = {
    "Latin Modern Math": re.compile("[\u2190-\u22ff]"),
    "DejaVu Sans": re.compile("[\u0250-\u1fff\u2100-\u27bf\ua4d0-\uabff\ufb00-\ufe0e]"),
    "Noto Sans CJK SC": re.compile("[\u2e80-\ua4cf\uac00-\ud7af\uf900-\ufaff\uff00-\uffef\U00020000-\U0003ffff]"),
    "Noto Color Emoji": re.compile("[\u2600-\u27bf\U0001f000-\U0001faff]"),
}
ROLES = {"improved": "good", "worse": "bad"}


def report_tex(content: Content) -> str:
    """Return the report as an article; its figures are figures/<id>.pdf."""
    return _rendered("report.tex.j2", content, ())


def slides_tex(content: Content, slides: list[Slide]) -> str:
    """Return the slides as a Beamer document; its figures are figures/<id>.pdf."""
    return _rendered("slides.tex.j2", content, slides)


def latexmkrc() -> str:
    """Return the settings of latexmk: LuaLaTeX, which runs nothing outside itself, into a folder of its own.

    Beside the sources stand report.pdf and slides.pdf, which compiling must not overwrite.
    """
    return "$pdf_mode = 4;\n$lualatex = 'lualatex --no-shell-escape %O %S';\n$out_dir = 'latex';\n"


def _rendered(name: str, content: Content, slides: Sequence[Slide]) -> str:
    """Fill in a template, with those fonts that its letters need: LuaTeX searches long for one that is not there."""
    template = _environment().get_template(name)

    def filled(fonts: Sequence[str]) -> str:
        return template.render(content=content, slides=slides, role=_role(content), fonts=fonts)

    text = filled(())
    return filled([font for font, letters in FALLBACKS.items() if letters.search(text)])


def _environment() -> Environment:
    environment = Environment(  # noqa: S701 - no HTML: `finalize` escapes every text for LaTeX
        loader=FileSystemLoader(TEMPLATES),
        undefined=StrictUndefined,
        finalize=_escaped,
        trim_blocks=True,
        lstrip_blocks=True,
        variable_start_string=r"\VAR{",
        variable_end_string="}",
        block_start_string=r"\BLOCK{",
        block_end_string="}",
        comment_start_string=r"\NOTE{",
        comment_end_string="}",
    )
    colours = {name: Markup(colour.removeprefix("#").upper()) for name, colour in LIGHT.items()}  # noqa: S704
    environment.globals.update(figure=_figure, columns=_columns, code=_code, colours=colours)
    return environment


def _escaped(value: object) -> str:
    return str(value) if isinstance(value, Markup) else latex(str(value))


def _figure(block: Picture) -> Markup:
    return Markup(f"figures/{block.figure.id}.pdf")  # noqa: S704 - ids hold letters, digits and dashes alone


def _columns(table: Table) -> Markup:
    """Return the column types: X wraps."""
    kinds = (
        "X" if place in table.prose else "r" if place in table.numeric else "l" for place in range(len(table.headers))
    )
    return Markup("@{}" + "".join(kinds) + "@{}")  # noqa: S704 - of three letters


def _code(text: str) -> Markup:
    """Return lines of code as escaped lines; verbatim would end at its own closing words."""
    lines = [latex(line.strip()) for line in plain(text).split("\n")]
    indents = [len(line) - len(line.lstrip()) for line in plain(text).split("\n")]
    told = [rf"\hspace*{{{indent / 2:.1f}em}}{line}\par" for indent, line in zip(indents, lines, strict=True)]
    return Markup("\n".join(told))  # noqa: S704 - each line is escaped


def _role(content: Content) -> Markup:
    return Markup(ROLES.get(content.verdict or "", "soft"))  # noqa: S704 - one of three words
