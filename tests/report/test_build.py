"""From run folders to content: what is there is told, what is not is left out."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from luthier.report.build import build
from luthier.report.content import Forest, Note, Passage, Table
from luthier.report.html import page
from luthier.report.overview import columns, overview, render_overview, summary
from luthier.report.results import comparison_section, flips_section, topics_section
from luthier.run.folder import RunFolder
from luthier.run.record import mark_stage, start_record

ENTRY = {
    "base": 0.1,
    "tuned": 0.2,
    "difference": 0.1,
    "ci95": [0.05, 0.15],
    "p_adjusted": 0.01,
    "cohens_dz": 0.8,
    "power": 0.9,
    "minimum_detectable": 0.04,
    "n": 20,
    "items": 40,
    "higher_is_better": True,
    "verdict": "improved",
}
METRICS = {
    "answers": {
        "base": {"asked": 40, "stopped": 10, "mean_tokens": 90.5},
        "tuned": {"asked": 40, "stopped": 39, "mean_tokens": 60.0},
    }
}


def comparison(**changes: object) -> dict[str, object]:
    return {
        "verdict": "improved",
        "sentence": "It went up.",
        "primary": "rougeL",
        "correction": "Holm over 1 metrics",
        "metrics": {"rougeL": {**ENTRY, **changes}},
    }


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    made = RunFolder(tmp_path / "runs" / "coach" / "2026-01-01T10-00-00")
    made.path.mkdir(parents=True)
    made.recipe.write_text("name: coach\n")
    start_record(made, "coach", "causal-lm", 42, "digest", ["prepare", "report"])
    return made


def test_a_run_without_any_stage_says_so(folder: RunFolder) -> None:
    content = build(folder, "coach")
    assert content.headline == "Nothing has been prepared yet."
    assert [section.id for section in content.sections] == ["recipe", "environment"]
    assert "coach" in page(content)
    assert summary(folder) == f"run:    {folder.path}"


def test_the_comparison_is_told_with_its_interval() -> None:
    section = comparison_section(comparison(), METRICS)
    assert section.finding == "It went up."
    [figure] = [block for block in section.blocks if isinstance(block, Forest)]
    [row] = figure.intervals
    # A difference of 0.1 is 0.8 standard deviations, so the interval is 0.4 to 1.2 of them.
    assert (row.middle, row.low, row.high) == pytest.approx((0.8, 0.4, 1.2))
    answers = [block for block in section.blocks if isinstance(block, Table)][1]
    assert [row[2] for row in answers.rows] == ["25%", "98%"]


def test_lower_is_better_points_to_the_right_too() -> None:
    falling = comparison(difference=-0.1, ci95=[-0.15, -0.05], cohens_dz=-0.8, higher_is_better=False)
    [figure] = [block for block in comparison_section(falling, METRICS).blocks if isinstance(block, Forest)]
    assert (figure.intervals[0].low, figure.intervals[0].high) == pytest.approx((0.4, 1.2))


def test_equal_models_have_no_figure_and_say_what_could_have_been_seen() -> None:
    equal = comparison(difference=0.0, ci95=None, cohens_dz=None, power=None, minimum_detectable=None, p_adjusted=None)
    blocks = comparison_section(equal, METRICS).blocks
    assert not [block for block in blocks if isinstance(block, Forest)]
    assert any("too small" in block.text for block in blocks if isinstance(block, Note))


def line(item: str, base: float, tuned: float) -> dict[str, object]:
    flip = "won" if tuned > base else "lost" if tuned < base else "tie"
    return {"id": item, "base": base, "tuned": tuned, "difference": tuned - base, "flip": flip}


def test_topics_are_averaged_and_small_cells_marked() -> None:
    scores = [line(f"a{n}", 0.1, 0.3) for n in range(12)] + [line("b", 0.2, 0.1)]
    labels = {str(one["id"]): {"topic": "many" if str(one["id"]).startswith("a") else "one"} for one in scores}
    section = topics_section(scores, labels, "rougeL")
    assert section is not None
    [table] = section.blocks
    assert isinstance(table, Table)
    assert list(table.rows) == [
        ("many", "12", "0.1000", "0.3000", "+0.2000", "100%"),
        ("one (few)", "1", "0.2000", "0.1000", "-0.1000", "0%"),
    ]
    assert topics_section(scores, {}, "rougeL") is None


def test_flips_show_the_largest_gains_and_losses_first() -> None:
    scores = [line("up", 0.1, 0.2), line("most", 0.1, 0.9), line("down", 0.5, 0.1), line("same", 0.3, 0.3)]
    text = {"question": "q", "reference": "r", "answer": "a"}
    section = flips_section(scores, {str(one["id"]): (text, text) for one in scores}, "rougeL")
    shown = [block for block in section.blocks if isinstance(block, Passage)]
    assert [(block.title.split(":")[0], block.tone) for block in shown] == [
        ("most", "good"),
        ("up", "good"),
        ("down", "bad"),
    ]
    assert "nearer to the reference on 2 items and farther on 1" in section.finding


def test_the_overview_tells_verdict_and_metric(folder: RunFolder) -> None:
    mark_stage(folder, "prepare", "complete")
    folder.comparison.parent.mkdir()
    folder.comparison.write_text(json.dumps(comparison()))
    runs = folder.path.parent.parent
    [row] = overview(runs)
    assert (row["verdict"], row["stages_complete"], row["stages"]) == ("improved", 1, 2)
    assert "rougeL 0.100 → 0.200" in render_overview([row], runs)
    assert "IMPROVED. It went up." in summary(folder)
    assert overview(runs, "other") == []


def test_columns_align_numbers_to_the_right() -> None:
    assert columns([("a", "n"), ("long", "10.0"), ("b", "+2.0")]) == "a     n\nlong  10.0\nb     +2.0"
