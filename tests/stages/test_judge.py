"""The judge in the evaluate stage: its own files, nothing in the metrics, and a place of its own in the report."""

from __future__ import annotations

import json
from pathlib import Path

from luthier.recipe.load import load_recipe
from luthier.report.build import build
from luthier.run.atomic import read_json, read_jsonl
from luthier.run.progress import Silent
from luthier.run.record import start_record
from luthier.stages.evaluate import evaluate
from tests import finished
from tests.scripted import Answer, Request, endpoint, prompt_of


def shortest(request: Request, _number: int) -> Answer:
    """Prefer the shorter answer, as a consistent judge might."""
    shown = dict(line.split(" answer: ") for line in prompt_of(request).splitlines() if " answer: " in line)
    first, second = (len(shown[name]) for name in ("First", "Second"))
    preferred = "tie" if first == second else "first" if first < second else "second"
    return Answer(json.dumps({"first": {"brief": 5}, "second": {"brief": 5}, "preferred": preferred}))


def test_its_opinion_stands_apart_from_the_metrics(tmp_path: Path) -> None:
    folder = finished.make(tmp_path, rows=12)
    quick = {"evaluation.metrics": ["rougeL"], "evaluation.max_new_tokens": 4}
    plain = load_recipe(folder.recipe, overrides=quick).recipe
    evaluate(plain, folder, Silent())
    before = {file.name: file.read_bytes() for file in folder.evaluation.iterdir()}
    assert "judge.json" not in before
    with endpoint(shortest) as server:
        overrides = quick | {
            "evaluation.judge.criteria": {"brief": "Says it in few words."},
            "evaluation.judge.rows": 11,
        }
        overrides |= {"teacher.url": server.url, "teacher.model": "big"}
        asking = load_recipe(folder.recipe, overrides=overrides).recipe
        evaluate(asking, folder, Silent())
        asked = len(server.asked)
        assert 11 <= asked <= 22  # equal answers are asked about once
        assert {request["temperature"] for request in server.asked} == {0.0}
    after = {file.name: file.read_bytes() for file in folder.evaluation.iterdir()}
    assert set(after) - set(before) == {"judge.json", "judgements.jsonl"}
    assert {name: after[name] for name in before} == before
    found = read_json(folder.judge)
    assert found["pairs"]["judged"] == 11
    assert found["agreement"] == 1.0
    assert found["position"]["bias"] == 0.0
    assert set(found["metrics"]) == {"preference", "criterion: brief"}
    assert len(list(read_jsonl(folder.judgements))) == 22
    start_record(folder, "r", "causal-lm", 1, "d", ["evaluate"])
    sections = {section.id: section for section in build(folder, "r").sections}
    assert sections["judge"].finding == found["sentence"]
