"""What tuning cost elsewhere: an unmoved model forgets nothing, a spoiled one is caught, earlier rows are found."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from luthier.evaluate import forgetting
from luthier.recipe.load import load_recipe
from luthier.run.atomic import read_json, read_jsonl, write_json, write_jsonl
from luthier.run.folder import RunFolder
from luthier.run.progress import Silent
from luthier.stages.evaluate import evaluate
from tests import finished


def run(folder: RunFolder) -> dict:
    evaluate(load_recipe(folder.recipe).recipe, folder, Silent())
    return read_json(folder.forgetting)


def test_there_are_passages_enough_and_none_twice() -> None:
    found = forgetting.passages()
    assert len(found) == len(set(found)) >= 40
    assert all(40 <= len(passage.split()) <= 90 for passage in found)


def test_an_adapter_that_does_nothing_forgets_nothing(tmp_path: Path) -> None:
    told = run(finished.make(tmp_path, scale=0.0))
    entry = told["metrics"]["general_text"]
    assert entry["difference"] == 0 and entry["verdict"] == "no evidence"
    assert told["verdict"] != "forgotten"
    assert told["earlier_run"] is None


def test_the_perplexity_is_that_of_transformers(tmp_path: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder = finished.make(tmp_path, scale=0.0)
    base = folder.path.parent / "base"
    entry = run(folder)["metrics"]["general_text"]
    model, tokenizer = AutoModelForCausalLM.from_pretrained(base), AutoTokenizer.from_pretrained(base)
    losses = []
    for passage in forgetting.passages():
        ids = torch.tensor([tokenizer(passage)["input_ids"][:512]])
        with torch.no_grad():
            losses.append(float(model(input_ids=ids, labels=ids).loss))
    assert entry["base"] == pytest.approx(math.exp(sum(losses) / len(losses)), rel=1e-4)


def test_a_model_that_lost_its_language_is_said_to_have_forgotten() -> None:
    draw = np.random.default_rng(0)
    base = draw.normal(3.0, 0.3, 40)
    probes = forgetting.Probes([((1,), (1,))] * 40)
    losses = {"general_text": list(base)}
    worse = forgetting.judge(losses, {"general_text": list(base + draw.normal(0.4, 0.1, 40))}, probes, 0)
    assert worse["verdict"] == "forgotten"
    assert worse["metrics"]["general_text"]["verdict"] == "worse"
    same = forgetting.judge(losses, {"general_text": list(base + draw.normal(0.0, 0.05, 40))}, probes, 0)
    assert same["verdict"] == "not forgotten"
    blurred = forgetting.judge(losses, {"general_text": list(base + draw.normal(0.0, 1.5, 40))}, probes, 0)
    assert blurred["verdict"] == "not seen"


def test_an_earlier_run_with_other_test_rows_is_asked_again(tmp_path: Path) -> None:
    earlier = finished.make(tmp_path, seed=0, rows=24)
    write_json(earlier.comparison, {})
    folder = finished.make(tmp_path, seed=1, rows=12)
    told = run(folder)  # the first 12 of the 24 rows are in its own splits
    assert told["earlier_run"] == earlier.id
    entry = told["metrics"]["earlier_test_rows"]
    assert entry["items"] == 12 and entry["n"] == 6
    rows = list(read_jsonl(folder.rows("test")))
    write_jsonl(earlier.rows("test"), rows)
    assert run(folder)["earlier_run"] is None
