"""The door of the engine: `fit` trains a model in a folder, and goes on there where a killed training stopped."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import transformers

from luthier.engine import checkpoints, schedules
from luthier.engine.batches import count_steps, steps_per_epoch
from luthier.engine.course import Course, MetricsLog
from luthier.engine.guards import stoppable
from luthier.engine.identity import fingerprint_of
from luthier.engine.loop import Material, Plan, StepTrainer, Watch
from luthier.engine.settings import FitSettings
from luthier.errors import UserError
from luthier.run.atomic import remove_leftovers
from luthier.run.progress import Progress, Silent

__all__ = ["FitSettings", "Fitted", "Material", "fit"]

METRICS = "metrics.jsonl"


@dataclass(frozen=True)
class Fitted:
    """How a training ended.

    Attributes:
        steps: optimizer steps taken. epochs: passes over the rows. seconds: wall time, validation and saving included.
        best_step, best_validation_loss: the evaluation whose weights the model now has; None without validation rows.
        stopped_early: patience ran out. tokens_per_second: real tokens, over the time of the steps alone.
        final_train_loss: of the last step. notes: what the user should know.
    """

    steps: int
    epochs: float
    seconds: float
    best_step: int | None
    best_validation_loss: float | None
    stopped_early: bool
    tokens_per_second: float
    final_train_loss: float | None
    notes: tuple[str, ...] = ()


def fit(
    model: Any,
    material: Material,
    settings: FitSettings,
    folder: Path,
    progress: Progress | None = None,
    seed: int = 0,
) -> Fitted:
    """Train `model` in place; with validation rows it ends with the weights of the lowest validation loss.

    Called again with the same arguments in the same folder it goes on from the newest whole checkpoint and ends with
    the same weights, to the byte on the same machine and number of threads.

    Args:
        model: PEFT or plain transformers model; what requires a gradient is trained.
        material: see `Material`. settings: see `FitSettings`.
        folder: gets metrics.jsonl and checkpoint-N/. progress: where to tell. seed: of order and dropout.

    Raises:
        UserError: settings or rows do not allow a training. StageError: the loss is not finite, or the disk is full.
        KeyboardInterrupt, SystemExit: Ctrl-C or SIGTERM came; the step at hand is finished and saved.
    """
    progress = progress or Silent()
    total = _check(material, settings)
    folder.mkdir(parents=True, exist_ok=True)
    remove_leftovers(folder)
    fingerprint = fingerprint_of(model, material.train, material.validation, asdict(settings), seed)
    plan = Plan(material, settings, folder, seed, total, fingerprint)
    found = checkpoints.newest_whole(folder, fingerprint)
    course = Course(**found.state)
    for note in found.notes:
        progress.say(f"  {note}")
    if found.path is not None:
        progress.say(f"  going on after step {course.step} of {total} ({found.path.name})")
    with _quiet(model), MetricsLog(folder / METRICS, course.step) as log:
        trainer = StepTrainer(model, plan, course, log)
        unfinished = course.step < total and not course.stopped
        if unfinished:
            _train(trainer, found.path, total - course.step, progress)
        kept = course.best_step or course.step
        if not unfinished or kept != course.step:
            trainer.load_weights(checkpoints.path_of(folder, kept))
    return _fitted(course, plan, found.notes)


def _train(trainer: StepTrainer, checkpoint: Path | None, steps: int, progress: Progress) -> None:
    with stoppable(progress.say) as stop:
        with progress.task("training", total=steps, unit="steps") as advance:
            trainer.add_callback(Watch(trainer, advance, stop))
            trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
        stop.raise_again()


def _check(material: Material, settings: FitSettings) -> int:
    """Return the number of optimizer steps."""
    train = material.train
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise UserError("Training on several processes is not there yet.", "WORLD_SIZE", "Start one process.")
    if not train:
        raise UserError("There are no rows to train on.", "1-data/train.jsonl", "See 1-data/rejected.jsonl.")
    empty = [example.id for example in train if material.measure(example).weight == 0]
    if empty:
        raise UserError(
            f"{len(empty)} training rows have nothing to learn from.", f"rows {', '.join(empty[:16])}", "Remove them."
        )
    total = count_steps(len(train), settings.batch_size, settings.epochs, settings.steps)
    schedules.check(total, settings.schedule, settings.warmup)
    return total


@contextmanager
def _quiet(model: Any) -> Iterator[None]:
    """Undo what Trainer changes for good: how much transformers logs, and the model's use of its cache."""
    verbosity = transformers.logging.get_verbosity()
    config = getattr(model, "config", None)
    cache = getattr(config, "use_cache", None)
    try:
        yield
    finally:
        transformers.logging.set_verbosity(verbosity)
        if config is not None and cache is not None:
            config.use_cache = cache


def _fitted(course: Course, plan: Plan, passed_over: Sequence[str]) -> Fitted:
    rows, settings = len(plan.material.train), plan.settings
    notes = list(passed_over)
    if rows < settings.batch_size:
        notes.append(f"batch_size is {settings.batch_size} and there are {rows} training rows: one step is one epoch")
    if not plan.material.validation:
        notes.append("no validation rows: the adapter of the last step is kept, and nothing stops early")
    return Fitted(
        steps=course.step,
        epochs=round(course.step / steps_per_epoch(rows, settings.batch_size), 4),
        seconds=round(course.seconds, 3),
        best_step=course.best_step,
        best_validation_loss=course.best_loss,
        stopped_early=course.stopped,
        tokens_per_second=round(course.tokens_per_second, 1),
        final_train_loss=course.loss,
        notes=tuple(notes),
    )
