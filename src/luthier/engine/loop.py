"""transformers' `Trainer`, whose batch is a whole optimizer step.

`StepTrainer` overrides what has to differ: a step comes as a list of micro-batches whose summed losses are divided by
the weight of the whole step, so that 8 x 1, 4 x 2 and 1 x 8 learn the same; the order of the rows and the random
numbers of a step are pure functions of (seed, step), so that a killed run ends with the same bytes.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.optim.lr_scheduler import LambdaLR
from torch.utils.data import DataLoader
from transformers import Trainer, TrainerCallback, TrainingArguments

from luthier.engine import checkpoints, schedules
from luthier.engine.batches import Collate, Measured, Steps, measure_language, micro_batches, steps_per_epoch
from luthier.engine.course import Course, MetricsLog
from luthier.engine.guards import Stop, check_finite, check_validation
from luthier.engine.settings import FitSettings
from luthier.errors import StageError

LossSum = Callable[[Any, Any], tuple[torch.Tensor, Any]]
OVERFLOWS = 20  # float16 steps in a row that the loss scaler may skip while it looks for a scale


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
        optimizer: Any = self.optimizer
        moved = [weight for group in optimizer.param_groups for weight in group["params"]]
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


class Watch(TrainerCallback):
    """Follows the steps: times them, writes their metrics, and says when to evaluate, to save and to stop.

    Args:
        trainer: whose steps. advance: of a progress task. stop: whether someone asked to stop.
    """

    def __init__(self, trainer: StepTrainer, advance: Callable[..., None], stop: Stop) -> None:
        self._trainer, self._advance, self._stop = trainer, advance, stop
        self._mark = self._begun = time.perf_counter()

    def on_step_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Start the clock of a step."""
        self._begun = time.perf_counter()

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Write the metrics of the step, and ask for evaluation, checkpoint and end where they are due."""
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
        """Add the last evaluation and checkpoint to the wall time."""
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
