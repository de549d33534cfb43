"""`luthier compare`: runs ranked on one test set, and refused on two."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from luthier.cli.compare import rank_runs, render
from luthier.errors import UserError
from luthier.evaluate.compare import compare
from luthier.evaluate.measured import Measured
from luthier.run.atomic import read_json, read_jsonl, write_json, write_jsonl, write_text
from luthier.run.folder import RunFolder
from tests.cli.conftest import Luthier

COUNT = 30
BASE = np.random.default_rng(0).random(COUNT)


def evaluated(runs: Path, name: str, gain: float, seed: int = 1, **changes: Any) -> RunFolder:
    """Write a run as far as its evaluation, with scores that are `gain` above those of the base."""
    folder = RunFolder(runs / name / f"2026-01-01T00-00-0{seed}")
    rows = [
        {"id": f"q{at}", "form": "text", "text": f"question {at}", "labels": {}, "group": None} for at in range(COUNT)
    ]
    rows = changes.get("rows", rows)
    base = changes.get("base", BASE)
    tuned = base + gain + np.random.default_rng(seed + len(name)).normal(0, 0.02, COUNT)
    measured = {
        "rougeL": Measured("ROUGE-L", base.tolist(), tuned.tolist()),
        "perplexity": Measured("Perplexity", (3 - base).tolist(), (3 - tuned).tolist(), None, False, True),
    }
    measured = {metric: measured[metric] for metric in changes.get("metrics", measured)}
    write_text(folder.recipe, f"name: {name}\nseed: {seed}\ntraining: {{epochs: {changes.get('epochs', 1)}}}\n")
    write_json(folder.record, {"name": name, "id": folder.id, "status": "complete", "stages": []})
    write_jsonl(folder.rows("test"), rows)
    lines = [
        {"id": f"q{at}", "metric": metric, "base": one.base[at], "tuned": one.tuned[at]}
        for metric, one in measured.items()
        for at in range(COUNT)
    ]
    write_jsonl(folder.scores, lines)
    titles = {metric: {"tuned": {"title": one.title}} for metric, one in measured.items()}
    write_json(folder.metrics_report, {"metrics": titles})
    write_json(folder.comparison, compare(measured, next(iter(measured)), resamples=199))
    return folder


def test_runs_and_their_base_are_ranked_by_every_metric(tmp_path: Path) -> None:
    for name, gain in (("good", 0.3), ("poor", 0.05)):
        evaluated(tmp_path, name, gain)
    found = rank_runs(["good/latest", "poor/latest"], tmp_path)
    ranking = found["metrics"]["rougeL"]["ranking"]
    names = [(line["rank"], line["name"]) for line in ranking]
    assert names == [(1, "good/2026-01-01T00-00-01"), (2, "poor/2026-01-01T00-00-01"), (3, "base")]
    assert [line["rank"] for line in found["metrics"]["perplexity"]["ranking"]] == [1, 2, 3]
    assert found["sentence"] == "good/2026-01-01T00-00-01 is best by ROUGE-L, beyond chance."
    text = render(found)
    assert "first is" in text
    assert "+0.2" in text
    assert rank_runs(["poor/latest", "good/latest"], tmp_path, "perplexity")["primary"] == "perplexity"


def test_seeds_of_one_recipe_stand_together(tmp_path: Path) -> None:
    one, other, third = (evaluated(tmp_path, "seeds", 0.2, seed) for seed in (1, 2, 3))
    evaluated(tmp_path, "single", 0.2, epochs=2)
    found = rank_runs([one.path, other.path, third.path, "single/latest"], tmp_path)["metrics"]["rougeL"]
    seeds = {line["name"]: (line["seeds"], len(line["runs"])) for line in found["ranking"]}
    assert seeds == {
        "seeds/2026-01-01T00-00-01 and 2 more seeds": (3, 3),
        "single/2026-01-01T00-00-01": (1, 1),
        "base": (1, 0),
    }
    assert {pair["decided_by"] for pair in found["pairs"]} == {"permutation and seeds", "permutation"}


def test_all_training_seeds_of_a_run_are_compared(tmp_path: Path) -> None:
    run = evaluated(tmp_path, "seeds", 0.3)
    evaluated(tmp_path, "single", 0.29)
    comparison = read_json(run.comparison)
    write_json(run.comparison, {**comparison, "seeds": {**comparison["seeds"], "count": 3}})
    lines = [{**line, "tuned_seeds": [line["tuned"] + by for by in (0, 0.2, -0.2)]} for line in read_jsonl(run.scores)]
    write_jsonl(run.scores, lines)
    found = rank_runs(["seeds/latest", "single/latest"], tmp_path)["metrics"]["rougeL"]
    [line] = [line for line in found["ranking"] if line["name"].startswith("seeds")]
    assert (line["name"], line["seeds"]) == ("seeds/2026-01-01T00-00-01", 3)
    assert {(pair["second"], pair["decided_by"]) for pair in found["pairs"]} >= {("base", "permutation and seeds")}
    [first] = [pair for pair in found["pairs"] if pair["second"] == "base" and pair["first"].startswith("seeds")]
    assert first["verdict"] == "no evidence"  # what its first seed alone would be: better


def test_runs_from_other_bases_are_compared_without_one(tmp_path: Path) -> None:
    evaluated(tmp_path, "one", 0.2)
    evaluated(tmp_path, "two", 0.2, base=BASE + 0.01, metrics=["rougeL"])
    found = rank_runs(["one/latest", "two/latest"], tmp_path)
    assert set(found["metrics"]) == {"rougeL"}
    assert len(found["metrics"]["rougeL"]["ranking"]) == 2


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ([{"id": f"q{at}", "text": f"other {at}", "group": None} for at in range(COUNT)], "other contents"),
        ([{"id": f"q{at}", "text": "x", "group": None} for at in range(5, COUNT)], "they share 25 of 30 and 25 items"),
    ],
)
def test_other_test_sets_are_refused(tmp_path: Path, rows: list, words: str) -> None:
    evaluated(tmp_path, "one", 0.2)
    evaluated(tmp_path, "two", 0.2, rows=rows)
    with pytest.raises(UserError) as raised:
        rank_runs(["one/latest", "two/latest"], tmp_path)
    assert "different test sets" in str(raised.value)
    assert words in str(raised.value)


def test_what_cannot_be_compared_is_told(tmp_path: Path) -> None:
    one = evaluated(tmp_path, "one", 0.2)
    two = evaluated(tmp_path, "two", 0.2, metrics=["perplexity"])
    for named, metric, words in (
        ([one.path, "one/latest"], None, "two runs or more"),
        ([one.path, two.path], None, "share perplexity"),
        ([one.path, two.path], "rouge9", "rouge9"),
        ([one.path, "three/latest"], None, "No run"),
    ):
        with pytest.raises(UserError) as raised:
            rank_runs([str(name) for name in named], tmp_path, metric)
        assert words in str(raised.value)
    two.comparison.unlink()
    with pytest.raises(UserError, match="not evaluated"):
        rank_runs([str(one.path), str(two.path)], tmp_path)


def test_the_verb_prints_json_and_refuses_with_status_2(tmp_path: Path, luthier: Luthier, process: Luthier) -> None:
    evaluated(tmp_path, "one", 0.2)
    evaluated(tmp_path, "two", 0.1)
    verb = ("compare", "one/latest", "--runs", tmp_path)
    done = process(*verb, "two/latest", "--json")
    assert (done.status, done.json["primary"]) == (0, "rougeL")
    refused = luthier(*verb, "--json")
    assert refused.status == 2
    assert "two runs or more" in refused.json["errors"][0]["problem"]
