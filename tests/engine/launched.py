"""What `test_together.py` starts, alone or as several processes: trainings whose outcome rank 0 writes as JSON."""

from __future__ import annotations

import json
import math
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch

from luthier.engine.batches import Measured, measure_language
from luthier.engine.guards import GuardSettings
from luthier.engine.loop import StepTrainer
from luthier.engine.sharding import divide
from luthier.engine.trainer import FitSettings, Material, fit
from luthier.run import ranks
from tests.engine.little import Example, collate, examples, loss_sum, model_at, weights

SETTINGS: dict[str, Any] = {
    "steps": 6,
    "batch_size": 4,
    "learning_rate": 5e-3,
    "checkpoint_every": 3,
    "token_budget": 60,
    "weight_decay": 0.1,
}


def last() -> bool:
    return ranks.rank() == ranks.size() - 1


def poisoned(model: Any, batch: Any) -> tuple[torch.Tensor, int]:
    summed, count = loss_sum(model, batch)
    return (summed * math.nan if bool((batch["input_ids"] == 5).any()) else summed), count


def whole(model: Any, parts: Any, weight: float, backward: Callable[[torch.Tensor], None]) -> torch.Tensor:
    """Not a sum over rows: the square of the loss of the step."""
    loss = sum(loss_sum(model, part)[0] for part in parts) / weight
    assert isinstance(loss, torch.Tensor)
    # The weight grows with the number of processes, so that their sum is a mean; the rest must not.
    factor = weight / parts_weight(parts)
    backward((loss * factor) ** 2 / factor)
    return ((loss * factor) ** 2 / factor).detach()


def parts_weight(parts: Any) -> float:
    return float(sum(int((part["labels"][:, 1:] != -100).sum()) for part in parts))


def tight() -> Callable[[Any, Any], tuple[torch.Tensor, int]]:
    """Memory runs out on the last process alone, in its second step."""
    calls = [0]

    def loss(model: Any, batch: Any) -> tuple[torch.Tensor, int]:
        calls[0] += 1
        if last() and calls[0] > 1 and batch["input_ids"].shape[0] > 1:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return loss_sum(model, batch)

    return loss


def stopping(loss: Any, number: int) -> Any:
    """The last process alone is asked to stop in its third step."""
    calls = [0]

    def asked(model: Any, batch: Any) -> Any:
        calls[0] += 1
        if last() and calls[0] == number:
            os.kill(os.getpid(), signal.SIGTERM)
        return loss(model, batch)

    return asked


def uneven(model: Any, batch: Any) -> tuple[torch.Tensor, int]:
    """The model is called once for each row of even length and twice for the others, as a pool is read in parts."""
    summed, count = loss_sum(model, batch)
    for length in batch["attention_mask"].sum(1).tolist():
        if length % 2:
            model(input_ids=batch["input_ids"][:1])
    return summed, count


@contextmanager
def scaled() -> Iterator[None]:
    """Give trainers the loss scaler of float16, on the CPU."""
    init = StepTrainer.__init__

    def made(self: StepTrainer, *args: Any, **told: Any) -> None:
        init(self, *args, **told)
        self.accelerator.scaler, self.accelerator.native_amp = torch.amp.GradScaler("cpu"), True  # type: ignore[attr-defined]

    with patch.object(StepTrainer, "__init__", made):
        yield


def slow(example: Example) -> Measured:
    """The last process is late: the others have reached the first step, and written, before it begins."""
    if last() and ranks.size() > 1:
        time.sleep(0.05)
    return measure_language(example)


def bad_rows() -> list[Example]:
    rows = examples(20)
    rows[7] = Example("bad:1", [5] * 9, [-100] + [5] * 8)
    return rows


def told_of(name: str) -> dict[str, Any]:
    """Return what a case changes: its rows, their loss, what else the material has, and settings."""
    at_once = {"token_budget": 10**4, "overhead_tokens": 10**6}
    told: dict[str, Callable[[], dict[str, Any]]] = {
        "plain": lambda: {"settings": {"token_budget": 60 + 30 * ranks.rank()}},  # as where machines differ in threads
        "late": lambda: {"more": {"measure": slow}, "settings": {"guards": GuardSettings()}},
        "one row a step": lambda: {"settings": {"batch_size": 1}},
        "scaled, one row a step": lambda: {"settings": {"batch_size": 1}, "scaled": True},
        "one validation row": lambda: {"held": examples(1, 1)},
        "nan": lambda: {
            "train": bad_rows(),
            "loss": poisoned,
            "settings": {"guards": GuardSettings(on_nonfinite="return"), "token_budget": 1},
        },
        "memory": lambda: {"loss": tight(), "settings": at_once},
        "whole step": lambda: {"more": {"whole_step": whole}},
        "several passes": lambda: {"more": {"whole_step": whole}, "loss": uneven},
        "stopped": lambda: {"loss": stopping(loss_sum, 3), "settings": at_once},
        "resumed": lambda: {"settings": at_once | {"token_budget": 30}},
    }
    return told[name]()


def case(name: str, base: Path, folder: Path) -> dict[str, Any]:
    """Train one of the cases and return what came out."""
    told = told_of(name)
    train, held, loss = told.get("train", examples(20)), told.get("held", examples(6, 1)), told.get("loss", loss_sum)
    more, changes = told.get("more", {}), told.get("settings", {})
    model = model_at(base)
    material = Material(train, held, collate, loss, **more)
    division = divide(model, replace(material, loss_sum=loss_sum), "cpu") if ranks.divides() else None
    stopped = None
    made: Any = None
    try:
        with scaled() if told.get("scaled") else nullcontext():
            made = fit(model, material, FitSettings(**(SETTINGS | changes)), folder, seed=7)
    except SystemExit as ended:
        stopped = ended.code
    every = ranks.gather([float(value.double().sum()) for value in weights(model).values()])
    assert all(one == every[0] for one in every), "the processes have different weights"
    assert len(set(map(str, ranks.gather(stopped)))) == 1
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return {
        "losses": [line["loss"] for line in lines if "loss" in line],
        "norms": [line["grad_norm"] for line in lines if "loss" in line],
        "validation": [line["validation_loss"] for line in lines if "validation_loss" in line],
        "weights": every[0],
        "stopped": stopped,
        "steps": made and made.steps,
        "guards": made and made.guards,
        "oom": made and [one["step"] for one in made.oom],
        "notes": made and made.notes,
        "world_size": made and made.world_size,
        "division": division,
        "rows": [
            json.loads(line)["rows"] for line in (folder / "guards.jsonl").read_text().splitlines()
        ] if (folder / "guards.jsonl").exists() else [],
    }  # fmt: skip


def main() -> None:
    base, folder, out, *names = sys.argv[1:]
    ranks.join()
    told = {name: case(name, Path(base), Path(folder) / name) for name in names}
    if ranks.leads():
        Path(out).write_text(json.dumps(told))
    ranks.wait()
    ranks.leave()


if __name__ == "__main__":
    main()
