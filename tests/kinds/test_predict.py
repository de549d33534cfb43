"""Predictions for whole trainings, the calibration behind them, and the advice when memory is short."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch

from luthier.engine.batches import Measured
from luthier.kinds import calibrate, predict
from luthier.kinds.calibrate import Trial, machine_for
from luthier.models import estimate, rate
from luthier.models.load import load_config, resolve
from luthier.models.machine import Machine, Seconds

HERE = Machine(Seconds(product=1e-11, kept=1e-9, layer=1e-3), held=1.5, process=0.5, measured=True)


@cache
def adapted(base: str) -> tuple[Any, estimate.AdapterShape, estimate.Parameters]:
    """Return configuration, adapter and parameters of a base; counting them takes half a second."""
    config = load_config(resolve(base))
    adapter = estimate.AdapterShape("lora", 8, "all-linear")
    parameters, report = estimate.count(config, adapter)
    return config, replace(adapter, targets=[match.name for match in report]), parameters


def asked(lengths: list[int], kind: str = "causal-lm", base: str = "SmolLM2-135M-Instruct") -> predict.Asked:
    config, adapter, parameters = adapted(base)
    rows = [Measured(length, length // 2) for length in lengths]
    return predict.Asked(kind, config, adapter, parameters, torch.float32, "cpu", rows, [], 8, 20, 0, 100)


def test_longer_rows_and_more_steps_cost_more() -> None:
    short, long = (predict.predict(asked([length] * 64), HERE) for length in (64, 1024))
    assert long.seconds > 15 * short.seconds
    assert long.memory.activations > 3 * short.memory.activations
    twice = predict.predict(replace(asked([64] * 64), steps=40), HERE)
    assert twice.seconds == pytest.approx(2 * short.seconds)


def test_the_batch_size_does_not_change_what_a_micro_batch_holds() -> None:
    few, many = (predict.predict(replace(asked([64] * 640), batch_size=size), HERE) for size in (16, 64))
    assert many.memory.total == pytest.approx(few.memory.total, rel=0.02)
    assert many.seconds > 3 * few.seconds


def test_an_embedding_step_is_held_whole_until_gradients_are_cached() -> None:
    few = predict.work_of(asked([32] * 200, "embedding", "all-mpnet-base-v2"))
    many = predict.work_of(replace(asked([32] * 2000, "embedding", "all-mpnet-base-v2"), batch_size=1024))
    assert (few.longest[1], few.learned.times) == (8 * 32, 1)
    assert (many.longest[1], many.learned.times) == (1024, 2)


@pytest.mark.parametrize("question", [
    asked([64] * 640),
    replace(asked([64] * 640), batch_size=640),
    asked([64] * 640, base="falcon-rw-1b"),  # padded
    asked([64] * 200, "embedding", "all-mpnet-base-v2"),
])  # fmt: skip
def test_examples_are_rows_and_not_sequences(question: predict.Asked) -> None:
    found = predict.predict(question, HERE)
    assert found.examples is not None and found.examples > 1
    assert 64 * found.examples == found.work.longest[0] * found.work.longest[1]


def test_parts_of_examples_are_not_counted() -> None:
    cached = replace(asked([32] * 2000, "embedding", "all-mpnet-base-v2"), batch_size=1024)
    assert predict.predict(cached, HERE).examples is None


@pytest.mark.parametrize("there", [1.9, 1.75])
def test_advice_fits_when_it_is_applied(there: float) -> None:
    question = asked([1900] * 4 + [100] * 60)
    now = predict.predict(question, HERE).memory.total
    assert now > predict.SHARE * there
    found = {one["key"]: one for one in predict.changes_that_fit(question, HERE, there, now)}
    shorter = found["data.max_length"]
    applied = replace(question, train=predict.shortened(question.train, shorter["value"]))
    needed = predict.predict(applied, HERE).memory.total
    assert needed == pytest.approx(shorter["memory_gib"], abs=0.01)
    assert needed <= predict.SHARE * there
    assert "4 of 64 rows" in shorter["why"]


def test_a_smaller_base_is_named_where_weights_are_too_large() -> None:
    question = asked([64] * 32, base="falcon-rw-1b")
    found = {one["key"]: one for one in predict.changes_that_fit(question, HERE, 4.0, 6.0)}
    other = asked([64] * 32, base=found["model.base"]["value"])
    assert predict.predict(other, HERE).memory.total == pytest.approx(found["model.base"]["memory_gib"], abs=0.01)
    assert found["model.base"]["memory_gib"] <= 0.9 * 4.0
    assert "data.max_length" not in found  # no row is short enough to make room for the weights


def test_full_training_is_told_of_lora() -> None:
    question = asked([64] * 32)
    full = replace(question, adapter=estimate.AdapterShape("full", 8, "all-linear"))
    full = replace(full, parameters=estimate.count(full.config, full.adapter)[0])
    now = predict.predict(full, HERE).memory.total
    [advice] = [one for one in predict.changes_that_fit(full, HERE, 2.2, now) if one["key"] == "adapter.method"]
    assert advice["value"] == "lora"
    assert advice["memory_gib"] == pytest.approx(predict.predict(question, HERE).memory.total, abs=0.01)


@pytest.mark.parametrize(("lengths", "limit", "wanted"), [
    ([100] * 99 + [500], 100, 500),  # one of a hundred is not under 1 %
    ([100] * 199 + [500], 100, None),
    ([100] * 50 + [300] * 48 + [900] * 2, 200, 900),
    ([100] * 150 + [300] * 49 + [900], 200, 300),
    ([100] * 50 + [3000] * 50, 200, 2048),  # no more than the base reads
    ([100], 512, None),
])  # fmt: skip
def test_the_length_that_truncates_under_one_percent(lengths: list[int], limit: int, wanted: int | None) -> None:
    assert predict.longer_rows(lengths, limit, 2048) == wanted
    if wanted is not None and wanted < 2048:
        assert sum(length > wanted for length in lengths) < 0.01 * len(lengths)


def test_a_machine_is_measured_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr(rate, "SECONDS", 0.01)
    calls: list[str] = []

    def counted(device: str, dtype: torch.dtype) -> Machine:
        calls.append(device)
        return HERE

    monkeypatch.setattr(calibrate, "calibrate", counted)
    assert not machine_for("cpu", torch.float32, rough=True).measured
    assert not calls
    assert machine_for("cpu", torch.float32, rough=False) == HERE
    assert machine_for("cpu", torch.float32, rough=False) == machine_for("cpu", torch.float32, rough=True) == HERE
    assert calls == ["cpu"]


def test_a_machine_that_cannot_be_measured_gets_what_ships(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rate, "SECONDS", 0.01)
    monkeypatch.setattr(calibrate.sys, "executable", "/bin/false")
    assert not machine_for("cpu", torch.float32, rough=False).measured


def test_a_process_of_several_measures_apart(monkeypatch: pytest.MonkeyPatch, own_folder: Path) -> None:
    """What measures must not wait for the processes that the launcher named, as none of them is to meet it."""
    script = own_folder / "python"
    script.write_text(f"#!/bin/sh\n[ -z $WORLD_SIZE$RANK ] && echo '{json.dumps(HERE.to_json())}'\n")
    script.chmod(0o755)
    monkeypatch.setattr(calibrate.sys, "executable", str(script))
    for name, value in {"WORLD_SIZE": "2", "RANK": "1", "LOCAL_RANK": "1", "MASTER_PORT": "1"}.items():
        monkeypatch.setenv(name, value)
    assert calibrate.calibrate("cpu", torch.float32) == HERE


def test_small_trials_give_constants_that_tell_their_own_times(monkeypatch: pytest.MonkeyPatch) -> None:
    """The real thing on trials of a moment, through JSON as the parent process reads it."""
    monkeypatch.setattr(rate, "SECONDS", 0.01)
    trials = (
        Trial(64, 128, 2, 512, 4, 32),
        Trial(128, 256, 2, 512, 4, 64, r=4),
        Trial(64, 128, 4, 512, 4, 16, budget=16),
    )
    told = json.loads(json.dumps(calibrate.measure("cpu", torch.float32, trials).to_json()))
    found = Machine(**{**told, "seconds": Seconds(**told["seconds"])})
    assert found.measured and found.process > 0.05
    assert all(value >= 0 for value in told["seconds"].values())
    work = estimate.Work((1, 128, 64), steps=1, saves=1, learned=estimate.Load(1, 128, 64, 8192))
    config = calibrate._config(trials[0])
    amounts = estimate.work(config, estimate.Parameters(10**4, 10**5), "lora", estimate.Cost(1e4, 1e5, 2e5, 64), work)
    assert found.seconds.times(amounts) > 0
