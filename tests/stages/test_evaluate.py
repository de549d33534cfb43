"""The evaluate stage on a run made by hand: its files, that it goes on after a kill, and what it refuses."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from luthier.errors import UserError
from luthier.models.engines import TransformersAnswerer
from luthier.recipe.load import load_recipe
from luthier.run.atomic import read_json, read_jsonl, write_jsonl
from luthier.run.folder import RunFolder
from luthier.run.progress import Advance, Silent
from luthier.stages.evaluate import evaluate
from tests import finished

FILES = {
    *("answers-base.jsonl", "answers-tuned.jsonl", "scores.jsonl", "metrics.json"),
    *("comparison.json", "breakdowns.json", "forgetting.json"),
}


def run(folder: RunFolder, **overrides: Any) -> Path:
    recipe = load_recipe(
        folder.recipe, overrides={f"evaluation.{key}": value for key, value in overrides.items()}
    ).recipe
    evaluate(recipe, folder, Silent())
    return folder.path / "5-evaluate"


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def in_small_batches(patch: pytest.MonkeyPatch) -> None:
    made = TransformersAnswerer.__init__
    patch.setattr(
        TransformersAnswerer, "__init__", lambda self, model, pad, ends, batch=4: made(self, model, pad, ends, batch)
    )


@pytest.fixture
def small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    in_small_batches(monkeypatch)


def test_it_writes_its_files_and_they_agree(tmp_path: Path) -> None:
    made = run(finished.make(tmp_path, rows=12))
    assert {path.name for path in made.iterdir()} == FILES
    base, tuned = (list(read_jsonl(made / f"answers-{who}.jsonl")) for who in ("base", "tuned"))
    assert [line["id"] for line in base] == [line["id"] for line in tuned] == [f"q{place}" for place in range(12)]
    keys = "id group question reference answer tokens stopped nll reference_tokens labels error"
    assert list(base[0]) == keys.split()
    assert base[3]["question"] == "Why do we split data? (3)"
    assert base[3]["reference"] == "A model that fits the training data, number 3."
    assert [line["nll"] for line in base] != [line["nll"] for line in tuned]
    scores = list(read_jsonl(made / "scores.jsonl"))
    comparison, metrics = read_json(made / "comparison.json"), read_json(made / "metrics.json")
    assert len(scores) == 12 * len(comparison["metrics"]) == 12 * 12
    for line in scores:
        assert line["difference"] == pytest.approx(line["tuned"] - line["base"])
        assert ("flip" in line) == (line["metric"] == "rougeL")
    assert sum(metrics["flips"].values()) == 12
    nll, tokens = (sum(line[key] for line in tuned) for key in ("nll", "reference_tokens"))
    assert metrics["metrics"]["perplexity"]["tuned"]["value"] == pytest.approx(math.exp(nll / tokens))
    assert {"precisions", "brevity_penalty", "signature"} <= set(metrics["metrics"]["bleu"]["base"])
    entry = comparison["metrics"]["perplexity"]
    assert (entry["n"], entry["items"], entry["higher_is_better"]) == (6, 12, False)
    assert comparison["primary"] == "rougeL"
    assert comparison["secondary"] == ["bleu", "perplexity"]
    assert {name for name, one in comparison["metrics"].items() if one["role"] == "exploratory"} >= {"rouge1", "chrf"}
    assert comparison["metrics"]["exact_match"]["decided_by"] == "permutation"  # items in groups: no McNemar
    bleu = comparison["metrics"]["bleu"]
    for who in ("base", "tuned"):  # the corpus score, not the mean over items
        assert bleu[who] == pytest.approx(metrics["metrics"]["bleu"][who]["value"], rel=1e-9)
    lengths = read_json(made / "breakdowns.json")["question_length"]
    assert sum(cell["items"] for cell in lengths) == 12
    assert all(cell["small"] for cell in lengths)
    assert comparison["verdict"] in ("improved", "worse", "no evidence", "too few examples")


def test_an_adapter_that_does_nothing_is_no_evidence_and_flips_nothing(tmp_path: Path) -> None:
    made = run(finished.make(tmp_path, rows=10, scale=0.0))
    assert contents(made)["answers-base.jsonl"] == contents(made)["answers-tuned.jsonl"]
    comparison = read_json(made / "comparison.json")
    assert {entry["verdict"] for entry in comparison["metrics"].values()} == {"no evidence"} == {comparison["verdict"]}
    assert read_json(made / "metrics.json")["flips"] == {"won": 0, "lost": 0, "tie": 10}


def test_a_fully_tuned_model_is_compared_with_its_base(tmp_path: Path) -> None:
    adapted, full = run(finished.make(tmp_path, "lora", 4)), run(finished.make(tmp_path, "full", 4, method="full"))
    assert contents(full)["answers-base.jsonl"] == contents(adapted)["answers-base.jsonl"]
    assert contents(full)["answers-tuned.jsonl"] != contents(adapted)["answers-tuned.jsonl"]


class KilledError(Exception):
    pass


class KilledAfter:
    """Progress of a process that dies after so many batches."""

    def __init__(self, batches: int) -> None:
        self.left = batches

    def say(self, line: str) -> None: ...

    @contextmanager
    def task(self, name: str, total: int | None = None, unit: str = "rows") -> Iterator[Advance]:
        def advance(_: int) -> None:
            self.left -= 1
            if self.left < 0:
                raise KilledError

        yield advance


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """What an evaluation that nobody kills writes."""
    with pytest.MonkeyPatch.context() as patch:
        in_small_batches(patch)
        return contents(run(finished.make(tmp_path_factory.mktemp("whole"), rows=10)))


@pytest.mark.parametrize("batches", [0, 2, 4])
@pytest.mark.usefixtures("small_batches")
def test_killed_it_goes_on_and_ends_with_the_same_bytes(
    tmp_path: Path, batches: int, whole: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = finished.make(tmp_path / "killed", rows=10)
    with pytest.raises(KilledError):
        evaluate(load_recipe(folder.recipe).recipe, folder, KilledAfter(batches))
    assert not (folder.path / "5-evaluate" / "answers-base.jsonl").exists()
    asked: list[int] = []
    answer = TransformersAnswerer.answer
    monkeypatch.setattr(
        TransformersAnswerer, "answer", lambda self, prompts, *rest: asked.append(1) or answer(self, prompts, *rest)
    )
    assert contents(run(folder)) == whole
    assert len(asked) == 6 - batches - 1  # of 2 x 3 batches; the one after which it was killed is kept


@pytest.mark.usefixtures("small_batches")
def test_answers_of_other_settings_are_not_gone_on_with(tmp_path: Path) -> None:
    folder = finished.make(tmp_path, rows=6)
    with pytest.raises(KilledError):
        evaluate(load_recipe(folder.recipe).recipe, folder, KilledAfter(1))
    made = run(folder, max_new_tokens=3)
    assert max(line["tokens"] for line in read_jsonl(made / "answers-tuned.jsonl")) == 3


def test_chosen_metrics_and_the_primary_among_them(tmp_path: Path) -> None:
    made = run(finished.make(tmp_path, rows=4), metrics=["perplexity", "chrf"])
    comparison = read_json(made / "comparison.json")
    assert set(comparison["metrics"]) == {"perplexity", "chrf"}
    assert comparison["primary"] == "perplexity"


def test_declared_roles_decide_which_metric_speaks(tmp_path: Path) -> None:
    made = run(finished.make(tmp_path, rows=4), primary="chrf", secondary=["token_f1"])
    comparison = read_json(made / "comparison.json")
    roles = {name: one["role"] for name, one in comparison["metrics"].items() if one["role"] != "exploratory"}
    assert roles == {"chrf": "primary", "token_f1": "secondary"}
    flipped = {line["metric"] for line in read_jsonl(made / "scores.jsonl") if "flip" in line}
    assert flipped == {"chrf"}


@pytest.mark.parametrize(
    ("settings", "place"),
    [
        ({"primary": "rouge9"}, "evaluation.primary"),
        ({"metrics": ["chrf", "rougeL"], "secondary": ["bleu"]}, "evaluation.secondary"),
    ],
)
def test_a_declared_metric_that_is_not_measured_is_told(tmp_path: Path, settings: dict, place: str) -> None:
    with pytest.raises(UserError, match="not measured") as raised:
        run(finished.make(tmp_path, rows=2), **settings)
    assert raised.value.place == place


def test_plain_text_is_measured_by_perplexity_alone(tmp_path: Path) -> None:
    folder = finished.make(tmp_path, rows=3)
    source = {"file": "f", "line": 1}
    texts = ["Dropout helps.", "A model overfits.", "Data is split."]
    write_jsonl(
        folder.rows("test"),
        [{"id": text, "form": "text", "text": text, "labels": {}, "group": None, "source": source} for text in texts],
    )
    made = run(folder)
    assert set(read_json(made / "comparison.json")["metrics"]) == {"perplexity"}
    assert [line["answer"] for line in read_jsonl(made / "answers-tuned.jsonl")] == [None, None, None]


def test_a_row_that_cannot_be_asked_is_named_and_the_rest_is_compared(tmp_path: Path) -> None:
    folder = finished.make(tmp_path, rows=4)
    rows = list(read_jsonl(folder.rows("test")))
    rows[1]["messages"][1]["content"] = "too long " * 600
    write_jsonl(folder.rows("test"), rows)
    made = run(folder)
    lines = list(read_jsonl(made / "answers-base.jsonl"))
    assert [line["answer"] is None for line in lines] == [False, True, False, False]
    assert "tokens" in lines[1]["error"]
    assert read_json(made / "comparison.json")["metrics"]["rougeL"]["items"] == 3


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda folder: write_jsonl(folder.rows("test"), []), "test split has no rows"),
        (lambda folder: (folder.path / "4-train/adapter/adapter_model.safetensors").unlink(), "adapter"),
    ],
)
def test_what_is_missing_is_told(tmp_path: Path, change: Any, words: str) -> None:
    folder = finished.make(tmp_path, rows=2)
    change(folder)
    with pytest.raises(UserError) as raised:
        run(folder)
    assert words in str(raised.value)


def test_an_unknown_metric_is_told_before_any_answer(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="rouge9"):
        run(finished.make(tmp_path, rows=2), metrics=["rouge9"])


def test_files_are_json_for_others(tmp_path: Path) -> None:
    made = run(finished.make(tmp_path, rows=2))
    for path in made.glob("*.json"):
        json.loads(path.read_text(), parse_constant=lambda name: pytest.fail(f"a file holds {name}"))


def test_earlier_answers_of_a_conversation_are_part_of_the_question(tmp_path: Path) -> None:
    folder = finished.make(tmp_path, rows=1)
    rows = list(read_jsonl(folder.rows("test")))
    rows[0]["messages"][1:1] = [{"role": "user", "content": "Hello?"}, {"role": "assistant", "content": "Well, yes."}]
    single = next(read_jsonl(run(finished.make(tmp_path, "single", rows=1)) / "answers-base.jsonl"))
    write_jsonl(folder.rows("test"), rows)
    several = next(read_jsonl(run(folder) / "answers-base.jsonl"))
    assert several["reference_tokens"] == single["reference_tokens"] > 0
    assert several["nll"] != single["nll"]
    assert several["question"].startswith("Hello?\nWell, yes.\n")
