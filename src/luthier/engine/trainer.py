"""The training loop: transformers' `Trainer`, whose batch is a whole optimizer step.

`fit` is the door. `StepTrainer` overrides what has to differ: a step comes as a list of micro-batches whose summed
losses are divided by the weight of the whole step, so that 8 x 1, 4 x 2 and 1 x 8 learn the same; the order of the rows
and the random numbers of a step are pure functions of (seed, step), so that a killed run ends with the same bytes.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from torch.optim.lr_scheduler import LambdaLR
from torch.utils.data import DataLoader
from transformers import Trainer, TrainerCallback, TrainingArguments

from luthier.engine import checkpoints, schedules
from luthier.engine.batches import (
    Collate,
    Measured,
    Steps,
    count_steps,
    measure_language,
    micro_batches,
    steps_per_epoch,
)
from luthier.engine.course import Course, MetricsLog
from luthier.engine.guards import Stop, check_finite, check_validation, stoppable
from luthier.engine.identity import fingerprint_of
from luthier.engine.settings import FitSettings
from luthier.errors import StageError, UserError
from luthier.run.atomic import remove_leftovers
from luthier.run.progress import Progress, Silent

__all__ = ["FitSettings", "Fitted", "fit"]

LossSum = Callable[[Any, Any], tuple[torch.Tensor, Any]]
METRICS = "metrics.jsonl"
OVERFLOWS = 20  # float16 steps in a row that the loss scaler may skip while it looks for a scale


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


@dataclass(frozen=True)
class Material:
    """What is learned: the examples, and how they become tensors and a loss. A kind supplies the functions.

    Attributes:
        train, validation: dataclass examples with an `id`. validation may be empty: no evaluation, no early stopping.
        collate: examples to tensors. loss_sum: (model, tensors) to (summed loss, weight).
        measure: length and weight of an example; the weights of a micro-batch add up to what `loss_sum` returns.
    """

    train: Sequence[Any]
    validation: Sequence[Any]
    collate: Collate
    loss_sum: LossSum
    measure: Callable[[Any], Measured] = measure_language


@dataclass(frozen=True)
class Plan:
    """What one training is, besides its model.

    Attributes:
        material, settings, folder, seed: as for `fit`. total: optimizer steps. fingerprint: see `identity`.
    """

    material: Material
    settings: FitSettings
    folder: Path
    seed: int
    total: int
    fingerprint: str


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


class StepTrainer(Trainer):
    """transformers' `Trainer` over optimizer steps: one item of the data loader is one step.

    Args:
        model: what is trained. plan: see `Plan`. course: where training stands; changed in place. log: metrics.jsonl.
    """

    def __init__(self, model: Any, plan: Plan, course: Course, log: MetricsLog) -> None:
        self.plan, self.course, self.metrics_log = plan, course, log
        super().__init__(model=model, args=_arguments(plan))
        for callback in list(self.callback_handler.callbacks):
            self.remove_callback(callback)
        self._micro = plan.settings.micro(self.args.device.type)
        self._held_out: list[Any] | None = None
        self._losses: list[torch.Tensor] = []
        self._overflows = 0
        self.step_loss = self.step_norm = math.nan

    def get_train_dataloader(self) -> DataLoader[Any]:
        """Return the steps in order. A resumed run skips the ones it has taken without building them."""
        plan, material = self.plan, self.plan.material
        measured = [material.measure(example) for example in material.train]
        order = (plan.total, plan.settings.batch_size, plan.seed)
        steps: Any = Steps(material.train, measured, order, material.collate, self._micro)
        return DataLoader(steps, batch_size=1, shuffle=False, collate_fn=_only)

    def get_decay_parameter_names(self, model: Any) -> list[str]:
        """Return the names of the matrices: weight decay has no meaning for biases, norms and DoRA's magnitudes."""
        return [name for name, parameter in model.named_parameters() if parameter.ndim > 1]

    def create_scheduler(self, num_training_steps: int, optimizer: Any = None) -> Any:
        """Return the schedule of `engine.schedules`; torch counts finished steps, Luthier the step at hand."""
        settings, total = self.plan.settings, self.plan.total
        steered: Any = optimizer or self.optimizer
        self.lr_scheduler = LambdaLR(
            steered,
            lambda done: schedules.factor(done + 1, total, settings.schedule, settings.warmup),
        )
        return self.lr_scheduler

    def training_step(self, model: Any, inputs: Any, num_items_in_batch: Any = None) -> torch.Tensor:
        """Run forward and backward over the micro-batches of one step; return the mean loss of the whole step."""
        if not model.training:  # walking through all modules costs as much as a small layer
            model.train()
        _reseed(self.args.device, _seed_of_step(self.plan.seed, inputs["step"]))
        self._inputs, self._losses = inputs, []
        for tensors in inputs["micro_batches"]:
            with self.accelerator.autocast():
                loss_sum, _ = self.plan.material.loss_sum(model, self._on_device(tensors))
            loss = loss_sum / inputs["weight"]
            self.accelerator.backward(loss)
            self._losses.append(loss.detach().float())
        return torch.stack(self._losses).sum()

    def _clip_grad_norm(self, model: Any) -> torch.Tensor:
        """Clip, and look at loss and norm before the optimizer moves anything: one transfer from the device a step."""
        moved = [weight for group in self.optimizer.param_groups for weight in group["params"]]
        norm: torch.Tensor = self.accelerator.clip_grad_norm_(moved, self.plan.settings.max_grad_norm)
        *losses, self.step_norm = torch.stack([*self._losses, norm.detach().float()]).tolist()
        self.step_loss = math.fsum(losses)
        scaled = self.accelerator.scaler is not None and math.isfinite(self.step_loss)
        self._overflows = self._overflows + 1 if scaled and not math.isfinite(self.step_norm) else 0
        if not scaled or self._overflows > OVERFLOWS:
            check_finite(self._inputs["step"], self.learning_rate, losses, self.step_norm, self._inputs["ids"])
        return norm

    def evaluate(self, *args: Any, **kwargs: Any) -> dict[str, float]:
        """Return the validation loss, weighted by token over all rows, and note what follows from it."""
        settings, course = self.plan.settings, self.course
        loss = self._validation_loss()
        check_validation(course.step, self.learning_rate, loss)
        course.judge(loss, settings.patience, settings.threshold)
        self.metrics_log.add(step=course.step, validation_loss=loss)
        self.control.should_evaluate = False
        self.control.should_training_stop |= course.stopped
        return {"eval_loss": loss}

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        plan, course = self.plan, self.course
        self.metrics_log.flush()
        checkpoints.write(plan.folder, course.step, self._fill, course.to_json(), plan.fingerprint)
        protected = () if course.best_step is None else (course.best_step,)
        checkpoints.retain(plan.folder, plan.settings.keep_checkpoints, protected)

    def load_weights(self, path: Path) -> None:
        """Give the model the weights of a checkpoint.

        Raises:
            StageError: the checkpoint is not whole.
        """
        problem = checkpoints.damage(path)
        if problem is not None:
            raise StageError(f"The checkpoint cannot be used: {problem}.", str(path), "Run again: it is made anew.")
        self._load_from_checkpoint(str(path))

    @property
    def learning_rate(self) -> float:
        """Learning rate of the step at hand, or of the last one."""
        settings, step = self.plan.settings, self._inputs["step"]
        return schedules.learning_rate(
            step, self.plan.total, settings.schedule, settings.learning_rate, settings.warmup
        )

    @property
    def step_tokens(self) -> int:
        """Real tokens of the step at hand."""
        return int(self._inputs["tokens"])

    def _fill(self, aside: Path) -> None:
        model: Any = self.model
        model.save_pretrained(aside)
        (aside / "README.md").unlink(missing_ok=True)  # PEFT's empty model card; the export writes a true one
        self._save_optimizer_and_scheduler(str(aside))
        self._save_scaler(str(aside))
        self.state.save_to_json(str(aside / "trainer_state.json"))

    def _on_device(self, tensors: Any) -> Any:
        device = self.args.device
        return {name: value.to(device, non_blocking=True) for name, value in tensors.items()}

    def _validation_loss(self) -> float:
        material, rows = self.plan.material, self.plan.material.validation
        if self._held_out is None:
            measured = [material.measure(example) for example in rows]
            parts = micro_batches(range(len(rows)), measured, *self._micro)
            self._held_out = [material.collate([rows[row] for row in part]) for part in parts]
        model: Any = self.model
        model.eval()
        sums, weight = [], 0.0
        with torch.no_grad(), self.accelerator.autocast():
            for tensors in self._held_out:
                loss_sum, count = material.loss_sum(model, self._on_device(tensors))
                sums.append(loss_sum.float())
                weight += float(count)
        return math.fsum(torch.stack(sums).tolist()) / weight


class _Watch(TrainerCallback):
    """Follows the steps: times them, writes their metrics, and says when to evaluate, to save and to stop."""

    def __init__(self, trainer: StepTrainer, advance: Callable[..., None], stop: Stop) -> None:
        self._trainer, self._advance, self._stop = trainer, advance, stop
        self._mark = self._begun = time.perf_counter()

    def on_step_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self._begun = time.perf_counter()

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        trainer, course, plan = self._trainer, self._trainer.course, self._trainer.plan
        now = time.perf_counter()
        took = now - self._begun
        course.step, course.loss = state.global_step, trainer.step_loss
        course.tokens += trainer.step_tokens
        course.step_seconds += took
        course.seconds += now - self._mark
        self._mark = now
        self._write(took)
        self._advance(1, note=f"loss {course.loss:.3f}, {course.tokens_per_second:,.0f} tokens/s")
        last = course.step == plan.total
        due = last or course.step % plan.settings.checkpoint_every == 0
        control.should_evaluate = due and bool(plan.material.validation)
        control.should_save = due or self._stop.signal is not None
        control.should_training_stop |= last or self._stop.signal is not None

    def on_train_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self._trainer.course.seconds += time.perf_counter() - self._mark

    def _write(self, took: float) -> None:
        trainer, course, plan = self._trainer, self._trainer.course, self._trainer.plan
        settings = plan.settings
        trainer.metrics_log.add(
            step=course.step,
            epoch=round(course.step / steps_per_epoch(len(plan.material.train), settings.batch_size), 4),
            loss=course.loss,
            learning_rate=trainer.learning_rate,
            phase=schedules.phase(course.step, settings.schedule, settings.warmup),
            grad_norm=trainer.step_norm,
            tokens_per_second=round(trainer.step_tokens / took, 1),
            seconds=round(course.seconds, 3),
        )


def _train(trainer: StepTrainer, checkpoint: Path | None, steps: int, progress: Progress) -> None:
    with stoppable(progress.say) as stop:
        with progress.task("training", total=steps, unit="steps") as advance:
            trainer.add_callback(_Watch(trainer, advance, stop))
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


def _arguments(plan: Plan) -> TrainingArguments:
    """Return Trainer's settings: one item a step, one pass over all steps, and none of its own output."""
    settings = plan.settings
    arguments = TrainingArguments(
        output_dir=str(plan.folder),
        num_train_epochs=1,
        per_device_train_batch_size=1,
        gradient_accumulation_steps=1,
        learning_rate=settings.learning_rate,
        weight_decay=settings.weight_decay,
        max_grad_norm=settings.max_grad_norm,
        optim="adamw_torch_fused",
        bf16=settings.autocast == "bfloat16",
        fp16=settings.autocast == "float16",
        seed=plan.seed,
        logging_strategy="no",
        logging_nan_inf_filter=False,
        eval_strategy="no",
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
        log_level="error",
        remove_unused_columns=False,
        dataloader_pin_memory=False,
    )
    if arguments.n_gpu > 1:
        arguments._n_gpu = 1  # never DataParallel: one process, one device
    return arguments


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


def _seed_of_step(seed: int, step: int) -> int:
    return int(np.random.SeedSequence([seed, step]).generate_state(1, np.uint64)[0] >> np.uint64(1))


def _reseed(device: torch.device, seed: int) -> None:
    """Seed what dropout draws from, so that no random state has to be kept.

    Not by torch.manual_seed: it queues a call with its stack for every kind of device that is absent, at each step.
    """
    torch.default_generator.manual_seed(seed)
    if device.type == "cuda":
        torch.cuda.manual_seed(seed)
    elif device.type == "mps":
        torch.mps.manual_seed(seed)


def _only(items: list[Any]) -> Any:
    return items[0]
