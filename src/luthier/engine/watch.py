"""What follows the steps of a training: their clock, their metrics, and when to evaluate, save and stop."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from transformers import TrainerCallback

from luthier.engine.batches import steps_per_epoch

if TYPE_CHECKING:
    from luthier.engine.loop import StepTrainer


class Watch(TrainerCallback):
    """Follows the steps: times them, writes their metrics, and says when to evaluate, to save and to stop.

    Args:
        trainer: whose steps. advance: of a progress task.
    """

    def __init__(self, trainer: StepTrainer, advance: Callable[..., None]) -> None:
        self._trainer, self._advance = trainer, advance
        self._mark = self._begun = time.perf_counter()

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Write what the guards can go back to before there is another checkpoint."""
        if state.global_step == 0 and self._trainer.plan.settings.guards:
            self._trainer.save_start()

    def on_step_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Start the clock of a step."""
        self._begun = time.perf_counter()

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Write the metrics of the step, and ask for evaluation, checkpoint and end where they are due."""
        trainer, course, plan = self._trainer, self._trainer.course, self._trainer.plan
        now = time.perf_counter()
        took = max(now - self._begun, 0.0)  # a clock that was set back makes no negative times
        course.step = state.global_step
        course.step_seconds += took
        course.seconds += max(now - self._mark, 0.0)
        self._mark = now
        if not trainer.left_out:
            course.loss = trainer.step_loss
            course.tokens += trainer.step_tokens
        self._write(took)
        self._advance(1, note=self._note())
        last, wanted = course.step == plan.total, trainer.stop.wanted
        due = last or course.step % plan.settings.checkpoint_every == 0
        control.should_evaluate = due and bool(plan.material.validation)
        control.should_save = due or wanted
        control.should_training_stop |= last or wanted

    def on_train_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Add the last evaluation and checkpoint to the wall time."""
        self._trainer.course.seconds += max(time.perf_counter() - self._mark, 0.0)

    def _note(self) -> str:
        course = self._trainer.course
        loss = "" if course.loss is None else f"loss {course.loss:.3f}, "
        return f"{loss}{course.tokens_per_second:,.0f} tokens/s"

    def _write(self, took: float) -> None:
        trainer, course, plan = self._trainer, self._trainer.course, self._trainer.plan
        settings = plan.settings
        told: dict[str, Any] = {
            "step": course.step,
            "epoch": round(course.step / steps_per_epoch(len(plan.material.train), settings.batch_size), 4),
        }
        if trainer.left_out:
            told["left_out"] = trainer.left_out
        else:
            told["loss"] = course.loss
        told["learning_rate"] = trainer.learning_rate
        told["phase"] = plan.schedule.get_phase_info(course.step)["name"]
        if not trainer.left_out:
            told["grad_norm"] = trainer.step_norm
            told["tokens_per_second"] = round(trainer.step_tokens / took, 1) if took else 0.0
        trainer.metrics_log.add(**told, seconds=round(course.seconds, 3))
