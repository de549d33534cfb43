"""Breakdowns: which fields divide the items, what a cell holds, and that few items are marked."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pytest

from luthier.evaluate.breakdowns import breakdowns
from luthier.evaluate.compare import compare_scores
from luthier.evaluate.measured import Measured

COUNT = 36
BASE = np.random.default_rng(0).random(COUNT)
TUNED = BASE + np.random.default_rng(1).normal(0.1, 0.1, COUNT)


def made(labels: Any, groups: list[str] | None = None, **settings: Any) -> dict[str, list[dict[str, Any]]]:
    items = [
        {"id": str(at), "question": "w " * (at + 1), "reference": "same", "labels": labels(at)} for at in range(COUNT)
    ]
    one = Measured("Score", BASE.tolist(), TUNED.tolist(), groups, **settings)
    found = breakdowns(one, [{"id": str(at)} for at in range(COUNT)], items)
    json.dumps(found, allow_nan=False)
    return found


def test_a_cell_is_a_comparison_of_its_items() -> None:
    cells = {cell["value"]: cell for cell in made(lambda at: {"topic": "models" if at < 24 else "data"})["topic"]}
    entry = compare_scores(BASE[:24], TUNED[:24])
    for key in ("base", "tuned", "difference", "ci95", "n", "items"):
        assert cells["models"][key] == pytest.approx(entry[key], rel=1e-9), key
    assert (cells["models"]["small"], cells["data"]["items"]) == (False, 12)
    won = int((TUNED[24:] > BASE[24:]).sum())
    assert (cells["data"]["won"], cells["data"]["lost"]) == (won, 12 - won)


def test_few_units_are_marked_however_many_items_they_have() -> None:
    groups = [f"g{at // 4}" for at in range(COUNT)]
    cells = made(lambda at: {"topic": "a" if at < 32 else "b"}, groups)["topic"]
    assert [(cell["n"], cell["items"], cell["small"]) for cell in cells] == [(8, 32, True), (1, 4, True)]
    assert cells[1]["ci95"] is None


def test_lengths_and_numbers_become_ranges_in_their_order() -> None:
    found = made(lambda at: {"year": 1990 + at, "level": at % 3, "when": float(at % 2)})
    assert "reference_length" not in found  # all of one length
    assert [cell["value"] for cell in found["question_length"]] == ["2–24", "26–48", "50–72"]
    assert [cell["items"] for cell in found["year"]] == [12, 12, 12]
    assert [cell["value"] for cell in found["level"]] == ["0", "1", "2"]
    assert [cell["value"] for cell in found["when"]] == ["0.0", "1.0"]


def test_fields_that_divide_nothing_are_left_out() -> None:
    found = made(
        lambda at: {
            "source": f"page {at}",
            "constant": "x",
            "key_points": ["a", "b"],
            "sparse": "y" if at % 2 else None,
            "flag": at % 2 == 0,
            "empty": "",
        }
    )
    assert set(found) == {"question_length", "flag"}
    assert [cell["value"] for cell in found["flag"]] == ["False", "True"]


def test_missing_labels_leave_their_items_out() -> None:
    cells = made(lambda at: {} if at < 6 else {"topic": "a" if at % 2 else "b"})["topic"]
    assert sum(cell["items"] for cell in cells) == 30


def test_a_logarithm_is_told_as_what_people_read_and_lower_may_be_better() -> None:
    settings = {"higher_is_better": False, "logarithmic": True}
    cell = made(lambda at: {"topic": "a" if at < 20 else "b"}, **settings)["topic"][0]
    assert cell["base"] == pytest.approx(math.exp(BASE[:20].mean()))
    assert cell["difference"] == pytest.approx(math.exp(TUNED[:20].mean()) - math.exp(BASE[:20].mean()))
    assert cell["won"] == int((TUNED[:20] < BASE[:20]).sum())
    assert cell["ci95"][0] < cell["difference"] < cell["ci95"][1]


def test_items_that_nobody_described_have_no_breakdown() -> None:
    one = Measured("Score", BASE.tolist(), TUNED.tolist())
    assert breakdowns(one, [{"id": str(at)} for at in range(COUNT)], []) == {}
