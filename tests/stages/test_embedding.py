"""The embedding kind along the stages: train, resume, evaluate; and that what is not right is told."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.torch import load_file

from luthier import pipeline
from luthier.data.rows import from_json
from luthier.errors import GateError, UserError
from luthier.kinds import kind_named
from luthier.models import lora
from luthier.models.bases import resolve
from luthier.recipe.load import load_recipe
from luthier.run.atomic import read_json, read_jsonl
from luthier.run.folder import RunFolder
from luthier.run.progress import Silent
from luthier.stages.evaluate import evaluate
from luthier.stages.plan import plan
from luthier.stages.prepare import prepare
from luthier.stages.train import train
from tests.kinds import encoders

RECIPE = """\
name: titles
kind: embedding
seed: 3
model: {{base: {base}, dtype: float32}}
data: {{source: titles.csv, max_length: 32, near_duplicates: off, split: {split}}}
adapter: {{r: 4, alpha: 8, dropout: {dropout}, share: {share}}}
training: {{epochs: 2, batch_size: 16, learning_rate: 0.01, checkpoint_every: 4, loss: {loss}}}
"""
SPLIT = "{train: 0.6, validation: 0.1, test: 0.3, group: family}"
WORDS = ["overfitting", "dropout", "bias", "variance", "gradient", "learning", "rate", "model", "test", "units", "loss"]


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return encoders.base(tmp_path_factory.mktemp("base"))


def written(folder: Path, base: Path, families: int = 30, **changes: Any) -> Any:
    """Write a table of titles, five to a family that share a word, and its recipe; return the loaded recipe."""
    lines = [("title", "family", "topic")]
    for family in range(families):
        word = f"{WORDS[family % len(WORDS)]}{family}"
        lines += [
            (f"{WORDS[(family * 3 + place) % len(WORDS)]} {word} {place}", f"f{family}", "x") for place in range(5)
        ]
    with open(folder / "titles.csv", "w", newline="") as file:
        csv.writer(file).writerows(lines)
    settings = {"dropout": 0.0, "share": 1.0, "loss": "auto", "split": SPLIT} | changes
    (folder / "recipe.yaml").write_text(RECIPE.format(base=base, **settings))
    return load_recipe(folder / "recipe.yaml").recipe


def trained(folder: Path, recipe: Any) -> RunFolder:
    run = RunFolder(folder)
    prepare(recipe, run, Silent())
    train(recipe, run, Silent())
    return run


@pytest.fixture(scope="module")
def finished(base: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, RunFolder]:
    folder = tmp_path_factory.mktemp("finished")
    recipe = written(folder, base)
    run = trained(folder / "run", recipe)
    evaluate(recipe, run, Silent())
    return recipe, run


def test_families_are_split_and_never_their_titles(finished: tuple[Any, RunFolder]) -> None:
    _, run = finished
    sides = {side: [from_json(line) for line in read_jsonl(run.rows(side))] for side in ("train", "validation", "test")}
    families = {side: {row.content["label"] for row in rows} for side, rows in sides.items()}
    assert sum(map(len, families.values())) == 30
    assert all(len(rows) == 5 * len(families[side]) for side, rows in sides.items())


def test_the_adapter_is_plain_peft_and_proven(finished: tuple[Any, RunFolder], base: Path) -> None:
    from sentence_transformers import SentenceTransformer

    recipe, run = finished
    report = read_json(run.train_report)
    assert report["adapter_proof"]["holds"]
    assert any("held back" in note for note in report["notes"])
    assert any("loss is multiple-negatives" in note for note in report["notes"])
    theirs = SentenceTransformer(str(base), device="cpu")
    theirs.load_adapter(str(run.adapter))
    words = ["a model", "gradient units"]
    found = resolve(recipe.model.base)
    tokenizer, _ = kind_named("embedding").model.load_tokenizer(found)
    model = lora.load_adapter(kind_named("embedding").model.load_base(found, "float32"), run.adapter)
    mine = kind_named("embedding").model.embedder(model, found, tokenizer, 32).embed(words)
    np.testing.assert_allclose(mine, theirs.encode(words), atol=1e-5)


def test_evaluation_writes_what_every_kind_writes(finished: tuple[Any, RunFolder]) -> None:
    _, run = finished
    rows = list(read_jsonl(run.rows("test")))
    for who in ("base", "tuned"):
        lines = list(read_jsonl(run.evaluation / f"answers-{who}.jsonl"))
        assert {line["id"] for line in lines} == {row["id"] for row in rows}
        first = lines[0]
        assert first["group"] == next(row["label"] for row in rows if row["id"] == first["id"])
        assert len(first["retrieved"]) == 10
        assert first["question"] not in [hit["text"] for hit in first["retrieved"]]
        assert first["relevant"] == len(first["ranks"]) == 4
        assert all(hit["relevant"] == (hit["families"] == [first["group"]]) for hit in first["retrieved"])
    comparison = read_json(run.comparison)
    assert comparison["primary"] == "recall@10"
    entry = comparison["metrics"]["recall@10"]
    assert (entry["n"], entry["items"]) == (9, 45)
    assert comparison["verdict"] == "too few examples"
    metrics = read_json(run.evaluation / "metrics.json")
    scores = [line for line in read_jsonl(run.evaluation / "scores.jsonl") if line["metric"] == "mrr"]
    assert metrics["metrics"]["mrr"]["tuned"]["value"] == pytest.approx(np.mean([line["tuned"] for line in scores]))
    assert metrics["known_families"]["queries"] > 0
    assert set(metrics["geometry"]["tuned"]) == {"alignment", "uniformity", "mean_similarity"}


def test_an_evaluation_that_was_killed_goes_on_with_kept_vectors(
    finished: tuple[Any, RunFolder], monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe, run = finished
    before = (run.evaluation / "scores.jsonl").read_bytes()
    monkeypatch.setattr("luthier.models.vectors.Embedder.embed", lambda *_: pytest.fail("vectors were made again"))
    evaluate(recipe, run, Silent())
    assert (run.evaluation / "scores.jsonl").read_bytes() == before


@pytest.mark.parametrize("loss", ["auto", "triplet"])
def test_a_training_that_was_stopped_ends_with_the_same_bytes(
    base: Path, tmp_path: Path, loss: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = written(tmp_path, base, dropout=0.1, loss=loss)
    whole = trained(tmp_path / "whole", recipe)
    stopped = RunFolder(tmp_path / "stopped")
    prepare(recipe, stopped, Silent())

    from luthier.engine.loop import StepTrainer

    plain = StepTrainer.training_step

    def killed(self: Any, model: Any, inputs: Any, num_items_in_batch: Any = None) -> Any:
        if inputs["step"] == 7:
            raise RuntimeError("killed")
        return plain(self, model, inputs, num_items_in_batch)

    with monkeypatch.context() as patch:
        patch.setattr(StepTrainer, "training_step", killed)
        with pytest.raises(RuntimeError, match="killed"):
            train(recipe, stopped, Silent())
    train(recipe, stopped, Silent())
    one, other = (run.adapter / "adapter_model.safetensors" for run in (whole, stopped))
    assert one.read_bytes() == other.read_bytes()
    losses = [[line.get("loss") for line in read_jsonl(run.metrics)] for run in (whole, stopped)]
    assert losses[0] == losses[1]


def test_a_share_of_the_adapter_lies_between_base_and_tuned(base: Path, tmp_path: Path) -> None:
    runs = [trained(tmp_path / str(share), written(tmp_path, base, share=share)) for share in (1.0, 0.25)]
    whole, quarter = (load_file(run.adapter / "adapter_model.safetensors") for run in runs)
    for name, weight in whole.items():
        expected = weight * 0.25 if "lora_B" in name else weight
        assert (quarter[name] == expected).all()
    assert read_json(runs[1].train_report)["adapter_proof"]["holds"]


def test_mined_negatives_are_kept_in_the_run(base: Path, tmp_path: Path) -> None:
    recipe = written(tmp_path, base, loss="multiple-negatives, hard_negatives: {count: 1, margin: 0.0}")
    run = trained(tmp_path / "run", recipe)
    lines = list(read_jsonl(run.training / "hard-negatives.jsonl"))
    assert len(lines) == read_json(run.train_report)["rows"]["train"]
    assert any(line["negatives"] for line in lines)


def test_the_plan_is_of_the_titles_that_are_trained(base: Path, tmp_path: Path) -> None:
    recipe = written(tmp_path, base)
    run = RunFolder(tmp_path / "run")
    prepare(recipe, run, Silent())
    plan(recipe, run, Silent())
    told = read_json(run.plan_report)
    assert told["mask"]["available"]
    assert told["tokens"]["rows"] == 90 - 4
    assert told["parameters"]["trainable"] > 0
    train(recipe, run, Silent())
    report = read_json(run.train_report)
    assert (report["trainable"], report["total"]) == (told["parameters"]["trainable"], told["parameters"]["total"])
    assert report["steps"] == told["steps"]


def test_targets_that_match_nothing_stop_the_run(base: Path, tmp_path: Path) -> None:
    recipe = written(tmp_path, base).model_copy(deep=True)
    values = recipe.model_dump() | {"adapter": {"r": 4, "targets": ["q", "k", "dense"]}}
    wrong = type(recipe).model_validate(values)
    run = RunFolder(tmp_path / "run")
    prepare(wrong, run, Silent())
    with pytest.raises(GateError, match="q, k match nothing in this base"):
        train(wrong, run, Silent())


def test_a_whole_run_from_the_command_of_a_table(base: Path, tmp_path: Path) -> None:
    """Walked by the pipeline, the run is complete and a second walk changes nothing."""
    written(tmp_path, base, families=20)
    loaded = load_recipe(tmp_path / "recipe.yaml")
    walked = pipeline.walk(loaded, tmp_path / "runs")
    assert {outcome.status for outcome in walked.outcomes} == {"done"}
    assert json.loads(walked.folder.record.read_text())["status"] == "complete"
    again = pipeline.walk(loaded, tmp_path / "runs")
    assert {outcome.status for outcome in again.outcomes} == {"skipped"}


def test_pairs_with_scores_are_measured_by_rank_correlation(base: Path, tmp_path: Path) -> None:
    lines = ["sentence1,sentence2,score"]
    lines += [f"{WORDS[n % 11]} {n},{WORDS[(n * n) % 11]} model {n},{(n % 6) / 5}" for n in range(60)]
    (tmp_path / "titles.csv").write_text("\n".join(lines))
    (tmp_path / "recipe.yaml").write_text(
        f"name: pairs\nkind: embedding\nmodel: {{base: {base}}}\ndata: {{source: titles.csv, near_duplicates: off}}\n"
        "training: {epochs: 1, batch_size: 16}\n"
    )
    recipe = load_recipe(tmp_path / "recipe.yaml").recipe
    run = trained(tmp_path / "run", recipe)
    evaluate(recipe, run, Silent())
    comparison = read_json(run.comparison)
    assert comparison["primary"] == "spearman"
    lines = list(read_jsonl(run.evaluation / "answers-tuned.jsonl"))
    from scipy.stats import spearmanr

    found = spearmanr([line["similarity"] for line in lines], [line["score"] for line in lines]).statistic
    assert read_json(run.evaluation / "metrics.json")["metrics"]["spearman"]["tuned"]["value"] == pytest.approx(found)
    assert any("the loss is cosine" in note for note in read_json(run.train_report)["notes"])


def test_triplets_are_measured_by_order_and_retrieval(base: Path, tmp_path: Path) -> None:
    rows = [
        {"anchor": f"{WORDS[n % 11]} {n}", "positive": f"{WORDS[n % 11]} model {n}", "negative": f"other {n}"}
        for n in range(40)
    ]
    (tmp_path / "rows.jsonl").write_text("\n".join(json.dumps(row) for row in rows))
    (tmp_path / "recipe.yaml").write_text(
        f"name: triplets\nkind: embedding\nmodel: {{base: {base}}}\n"
        "data: {source: rows.jsonl, near_duplicates: off}\n"
        "training: {epochs: 1, batch_size: 16, loss: triplet, margin: 0.1}\n"
    )
    recipe = load_recipe(tmp_path / "recipe.yaml").recipe
    run = trained(tmp_path / "run", recipe)
    evaluate(recipe, run, Silent())
    metrics = read_json(run.evaluation / "metrics.json")
    assert 0 <= metrics["metrics"]["triplet_accuracy"]["tuned"]["value"] <= 1
    assert metrics["metrics"]["recall@1"]["base"]["items"] == 6
    assert metrics["known_families"] is None


def test_a_test_split_of_lone_titles_cannot_be_searched(base: Path, tmp_path: Path) -> None:
    recipe = written(tmp_path, base, families=6)
    run = trained(tmp_path / "run", recipe)  # the validation side has one family: nothing can be measured on it
    report = read_json(run.train_report)
    assert report["rows"]["validation"] == 5
    assert report["best_step"] is None
    assert any("no two families" in note for note in report["notes"])
    lone = [line | {"label": f"alone {n}"} for n, line in enumerate(read_jsonl(run.rows("test")))]
    run.rows("test").write_text("\n".join(json.dumps(line) for line in lone))
    with pytest.raises(UserError, match="nothing to search for"):
        evaluate(recipe, run, Silent())


def test_several_seeds_are_measured_on_one_validation_side_and_one_test(
    base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from luthier.kinds import path

    pools: list[Any] = []
    fit = path.fit
    monkeypatch.setattr(
        path, "fit", lambda model, material, *rest: pools.append(material.validation) or fit(model, material, *rest)
    )
    written(tmp_path, base)
    recipe = load_recipe(tmp_path / "recipe.yaml", overrides={"training.seeds": [3, 4], "training.epochs": 1}).recipe
    run = trained(tmp_path / "run", recipe)
    assert len(pools) == 2 and pools[0] is pools[1]
    evaluate(recipe, run, Silent())
    comparison, primary = read_json(run.comparison), read_json(run.comparison)["primary"]
    lines = [line for line in read_jsonl(run.scores) if line["metric"] == primary]
    assert all(line["tuned_seeds"][0] == line["tuned"] for line in lines)
    second = {line["id"]: line for line in read_jsonl(run.answers("tuned-seed-4"))}
    assert {line["id"] for line in lines} <= set(second)
    assert comparison["metrics"][primary]["seeds"]["count"] == comparison["seeds"]["count"] == 2
    known = read_json(run.metrics_report)["known_families"]["comparison"]
    assert known["seeds"]["count"] == 2
