"""From run folders to content: what is there is told, what is not is left out, and titles say what was found."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from luthier.report.build import build
from luthier.report.closing import limits_section
from luthier.report.content import Note, Passage, Picture, Section, Table
from luthier.report.diagnosis import diagnosis_section
from luthier.report.figures import Flow, Forest, Histogram, Lines, Pairs, Versus
from luthier.report.html import page
from luthier.report.overview import columns, overview, render_overview, summary
from luthier.report.results import breakdown_section, comparison_section, flips_section
from luthier.report.training import training_section
from luthier.run.folder import RunFolder
from luthier.run.record import mark_stage, start_record

ENTRY = {
    "base": 0.1,
    "tuned": 0.2,
    "difference": 0.1,
    "ci95": [0.05, 0.15],
    "tests": {"t": 0.002, "permutation": 0.004},
    "p_adjusted": 0.01,
    "cohens_dz": 0.8,
    "cohens_dz_ci95": [0.3, 1.3],
    "cliffs_delta": 0.44,
    "power": 0.9,
    "minimum_detectable": 0.04,
    "n": 20,
    "items": 40,
    "higher_is_better": True,
    "role": "primary",
    "decided_by": "permutation",
    "verdict": "improved",
}
METRICS = {
    "answers": {
        "base": {"asked": 40, "stopped": 10, "mean_tokens": 90.5},
        "tuned": {"asked": 40, "stopped": 39, "mean_tokens": 60.0},
    },
    "metrics": {"rougeL": {"base": {"title": "ROUGE-L"}}},
}


def comparison(**changes: object) -> dict[str, Any]:
    return {
        "verdict": "improved",
        "sentence": "It went up.",
        "primary": "rougeL",
        "correction": "Holm over 1 metrics",
        "metrics": {"rougeL": {**ENTRY, **changes}},
    }


def figures(section: Section | None) -> dict[str, Any]:
    """Return the figures of a section by their id."""
    assert section is not None
    return {block.figure.id: block.figure for block in section.blocks if isinstance(block, Picture)}


def tables(section: Section) -> list[Table]:
    return [block for block in section.blocks if isinstance(block, Table)]


def told(section: Section) -> str:
    return " ".join(block.text for block in section.blocks if isinstance(block, Note))


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
    assert [section.id for section in content.sections] == ["reproduce"]
    assert "coach" in page(content)
    assert summary(folder) == f"run:    {folder.path}"


def test_the_comparison_is_told_with_its_interval() -> None:
    section = comparison_section(comparison(), METRICS, [], [])
    assert section.finding == (
        "ROUGE-L decides. It changed by +0.1000, with 95 % confidence between +0.0500 and +0.1500; "
        "p = 0.01 after correction."
    )
    forest: Forest = figures(section)["forest"]
    assert forest.title == "1 of 1 metrics improved, none got worse"
    [row] = forest.rows
    # A difference of 0.1 is 0.8 standard deviations, so the interval is 0.4 to 1.2 of them.
    assert (row.name, row.middle, row.low, row.high) == ("ROUGE-L", *map(pytest.approx, (0.8, 0.4, 1.2)))
    metrics, tests, sizes, answers = tables(section)
    assert list(metrics.rows[0])[5:] == ["0.0100", "+0.80", "90%", "improved"]
    assert list(tests.rows[0]) == ["ROUGE-L", "primary", "permutation", "0.002", "0.004"]
    assert list(sizes.rows[0]) == ["ROUGE-L", "+0.30 to +1.30", "+0.44", "0.0400"]
    assert [row[2] for row in answers.rows] == ["25%", "98%"]
    assert "20 groups of 40 test items" in metrics.caption


def test_lower_is_better_points_to_the_right_too() -> None:
    falling = comparison(difference=-0.1, ci95=[-0.15, -0.05], cohens_dz=-0.8, higher_is_better=False)
    [row] = figures(comparison_section(falling, METRICS, [], []))["forest"].rows
    assert (row.low, row.high) == pytest.approx((0.4, 1.2))


def test_equal_models_have_no_figure_and_say_what_could_have_been_seen() -> None:
    equal = comparison(difference=0.0, ci95=None, cohens_dz=None, power=None, minimum_detectable=None, p_adjusted=None)
    section = comparison_section(equal, METRICS, [], [])
    assert figures(section) == {}
    assert "too small" in told(section)


def test_scores_and_lengths_are_counted() -> None:
    scores = [{"base": 0.1, "tuned": 0.1 * place} for place in range(10)]
    texts = [({"tokens": 9, "reference_tokens": 30}, {"tokens": 20 + place}) for place in range(10)]
    made = figures(comparison_section(comparison(), METRICS, scores, texts))
    lengths: Histogram = made["lengths"]
    assert lengths.title == "An answer has 24 tokens when tuned, 9 before; a reference has 30 (medians)"
    assert {name: sum(counts) for name, counts in lengths.samples} == {"base": 10, "tuned": 10}
    assert lengths.samples[0][1][0] == 10  # all answers of base are the shortest there are
    assert made["scores"].title == "Half of the items score above 0.45 ROUGE-L when tuned, above 0.1 before"


def test_vectors_are_told_where_a_kind_makes_them() -> None:
    known = {"queries": 7, "comparison": {"sentence": "It went up there too."}}
    geometry = {"base": {"uniformity": -1.5}, "tuned": {"uniformity": -2.25}}
    section = comparison_section(comparison(), {"geometry": geometry, "known_families": known}, [], [])
    assert list(tables(section)[-1].rows) == [("uniformity", "-1.5000", "-2.2500")]
    assert "with 7 titles that it did not see: It went up there too." in told(section)


def cell(value: str, difference: float, low: float, items: int = 30) -> dict[str, Any]:
    cells = {"base": 0.1, "tuned": 0.1 + difference, "difference": difference, "ci95": [low, 2 * difference - low]}
    return {"value": value, "n": items, "items": items, "small": items < 10, **cells}


def test_breakdowns_say_where_the_gain_is_beyond_chance() -> None:
    cells = [cell("a", 0.3, 0.2), cell("b", 0.1, -0.1), cell("c", 0.9, 0.8, items=3)]
    section = breakdown_section({"topic": cells, "difficulty": cells[:1]}, "ROUGE-L", True)
    made: dict[str, Pairs] = figures(section)
    assert list(made) == ["by-topic"]  # a field with one value divides nothing
    assert made["by-topic"].title == "By topic: 1 of 2 intervals lie on the better side of 0; most gained a (+0.300)"
    assert [row.small for row in made["by-topic"].rows] == [False, False, True]
    falling = [cell("a", -0.3, -0.4), cell("b", 0.1, 0.05)]
    section = breakdown_section({"topic": falling}, "perplexity", False)
    assert figures(section)["by-topic"].title == (
        "By topic: 1 of 2 intervals lie on the better side of 0; most gained a (-0.300)"
    )
    assert breakdown_section({}, "ROUGE-L", True) is None


def line(item: str, base: float, tuned: float) -> dict[str, object]:
    flip = "won" if tuned > base else "lost" if tuned < base else "tie"
    return {"id": item, "base": base, "tuned": tuned, "difference": tuned - base, "flip": flip}


def test_flips_show_the_largest_gains_and_losses_first() -> None:
    scores = [line("up", 0.1, 0.2), line("most", 0.1, 0.9), line("down", 0.5, 0.1), line("same", 0.3, 0.3)]
    text = {"question": "q", "reference": "r", "answer": "a"}
    section = flips_section(scores, {str(one["id"]): (text, text) for one in scores}, "ROUGE-L")
    shown = [block for block in section.blocks if isinstance(block, Passage)]
    assert [(block.title.split(":")[0], block.tone) for block in shown] == [
        ("most", "good"),
        ("up", "good"),
        ("down", "bad"),
    ]
    assert section.finding == "By ROUGE-L, the tuned model does better on 2 items and worse on 1."
    [listing] = tables(section)
    assert [row[0] for row in listing.rows] == ["most", "up", "down"]


def trained(validation: list[tuple[int, float]], **changes: Any) -> Section:
    steps = [{"step": step, "loss": 9 / step, "learning_rate": 1e-3, "phase": "cosine"} for step in range(1, 10)]
    steps += [{"step": step, "validation_loss": loss} for step, loss in validation]
    best = min(validation, key=lambda one: one[1], default=None)
    report = {
        "steps": 9,
        "seconds": 60.0,
        "rows": {"train": 80},
        "trainable": 10,
        "total": 100,
        "dtype": "float32",
        "stopped_early": False,
        "best_step": best and best[0],
        "best_validation_loss": best and best[1],
    }
    plan = {"seconds": {"estimate": 40.0}, "memory_gib": {"total": 2.0}}
    return training_section(steps, {**report, **changes}, plan)


@pytest.mark.parametrize(
    ("validation", "title"),
    [
        ([(3, 5.0), (6, 4.0), (9, 4.5)], "Validation loss fell from 5.000 to 4.000 and stopped falling at step 6"),
        ([(3, 5.0), (9, 4.0)], "Validation loss fell from 5.000 to 4.000 and was still falling at the end, step 9"),
        ([(3, 4.0), (9, 5.0)], "Validation loss was lowest at the first measurement, step 3, and rose to 5.000"),
        ([(9, 4.0)], "Validation loss was 4.000 at step 9, the only time it was measured"),
        ([], "Training loss went from 9.000 to 1.000; there was no validation"),
    ],
)
def test_the_title_of_the_curves_says_what_happened(validation: list[tuple[int, float]], title: str) -> None:
    loss: Lines = figures(trained(validation))["loss"]
    assert loss.title == title


def test_predictions_are_held_against_what_was_measured() -> None:
    versus: Versus = figures(trained([]))["versus"]
    assert [(row.name, row.predicted, row.measured) for row in versus.rows] == [("time", 40.0, 60.0)]
    assert versus.title == "Training time was 1.50 times the plan"
    both: Versus = figures(trained([], peak_memory_gib=1.0))["versus"]
    assert both.title == "Training time was 1.50 times the plan and memory was 0.50 times the plan"


def test_a_diagnosis_tells_flow_counts_and_what_to_change() -> None:
    by = {"base": {"items": 3, "share": 0.3, "ci95": [0.1, 0.5]}, "tuned": {"items": 1, "share": 0.1, "ci95": None}}
    section = diagnosis_section(
        {
            "sides": ["base", "tuned"],
            "answers": {who: {"items": 10, "flagged": one["items"]} for who, one in by.items()},
            "counts": {"generic": {"title": "Generic", "certainty": "suspected", "by": by}},
            "flow": {"labels": ["generic", "clean"], "titles": ["Generic", "Clean"], "matrix": [[1, 2], [0, 7]]},
            "patterns": [],
            "clusters": [],
            "suggestions": [{"key": "training.epochs", "now": 2, "proposed": 4, "sentence": "It fell."}],
            "notes": ["A note."],
        }
    )
    flow: Flow = figures(section)["flow"]
    assert flow.title == "2 of 10 answers became clean, 0 ceased to be"
    assert set(flow.links) == {(0, 0, 1), (0, 1, 2), (1, 1, 7)}
    counts, suggestions = tables(section)
    assert list(counts.rows[0]) == ["Generic (suspected)", "3", "30% (10% to 50%)", "1", "10%"]
    assert list(suggestions.rows[0]) == ["training.epochs", "2", "4", "It fell."]
    assert told(section) == "A note."


def test_limits_come_from_what_was_found() -> None:
    section = limits_section(comparison(power=0.5), METRICS, None, {"steps": 1}, None)
    assert section is not None
    limits = told(section)
    for found in ("40 test items", "20 independent groups", "50%", "75% of the answers of base", "One training seed"):
        assert found in limits
    assert "does not say that the model is good" not in limits
    assert limits_section(None, {}, None, None, None) is None


@pytest.mark.parametrize(("flagged", "warned"), [(30, True), (10, False)])
def test_better_than_a_bad_base_is_not_called_good(flagged: int, warned: bool) -> None:
    answers = {"tuned": {"items": 40, "flagged": flagged}}
    section = limits_section(comparison(), {}, None, None, {"sides": ["base", "tuned"], "answers": answers})
    assert section is not None
    assert ("does not say that the model is good: 30 of 40 answers" in told(section)) is warned


@pytest.mark.parametrize(
    ("matrix", "title"),
    [
        ([[1, 0, 3], [0, 2, 0], [4, 0, 5]], "3 of 15 answers became clean, 4 ceased to be"),
        ([[1, 6, 0], [0, 2, 0], [0, 0, 0]], "No answer became clean or ceased to be; 6 of 9 went from A to B"),
        ([[1, 0, 0], [0, 2, 0], [0, 0, 5]], "None of 8 answers changed its main category"),
    ],
)
def test_the_flow_says_what_moved(matrix: list[list[int]], title: str) -> None:
    flow = {"labels": ["a", "b", "clean"], "titles": ["A", "B", "Clean"], "matrix": matrix}
    answers = {who: {"items": 9, "flagged": 1} for who in ("base", "tuned")}
    lists: dict[str, Any] = {"patterns": [], "clusters": [], "suggestions": [], "notes": []}
    summary = {"sides": ["base", "tuned"], "answers": answers, "counts": {}, "flow": flow, **lists}
    assert figures(diagnosis_section(summary))["flow"].title == title


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
