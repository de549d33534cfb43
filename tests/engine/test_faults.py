"""Faults put in: each ends in the right adapter or a clear stop. docs/reliability.md names these tests."""

from __future__ import annotations

import json
import math
import os
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from luthier.engine import checkpoints, loop, memory
from luthier.engine.batches import rows_of_step
from luthier.engine.guards import GuardSettings
from luthier.engine.trainer import FitSettings, Fitted, Material, fit
from luthier.errors import StageError, UserError
from tests.engine.little import Example, collate, examples, loss_sum, model_at, train, weights
from tests.tiny import make

ROWS, BATCH, SEED = 20, 4, 7
Harm = Callable[[torch.Tensor], torch.Tensor]


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make("llama", tmp_path_factory.mktemp("base"))


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def poisoned(step: int, harm: Harm, rows: int = ROWS) -> tuple[list[Example], Any]:
    """Return rows of which one, in that step, has its loss harmed, and the loss that does it."""
    made = examples(rows)
    place = rows_of_step(step, rows, BATCH, SEED)[1]
    made[place] = Example("bad:1", [5] * 9, [-100] + [5] * 8)

    def harmed(model: Any, batch: Any) -> tuple[torch.Tensor, int]:
        summed, count = loss_sum(model, batch)
        return (harm(summed) if bool((batch["input_ids"] == 5).any()) else summed), count

    return made, harmed


def run(base: Path, folder: Path, rows: list[Example], loss: Any = loss_sum, **settings: Any) -> tuple[Fitted, Any]:
    chosen = {"batch_size": BATCH, "learning_rate": 5e-3, "checkpoint_every": 3, "epochs": 1, "token_budget": 1}
    model = model_at(base)
    material = Material(rows, [], collate, loss)
    return fit(model, material, FitSettings(**(chosen | settings)), folder, seed=SEED), model


def test_a_batch_with_nan_is_left_out_and_told(base: Path, tmp_path: Path) -> None:
    rows, loss = poisoned(5, lambda summed: summed * math.nan)
    made, model = run(base, tmp_path, rows, loss, steps=6)
    assert all(bool(torch.isfinite(value).all()) for value in weights(model).values())
    [event] = lines(tmp_path / "guards.jsonl")
    assert (event["what"], event["step"], event["action"], event["rows"]) == ("non-finite loss", 5, "skip", ["bad:1"])
    assert made.guards == {"events": 1, "left_out": 1, "returns": 0}
    told = lines(tmp_path / "metrics.jsonl")
    assert [line["step"] for line in told if "loss" in line] == [1, 2, 3, 4, 6]
    assert told[4]["left_out"] == "non-finite loss"


def test_a_left_out_step_moves_nothing(base: Path, tmp_path: Path) -> None:
    """With the fifth step left out, weights after it are those before it, and the optimizer has counted four."""
    rows, loss = poisoned(5, lambda summed: summed * math.nan)
    _, model = run(base, tmp_path / "a", rows, loss, steps=5, schedule="constant")
    _, before = run(base, tmp_path / "b", rows, loss, steps=4, schedule="constant")
    assert all(torch.equal(value, weights(before)[name]) for name, value in weights(model).items())
    state = torch.load(tmp_path / "a" / "checkpoint-5" / "optimizer.pt", weights_only=True)["state"]
    assert {float(one["step"]) for one in state.values()} == {4.0}


def broken_once(number: int, times: int = 1) -> Any:
    """The validation loss is NaN in its evaluation `number`, from 0, and in the next ones up to `times` of them."""
    calls = [0]

    def loss(model: Any, batch: Any) -> tuple[torch.Tensor, int]:
        summed, count = loss_sum(model, batch)
        if model.training:
            return summed, count
        calls[0] += 1
        return (summed * math.nan if number < calls[0] <= number + times else summed), count

    return loss


def held_out_run(base: Path, folder: Path, loss: Any, **settings: Any) -> tuple[Fitted, Any]:
    model = model_at(base)
    material = Material(examples(ROWS), examples(1, 1), collate, loss)
    told = {"batch_size": BATCH, "learning_rate": 5e-3, "checkpoint_every": 1, "steps": 4} | settings
    return fit(model, material, FitSettings(**told), folder, seed=SEED), model


@pytest.mark.parametrize("number", [0, 1])
def test_a_validation_loss_of_nan_is_told_and_is_never_the_best(number: int, base: Path, tmp_path: Path) -> None:
    """With nothing to leave out, training goes on as ever and judges by the other evaluations."""
    made, _ = held_out_run(base, tmp_path / "a", broken_once(number))
    held_out_run(base, tmp_path / "b", loss_sum)
    [event] = lines(tmp_path / "a" / "guards.jsonl")
    assert (event["what"], event["step"], event["action"]) == ("non-finite validation loss", number + 1, "tell")
    told, usual = (
        [line["validation_loss"] for line in lines(tmp_path / one / "metrics.jsonl") if "validation_loss" in line]
        for one in ("a", "b")
    )
    others = {place + 1: loss for place, loss in enumerate(usual) if place != number}
    assert told == [others.get(place + 1) for place in range(4)]
    assert made.best_validation_loss == min(others.values()) == others[made.best_step or 0]


def test_validation_losses_of_nan_use_up_patience(base: Path, tmp_path: Path) -> None:
    made, _ = held_out_run(base, tmp_path, broken_once(1, 9), patience=2, steps=9)
    assert (made.steps, made.stopped_early, made.best_step) == (3, True, 1)


def test_a_validation_loss_of_nan_can_end_a_training(base: Path, tmp_path: Path) -> None:
    with pytest.raises(StageError, match=r"The validation loss is nan at step 2.*Training stopped after this step"):
        held_out_run(base, tmp_path, broken_once(1), guards=GuardSettings(on_nonfinite="stop"))


def test_nan_in_every_batch_stops_with_what_was_seen(base: Path, tmp_path: Path) -> None:
    def broken(model: Any, batch: Any) -> tuple[torch.Tensor, int]:
        summed, count = loss_sum(model, batch)
        return summed * math.nan, count

    with pytest.raises(StageError, match=r"loss is nan at step 3, and before at step 1, 2") as told:
        run(base, tmp_path, examples(ROWS), broken)
    assert "Nothing was learned yet" in told.value.remedy


def test_a_spike_is_left_out(base: Path, tmp_path: Path) -> None:
    rows, loss = poisoned(29, lambda summed: summed * 40, rows=120)
    made, _ = run(base, tmp_path, rows, loss, steps=30)
    [event] = lines(tmp_path / "guards.jsonl")
    assert (event["what"], event["step"], event["action"]) == ("loss spike", 29, "skip")
    assert "bad:1" in event["rows"]
    assert event["value"] > event["threshold"]
    assert made.guards["left_out"] == 1


def test_an_exploding_gradient_is_left_out(base: Path, tmp_path: Path) -> None:
    """The loss is as usual, its gradient is not."""

    class Exploding(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, value: torch.Tensor) -> torch.Tensor:
            return value.clone()

        @staticmethod
        def backward(ctx: Any, gradient: torch.Tensor) -> torch.Tensor:  # type: ignore[override]
            return gradient * 1e4

    rows, loss = poisoned(29, Exploding.apply, rows=120)
    run(base, tmp_path, rows, loss, steps=30)
    [event] = lines(tmp_path / "guards.jsonl")
    assert (event["what"], event["step"], event["action"]) == ("gradient explosion", 29, "skip")


def test_going_back_leaves_the_batch_out_and_halves_the_rate(base: Path, tmp_path: Path) -> None:
    rows, loss = poisoned(5, lambda summed: summed * math.nan)
    guards = GuardSettings(on_nonfinite="return")
    made, model = run(base, tmp_path, rows, loss, steps=7, schedule="constant", guards=guards)
    assert made.guards == {"events": 1, "left_out": 1, "returns": 1}
    told = lines(tmp_path / "metrics.jsonl")
    assert [line["step"] for line in told] == [1, 2, 3, 4, 5, 6, 7], "the steps after the checkpoint are there once"
    assert [line["learning_rate"] for line in told] == [5e-3] * 3 + [2.5e-3] * 4
    assert told[4]["left_out"] == "it went wrong before"
    assert lines(tmp_path / "guards.jsonl")[0]["action"] == "return"
    again = model_at(base)
    material = Material(rows, [], collate, loss)
    settings = {"batch_size": BATCH, "learning_rate": 5e-3, "checkpoint_every": 3, "epochs": 1, "token_budget": 1}
    fit(again, material, FitSettings(**settings, steps=7, schedule="constant", guards=guards), tmp_path, seed=SEED)
    assert all(torch.equal(value, weights(again)[name]) for name, value in weights(model).items())


def test_killed_after_going_back_it_ends_with_the_same_bytes(base: Path, tmp_path: Path) -> None:
    """Before the next checkpoint: the resumed run meets the fault again and decides the same."""
    rows, loss = poisoned(5, lambda summed: summed * math.nan)
    chosen: dict[str, Any] = {"steps": 8, "guards": GuardSettings(on_nonfinite="return"), "checkpoint_every": 4}
    _, undisturbed = run(base, tmp_path / "a", rows, loss, **chosen)
    seen = [0]

    class Killed(BaseException):
        pass

    def dying(model: Any, batch: Any) -> tuple[torch.Tensor, int]:
        seen[0] += 1
        if seen[0] == 5 * BATCH + BATCH // 2:  # one step into the second time
            raise Killed
        return loss(model, batch)  # type: ignore[no-any-return]

    with pytest.raises(Killed):
        run(base, tmp_path / "b", rows, dying, **chosen)
    _, resumed = run(base, tmp_path / "b", rows, loss, **chosen)
    assert all(torch.equal(value, weights(undisturbed)[name]) for name, value in weights(resumed).items())
    assert lines(tmp_path / "a" / "guards.jsonl") == lines(tmp_path / "b" / "guards.jsonl")


def test_a_training_that_runs_away_goes_back_three_times_and_stops(base: Path, tmp_path: Path) -> None:
    """Each step makes the logits larger, whatever the learning rate."""
    calls = [0]

    def growing(model: Any, batch: Any) -> tuple[torch.Tensor, int]:
        calls[0] += 1
        summed, count = loss_sum(model, batch)
        return summed * 1.1 ** (calls[0] % 30), count

    material = Material(examples(ROWS), [], collate, growing, chance=math.log(600))
    settings = FitSettings(batch_size=BATCH, steps=60, checkpoint_every=100, overhead_tokens=10**6)
    with pytest.raises(StageError, match="Runaway logits") as told:
        fit(model_at(base), material, settings, tmp_path, seed=SEED)
    assert "Going back 3 times" in told.value.problem
    assert "learning_rate" in told.value.remedy
    assert [line["action"] for line in lines(tmp_path / "guards.jsonl")] == ["return"] * 3 + ["stop"]


def test_an_adapter_that_does_not_move_stops(base: Path, tmp_path: Path) -> None:
    """Its gradient is zero, as when what is trained has no part in the loss."""

    def flat(model: Any, batch: Any) -> tuple[torch.Tensor, int]:
        summed, count = loss_sum(model, batch)
        return summed.detach() + 0 * summed, count

    with pytest.raises(StageError, match="No trained weight moved over 50 steps") as told:
        run(base, tmp_path, examples(8), flat, steps=120, token_budget=0)
    assert "learning_rate" in told.value.remedy
    assert lines(tmp_path / "guards.jsonl")[0]["step"] == 100


def test_an_ordinary_training_has_no_event(base: Path, tmp_path: Path) -> None:
    made, _ = run(base, tmp_path, examples(30), steps=60, token_budget=0)
    assert made.guards["events"] == 0
    assert not (tmp_path / "guards.jsonl").exists()


class Scaled(loop.StepTrainer):
    """With autocast to float16 and its loss scaler, which Trainer allows on a GPU alone."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.accelerator.scaler = torch.amp.GradScaler("cpu", init_scale=2.0**20)  # overflows at first
        self.accelerator.native_amp = True
        self.accelerator.state._mixed_precision = "fp16"


def test_the_float16_scaler_goes_on_after_overflow_and_a_left_out_step_and_resumes(
    base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("luthier.engine.trainer.StepTrainer", Scaled)
    rows, loss = poisoned(5, lambda summed: summed * math.nan, rows=40)
    chosen: dict[str, Any] = {"steps": 6, "schedule": "constant", "token_budget": 0, "overhead_tokens": 10**6}
    made, undisturbed = run(base, tmp_path / "a", rows, loss, **chosen)
    assert made.guards == {"events": 1, "left_out": 1, "returns": 0}, "overflows while it looks for a scale are none"
    norms = [line.get("grad_norm") for line in lines(tmp_path / "a" / "metrics.jsonl")]
    assert norms[0] is None, "inf, while the scaler looked for a scale"
    assert norms[4] is None, "the step that was left out"
    assert 0 < norms[5] < 10

    def dying(model: Any, batch: Any) -> tuple[torch.Tensor, int]:
        if len(lines(tmp_path / "b" / "metrics.jsonl")) == 4:
            raise KeyboardInterrupt
        return loss(model, batch)  # type: ignore[no-any-return]

    with pytest.raises(KeyboardInterrupt):
        run(base, tmp_path / "b", rows, dying, **chosen)
    _, resumed = run(base, tmp_path / "b", rows, loss, **chosen)
    assert all(torch.equal(value, weights(undisturbed)[name]) for name, value in weights(resumed).items())


OUT_OF_MEMORY = {
    "cuda": torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."),
    "mps": RuntimeError("MPS backend out of memory (MPS allocated: 1 GiB)"),
    "cpu": RuntimeError("[enforce fail at alloc_cpu.cpp:113] DefaultCPUAllocator: can't allocate memory: ..."),
    "python": MemoryError(),
}


@pytest.mark.parametrize("kind", OUT_OF_MEMORY)
def test_out_of_memory_is_known_by_its_errors(kind: str) -> None:
    assert memory.ran_out(OUT_OF_MEMORY[kind])
    assert not memory.ran_out(RuntimeError("shape mismatch"))
    assert not memory.ran_out(KeyboardInterrupt())


def test_out_of_memory_halves_the_micro_batches_and_learns_the_same(base: Path, tmp_path: Path) -> None:
    """More than 40 tokens at once are too many, found out in the fifth step."""
    calls = []

    def small(model: Any, batch: Any) -> tuple[torch.Tensor, int]:
        calls.append(batch["input_ids"].numel())
        if len(calls) > 4 and batch["input_ids"].numel() > 40:
            raise OUT_OF_MEMORY["cuda"]
        return loss_sum(model, batch)

    rows = examples(24, length=12)
    chosen: dict[str, Any] = {"steps": 6, "overhead_tokens": 0}
    made, model = run(base, tmp_path / "a", rows, small, **chosen, token_budget=100)
    _, plain = run(base, tmp_path / "b", rows, **chosen, token_budget=100)
    assert [one["step"] for one in made.oom] == [5]
    assert made.oom[0]["budget"] <= 50
    assert "memory ran out 1 times" in " ".join(made.notes)
    for name, value in weights(model).items():
        torch.testing.assert_close(value, weights(plain)[name], atol=1e-6, rtol=0)
    calls.clear()
    again, _ = run(base, tmp_path / "a", rows, small, **chosen, token_budget=100)
    assert (again.oom, calls) == (made.oom, []), "nothing is done again"


def test_a_resumed_training_keeps_the_smaller_micro_batches(base: Path, tmp_path: Path) -> None:
    sizes: list[int] = []

    def small(model: Any, batch: Any) -> tuple[torch.Tensor, int]:
        sizes.append(batch["input_ids"].numel())
        if batch["input_ids"].numel() > 40:
            raise OUT_OF_MEMORY["cuda"]
        if len(sizes) == 15:
            raise KeyboardInterrupt
        return loss_sum(model, batch)

    rows = examples(24, length=12)
    with pytest.raises(KeyboardInterrupt):
        run(base, tmp_path, rows, small, steps=12, overhead_tokens=0, token_budget=100)
    assert max(sizes) > 40
    sizes.clear()
    made, _ = run(base, tmp_path, rows, small, steps=12, overhead_tokens=0, token_budget=100)
    assert max(sizes) <= 40
    assert len(made.oom) == 1


def test_out_of_memory_with_one_example_stops_with_advice(base: Path, tmp_path: Path) -> None:
    def never(model: Any, batch: Any) -> tuple[torch.Tensor, int]:
        raise OUT_OF_MEMORY["cuda"]

    with pytest.raises(StageError, match="Memory ran out at step 1 even with one example") as told:
        run(base, tmp_path, examples(ROWS), never, token_budget=0)
    assert "data.max_length" in told.value.remedy


def test_out_of_memory_in_the_validation_halves_too(base: Path, tmp_path: Path) -> None:
    def small(model: Any, batch: Any) -> tuple[torch.Tensor, int]:
        if not model.training and batch["input_ids"].numel() > 40:
            raise OUT_OF_MEMORY["cuda"]
        return loss_sum(model, batch)

    held_out = examples(8, 1, length=12)
    settings = FitSettings(batch_size=BATCH, steps=2, token_budget=100, overhead_tokens=0)
    made = fit(model_at(base), Material(examples(ROWS), held_out, collate, small), settings, tmp_path / "a", seed=SEED)
    plain = fit(
        model_at(base), Material(examples(ROWS), held_out, collate, loss_sum), settings, tmp_path / "b", seed=SEED
    )
    assert made.best_validation_loss == pytest.approx(plain.best_validation_loss, abs=1e-6)
    assert [one["step"] for one in made.oom] == [2] * len(made.oom)
    assert made.oom[-1]["budget"] <= 40


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


def flip_a_bit(path: Path) -> None:
    raw = bytearray(path.read_bytes())
    raw[len(raw) // 2] ^= 1
    path.write_bytes(raw)


@pytest.mark.parametrize("harm", [truncate, flip_a_bit])
@pytest.mark.parametrize("kept", [1, 2])
def test_a_damaged_checkpoint_is_passed_over(harm: Any, kept: int, base: Path, tmp_path: Path) -> None:
    settings: dict[str, Any] = {"steps": 6, "keep_checkpoints": kept, "held_out": 0}
    model, again = model_at(base), model_at(base)
    train(model, tmp_path, **settings)
    harm(tmp_path / "checkpoint-6" / "adapter_model.safetensors")
    made = train(again, tmp_path, **settings)
    assert made.notes[0] == "checkpoint-6 was not used: adapter_model.safetensors is damaged"
    assert ("training starts from the beginning" in made.notes[1]) is (kept == 1)
    assert all(torch.equal(value, weights(again)[name]) for name, value in weights(model).items())


def test_too_little_disk_is_told_before_the_first_step(
    base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("luthier.engine.checkpoints._left", lambda _: 1000)
    with pytest.raises(StageError, match=r"The disk has 0\.0 MiB left and 3 checkpoints need 3") as told:
        train(model_at(base), tmp_path)
    assert "Free some space" in told.value.remedy
    assert not (tmp_path / "metrics.jsonl").exists()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """Mount a disk of 4 MiB, where this machine lets us."""
    disk = tmp_path / "disk"
    disk.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(disk)]
    if os.geteuid() or subprocess.run(command, check=False, capture_output=True).returncode:
        pytest.skip("this machine does not let us mount a disk; the tests beside this one have the rest")
    yield disk
    subprocess.run(["umount", disk], check=True)


@pytest.mark.parametrize("look_ahead", [True, False])
def test_a_disk_that_fills_up_stops_the_training_and_loses_nothing(
    look_ahead: bool, base: Path, tmp_path: Path, small_disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Looked ahead, or in the middle of writing: torch and safetensors raise errors of their own then."""
    if not look_ahead:
        monkeypatch.setattr("luthier.engine.checkpoints.require_space", lambda *_: None)
    rows, filler, steps = examples(ROWS), small_disk / "filler", [0]

    def filling(model: Any, batch: Any) -> tuple[torch.Tensor, int]:
        steps[0] += 1
        if steps[0] == 5:
            left = os.statvfs(small_disk)
            filler.write_bytes(b"x" * (left.f_bavail * left.f_frsize - 60_000))
        return loss_sum(model, batch)

    chosen: dict[str, Any] = {"steps": 8, "checkpoint_every": 3, "token_budget": 0, "overhead_tokens": 10**6}
    _, undisturbed = run(base, tmp_path / "plain", rows, **chosen)
    with pytest.raises(StageError, match="The disk has" if look_ahead else "The disk is full"):
        run(base, small_disk / "run", rows, filling, **chosen)
    assert checkpoints.steps_on_disk(small_disk / "run") == [3]
    assert checkpoints.damage(small_disk / "run" / "checkpoint-3") is None
    assert not list((small_disk / "run").glob(".writing-*"))
    filler.unlink()
    _, resumed = run(base, small_disk / "run", rows, **chosen)
    assert all(torch.equal(value, weights(undisturbed)[name]) for name, value in weights(resumed).items())


@pytest.mark.parametrize(
    "error",
    [
        OSError(28, "No space left on device"),
        RuntimeError("[enforce fail at inline_container.cc:858] . PytorchStreamWriter failed writing file data/0"),
        RuntimeError("basic_ios::clear: iostream error"),
    ],
)
def test_whatever_a_full_disk_raises_is_told_as_one(error: Exception, tmp_path: Path) -> None:
    def full(aside: Path) -> None:
        (aside / "half").write_bytes(b"x")
        raise error

    with pytest.raises(StageError, match=r"disk is full|Writing failed"):
        checkpoints.write(tmp_path, 3, full, {}, "f")
    assert list(tmp_path.iterdir()) == []


def test_other_errors_of_a_checkpoint_keep_their_traceback(tmp_path: Path) -> None:
    def wrong(aside: Path) -> None:
        raise RuntimeError("shape mismatch")

    with pytest.raises(RuntimeError, match="shape mismatch"):
        checkpoints.write(tmp_path, 3, wrong, {}, "f")


def test_a_disk_that_does_not_keep_what_is_written_stops(tmp_path: Path) -> None:
    def fill(aside: Path) -> None:
        (aside / "one").write_bytes(b"x" * 9)

    checkpoint = checkpoints.write(tmp_path, 3, fill, {}, "f")
    checkpoints.verify(checkpoint)
    flip_a_bit(checkpoint / "one")
    with pytest.raises(StageError, match="did not keep"):
        checkpoints.verify(checkpoint)


def test_clocks_that_jump_back_change_nothing(base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plain, jumped = model_at(base), model_at(base)
    train(plain, tmp_path / "a")
    now, real = [0], {name: getattr(time, name) for name in ("time", "perf_counter", "monotonic")}

    def jumping(name: str) -> Callable[[], float]:
        def clock() -> float:
            now[0] += 1
            return float(real[name]()) - 3600.0 * now[0]  # every look is an hour before the last one

        return clock

    for name in real:
        monkeypatch.setattr(time, name, jumping(name))
    made = train(jumped, tmp_path / "b")
    monkeypatch.undo()
    assert all(torch.equal(value, weights(jumped)[name]) for name, value in weights(plain).items())
    assert made.seconds >= 0
    assert all(line.get("tokens_per_second", 0) >= 0 for line in lines(tmp_path / "b" / "metrics.jsonl"))


def test_a_read_only_folder_is_told(base: Path, small_disk: Path) -> None:
    subprocess.run(["mount", "-o", "remount,ro", small_disk], check=True)
    with pytest.raises(UserError, match="Cannot write here: Read-only file system"):
        train(model_at(base), small_disk / "run")
    assert list(small_disk.iterdir()) == []


def test_a_folder_that_becomes_read_only_is_told(tmp_path: Path) -> None:
    def locked(aside: Path) -> None:
        raise OSError(30, "Read-only file system")

    with pytest.raises(UserError, match="Cannot write here"):
        checkpoints.write(tmp_path, 3, locked, {}, "f")


def test_no_other_process_makes_the_data(base: Path, tmp_path: Path) -> None:
    """There is no data worker that could be killed: batches are made in the process that trains."""
    children: set[str] = set()

    def watching(model: Any, batch: Any) -> tuple[torch.Tensor, int]:
        task = Path(f"/proc/{os.getpid()}/task")
        if task.is_dir():
            for thread in task.iterdir():
                children.update((thread / "children").read_text().split())
        return loss_sum(model, batch)

    before = {one for thread in Path("/proc/self/task").iterdir() for one in (thread / "children").read_text().split()}
    run(base, tmp_path, examples(ROWS), watching)
    assert children <= before
