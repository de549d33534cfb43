"""transformers' `Trainer`, whose batch is a whole optimizer step.

`StepTrainer` overrides what has to differ: a step comes as a list of micro-batches whose summed losses are divided by
the weight of the whole step, so that 8 x 1, 4 x 2 and 1 x 8 learn the same; the order of the rows and the random
numbers of a step are pure functions of (seed, step), so that a killed run ends with the same bytes.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.optim.lr_scheduler import LambdaLR
from torch.utils.data import DataLoader
from transformers import Trainer, TrainingArguments

from luthier.engine import checkpoints, memory, sharding, together
from luthier.engine.batches import Measured, Steps, Tensors, fillers, micro_batches, share_of
from luthier.engine.course import Course, MetricsLog
from luthier.engine.guarding import Guarding
from luthier.engine.guards import OF_VALIDATION, Event
from luthier.engine.interrupt import Stop
from luthier.engine.material import Plan
from luthier.errors import StageError
from luthier.run import ranks


class StepTrainer(Trainer):
    """transformers' `Trainer` over optimizer steps: one item of the data loader is one step.

    Args:
        model: what is trained. plan: see `Plan`. course: where training stands; changed in place. log: metrics.jsonl.
        stop: whether someone asked to stop.

    Attributes:
        step_loss, step_norm: of the step at hand. left_out: why it was left out, "" when it was not.
    """

    def __init__(self, model: Any, plan: Plan, course: Course, log: MetricsLog, stop: Stop | None = None) -> None:
        self.plan, self.course, self.metrics_log, self.stop = plan, course, log, stop or Stop()
        super().__init__(model=model, args=_arguments(plan))
        if ranks.size() > 1:  # no DistributedDataParallel, see `together`
            self.accelerator.prepare_model = partial(self.accelerator.prepare_model, evaluation_mode=True)
        for callback in list(self.callback_handler.callbacks):
            self.remove_callback(callback)
        budget, *rest = plan.settings.micro(self.args.device.type, plan.material.padded)
        self._micro: Any = (course.budget or min(ranks.gather(budget)), *rest)  # machines may differ in threads
        self._divided = sharding.is_divided(model)
        self._guarding = Guarding(model, course, plan.folder, plan.settings.guards, plan.material.chance)
        self._held_out: list[tuple[Any, bool]] | None = None  # tensors, and whether they count
        self._losses: list[torch.Tensor] = []
        self.step_loss = self.step_norm = math.nan
        self.left_out = ""

    def get_train_dataloader(self) -> DataLoader[Any]:
        """Return the steps in order. A resumed run skips the ones it has taken without building them."""
        plan, material = self.plan, self.plan.material
        measured = [material.measure(example) for example in material.train]
        share = (0, 1) if material.whole_step else (ranks.rank(), ranks.size())
        self._steps = Steps(
            material.train, measured, plan.order, material.collate, self._micro, material.vary, share, self._divided
        )
        steps: Any = self._steps
        return DataLoader(steps, batch_size=1, shuffle=False, collate_fn=_only)

    def get_decay_parameter_names(self, model: Any) -> list[str]:
        """Return the names of the matrices: weight decay has no meaning for biases, norms and DoRA's magnitudes."""
        return [name for name, parameter in model.named_parameters() if parameter.ndim > 1]

    def create_scheduler(self, num_training_steps: int, optimizer: Any = None) -> Any:
        """Return a scheduler that does nothing, as Trainer wants one: each step sets its own rate."""
        steered: Any = optimizer or self.optimizer
        self.lr_scheduler = LambdaLR(steered, lambda _: 1.0)
        return self.lr_scheduler

    def training_step(self, model: Any, inputs: Any, num_items_in_batch: Any = None) -> torch.Tensor:
        """Run forward and backward over the micro-batches of one step; return the mean loss of the whole step."""
        if not model.training:  # walking through all modules costs as much as a small layer
            model.train()
        self._inputs, self.left_out = inputs, ""
        if inputs["step"] in self.course.guards.skip:
            self.left_out = "it went wrong before"
            return torch.zeros((), device=self.args.device)
        optimizer: Any = self.optimizer
        for group in optimizer.param_groups:
            group["lr"] = self.learning_rate
        scaler: Any = self.accelerator.scaler
        if scaler is not None and scaler._scale is None:  # its first loss makes it, and this process may have none
            scaler.scale(torch.zeros((), device=self.args.device))
        index = inputs["step"] - 1
        while not self._attempt(model):
            self._lessen(lambda budget: self._steps.sizes(index, budget))
            self._inputs = self._steps[index]
        self._losses.append(together.add_gradients(self._moved(), self._losses, self.args.device))
        return self._losses[-1]

    def _attempt(self, model: Any) -> bool:
        """Run forward and backward of the step at hand; tell whether memory was enough on all processes."""
        rank = 0 if self.plan.material.whole_step else ranks.rank()
        _reseed(self.args.device, _seed_of_step(self.plan.seed, self._inputs["step"], rank))
        enough = True
        try:
            self._losses = self._backward(model, [self._on_device(part) for part in self._inputs["micro_batches"]])
        except Exception as error:
            enough = self._ran_out(error)
        return together.agree(enough, self.stop)

    def _ran_out(self, error: Exception) -> bool:
        """Return False where memory ran out and the step can be done again; raise otherwise."""
        if self._divided and ranks.lost(error):
            raise ranks.parted() from error
        if not memory.ran_out(error):
            raise error
        if self._divided:  # the other processes wait in the middle of a layer
            raise memory.no_way_back(self._inputs["step"]) from error
        return False

    def _lessen(self, sizes: Callable[[int], list[int]]) -> None:
        """Halve the token budget until it cuts otherwise, alike on all processes, and note it."""
        course, step = self.course, self._inputs["step"]
        memory.make_room(self.model)
        offers = [offer for offer in ranks.gather(memory.smaller(self._micro[0], sizes)) if offer is not None]
        if not offers:
            raise memory.no_way_out(step)
        course.budget = min(offers)
        self._micro = self._steps.micro = (course.budget, *self._micro[1:])
        self._held_out = None
        course.oom.append({"step": step, "budget": course.budget})

    def _backward(self, model: Any, parts: list[Tensors]) -> list[torch.Tensor]:
        """Run forward and backward; return the shares of the step's mean loss, one or one for each micro-batch."""
        material, weight = self.plan.material, self._inputs["weight"]
        if material.whole_step is not None:
            with self.accelerator.autocast():  # every process has the whole step: over all of them it is their mean
                return [material.whole_step(model, parts, weight * ranks.size(), self.accelerator.backward).float()]
        losses = []
        for place, tensors in enumerate(parts):
            with self.accelerator.autocast():
                loss_sum, _ = material.loss_sum(model, tensors)
            loss = loss_sum / weight if place < len(self._inputs["ids"]) else loss_sum * 0
            self.accelerator.backward(loss)
            losses.append(loss.detach().float())
        return losses[: len(self._inputs["ids"])]

    def _moved(self) -> list[torch.Tensor]:
        optimizer: Any = self.optimizer
        return [weight for group in optimizer.param_groups for weight in group["params"]]

    def _clip_grad_norm(self, model: Any) -> torch.Tensor:
        """Clip, and look at the step before the optimizer moves anything: one transfer from the device a step."""
        scaler: Any = self.accelerator.scaler
        norm = torch.zeros(())
        if not self.left_out:
            moved = self._moved()
            norm = self.accelerator.clip_grad_norm_(moved, self.plan.settings.max_grad_norm)
            scale = None if scaler is None else scaler._scale  # get_scale would wait for the device
            seen, shares = self._guarding.see(
                self._inputs["step"], self.learning_rate, self._losses, norm, moved, scale
            )
            self.step_loss, self.step_norm = seen.loss, seen.norm
            self.left_out = self._guarding.judge(seen, shares, self._inputs["ids"])
            if self.left_out and scaler is not None:
                scaler.update()
        if self.left_out:
            self.accelerator.gradient_state._set_sync_gradients(False)  # the optimizer passes over this step
        return norm

    def evaluate(self, *args: Any, **kwargs: Any) -> dict[str, float]:
        """Return the validation loss, weighted by token over all rows, and note what follows from it."""
        settings, course = self.plan.settings, self.course
        loss = self._validation_loss()
        if not math.isfinite(loss):
            self._guarding.act(Event(OF_VALIDATION, course.step, loss, math.inf, (), self.learning_rate))
        course.judge(loss, settings.patience, settings.threshold, settings.plateau)
        self.metrics_log.add(step=course.step, validation_loss=loss)
        self.control.should_evaluate = False
        self.control.should_training_stop |= course.stopped
        return {"eval_loss": loss}

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        plan, course = self.plan, self.course
        if ranks.leads():
            self.metrics_log.flush()
            checkpoints.require_space(plan.folder, checkpoints.predicted_bytes(self.model), "a checkpoint")
            path = checkpoints.write(plan.folder, course.step, self._fill, course.to_json(), plan.fingerprint)
            checkpoints.verify(path)
            protected = () if course.best_step is None else (course.best_step,)
            checkpoints.retain(plan.folder, plan.settings.keep_checkpoints, protected)
        ranks.wait()

    def save_start(self) -> None:
        """Write the checkpoint of step 0, to which the guards can go back before there is another, if it is missing."""
        found = checkpoints.path_of(self.plan.folder, 0).exists()
        if not ranks.share(found):  # a process that is late would find what rank 0 has written meanwhile
            self._save_checkpoint(self.model, None)

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
        return self.plan.schedule.get_learning_rate(self._inputs["step"]) * self.course.scale

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
            cut = self._held_out_cut()
            self._held_out = [(material.collate([rows[row] for row in part]), counts) for part, counts in cut]
        model: Any = self.model
        model.eval()
        sums, weight, enough = [torch.zeros((), device=self.args.device)], 0.0, True
        try:
            with torch.no_grad(), self.accelerator.autocast():
                for tensors, counts in self._held_out:
                    loss_sum, count = material.loss_sum(model, self._on_device(tensors))
                    if counts:
                        sums.append(loss_sum.float())
                        weight += float(count)
        except Exception as error:
            enough = self._ran_out(error)
        sharding.let_go(model)
        if not together.agree(enough, self.stop):
            self._lessen(lambda budget: [len(part) for part in self._held_out_parts(budget)])
            return self._validation_loss()
        whole = torch.tensor([math.fsum(torch.stack(sums).tolist()), weight], dtype=torch.float64)
        ranks.add_up([whole])
        return float(whole[0] / whole[1])

    def _held_out_cut(self) -> list[tuple[list[int], bool]]:
        """Return the validation rows that this process reads, a micro-batch at a time, and whether they count here.

        What does not count is read so that all walk through a divided model equally often.
        """
        own = self._held_out_parts(self._micro[0])
        if not self._divided:
            return [(part, True) for part in own]
        measured = self._held_out_measured
        every = range(len(measured))
        if self.plan.material.whole_step is None:
            more = fillers(every, measured, self._micro, (ranks.rank(), ranks.size()))
            return [(part, True) for part in own] + [(part, False) for part in more]
        mine = {row for part in own for row in part}  # a row may be read in several passes: all read all of them
        return [([row], row in mine) for row in every]

    def _held_out_parts(self, budget: int) -> list[list[int]]:
        """Return the validation rows of this process, cut into micro-batches.

        Where the loss is of a whole step, each row is one, with a loss of its own.
        """
        measured = self._held_out_measured
        mine = share_of(range(len(measured)), measured, (ranks.rank(), ranks.size()))
        if self.plan.material.whole_step is not None:
            return [[row] for row in mine]
        return micro_batches(mine, measured, budget, *self._micro[1:])

    @cached_property
    def _held_out_measured(self) -> list[Measured]:
        return [self.plan.material.measure(example) for example in self.plan.material.validation]


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


def _seed_of_step(seed: int, step: int, rank: int = 0) -> int:
    """Return the seed of a step; ranks have different ones, and one process has that of rank 0."""
    entropy = [seed, step, rank] if rank else [seed, step]
    return int(np.random.SeedSequence(entropy).generate_state(1, np.uint64)[0] >> np.uint64(1))


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
