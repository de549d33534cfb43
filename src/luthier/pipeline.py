"""The way through: the ordered table of stages, and how a recipe is walked along it.

A stage is a module of `luthier.stages` with a function of its own name, `(recipe, folder, progress)`, and optionally
`inputs(recipe) -> list[Path]`, the files from outside the run that it reads. Stages meet only through files. What the
function returns, a mapping or nothing, is what run.json is to say of the stage.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import reduce
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from luthier.errors import GateError, UserError, did_you_mean
from luthier.run import ranks
from luthier.run.atomic import remove_leftovers, write_text
from luthier.run.folder import RunFolder, list_runs, new_folder
from luthier.run.lock import exclusive
from luthier.run.manifest import (
    MANIFEST,
    Fingerprint,
    adopt,
    damaged_outputs,
    digest_code,
    digest_file,
    digest_outputs,
    digest_value,
    read_manifest,
    write_manifest,
)
from luthier.run.progress import Progress, Silent
from luthier.run.record import finish_record, log_event, mark_stage, read_record, stage_entry, start_record

if TYPE_CHECKING:
    from luthier.recipe.load import Loaded
    from luthier.recipe.schema import Recipe


LEADER_FIRST = 5.0  # seconds in which a launcher ends the other processes when rank 0 has failed


@dataclass(frozen=True)
class Stage:
    """One step of the way.

    Attributes:
        name: verb and module. folder: where it writes. does: one phrase for people.
        settings: the recipe keys it reads. reads: the stages whose outputs it reads.
        code: the packages and modules of Luthier that decide its outcome.
        adoptable: whether a run may take over the finished stage of an earlier run; not so where the run names itself.
        together: whether all processes of a launcher work on it (see `run.ranks`), or rank 0 alone.
    """

    name: str
    folder: str
    does: str
    settings: tuple[str, ...]
    reads: tuple[str, ...] = ()
    code: tuple[str, ...] = ()
    adoptable: bool = True
    together: bool = False


STAGES: tuple[Stage, ...] = (
    Stage(
        "prepare",
        "1-data",
        "read, clean, split and augment the rows, and measure overlap between the splits",
        settings=("kind", "seed", "model.base", "model.system", "data", "teacher"),
        code=("data", "models/remote", "stages/prepare.py"),
    ),
    Stage(
        "plan",
        "2-plan",
        "count parameters, memory and time, and prove which tokens are trained",
        settings=("kind", "seed", "model", "data.max_length", "adapter", "training"),
        reads=("prepare",),
        code=("engine", "kinds", "models", "stages/plan.py"),
    ),
    Stage(
        "train",
        "4-train",
        "train an adapter and prove it",
        settings=("kind", "seed", "model", "data.max_length", "adapter", "training"),
        reads=("prepare",),
        code=("engine", "kinds", "models", "stages/train.py"),
        together=True,
    ),
    Stage(
        "evaluate",
        "5-evaluate",
        "answer the test split with base and tuned, score both, compare them",
        settings=(
            "kind",
            "seed",
            "model",
            "data.max_length",
            "adapter.method",
            "training.seeds",
            "evaluation",
            "teacher",
        ),
        reads=("prepare", "train"),
        code=("evaluate", "kinds", "models", "stages/evaluate.py"),
    ),
    Stage(
        "diagnose",
        "6-diagnose",
        "sort the failures of base and tuned, and say what they have in common",
        settings=(
            "kind",
            "seed",
            "data.max_length",
            "evaluation.baseline",
            "evaluation.max_new_tokens",
            "training.learning_rate",
            "diagnose",
        ),
        reads=("prepare", "evaluate"),
        code=("diagnose", "kinds", "stages/diagnose.py"),
    ),
    Stage(
        "export",
        "7-export",
        "merge adapter and base, prove the merged model, and write the model card",
        settings=("name", "kind", "seed", "model", "data", "adapter", "training", "export"),
        reads=("prepare", "plan", "train", "evaluate"),
        code=("export", "kinds", "models", "stages/export.py"),
        adoptable=False,
    ),
    Stage(
        "report",
        "8-report",
        "write the page that people read",
        settings=("name", "kind", "report"),
        reads=("prepare", "plan", "train", "evaluate", "diagnose", "export"),
        code=("report", "stages/report.py"),
        adoptable=False,
    ),
)


@dataclass(frozen=True)
class Outcome:
    """How one stage ended in this call.

    Attributes:
        stage: its name. status: "done", "skipped" (unchanged) or "adopted" (unchanged, from an earlier run).
        seconds: how long it took. why: what made it run again, or where it was adopted from.
    """

    stage: str
    status: str
    seconds: float
    why: str = ""


@dataclass(frozen=True)
class Walk:
    """The run folder and the outcome of each stage walked."""

    folder: RunFolder
    outcomes: tuple[Outcome, ...]


def stage_named(name: str) -> Stage:
    """Return the stage of that name.

    Raises:
        UserError: there is none.
    """
    for stage in STAGES:
        if stage.name == name:
            return stage
    names = [stage.name for stage in STAGES]
    raise UserError(f"No stage {name!r}.", "", did_you_mean(name, names, f"The stages are {', '.join(names)}."))


def walk(
    loaded: Loaded, runs: Path, until: str | None = None, new: bool = False, progress: Progress | None = None
) -> Walk:
    """Walk a recipe along the stages: skip what is unchanged, run the rest, go on where a killed run stopped.

    The latest run of the same resolved recipe is continued while it is incomplete, and reused when all is unchanged.
    Otherwise a new run starts, which takes over unchanged stages from earlier runs of that name: finished evidence is
    never overwritten.

    Args:
        loaded: the recipe. runs: folder of all runs. until: last stage to walk (default: all).
        new: start a new run whatever there is. progress: where to tell (default: nowhere).

    Raises:
        UserError: bad input, or another process works on the run (exit status 2).
        GateError: a proof or gate said no (3). StageError: the work failed (1).
    """
    from luthier.recipe.load import digest

    ranks.join()
    if not ranks.leads():
        return _follow(loaded.recipe)
    progress = progress or Silent()
    runs = runs.absolute()
    stages = STAGES[: STAGES.index(stage_named(until)) + 1] if until else STAGES
    recipe, recipe_digest = loaded.recipe, digest(loaded.recipe)
    for stage in stages:
        _outside_inputs(stage, recipe)  # a missing file is told before a run folder is made for it
    earlier = list_runs(runs, recipe.name)
    folder = None if new else _to_continue(recipe, recipe_digest, stages, earlier)
    folder = folder or _begin(loaded, recipe_digest, runs)
    with exclusive(folder.lock):
        remove_leftovers(folder.path)
        donors = [] if new else [run for run in earlier if run.path != folder.path]
        outcomes = tuple(_walk_stage(stage, recipe, folder, donors, progress) for stage in stages)
        finish_record(folder)
    ranks.share(None)
    ranks.leave()
    return Walk(folder, outcomes)


def _follow(recipe: Recipe) -> Walk:
    """Walk behind rank 0: work on the stages that it calls the others to, until it is through.

    An error of rank 0 ends the others through their launcher. One that they meet alike is told by rank 0 alone: the
    others wait before they tell theirs, and are ended meanwhile.
    """
    folder = Path()
    try:
        while (called := ranks.share()) is not None:
            folder, stage = Path(called["folder"]), stage_named(called["stage"])
            getattr(_module(stage), stage.name)(recipe, RunFolder(folder), Silent())
    except UserError:
        time.sleep(LEADER_FIRST)
        raise
    ranks.leave()
    return Walk(RunFolder(folder), ())


def fingerprint(stage: Stage, recipe: Recipe, folder: RunFolder) -> Fingerprint:
    """Return what would decide the outcome of a stage if it ran now.

    Raises:
        UserError: a stage before it is not complete.
    """
    values = recipe.model_dump(mode="json")
    upstream = {}
    for name in stage.reads:
        manifest = read_manifest(folder.path / stage_named(name).folder)
        if manifest is None:
            raise UserError(
                f"{stage.name} reads what {name} makes, and {name} is not complete.",
                str(folder.path),
                f"Run: luthier {name} {recipe.name}",
            )
        upstream[f"output of {name}"] = digest_outputs(manifest)
    return Fingerprint(
        settings={key: digest_value(_at(values, key)) for key in stage.settings},
        inputs={str(path): digest_file(path) for path in _outside_inputs(stage, recipe)},
        upstream=upstream,
        code={part: digest_code(part) for part in stage.code},
    )


def _walk_stage(
    stage: Stage, recipe: Recipe, folder: RunFolder, donors: list[RunFolder], progress: Progress
) -> Outcome:
    now = fingerprint(stage, recipe, folder)
    why = _stale_because(stage, now, folder)
    if why is None:
        progress.say(f"{stage.name}: unchanged, skipped")
        return Outcome(stage.name, "skipped", 0.0)
    target = folder.path / stage.folder
    donor = next((run for run in donors if _stale_because(stage, now, run) is None), None) if stage.adoptable else None
    if donor is not None:
        adopt(donor.path / stage.folder, target)
        mark_stage(folder, stage.name, "complete", **{**stage_entry(donor, stage.name), "adopted_from": donor.id})
        progress.say(f"{stage.name}: unchanged, taken from run {donor.id}")
        return Outcome(stage.name, "adopted", 0.0, donor.id)
    progress.say(f"{stage.name}: {stage.does}" + (f" (again: {why})" if why else ""))
    seconds = _run_stage(stage, recipe, folder, now, progress)
    return Outcome(stage.name, "done", seconds, why)


def _run_stage(stage: Stage, recipe: Recipe, folder: RunFolder, now: Fingerprint, progress: Progress) -> float:
    target = folder.path / stage.folder
    started = time.monotonic()
    try:
        (target / MANIFEST).unlink(missing_ok=True)
        mark_stage(folder, stage.name, "running")
        if stage.together:
            ranks.share({"stage": stage.name, "folder": str(folder.path)})
        told = getattr(_module(stage), stage.name)(recipe, folder, progress) or {}
        seconds = time.monotonic() - started
        write_manifest(target, stage.name, now, seconds)
    except (KeyboardInterrupt, SystemExit) as ended:
        by = "from the keyboard" if isinstance(ended, KeyboardInterrupt) else "by a signal"
        mark_stage(folder, stage.name, "stopped", error=f"interrupted {by}; the same command goes on from here")
        raise
    except Exception as error:
        _record_failure(folder, stage, error)
        raise
    mark_stage(folder, stage.name, "complete", seconds=round(seconds, 3), **told)
    return seconds


def _record_failure(folder: RunFolder, stage: Stage, error: Exception) -> None:
    """Record why a stage ended early; a disk too full to record it must not hide the error itself."""
    status = "stopped" if isinstance(error, GateError) else "failed"
    problem = error.problem if isinstance(error, UserError) else f"{type(error).__name__}: {error}"
    try:
        mark_stage(folder, stage.name, status, error=problem)  # type: ignore[arg-type]
    except (OSError, UserError):
        return


def _stale_because(stage: Stage, now: Fingerprint, folder: RunFolder) -> str | None:
    """Return None when the stage is complete and unchanged, else why it must run ("" when it never ran)."""
    target = folder.path / stage.folder
    manifest = read_manifest(target)
    if manifest is None:
        return ""
    changed = now.differences(manifest)
    if changed:
        return f"{', '.join(changed)} changed"
    damaged = damaged_outputs(target, manifest)
    return f"{', '.join(damaged)} damaged or missing" if damaged else None


def _to_continue(
    recipe: Recipe, recipe_digest: str, stages: tuple[Stage, ...], earlier: list[RunFolder]
) -> RunFolder | None:
    for folder in earlier:
        record = read_record(folder)
        if record["recipe_digest"] != recipe_digest:
            continue
        return folder if record["status"] != "complete" or _is_fresh(recipe, folder, stages) else None
    return None


def _is_fresh(recipe: Recipe, folder: RunFolder, stages: tuple[Stage, ...]) -> bool:
    try:
        return all(_stale_because(stage, fingerprint(stage, recipe, folder), folder) is None for stage in stages)
    except UserError:
        return False


def _begin(loaded: Loaded, recipe_digest: str, runs: Path) -> RunFolder:
    from luthier.recipe.load import dump

    recipe = loaded.recipe
    folder = new_folder(runs, recipe.name)
    write_text(folder.recipe, dump(loaded))
    start_record(folder, recipe.name, recipe.kind, recipe.seed, recipe_digest, [stage.name for stage in STAGES])
    log_event(folder, "begin", recipe=str(loaded.path) if loaded.path else recipe.name)
    return folder


def _at(values: Mapping[str, Any], key: str) -> Any:
    return reduce(lambda value, part: value[part], key.split("."), values)


def _outside_inputs(stage: Stage, recipe: Recipe) -> list[Path]:
    inputs: Callable[[Recipe], list[Path]] | None = getattr(_module(stage), "inputs", None)
    return inputs(recipe) if inputs else []


def _module(stage: Stage) -> Any:
    return import_module(f"luthier.stages.{stage.name}")
