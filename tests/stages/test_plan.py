"""The plan stage: what it writes, held against what the trainer then does."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from luthier.data.rows import Row
from luthier.errors import GateError, UserError
from luthier.kinds import calibrate
from luthier.models import activations, machine
from luthier.recipe.schema import Recipe
from luthier.run.atomic import read_json, write_jsonl
from luthier.run.folder import RunFolder
from luthier.run.progress import Silent
from luthier.stages import plan as stage
from luthier.stages.plan import make_plan
from tests.tiny import make

HERE = machine.Machine(machine.Seconds(product=1e-11, kept=1e-9, layer=1e-3, step=1e-3), 1.5, 0.05, measured=True)


@pytest.fixture(autouse=True)
def known_rate(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "matmul_rate", lambda device, dtype: 1e11)


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make("llama", tmp_path_factory.mktemp("base") / "llama")


def rows(count: int) -> list[Row]:
    said = "It removes random units in training. "
    return [
        Row(
            f"r{n}",
            "chat",
            {
                "messages": [
                    {"role": "user", "content": f"How does dropout number {n} help?"},
                    {"role": "assistant", "content": said * (1 + n % 5)},
                ]
            },
            "q.jsonl",
            n + 1,
        )
        for n in range(count)
    ]


def recipe(base: Path | str, **sections: Any) -> Recipe:
    return Recipe.model_validate(
        {"name": "small", "model": {"base": str(base)}, "data": {"source": "q.jsonl", "max_length": 128}, **sections}
    )


def test_the_contract(llama: Path, tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "run")
    write_jsonl(folder.rows("train"), [row.to_json() for row in rows(37)])
    write_jsonl(folder.rows("validation"), [row.to_json() for row in rows(5)])
    stage.plan(recipe(llama, training={"epochs": 2, "batch_size": 8}), folder, Silent())
    told = read_json(folder.plan_report)
    assert set(told["parameters"]) == {"trainable", "total", "percent"}
    assert {"name", "matched", "modules"} <= set(told["targets"][0])
    parts = {"weights", "adapter", "optimizer", "activations"}
    assert parts < set(told["memory_gib"])
    total = told["memory_gib"].pop("total")
    assert total == pytest.approx(sum(told["memory_gib"].values()), abs=0.01)
    assert told["steps"] == 2 * math.ceil(37 / 8)
    assert told["seconds"]["estimate"] > 0
    assert {"median", "p95", "max", "truncated"} <= set(told["tokens"])
    assert told["tokens"]["truncated"] == 0 and told["tokens"]["estimated"] is False
    assert [match["matched"] for match in told["targets"]] == [2] * 7


def test_the_mask_is_proven_and_three_rows_are_shown(llama: Path) -> None:
    mask = make_plan(recipe(llama), rows(10))["mask"]
    assert mask["available"] and mask["rows"] == 10 and len(mask["shown"]) == 3
    trained = "".join(text for text, on in mask["shown"][0]["pieces"] if on)
    assert trained.strip() == "It removes random units in training. <|im_end|>"
    assert mask["shown"][0]["place"] == "q.jsonl:1"


def test_what_is_planned_is_what_the_trainer_is_given(llama: Path) -> None:
    """Steps, tokens and the largest micro-batch against the batches of the engine itself."""
    from luthier.engine.batches import Steps, measure_language
    from luthier.engine.settings import FitSettings
    from luthier.kinds import kind_named
    from luthier.models.bases import resolve

    planned = recipe(llama, training={"steps": 7, "batch_size": 4})
    told = make_plan(planned, rows(22))
    kind = kind_named("causal-lm")
    tokenizer, _ = kind.model.load_tokenizer(resolve(str(llama)))
    encoded = kind.rows.encode(rows(22), tokenizer, 128)
    measured = [measure_language(example) for example in encoded.examples]
    batches = Steps(
        encoded.examples, measured, (7, 4, planned.seed), lambda part: part, FitSettings().micro("cpu", padded=False)
    )
    parts = [part for step in range(7) for part in batches[step]["micro_batches"]]
    largest = max(parts, key=lambda part: sum(len(one.input_ids) for one in part))
    tokens = sum(len(one.input_ids) for one in largest)
    assert told["steps"] == 7 and told["micro_batch"] == {"examples": len(largest), "tokens": tokens}
    assert len(largest) > 1, "one flat sequence of several rows"


def test_truncation_is_predicted(llama: Path) -> None:
    told = make_plan(recipe(llama, data={"source": "q.jsonl", "max_length": 40}), rows(20))
    assert 0 < told["tokens"]["truncated"] < 20
    assert told["tokens"]["max"] > 40


def test_without_a_tokenizer_tokens_are_estimated_and_marked() -> None:
    told = make_plan(recipe("SmolLM2-135M-Instruct"), rows(20))
    assert told["tokens"]["estimated"] is True
    assert told["mask"] == {
        "available": False,
        "why": "The tokenizer of SmolLM2-135M-Instruct is not on this machine.",
    }
    assert told["parameters"]["trainable"] == 2_442_240


@pytest.mark.parametrize(("allow", "trainable"), [(False, None), (True, 1_499_136)])
def test_mpnet_stops_unless_allowed(allow: bool, trainable: int | None) -> None:
    adapter = {"r": 16, "targets": ["query", "key", "value", "dense"], "allow_unmatched": allow}
    planned = recipe("all-mpnet-base-v2", kind="embedding", adapter=adapter)
    if trainable is None:
        with pytest.raises(GateError, match="q, k, v, o would"):
            make_plan(planned, rows(8))
        return
    told = make_plan(planned, rows(8))
    assert (told["parameters"]["trainable"], told["parameters"]["total"]) == (trainable, 110_985_600)
    assert told["targets"][0] == {
        "name": "query", "matched": 0, "modules": {}, "paths": {}, "would_match": ["q", "k", "v", "o"],
    }  # fmt: skip


def test_too_little_memory_and_too_long_rows_are_noted(llama: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(activations, "machine_memory", lambda device: 0.5)
    notes = make_plan(recipe(llama, data={"source": "q.jsonl", "max_length": 4096}), rows(8))["notes"]
    assert any("this machine has 0.5 GiB" in note for note in notes)
    assert any("reads 512 tokens at most" in note for note in notes)


def test_advice_fits_when_the_recipe_takes_it(llama: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The base is tiny and the rows are long: shorter ones make the room."""
    monkeypatch.setattr(calibrate, "machine_for", lambda *_, **__: HERE)
    long = [*rows(20), Row("long", "chat", {"messages": [
        {"role": "user", "content": "Why?"},
        {"role": "assistant", "content": "It removes random units. " * 2000},
    ]}, "q.jsonl", 99)]  # fmt: skip
    data = {"source": "q.jsonl", "max_length": 16384}
    there = make_plan(recipe(llama, data=data), long)["memory_gib"]["total"]
    monkeypatch.setattr(activations, "machine_memory", lambda device: there)  # a little too small for a share of it
    told = make_plan(recipe(llama, data=data), long)
    assert any("this machine has" in note for note in told["notes"])
    [advice] = [one for one in told["advice"] if one["key"] == "data.max_length"]
    taken = make_plan(recipe(llama, data={**data, "max_length": advice["value"]}), long)
    assert taken["memory_gib"]["total"] == pytest.approx(advice["memory_gib"], abs=0.02)
    assert taken["memory_gib"]["total"] <= 0.9 * there
    assert not any("this machine has" in note for note in taken["notes"])
    assert taken["tokens"]["truncated"] == 1 and "1 of 21 rows" in advice["why"]


def test_the_length_that_truncates_hardly_any_row(llama: Path) -> None:
    data = {"source": "q.jsonl", "max_length": 40}
    [advice] = make_plan(recipe(llama, data=data), rows(20))["advice"]
    taken = make_plan(recipe(llama, data={**data, "max_length": advice["value"]}), rows(20))
    assert taken["tokens"]["truncated"] == 0 and taken["advice"] == []


def test_a_price_is_hours_times_their_price(llama: Path) -> None:
    told = make_plan(recipe(llama, training={"steps": 10**6}), rows(10), calibrate=False, price=2.5)
    hours = told["seconds"]["estimate"] / 3600
    assert told["cost"] == {"dollars": pytest.approx(2.5 * hours, rel=1e-3), "dollars_per_hour": 2.5}
    assert make_plan(recipe(llama), rows(10))["cost"] is None


def test_all_trainings_of_seeds_are_paid_for(llama: Path) -> None:
    one = make_plan(recipe(llama), rows(10))["seconds"]
    three = make_plan(recipe(llama, training={"seeds": [1, 2, 3]}), rows(10))["seconds"]
    assert three["estimate"] == pytest.approx(3 * one["estimate"], abs=0.2)
    assert three["one_training"] == one["one_training"] == one["estimate"]


def test_a_machine_is_measured_where_training_is_long_or_it_is_asked(
    llama: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    calls: list[str] = []

    def counted(device: str, dtype: Any) -> machine.Machine:
        calls.append(device)
        return HERE

    monkeypatch.setattr(calibrate, "calibrate", counted)
    said: list[str] = []
    long = recipe(llama, training={"steps": 10**6})
    assert not make_plan(recipe(llama), rows(10), say=said.append)["seconds"]["calibrated"]
    assert not make_plan(long, rows(10), calibrate=False, say=said.append)["seconds"]["calibrated"]
    assert not calls and not said
    assert make_plan(long, rows(10), say=said.append)["seconds"]["calibrated"]
    assert len(said) == len(calls) == 1
    # From now on every plan has it.
    for calibrate_ in (None, False):
        assert make_plan(long, rows(10), calibrate=calibrate_, say=said.append)["seconds"]["calibrated"]
    assert len(said) == len(calls) == 1


def test_a_machine_is_measured_again_where_that_is_asked(llama: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    busy = replace(HERE, seconds=machine.Seconds(step=9.0))
    found: list[machine.Machine | None] = [None, HERE, busy]
    monkeypatch.setattr(calibrate, "calibrate", lambda *_: found.pop())

    def seconds(**asked: Any) -> float:
        told = make_plan(recipe(llama, training={"steps": 2}), rows(10), **asked)["seconds"]
        assert told["calibrated"]
        return float(told["estimate"])

    said: list[str] = []
    assert seconds(calibrate=True, say=said.append) == seconds() == 18.0
    assert seconds(calibrate=True, say=said.append) == seconds() < 1.0
    assert seconds(calibrate=True, say=said.append) < 1.0, "what was kept stays where measuring fails"
    assert len(said) == 3 and not found


def test_qlora_without_a_device_is_noted(llama: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    notes = make_plan(recipe(llama, adapter={"method": "qlora"}), rows(8))["notes"]
    assert "qlora needs a CUDA device, and this machine has none." in notes


def test_a_batch_larger_than_the_data_is_noted(llama: Path) -> None:
    [note] = [one for one in make_plan(recipe(llama, training={"batch_size": 50}), rows(8))["notes"] if "batch" in one]
    assert note == "batch_size is 50 and there are 8 training rows: one step is one epoch"
    assert not any("batch" in one for one in make_plan(recipe(llama, training={"batch_size": 8}), rows(8))["notes"])


@pytest.mark.parametrize(("training", "noted"), [
    ({"steps": 4, "epochs": 3}, True), ({"steps": 4}, False), ({"epochs": 3}, False),
    ({"steps": None, "epochs": 3}, False),
])  # fmt: skip
def test_epochs_beside_steps_are_noted(llama: Path, training: dict[str, Any], noted: bool) -> None:
    told = "training.epochs is not read, as training.steps is given: 4 steps are taken"
    assert (told in make_plan(recipe(llama, training=training), rows(8))["notes"]) is noted


def test_no_rows(llama: Path) -> None:
    with pytest.raises(UserError, match="no rows to train on"):
        make_plan(recipe(llama), [])


@pytest.mark.parametrize(
    ("training", "words"),
    [
        ({"schedule": {"warmup": 500}}, "not shorter than the training"),
        ({"schedule": {"name": "one-cycle", "rise": 0.001}}, "no step to rise"),
        ({"curriculum": {"by": "difficulty"}}, "have no field 'difficulty'"),
        ({"schedule": {"name": "plateau"}}, "no validation rows"),
    ],
)
def test_what_training_would_refuse_is_refused_before(llama: Path, training: dict[str, Any], words: str) -> None:
    with pytest.raises(UserError, match=words):
        make_plan(recipe(llama, training={"epochs": 2, **training}), rows(8))
