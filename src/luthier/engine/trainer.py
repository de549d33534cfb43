"""The door of the engine: `fit` trains a model in a folder, and goes on there where a killed training stopped."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import transformers

from luthier.engine import checkpoints
from luthier.engine.batches import count_evaluations, count_steps, note_of_size, steps_per_epoch
from luthier.engine.course import Course, MetricsLog
from luthier.engine.guarding import GUARDS, Return
from luthier.engine.guards import go_back
from luthier.engine.identity import fingerprint_of
from luthier.engine.interrupt import Stop, stoppable
from luthier.engine.loop import StepTrainer
from luthier.engine.material import Material, Plan
from luthier.engine.plateau import require_validation
from luthier.engine.settings import FitSettings
from luthier.engine.watch import Watch
from luthier.errors import StageError, UserError
from luthier.run import ranks
from luthier.run.atomic import explained, remove_leftovers, write_jsonl
from luthier.run.progress import Progress, Silent

__all__ = ["FitSettings", "Fitted", "Material", "fit"]

METRICS = "metrics.jsonl"
CUTTING = ("token_budget", "overhead_tokens")  # they follow threads and memory, and change no more than rounding


@dataclass(frozen=True)
class Fitted:
    """How a training ended.

    Attributes:
        steps: optimizer steps taken. epochs: passes over the rows. seconds: wall time, validation and saving included.
        best_step, best_validation_loss: the evaluation whose weights the model now has; None without validation rows.
        stopped_early: patience ran out. tokens_per_second: real tokens, over the time of the steps alone.
        final_train_loss: of the last step. notes: what the user should know.
        guards: `events` seen, steps `left_out`, and `returns` to an earlier checkpoint; see guards.jsonl.
        oom: `step` and new token `budget` of each time that memory ran out. world_size: processes that trained.
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
    guards: dict[str, int] = field(default_factory=dict)
    oom: tuple[dict[str, int], ...] = ()
    world_size: int = 1


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

    Started on several processes (`luthier.run.ranks`) they train together and all end with the same weights; only
    rank 0 writes and tells.

    Raises:
        UserError: settings or rows do not allow a training. StageError: the guards ended it, the disk or memory is too
            small, or the processes do not train the same thing.
        KeyboardInterrupt, SystemExit: Ctrl-C or SIGTERM came; the step at hand is finished and saved.
    """
    progress = progress or Silent()
    total = _check(material, settings)
    ranks.join()
    told = {name: value for name, value in asdict(settings).items() if name not in CUTTING}
    told["difficulties"] = list(material.difficulties)
    fingerprint = fingerprint_of(model, material.train, material.validation, told, seed)
    plan = Plan(material, settings, folder, seed, total, fingerprint)
    found = _found(plan)
    course = Course(**found.state)
    notes = [*found.notes, *_other_processes(course, found.path), *_known_before(plan)]
    for note in notes:
        progress.say(f"  {note}")
    if found.path is not None:
        progress.say(f"  going on after step {course.step} of {total} ({found.path.name})")
    if ranks.leads():
        _make_room(model, plan)
    with _quiet(model), material.around(model), stoppable(progress.say) as stop:
        while not _trained(model, plan, course, stop, found.path, progress):
            found = _back(plan, course)
            course = _gone_back(course, Course(**found.state), settings)
            progress.say(
                f"  step {course.guards.events[-1]['step']}: {course.guards.events[-1]['what']}; going back to step "
                f"{course.step} with {course.scale:g} times the planned learning rate"
            )
        stop.raise_again()
    fitted = _fitted(course, plan, notes)
    for note in fitted.notes[len(notes) :]:
        progress.say(f"  {note}")
    return fitted


def _trained(model: Any, plan: Plan, course: Course, stop: Stop, checkpoint: Path | None, progress: Progress) -> bool:
    """Train to the end and give the model its final weights; False where the guards want to go back."""
    _write_events(plan.folder, course)
    unfinished = course.step < plan.total and not course.stopped
    with MetricsLog(plan.folder / METRICS if ranks.leads() else None, course.step) as log:
        trainer = StepTrainer(model, plan, course, log, stop)
        if unfinished:
            try:
                with progress.task("training", total=plan.total - course.step, unit="steps") as advance:
                    trainer.add_callback(Watch(trainer, advance))
                    trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
            except Return:
                return False
            stop.raise_again()
        kept = course.best_step or course.step
        if not unfinished or kept != course.step:
            trainer.load_weights(checkpoints.path_of(plan.folder, kept))
    return True


def _found(plan: Plan) -> checkpoints.Found:
    """Return what there is to go on from, as rank 0 finds it."""
    if any(told != plan.fingerprint for told in ranks.gather(plan.fingerprint)):
        raise StageError(
            "The processes do not train the same thing: their data, settings or base models differ.",
            str(plan.folder),
            "Give every machine the same files, and the run folder on a disk that they share.",
        )
    told: dict[str, Any] = {}
    if ranks.leads():
        try:
            plan.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise explained(error, plan.folder) from error
        remove_leftovers(plan.folder)
        told = _as_json(checkpoints.newest_whole(plan.folder, plan.fingerprint))
    return _from_json(ranks.share(told))


def _back(plan: Plan, course: Course) -> checkpoints.Found:
    """Return the checkpoint to go back to, as rank 0 finds it."""
    told = _as_json(checkpoints.last_good(plan.folder, plan.fingerprint)) if ranks.leads() else {}
    found = _from_json(ranks.share(told))
    if found.path is None:
        raise StageError(
            f"Training went wrong at step {course.step + 1}, and there is no whole checkpoint to go back to.",
            str(plan.folder),
            "Lower training.learning_rate and run again.",
        )
    return found


def _as_json(found: checkpoints.Found) -> dict[str, Any]:
    return {"path": str(found.path) if found.path else None, "state": found.state, "notes": list(found.notes)}


def _from_json(told: dict[str, Any]) -> checkpoints.Found:
    return checkpoints.Found(Path(told["path"]) if told["path"] else None, told["state"], tuple(told["notes"]))


def _gone_back(course: Course, earlier: Course, settings: FitSettings) -> Course:
    """Return where training goes on from an earlier checkpoint: it keeps the time, the events and a lower rate."""
    factor = settings.guards.factor if settings.guards else 1.0
    earlier.guards = go_back(course.guards, earlier.guards)
    earlier.scale = min(course.scale, earlier.scale) * factor
    earlier.seconds, earlier.step_seconds = course.seconds, course.step_seconds
    earlier.budget, earlier.oom = course.budget, course.oom
    return earlier


def _write_events(folder: Path, course: Course) -> None:
    """Make guards.jsonl what the course remembers: events after the resumed step are seen anew."""
    if not ranks.leads():
        return
    if course.guards.events:
        write_jsonl(folder / GUARDS, course.guards.events)
    else:
        (folder / GUARDS).unlink(missing_ok=True)


def _make_room(model: Any, plan: Plan) -> None:
    """Refuse to begin where the disk has no room for all checkpoints that stand at one time."""
    one = checkpoints.predicted_bytes(model)
    most = checkpoints.most(plan.settings.keep_checkpoints, bool(plan.material.validation))
    wanted = most * one - checkpoints.bytes_on_disk(plan.folder)
    checkpoints.require_space(plan.folder, max(wanted, one), f"{most} checkpoints")


def _known_before(plan: Plan) -> list[str]:
    """Return what the user should know of settings and rows that do not fit well together."""
    notes = note_of_size(len(plan.material.train), plan.settings.batch_size)
    if plan.material.validation:
        return notes + _too_late(plan.total, plan.settings)
    return [*notes, "no validation rows: the adapter of the last step is kept, and nothing stops early"]


def _too_late(total: int, settings: FitSettings) -> list[str]:
    """Tell of what waits for more evaluations than there are."""
    evaluations, notes = count_evaluations(total, settings.checkpoint_every), []
    often = f"there are {evaluations}: lower training.checkpoint_every"
    if settings.patience is not None and evaluations <= settings.patience:
        notes.append(f"early stopping waits for {settings.patience} evaluations after the best, and {often}")
    if settings.plateau is not None and evaluations <= settings.plateau.patience:
        notes.append(f"the rate is reduced {settings.plateau.patience} evaluations after the best, and {often}")
    return notes


def _other_processes(course: Course, checkpoint: Path | None) -> list[str]:
    """Tell when the number of processes changed: sums over ranks are rounded otherwise, so the bytes differ."""
    before, now = course.processes, ranks.size()
    course.processes = now
    if checkpoint is None or before == now:
        return []
    many = f"{before} process{'' if before == 1 else 'es'}"
    return [f"{checkpoint.name} was made by {many}, now {now} train: the end is equal within rounding, not to the byte"]


def _check(material: Material, settings: FitSettings) -> int:
    """Return the number of optimizer steps."""
    train = material.train
    if not train:
        raise UserError("There are no rows to train on.", "1-data/train.jsonl", "See 1-data/rejected.jsonl.")
    empty = [example.id for example in train if material.measure(example).weight == 0]
    if empty:
        raise UserError(
            f"{len(empty)} training rows have nothing to learn from.", f"rows {', '.join(empty[:16])}", "Remove them."
        )
    total = count_steps(len(train), settings.batch_size, settings.epochs, settings.steps)
    settings.schedule_over(total)
    if settings.plateau is not None:
        require_validation(len(material.validation))
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
    standing = course.guards
    left_out = len({*standing.skip, *(event["step"] for event in standing.events if event["action"] == "skip")})
    if left_out:
        notes.append(f"{left_out} of {plan.total} steps were left out: see {plan.folder.name}/{GUARDS}")
    elif standing.events:
        seen = f"{len(standing.events)} event{'s' if len(standing.events) > 1 else ''}"
        notes.append(f"the guards saw {seen}: see {plan.folder.name}/{GUARDS}")
    if course.plateau.reductions:
        notes.append(f"the learning rate was reduced {course.plateau.reductions} times on a plateau")
    if course.oom:
        notes.append(f"memory ran out {len(course.oom)} times: micro-batches now have {course.budget} tokens at most")
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
        guards={"events": len(standing.events), "left_out": left_out, "returns": standing.returns},
        oom=tuple(course.oom),
        world_size=ranks.size(),
    )
