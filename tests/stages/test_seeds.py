"""Several training seeds: an adapter for each, what a killed run keeps, and the noise of seeds in the comparison."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from luthier.errors import StageError, UserError
from luthier.recipe.load import load_recipe
from luthier.recipe.schema import Training
from luthier.run.atomic import read_json, read_jsonl
from luthier.run.folder import RunFolder
from luthier.run.progress import Silent
from luthier.stages.evaluate import evaluate
from luthier.stages.plan import make_plan
from luthier.stages.train import train
from tests import finished

WEIGHTS = "adapter_model.safetensors"
TRAINING = {"steps": 4, "batch_size": 2, "learning_rate": 0.02, "checkpoint_every": 2}


def weights(run: RunFolder, seed: int | None = None) -> bytes:
    return (run.training_of(seed).adapter / WEIGHTS).read_bytes()


def trained(runs: Path, seeds: list[int] | None, change: Any = None) -> RunFolder:
    """Make a run of a tiny base on four rows, and train it."""
    run = finished.make(runs, rows=12)
    values = yaml.safe_load(run.recipe.read_text())
    values["training"] = TRAINING | ({"seeds": seeds} if seeds else {})
    values["adapter"]["dropout"] = 0.1
    run.recipe.write_text(yaml.safe_dump(values | (change or {})))
    train(load_recipe(run.recipe).recipe, run, Silent())
    return run


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """A run of two seeds that is only read."""
    return trained(tmp_path_factory.mktemp("both"), [1, 2])


def test_each_seed_gives_the_adapter_that_it_gives_alone(both: RunFolder, tmp_path: Path) -> None:
    """The second training of a process is that of a process of its own, and the order of seeds does not matter."""
    run = both
    other = trained(tmp_path / "turned", [2, 1])
    alone = trained(tmp_path / "alone", None, {"seed": 2})
    assert weights(run) == weights(other, 1) != weights(run, 2)
    assert weights(run, 2) == weights(other) == weights(alone)
    told = read_json(run.train_report)
    further = read_json(run.training_of(2).report)
    assert [one["seed"] for one in told["seeds"]] == [1, 2]
    for one, report in zip(told["seeds"], (told, further), strict=True):
        assert one["adapter_proof"]["holds"] is True
        assert {key: one[key] for key in ("best_validation_loss", "steps")} == {
            key: report[key] for key in ("best_validation_loss", "steps")
        }
    assert "seeds" not in further
    assert "seeds" not in read_json(alone.train_report)
    rows = [
        [line["loss"] for line in read_jsonl(run.training_of(seed).metrics) if "loss" in line] for seed in (None, 2)
    ]
    assert rows[0] != rows[1]


def test_killed_in_the_second_seed_the_first_is_not_trained_again(
    both: RunFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from luthier.engine.loop import StepTrainer

    steps: list[int] = []
    step = StepTrainer.training_step

    def dies(self: StepTrainer, *arguments: Any) -> Any:
        steps.append(self.plan.seed)
        if len(steps) == 8:  # in the last step of the second seed, after its checkpoint at step 2
            raise KeyboardInterrupt
        return step(self, *arguments)

    monkeypatch.setattr(StepTrainer, "training_step", dies)
    with pytest.raises(KeyboardInterrupt):
        trained(tmp_path / "killed", [1, 2])
    run = RunFolder((tmp_path / "killed" / "coach" / "2026-01-01T00-00-00").absolute())
    assert not run.training_of(2).report.exists()
    before = weights(run)
    train(load_recipe(run.recipe).recipe, run, Silent())
    assert steps == [1, 1, 1, 1, 2, 2, 2, 2, 2, 2]
    assert weights(run) == before == weights(both)
    assert weights(run, 2) == weights(both, 2)
    assert len(read_json(run.train_report)["seeds"]) == 2


def test_the_disk_must_hold_the_checkpoints_of_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from luthier.engine import checkpoints

    free = 4 * checkpoints.SLACK  # enough for one training: three checkpoints of about a mebibyte each
    monkeypatch.setattr(checkpoints, "_left", lambda _: free)
    trained(tmp_path / "one", None)
    with pytest.raises(StageError, match="checkpoints of 3 trainings need"):
        trained(tmp_path / "three", [1, 2, 3])


def test_the_comparison_is_of_all_seeds_and_the_files_are_of_the_first(tmp_path: Path) -> None:
    run = trained(tmp_path, [1, 2, 3])
    evaluate(load_recipe(run.recipe).recipe, run, Silent())
    comparison, scores = read_json(run.comparison), list(read_jsonl(run.scores))
    assert {path.name for path in run.evaluation.glob("answers-*")} == {
        f"answers-{who}.jsonl" for who in ("base", "tuned", "tuned-seed-2", "tuned-seed-3")
    }
    assert comparison["seeds"]["count"] == 3
    units = [line["group"] for line in read_jsonl(run.answers("base"))]
    for name in ("rougeL", "perplexity", "chrf"):
        lines, entry = [line for line in scores if line["metric"] == name], comparison["metrics"][name]
        assert [line["tuned_seeds"][0] for line in lines] == [line["tuned"] for line in lines]
        assert len(entry["seeds"]["differences"]) == 3
        assert entry["decided_by"] == "permutation and seeds"
        if name != "chrf":  # a corpus metric is no mean over items
            gains = np.array([line["tuned_seeds"] for line in lines]) - np.array([[line["base"]] for line in lines])
            by_unit = np.array([gains[[group == one for one in units]].mean(axis=0) for group in dict.fromkeys(units)])
            assert entry["seeds"]["differences"] == pytest.approx(list(by_unit.mean(axis=0)))
    tuned = read_json(run.metrics_report)["metrics"]["chrf"]
    first = tuned["tuned"]["value"] - tuned["base"]["value"]
    assert comparison["metrics"]["chrf"]["seeds"]["differences"][0] == pytest.approx(first)
    perplexities = [
        np.exp(np.mean([line["nll"] / line["reference_tokens"] for line in read_jsonl(run.answers(who))]))
        for who in ("tuned", "tuned-seed-2", "tuned-seed-3")
    ]
    assert len(set(perplexities)) == 3
    assert comparison["metrics"]["perplexity"]["tuned"] == pytest.approx(np.prod(perplexities) ** (1 / 3), rel=1e-6)


def test_the_plan_counts_the_time_of_all_and_the_steps_of_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("luthier.models.machine.matmul_rate", lambda *_: 1e9)
    run = finished.make(tmp_path, rows=2)
    rows = [finished.row(place) for place in range(8)]
    one, three = (
        make_plan(load_recipe(run.recipe, overrides={"training.seeds": seeds}).recipe, rows)
        for seeds in (None, [1, 2, 3])
    )
    assert one["steps"] == three["steps"]
    assert three["seconds"]["estimate"] == pytest.approx(3 * one["seconds"]["estimate"], abs=0.2)
    assert one["seconds"]["estimate"] > 0
    assert "3 trainings" in three["seconds"]["basis"]


@pytest.mark.parametrize(
    ("seeds", "words"), [([4], "One training seed"), ([], "0 training seeds"), ([1, 2, 1], "twice")]
)
def test_seeds_that_say_nothing_are_refused(tmp_path: Path, seeds: list[int], words: str) -> None:
    run = finished.make(tmp_path, rows=2)
    with pytest.raises(UserError, match=words):
        load_recipe(run.recipe, overrides={"training.seeds": seeds})


def test_off_is_one_training_with_the_seed_of_everything() -> None:
    assert Training.model_validate({"seeds": "off"}).seeds is None
