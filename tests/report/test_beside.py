"""Parts of the report beside the comparison: training seeds, forgetting, exports, what augmentation made."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from luthier.evaluate import forgetting
from luthier.evaluate.compare import compare
from luthier.evaluate.measured import of_seeds
from luthier.report.beside import export_section, forgetting_section
from luthier.report.build import build
from luthier.report.closing import limits_section
from luthier.report.content import Note, Picture, Table
from luthier.report.data import data_section
from luthier.report.drawing import draw
from luthier.report.figures import Dots, Versus
from luthier.report.scene import Marker
from luthier.report.seeds import seeds_section
from luthier.report.training import versus
from luthier.run.atomic import read_json
from tests.report import evidence

TITLES = {"rougeL": "ROUGE-L", "perplexity": "Perplexity"}
BASE = [0.1 + place / 100 for place in range(21)]


def compared(gains: list[float]) -> dict[str, Any]:
    """Compare three seeds whose items gain as much, give or take a little."""
    seeds = [[one + gain + (place % 3 - 1) / 50 for place, one in enumerate(BASE)] for gain in gains]
    worse = [[one - gain for one in BASE] for gain in gains]
    measured = {
        "rougeL": of_seeds("ROUGE-L", [BASE], seeds),
        "perplexity": of_seeds("Perplexity", [BASE], [[*one[:-1], one[-1] - 0.01] for one in worse], None, False, True),
    }
    return compare(measured, "rougeL", resamples=200)


def test_one_seed_has_no_section_and_three_show_where_each_lies() -> None:
    assert seeds_section({"seeds": {"count": 1}, "metrics": {}}, None, {}) is None
    found = compared([0.05, -0.02, 0.03])
    trained = {
        "seeds": [{"seed": seed, "steps": 9, "seconds": 60.0, "best_validation_loss": None} for seed in (4, 5, 6)]
    }
    for one in trained["seeds"]:
        one["adapter_proof"] = {"holds": one["seed"] != 5}
    section = seeds_section(found, trained, TITLES)
    assert section is not None
    assert section.finding == found["seeds"]["sentence"]
    [dots] = [block.figure for block in section.blocks if isinstance(block, Picture)]
    assert isinstance(dots, Dots)
    assert dots.title == "The seeds do not agree on the direction of ROUGE-L and Perplexity"
    rouge, perplexity = dots.rows
    entry = found["metrics"]["rougeL"]
    deviation = entry["difference"] / entry["cohens_dz"]
    assert rouge.values == pytest.approx([one / deviation for one in (0.05, -0.02, 0.03)], rel=0.03)
    assert [value > 0 for value in perplexity.values] == [True, False, True]  # better lies to the right
    markers = [part for part in draw(dots).items if isinstance(part, Marker)]
    assert [marker.hollow for marker in markers] == [True, True, False] * 2  # the first seed, drawn last, is filled
    differences, trainings = (block for block in section.blocks if isinstance(block, Table))
    assert differences.headers[1:4] == ("seed 4", "seed 5", "seed 6")
    assert [row[4] for row in trainings.rows] == ["holds", "DOES NOT HOLD", "holds"]
    assert "diagnosis are of that seed alone" in section.blocks[-1].text  # type: ignore[union-attr]


def test_seeds_that_agree_are_said_to() -> None:
    section = seeds_section(compared([0.05, 0.04, 0.06]), None, TITLES)
    assert section is not None
    assert section.blocks[0].figure.title == "All seeds move the same way on each of 2 metrics"  # type: ignore[union-attr]


def test_limits_tell_of_seeds_and_the_first_training_is_held_against_the_plan_of_one() -> None:
    found = compared([0.05, 0.04, 0.06])
    limits = limits_section(found, {}, None, None, None)
    assert limits is not None
    told = [block.text for block in limits.blocks if isinstance(block, Note)]
    assert found["seeds"]["sentence"] in told
    assert any("first training seed" in one for one in told)
    trained = {"seconds": 10.0, "seeds": [{"seconds": 10.0}, {"seconds": 14.0}]}
    [picture] = versus(trained, {"seconds": {"estimate": 36.0, "one_training": 12.0}})
    assert isinstance(picture, Picture) and isinstance(picture.figure, Versus)
    assert (picture.figure.rows[0].predicted, picture.figure.rows[0].measured) == (12.0, 10.0)


@pytest.mark.parametrize(
    ("rise", "verdict", "tone", "word"),
    [(0.2, "forgotten", "bad", "worse than its base"), (0.0, "not forgotten", "good", "Nothing was forgotten")],
)
def test_forgetting_is_told_apart_from_the_verdict(rise: float, verdict: str, tone: str, word: str) -> None:
    base = [3 + place / 10 for place in range(20)]
    after = [one + rise + (place % 2 - 0.5) / 1000 for place, one in enumerate(base)]
    found = forgetting.judge({"general_text": base}, {"general_text": after}, forgetting.Probes([([], [])] * 20), 0)
    assert found["verdict"] == verdict
    section = forgetting_section(found)
    note, table = section.blocks
    assert isinstance(note, Note) and isinstance(table, Table)
    assert (note.text, note.tone) == (found["sentence"], tone)
    assert word in section.finding
    assert [row[0] for row in table.rows] == ["general text"]
    assert "apart from the verdict" in table.caption


def test_exports_are_told_and_one_that_failed_first() -> None:
    assert export_section({}) is None
    merged = {"max_abs_logit_difference": 1.5e-5, "greedy_equal": True, "passed": True, "texts": 8}
    section = export_section({"merged": merged})
    assert section is not None
    assert section.finding.endswith("merged answers as the trained model does.")
    assert list(section.blocks[0].rows[0]) == [  # type: ignore[union-attr]
        "merged", "yes", "8", "max abs logit difference 1.5e-05, greedy equal yes"
    ]  # fmt: skip
    bad = export_section({"merged": merged, "onnx": {"min_cosine": 0.9912345, "passed": False, "texts": 8}})
    assert bad is not None
    assert bad.finding.startswith("Do not use onnx")
    assert list(bad.blocks[0].rows[1])[1:] == ["NO", "8", "min cosine 0.9912345"]  # type: ignore[union-attr]


def test_a_whole_run_tells_all_of_it(tmp_path: Path) -> None:
    run = evidence.make(tmp_path)
    content = build(run, "coach")
    ids = [section.id for section in content.sections]
    assert [one for one in ids if one in ("seeds", "forgetting", "export")] == ["seeds", "forgetting", "export"]
    assert ids.index("export") < ids.index("limits")
    report = read_json(run.data_report)
    made = report["augmentation"]["categories"]["word_order"]
    tables = [block for block in data_section(report).blocks if isinstance(block, Table)]
    assert [f"{made['variations']}", f"{made['distinct_1']:.2f}"] == list(tables[-1].rows[0])[1:3]
    plain = data_section({**report, "augmentation": None})
    assert len(plain.blocks) == len(data_section(report).blocks) - 2
