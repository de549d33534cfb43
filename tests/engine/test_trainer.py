"""The training loop: the same curve for any micro-batching, the same bytes after a kill, clear stops."""

from __future__ import annotations

import json
import multiprocessing
import os
import random
import signal
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from luthier.engine import checkpoints
from luthier.engine.batches import rows_of_step
from luthier.engine.guards import GuardSettings
from luthier.engine.plateau import Plateau
from luthier.engine.schedules import Schedule
from luthier.engine.trainer import FitSettings, Material, fit
from luthier.errors import StageError, UserError
from luthier.run.progress import Silent
from tests.engine.launched import whole
from tests.engine.little import Example, collate, examples, loss_sum, model_at, train, weights
from tests.tiny import make


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make("llama", tmp_path_factory.mktemp("base"))


def lines(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def step_lines(folder: Path) -> list[dict[str, Any]]:
    return [line for line in lines(folder) if "loss" in line]


def curve(base: Path, folder: Path, budget: int, overhead: int) -> tuple[list[float], dict[str, torch.Tensor]]:
    model = model_at(base)
    material = Material(examples(24, length=12), [], collate, loss_sum)
    chosen = FitSettings(epochs=2, learning_rate=5e-3, token_budget=budget, overhead_tokens=overhead, weight_decay=0.1)
    fit(model, material, chosen, folder, seed=3)
    return [line["loss"] for line in step_lines(folder)], weights(model)


def test_micro_batching_does_not_change_what_is_learned(base: Path, tmp_path: Path) -> None:
    """8 x 1, 4 x 2 and 1 x 8: same losses, same weights."""
    whole, whole_weights = curve(base, tmp_path / "8x1", 8 * 12, 10**6)
    for name, budget, overhead in (("4x2", 2 * 12, 1), ("1x8", 12, 0)):
        losses, learned = curve(base, tmp_path / name, budget, overhead)
        assert losses == pytest.approx(whole, abs=1e-6)
        for key, value in learned.items():
            torch.testing.assert_close(value, whole_weights[key], atol=1e-6, rtol=0)


def test_the_trainer_equals_a_plain_loop(base: Path, tmp_path: Path) -> None:
    """Rows of different lengths; each step's loss is the mean over its supervised tokens, not a mean of means."""
    model, rows = model_at(base), examples(10)
    made = train(model, tmp_path, rows=10, held_out=0, warmup=2, weight_decay=0.1, max_grad_norm=0.5)
    plain = model_at(base).train()
    moved = [one for one in plain.parameters() if one.requires_grad]
    optimizer = torch.optim.AdamW(moved, lr=5e-3, weight_decay=0.1)
    losses = []
    for step in range(1, made.steps + 1):
        batch = collate([rows[row] for row in rows_of_step(step, 10, 4, 7)])
        summed, count = loss_sum(plain, batch)
        (summed / count).backward()
        torch.nn.utils.clip_grad_norm_(moved, 0.5)
        optimizer.param_groups[0]["lr"] = Schedule(made.steps, 5e-3, "cosine", 2)(step)
        optimizer.step()
        optimizer.zero_grad()
        losses.append(float(summed.detach() / count))
    told = step_lines(tmp_path)
    assert [line["loss"] for line in told] == pytest.approx(losses, abs=2e-6)
    assert [line["learning_rate"] for line in told] == [Schedule(6, 5e-3, "cosine", 2)(step) for step in range(1, 7)]
    assert [line["phase"] for line in told] == ["warmup"] * 2 + ["cosine"] * 4
    for (name, value), one in zip(weights(model).items(), moved, strict=True):
        torch.testing.assert_close(value, one.detach(), atol=1e-5, rtol=0, msg=name)


def test_a_mean_of_means_would_be_seen(base: Path) -> None:
    """The comparison above can fail: for rows of these lengths the two averages differ."""
    model, rows = model_at(base), examples(4)
    whole, count = loss_sum(model, collate(rows))
    each = [loss_sum(model, collate([row])) for row in rows]
    assert abs(float(whole.detach() / count) - sum(float(s.detach() / c) for s, c in each) / 4) > 1e-4


def test_what_a_training_leaves(base: Path, tmp_path: Path) -> None:
    model = model_at(base)
    model.config.use_cache = True
    made = train(model, tmp_path)
    assert (made.steps, made.epochs, made.best_step is not None, made.stopped_early) == (10, 2.0, True, False)
    assert [line["step"] for line in step_lines(tmp_path)] == list(range(1, 11))
    assert [line["step"] for line in lines(tmp_path) if "validation_loss" in line] == [3, 6, 9, 10]
    assert set(step_lines(tmp_path)[0]) == {
        "step", "epoch", "loss", "learning_rate", "phase", "grad_norm", "tokens_per_second", "seconds",
    }  # fmt: skip
    assert step_lines(tmp_path)[-1]["loss"] < step_lines(tmp_path)[0]["loss"]
    assert made.best_validation_loss == min(line["validation_loss"] for line in lines(tmp_path) if len(line) == 2)
    names = {path.name for path in tmp_path.rglob("*") if path.is_file()}
    assert names == {
        "metrics.jsonl", "checkpoint.json", "adapter_config.json", "adapter_model.safetensors",
        "optimizer.pt", "scheduler.pt", "trainer_state.json",
    }  # fmt: skip
    assert model.config.use_cache is True


def test_the_validation_loss_is_weighted_by_token(base: Path, tmp_path: Path) -> None:
    model = model_at(base)
    train(model, tmp_path, steps=1)
    held_out = examples(6, 1)
    with torch.no_grad():
        each = [loss_sum(model.eval(), collate([row])) for row in held_out]
    expected = sum(float(summed) for summed, _ in each) / sum(count for _, count in each)
    assert lines(tmp_path)[-1] == {"step": 1, "validation_loss": pytest.approx(expected, abs=1e-6)}


def test_the_best_weights_are_kept_and_training_stops_early(base: Path, tmp_path: Path) -> None:
    model = model_at(base)
    made = train(model, tmp_path, steps=60, learning_rate=0.3, schedule="constant", checkpoint_every=2, patience=2)
    assert made.stopped_early
    assert made.steps == made.best_step + 4
    assert checkpoints.steps_on_disk(tmp_path) == [made.steps, made.best_step]
    best = checkpoints.path_of(tmp_path, made.best_step)
    from safetensors.torch import load_file

    stored = load_file(best / "adapter_model.safetensors")
    for name, value in weights(model).items():
        assert torch.equal(value, stored[name.replace(".default", "")])
    again = model_at(base)
    later = train(again, tmp_path, steps=60, learning_rate=0.3, schedule="constant", checkpoint_every=2, patience=2)
    assert (later.steps, later.stopped_early) == (made.steps, True)
    assert all(torch.equal(value, weights(again)[name]) for name, value in weights(model).items())


def in_child(base: Path, folder: Path, dropout: float) -> multiprocessing.Process:
    def work() -> None:
        train(model_at(base, dropout), folder, warmup=2, checkpoint_every=2, keep_checkpoints=2)

    child = multiprocessing.get_context("fork").Process(target=work)
    child.start()
    return child  # type: ignore[return-value]


def adapter_bytes(model: Any, folder: Path) -> bytes:
    model.save_pretrained(folder)
    return (folder / "adapter_model.safetensors").read_bytes()


def wait_for(folder: Path, count: int) -> None:
    path, patience = folder / "metrics.jsonl", time.monotonic() + 60
    while time.monotonic() < patience:
        if path.is_file() and path.read_bytes().count(b"\n") >= count:
            return
        time.sleep(0.002)
    raise AssertionError("the child did not get so far")


@pytest.mark.parametrize("dropout", [0.0, 0.3])
def test_killed_at_random_steps_it_ends_with_the_same_bytes(base: Path, tmp_path: Path, dropout: float) -> None:
    settings: dict[str, Any] = {"warmup": 2, "checkpoint_every": 2, "keep_checkpoints": 2}
    undisturbed = model_at(base, dropout)
    train(undisturbed, tmp_path / "a", **settings)
    draw = random.Random(f"kills {dropout}")
    for count in sorted(draw.sample(range(1, 15), 2)):
        child = in_child(base, tmp_path / "b", dropout)
        wait_for(tmp_path / "b", count)
        os.kill(child.pid, signal.SIGKILL)
        child.join()
    resumed = model_at(base, dropout)
    made = train(resumed, tmp_path / "b", **settings)
    assert adapter_bytes(resumed, tmp_path / "1") == adapter_bytes(undisturbed, tmp_path / "2")
    assert made.steps == 10
    timeless = [
        [{key: line[key] for key in line if key not in ("seconds", "tokens_per_second")} for line in lines(folder)]
        for folder in (tmp_path / "a", tmp_path / "b")
    ]
    assert timeless[0] == timeless[1], "every step once, with the same numbers"


def killed_in_writing(base: Path, folder: Path) -> bool:
    """Train, and kill in the middle of writing a checkpoint; False when the training was done before that."""
    child = in_child(base, folder, 0.0)
    while child.is_alive():
        if any(folder.glob(".writing-*-checkpoint-*")):
            os.kill(child.pid, signal.SIGSTOP)  # so that it is still writing when it is killed
            if any(folder.glob(".writing-*-checkpoint-*")):
                os.kill(child.pid, signal.SIGKILL)
                child.join()
                return True
            os.kill(child.pid, signal.SIGCONT)
        time.sleep(0.0002)
    child.join()
    return False


def test_killed_while_it_writes_a_checkpoint_it_ends_with_the_same_bytes(base: Path, tmp_path: Path) -> None:
    settings: dict[str, Any] = {"warmup": 2, "checkpoint_every": 2, "keep_checkpoints": 2}
    undisturbed, resumed = model_at(base), model_at(base)
    train(undisturbed, tmp_path / "a", **settings)
    folder = next(one for number in range(20) if killed_in_writing(base, one := tmp_path / f"b{number}"))
    assert any(folder.glob(".writing-*"))
    train(resumed, folder, **settings)
    assert adapter_bytes(resumed, tmp_path / "1") == adapter_bytes(undisturbed, tmp_path / "2")
    assert not any(folder.glob(".writing-*"))


def test_dropout_depends_on_seed_and_step_alone(base: Path, tmp_path: Path) -> None:
    """The proof above can fail: with dropout, random numbers of another step give other bytes."""
    first, second = model_at(base, 0.3), model_at(base)
    train(first, tmp_path / "a", steps=2)
    train(second, tmp_path / "b", steps=2)
    assert adapter_bytes(first, tmp_path / "1") != adapter_bytes(second, tmp_path / "2")


def test_ctrl_c_saves_the_step_at_hand_and_a_later_run_ends_the_same(base: Path, tmp_path: Path) -> None:
    class Interrupting(Silent):
        def task(self, name: str, total: int | None = None, unit: str = "rows") -> Any:
            from contextlib import nullcontext

            assert (name, unit) == ("training", "steps")
            self.done = 0

            def advance(count: int, note: str = "") -> None:
                self.done += count
                assert "tokens/s" in note
                if self.done == 4:
                    os.kill(os.getpid(), signal.SIGINT)

            return nullcontext(advance)

    chosen = FitSettings(epochs=2, batch_size=4, learning_rate=5e-3, checkpoint_every=3)
    material = Material(examples(20), examples(6, 1), collate, loss_sum)
    with pytest.raises(KeyboardInterrupt):
        fit(model_at(base), material, chosen, tmp_path / "a", Interrupting(), seed=7)
    assert checkpoints.steps_on_disk(tmp_path / "a")[0] == 4
    resumed, undisturbed = model_at(base), model_at(base)
    made = fit(resumed, material, chosen, tmp_path / "a", seed=7)
    fit(undisturbed, material, chosen, tmp_path / "b", seed=7)
    assert made.steps == 10
    assert adapter_bytes(resumed, tmp_path / "1") == adapter_bytes(undisturbed, tmp_path / "2")


def test_a_damaged_newest_checkpoint_gives_way_and_the_end_is_the_same(base: Path, tmp_path: Path) -> None:
    model = model_at(base)
    train(model, tmp_path, steps=6, keep_checkpoints=2)
    optimizer = tmp_path / "checkpoint-6" / "optimizer.pt"
    raw = bytearray(optimizer.read_bytes())
    raw[len(raw) // 2] ^= 1
    optimizer.write_bytes(raw)
    again = model_at(base)
    made = train(again, tmp_path, steps=6, keep_checkpoints=2)
    assert made.notes == ("checkpoint-6 was not used: optimizer.pt is damaged",)
    assert all(torch.equal(value, weights(again)[name]) for name, value in weights(model).items())
    assert [line["step"] for line in step_lines(tmp_path)] == [1, 2, 3, 4, 5, 6]


def test_a_finished_training_gives_its_weights_without_a_step(base: Path, tmp_path: Path) -> None:
    model, again = model_at(base), model_at(base)
    first = train(model, tmp_path)
    content = (tmp_path / "metrics.jsonl").read_bytes()
    later = train(again, tmp_path)
    assert replace(later, seconds=0) == replace(first, seconds=0)
    assert (tmp_path / "metrics.jsonl").read_bytes() == content
    assert all(torch.equal(value, weights(again)[name]) for name, value in weights(model).items())


def test_other_settings_start_anew(base: Path, tmp_path: Path) -> None:
    train(model_at(base), tmp_path, steps=3)
    made = train(model_at(base), tmp_path, steps=2)
    assert made.steps == 2
    assert "other data, settings" in made.notes[0]


def test_nan_stops_before_the_step_and_loses_nothing(base: Path, tmp_path: Path) -> None:
    def poisoned(model: Any, batch: Any) -> tuple[torch.Tensor, int]:
        summed, count = loss_sum(model, batch)
        if bool((batch["input_ids"] == 5).any()):
            summed = summed * float("nan")
        return summed, count

    rows = examples(20)
    late = rows_of_step(5, 20, 4, 7)[1]
    rows[late] = Example("bad:1", [5] * 9, [-100] + [5] * 8)
    material = Material(rows, [], collate, poisoned)
    guards = GuardSettings(on_nonfinite="stop")
    chosen = FitSettings(batch_size=4, learning_rate=5e-3, checkpoint_every=3, token_budget=1, guards=guards)
    model = model_at(base)
    with pytest.raises(StageError, match="loss is nan at step 5, with learning rate") as told:
        fit(model, material, chosen, tmp_path, seed=7)
    assert told.value.place == "rows bad:1"
    assert all(bool(torch.isfinite(value).all()) for value in weights(model).values())
    assert checkpoints.steps_on_disk(tmp_path) == [3]
    assert len(step_lines(tmp_path)) == 4


def test_a_batch_larger_than_the_data_is_one_step_an_epoch(base: Path, tmp_path: Path) -> None:
    made = train(model_at(base), tmp_path, rows=3, batch_size=8, epochs=2, held_out=0)
    assert (made.steps, made.epochs, made.best_step) == (2, 2.0, None)
    assert "3 training rows" in made.notes[0]
    assert "no validation rows" in made.notes[1]


def test_what_has_a_loss_of_its_own_is_validated_alone(base: Path, tmp_path: Path) -> None:
    """Read together, two pools would be negatives of each other wherever the token budget has room for both."""
    sizes: list[int] = []

    def counted(model: Any, batch: Any) -> tuple[torch.Tensor, int]:
        if not model.training:
            sizes.append(len(batch["input_ids"]))
        return loss_sum(model, batch)

    for whole_step, expected in ((whole, [1, 1, 1]), (None, [3])):
        sizes.clear()
        material = Material(examples(8), examples(3, 1), collate, counted, whole_step=whole_step)
        settings = FitSettings(steps=1, overhead_tokens=10**6)
        fit(model_at(base), material, settings, tmp_path / str(len(expected)))
        assert sizes == expected


def test_what_waits_for_more_evaluations_than_there_are_is_told(base: Path, tmp_path: Path) -> None:
    waiting = {"patience": 3, "plateau": Plateau(patience=2), "steps": 4}
    made = train(model_at(base), tmp_path / "a", **waiting, checkpoint_every=2, held_out=2)
    assert [note.partition(",")[0] for note in made.notes] == [
        "early stopping waits for 3 evaluations after the best",
        "the rate is reduced 2 evaluations after the best",
    ]
    made = train(model_at(base), tmp_path / "b", **waiting, checkpoint_every=1, held_out=2)
    assert made.notes == ()


def test_epochs_may_be_fractional_and_steps_override(base: Path, tmp_path: Path) -> None:
    assert train(model_at(base), tmp_path / "a", epochs=0.5).steps == 3
    assert train(model_at(base), tmp_path / "b", epochs=0.5, steps=1).epochs == 0.2


def test_what_cannot_be_trained_is_refused(base: Path, tmp_path: Path) -> None:
    model = model_at(base)
    with pytest.raises(UserError, match="no rows"):
        train(model, tmp_path, rows=0)
    with pytest.raises(UserError, match="not shorter than the training of 10 steps"):
        train(model, tmp_path, warmup=10)
    empty = Material([Example("e:1", [5, 6], [5, -100])], [], collate, loss_sum)
    with pytest.raises(UserError, match="nothing to learn") as told:
        fit(model, empty, FitSettings(), tmp_path)
    assert "e:1" in told.value.place


def test_decay_is_on_matrices_only(base: Path, tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM

    from luthier.engine.course import Course, MetricsLog
    from luthier.engine.loop import StepTrainer
    from luthier.engine.material import Plan

    full = AutoModelForCausalLM.from_pretrained(base)
    material = Material(examples(4), [], collate, loss_sum)
    plan = Plan(material, FitSettings(weight_decay=0.1), tmp_path, 0, 1, "f")
    with MetricsLog(tmp_path / "metrics.jsonl", 0) as log:
        optimizer = StepTrainer(full, plan, Course(), log).create_optimizer()
    decayed, free = optimizer.param_groups
    assert (decayed["weight_decay"], free["weight_decay"]) == (0.1, 0.0)
    assert {one.ndim for one in decayed["params"]} == {2}
    assert {one.ndim for one in free["params"]} == {1}


def test_full_training_resumes_too(base: Path, tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM

    one, two = (AutoModelForCausalLM.from_pretrained(base) for _ in range(2))
    train(one, tmp_path / "a", steps=4, checkpoint_every=2, keep_checkpoints=2)
    train(AutoModelForCausalLM.from_pretrained(base), tmp_path / "b", steps=4, checkpoint_every=2, keep_checkpoints=2)
    checkpoints.shutil.rmtree(tmp_path / "b" / "checkpoint-4")
    train(two, tmp_path / "b", steps=4, checkpoint_every=2, keep_checkpoints=2)
    for (name, value), other in zip(one.state_dict().items(), two.state_dict().values(), strict=True):
        assert torch.equal(value, other), name
