"""Every format of one run: made, the same bytes each time, every number from the run folder, any text shown as text."""

from __future__ import annotations

import re
import shutil
import subprocess
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from luthier.errors import UserError
from luthier.recipe.load import load_recipe
from luthier.recipe.schema import Report
from luthier.report import typeset
from luthier.report.build import build
from luthier.report.write import WRITERS, write_report
from luthier.run.atomic import read_json, read_jsonl, write_json, write_jsonl
from luthier.run.folder import RunFolder
from luthier.run.progress import Silent
from luthier.stages import report as stage
from tests.report import evidence

FORMATS = tuple(WRITERS)
FILES = {
    "index.html",
    "report.pdf",
    "report.tex",
    "slides.pdf",
    "slides.tex",
    "latexmkrc",
    "infographic.svg",
    "infographic.png",
}
HOSTILE = (
    '</script><script>alert(1)</script> ]]> #import "/etc/passwd": * #{sys} \\input{/etc/passwd} \\end{document} $x$ '
    "$$ % _ & # ~ ^ { } \\VAR{content} {{ 7*7 }} {% raw %} `rm` \"q\" 'a' <b> -- --- ``quoted'' [x] @ref <label> = "
    "* / // 😀 👩‍👩‍👧 中文字 עברית العربية e\u0301 \u202eright-to-left\u202c \x00\x07\x1b[31m \ud7ff \ufffe end"
)
SHAPES = {"svg", "title", "style", "text", "polyline", "rect", "path", "circle", "polygon"}
LONG = "x" * 100_000


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    return evidence.make(tmp_path_factory.mktemp("made"))


@pytest.fixture(scope="module")
def before(made: RunFolder) -> dict[str, bytes]:
    return written(made)


@pytest.fixture
def run(made: RunFolder, tmp_path: Path) -> RunFolder:
    return RunFolder(Path(shutil.copytree(made.path, tmp_path / made.id, ignore=shutil.ignore_patterns("8-report"))))


def written(folder: RunFolder) -> dict[str, bytes]:
    """Write all formats anew and return all files of the report."""
    shutil.rmtree(folder.report, ignore_errors=True)
    write_report(folder, build(folder, "coach"), FORMATS)
    return {
        path.relative_to(folder.report).as_posix(): path.read_bytes()
        for path in sorted(folder.report.rglob("*"))
        if path.is_file()
    }


def test_the_formats_are_those_of_the_recipe() -> None:
    assert set(FORMATS) == set(Report.model_fields["formats"].annotation.__args__[0].__args__)  # type: ignore[union-attr]


def test_every_format_is_made_and_the_same_bytes_each_time(run: RunFolder, before: dict[str, bytes]) -> None:
    first = before
    assert {name for name in first if not name.startswith("figures/")} == FILES
    assert first["report.pdf"].startswith(b"%PDF-")
    assert first["slides.pdf"].startswith(b"%PDF-")
    assert first["infographic.png"].startswith(b"\x89PNG")
    assert all(first.values())
    for name in re.findall(r"figures/[a-z-]+\.pdf", (first["report.tex"] + first["slides.tex"]).decode()):
        assert first[name].startswith(b"%PDF-")
    assert written(run) == first


def test_the_stage_writes_what_the_recipe_asks_for(run: RunFolder) -> None:
    recipe = load_recipe(run.recipe, {"report.formats": ["html", "slides"]}).recipe
    stage.report(recipe, run, Silent())
    assert {path.name for path in run.report.iterdir()} == {
        "index.html",
        "slides.pdf",
        "slides.tex",
        "latexmkrc",
        "figures",
    }


def test_html_alone_needs_no_extra_and_the_rest_says_how_to_get_it(
    run: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(typeset, "find_spec", lambda name: None)
    assert stage.inputs(load_recipe(run.recipe).recipe) == []
    stage.report(load_recipe(run.recipe).recipe, run, Silent())
    assert run.page.is_file()
    for name in FORMATS[1:]:
        with pytest.raises(UserError, match="typst") as told:
            stage.inputs(load_recipe(run.recipe, {"report.formats": [name]}).recipe)
        assert "pip install 'luthier[report]'" in told.value.remedy


CHANGES: dict[str, Callable[[Any], Any]] = {
    "comparison.json": lambda one: one["metrics"]["rougeL"].update(tuned=0.98765, cohens_dz=2.34567),
    "train.json": lambda one: one.update(seconds=123.456),
    "plan.json": lambda one: one["seconds"].update(estimate=987.654),
    "summary.json": lambda one: one["flow"]["matrix"][0].__setitem__(1, 4321),
    "breakdowns.json": lambda one: one["topic"][0].update(tuned=0.98765, difference=0.87654),
    "report.json": lambda one: one["rows"].update(found=4321),
}
NOT_ON_SLIDES = {"train.json", "plan.json"}  # time and memory


@pytest.mark.parametrize("name", CHANGES)
def test_a_number_of_the_run_folder_changes_every_format(run: RunFolder, before: dict[str, bytes], name: str) -> None:
    [path] = [one for one in run.path.rglob(name) if one.parent != run.report]
    value = read_json(path)
    CHANGES[name](value)
    write_json(path, value)
    after = written(run)
    files = FILES - {"latexmkrc"} - ({"slides.pdf", "slides.tex"} if name in NOT_ON_SLIDES else set())
    same = {file for file in files if before[file] == after[file]}
    figures = {file for file in before if file.startswith("figures/") and before[file] != after[file]}
    assert same - {"report.tex", "slides.tex"} == set()
    assert figures or not same, "sources that stay the same include a figure that changes"


def test_curves_are_drawn_from_the_log(run: RunFolder, before: dict[str, bytes]) -> None:
    lines = list(read_jsonl(run.metrics))
    lines[30]["loss"] = 50.0
    write_jsonl(run.metrics, lines)
    after = written(run)
    changed = {name for name in after if before[name] != after[name]}
    assert {
        "index.html",
        "report.pdf",
        "slides.pdf",
        "infographic.svg",
        "infographic.png",
        "figures/loss.pdf",
    } <= changed


def test_no_measured_number_is_typed(made: RunFolder, tmp_path: Path) -> None:
    """Four runs with other numbers have none with three places after the point in common, but for p-values of 1."""
    others = [evidence.make(tmp_path, items=36 + seed, seed=seed) for seed in (2, 3, 4)]
    found = []
    for folder in (made, *others):
        text = re.sub(r"<svg.*?</svg>|<style>.*?</style>|<pre.*?</pre>", "", html(folder), flags=re.DOTALL)
        found.append(set(re.findall(r"(?<![\w.])\d+\.\d{3,}(?![\w.])", text)))
    assert len(found[0]) > 60
    assert set.intersection(*found) <= {"1.0000"} | resampled(made)


def resampled(folder: RunFolder) -> set[str]:
    """Return the p-values, of which few resamples make many alike."""
    values = set()
    both = (read_json(folder.comparison)["metrics"], read_json(folder.forgetting)["metrics"])
    for entry in (one for entries in both for one in entries.values()):
        for value in (*entry["tests"].values(), entry["p_adjusted"]):
            values |= {f"{value:.4f}", f"{value:.2g}"}
    return values


def html(folder: RunFolder) -> str:
    write_report(folder, build(folder, "coach"), ["html"])
    return folder.page.read_text(encoding="utf-8")


@pytest.mark.parametrize("missing", ["1-data", "2-plan", "4-train", "5-evaluate", "6-diagnose", "7-export", "all"])
def test_a_stage_that_has_not_run_is_left_out(run: RunFolder, missing: str) -> None:
    gone = {"1-data": "data", "4-train": "training", "5-evaluate": "comparison", "6-diagnose": "diagnosis"}
    gone["7-export"] = "export"
    everything = {section.id for section in build(run, "coach").sections}
    assert set(gone.values()) < everything
    for path in run.path.iterdir():
        if path.is_dir() and missing in (path.name, "all"):
            shutil.rmtree(path)
    assert all(written(run).values())
    left = {section.id for section in build(run, "coach").sections}
    if missing == "all":
        assert left == {"reproduce"}
    elif missing in gone:
        assert gone[missing] not in left
    else:
        assert left == everything
        assert "times the plan" not in html(run)


def test_many_items_make_no_larger_page(tmp_path: Path) -> None:
    folder = evidence.make(tmp_path, items=10_000, topics=[f"topic number {place}" for place in range(500)])
    text = html(folder)
    assert len(text) < 1_000_000
    assert "The 16 largest of 500 values of topic are shown." in text
    assert re.search(r"The 12 largest gains of [\d,]+ and the 12 largest losses of [\d,]+", text)


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    folder = evidence.make(
        tmp_path_factory.mktemp("hostile"), words=HOSTILE, topics=[HOSTILE, LONG, "", "\n", "中" * 500]
    )
    write_report(folder, build(folder, HOSTILE), FORMATS)
    return folder


def test_hostile_text_is_shown_in_the_page_and_does_nothing(hostile: RunFolder) -> None:
    text = hostile.page.read_text(encoding="utf-8")
    assert "<script" not in text
    assert "&lt;/script&gt;&lt;script&gt;alert(1)" in text
    assert "{{ 7*7 }}" in text
    assert "\x00" not in text
    assert "\u202e" not in text
    assert len(text) < 1_000_000


def test_hostile_text_leaves_the_pictures_well_formed(hostile: RunFolder) -> None:
    for path in [hostile.infographic, *hostile.figures.glob("*.svg")]:
        tree = ElementTree.fromstring(path.read_bytes())
        assert {element.tag.partition("}")[2] for element in tree.iter()} <= SHAPES


def test_hostile_text_is_shown_in_the_pdf(hostile: RunFolder) -> None:
    if shutil.which("pdftotext") is None:
        pytest.skip("pdftotext is not installed (poppler-utils)")
    text = read_pdf(hostile.document("report.pdf"))
    assert "#import" in text
    assert "\\input{/etc/passwd}" in text
    assert "root:" not in text


def read_pdf(path: Path) -> str:
    return subprocess.run(["pdftotext", "-layout", path, "-"], capture_output=True, text=True, check=True).stdout


def test_the_sources_compile_and_run_nothing(hostile: RunFolder, tmp_path: Path) -> None:
    if shutil.which("latexmk") is None or shutil.which("lualatex") is None:
        pytest.skip("latexmk or lualatex is not installed")
    shutil.copytree(hostile.report, tmp_path / "sources")
    command = ["latexmk", "-interaction=nonstopmode", "-halt-on-error", "report.tex", "slides.tex"]
    done = subprocess.run(command, check=False, cwd=tmp_path / "sources", capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stdout[-3000:]
    for name in ("report", "slides"):
        compiled = tmp_path / "sources" / "latex" / f"{name}.pdf"
        assert compiled.read_bytes().startswith(b"%PDF-")
        if shutil.which("pdftotext"):
            text = read_pdf(compiled)
            assert "\\input{/etc/passwd}" in text.replace("\n", "")
            assert "root:" not in text
