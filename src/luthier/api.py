"""Luthier from Python: the same functions as the verbs, with values in and out."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from luthier.run.folder import RunFolder

if TYPE_CHECKING:
    from luthier.engine.schedules import Point, Schedule
    from luthier.recipe.load import Loaded
    from luthier.serve.load import RunModel
    from luthier.serve.vectors import RunVectors


@dataclass(frozen=True)
class Run:
    """A run folder, read when it is asked. The attributes are as of now: a stage may still be at work.

    Attributes:
        path: the folder.
    """

    path: Path

    @property
    def stages(self) -> dict[str, str]:
        """Name of each stage to its status: waiting, running, complete, failed, stopped."""
        from luthier.run.record import read_record

        return {stage["name"]: stage["status"] for stage in read_record(RunFolder(self.path))["stages"]}

    @property
    def metrics(self) -> dict[str, Any] | None:
        """Metrics of base and tuned (metrics.json); None before the evaluation."""
        return self._evaluated("metrics.json")

    @property
    def comparison(self) -> dict[str, Any] | None:
        """Base against tuned (comparison.json); None before the evaluation."""
        return self._evaluated("comparison.json")

    def _evaluated(self, name: str) -> dict[str, Any] | None:
        from luthier.run.atomic import read_json

        path = RunFolder(self.path).comparison.with_name(name)
        return read_json(path) if path.is_file() else None


def load_recipe(name_or_path: str | Path, overrides: Mapping[str, Any] | None = None) -> Loaded:
    """Load a recipe by path or shipped name; `overrides` maps dotted keys to values.

    Raises:
        UserError: there is no such recipe, or it is wrong; all that is wrong is told together.
    """
    from luthier.recipe.load import load_recipe as load_it

    return load_it(name_or_path, overrides)


def run(recipe: Loaded, runs: str | Path = "runs", until: str | None = None, new: bool = False) -> Run:
    """Walk a recipe along its stages and return the run. Arguments as for `luthier run`; tells nothing on the way.

    Raises:
        UserError: bad input, or another process works on the run. GateError: a proof or gate said no.
        StageError: the work failed.
    """
    from luthier.pipeline import walk

    return Run(walk(recipe, Path(runs), until=until, new=new).folder.path)


def compare_scores(
    base: Sequence[float],
    tuned: Sequence[float],
    groups: Sequence[Hashable] | None = None,
    seed: int = 0,
    higher_is_better: bool = True,
) -> dict[str, Any]:
    """Compare two lists of scores of the same items: one entry of comparison.json.

    Raises:
        UserError: nothing to compare, unequal lengths, or a score that is not a finite number.
    """
    from luthier.evaluate.compare import compare_scores as compare_them

    return compare_them(base, tuned, groups, seed, higher_is_better)


def schedule(recipe: Loaded, runs: str | Path = "runs") -> list[Point]:
    """Return step, learning rate and phase of every optimizer step that `luthier plan` counts.

    Raises:
        UserError: as for `learning_rate`.
    """
    return learning_rate(recipe, runs).table()


def learning_rate(recipe: Loaded, runs: str | Path = "runs") -> Schedule:
    """Return the learning rate as a function of the optimizer step, from 1; `get_phase_info(step)` tells its phase.

    Raises:
        UserError: the schedule cannot be walked in the steps of the training, or the data cannot be read or trained on.
    """
    from luthier.cli.schedule import schedule_of

    return schedule_of(recipe.recipe, Path(runs)).schedule


def load(named: str, runs: str | Path = "runs") -> RunModel | RunVectors:
    """Return the model of a run, such as "interviewmate/latest"; its `answer` takes a list of strings.

    It returns a list of strings, or of an embedding model an array of vectors, [texts, dimensions].

    Raises:
        UserError: there is no such run, or it has not been trained.
    """
    from luthier.serve.load import load as load_it

    return load_it(named, Path(runs))
