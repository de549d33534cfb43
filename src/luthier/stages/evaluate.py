"""evaluate: base against tuned on the same held-out items."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from luthier.data.rows import SPLITS, Row, read_rows, whole_text
from luthier.errors import UserError
from luthier.run.atomic import write_json, write_jsonl
from luthier.run.folder import RunFolder
from luthier.run.progress import Progress

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from luthier.evaluate.evidence import Asked
    from luthier.kinds.base import Kind
    from luthier.recipe.schema import Recipe

FEWEST_EARLIER = 10  # rows of an earlier run from which something can be said


def evaluate(recipe: Recipe, folder: RunFolder, progress: Progress) -> None:
    """Measure base and tuned on the test split in the way of the kind, score both, and compare them.

    Writes answers-base.jsonl, answers-tuned.jsonl, scores.jsonl, metrics.json, comparison.json and breakdowns.json, and
    where the kind can tell, forgetting.json; judge.json and judgements.jsonl where the recipe asks for a judge.
    With several training seeds, answers-tuned-seed-N.jsonl as well: the comparison and its breakdowns are of all seeds,
    the other files of the first, whose adapter is the run's.
    Killed on the way, it goes on from what was finished.

    Raises:
        UserError: the test split is empty, or nothing in it can be asked.
    """
    from luthier.engine.threads import use_cores
    from luthier.evaluate.breakdowns import breakdowns
    from luthier.evaluate.compare import compare
    from luthier.evaluate.evidence import gather
    from luthier.kinds import kind_named

    use_cores()
    asked, secondary = _asked(recipe, folder, kind_named(recipe.kind))
    if not asked.test:
        raise UserError(
            "The test split has no rows, so there is nothing to compare base and tuned on.",
            "data.split.test",
            "Give the test split a share, or add rows.",
        )
    gathered = gather(asked, progress)
    scored, target = gathered.scored, folder.evaluation
    comparison = compare(scored.measured, scored.primary, recipe.seed, secondary=secondary)
    decisive = [line for line in scored.lines if line["metric"] == scored.primary]
    parts = breakdowns(scored.measured[scored.primary], decisive, gathered.answers["tuned"], recipe.seed)
    for who, lines in gathered.answers.items():
        write_jsonl(target / f"answers-{who}.jsonl", lines)
    write_jsonl(target / "scores.jsonl", scored.lines)
    write_json(target / "metrics.json", scored.metrics)
    write_json(target / "comparison.json", comparison)
    write_json(folder.breakdowns, parts)
    if gathered.forgetting is not None:
        write_json(folder.forgetting, gathered.forgetting)
        progress.say(f"  general text: {gathered.forgetting['verdict']}")
    _judge(recipe, folder, gathered.answers, progress)
    gathered.finish()
    progress.say(f"  {comparison['verdict']}: {comparison['sentence']}")


def _asked(recipe: Recipe, folder: RunFolder, kind: Kind) -> tuple[Asked, list[str]]:
    """Return what is to be measured, and the metrics that guard the primary one."""
    from luthier.evaluate.evidence import Asked, choose_metrics, choose_roles
    from luthier.models.load import resolve

    metrics = choose_metrics(recipe.evaluation.metrics, kind.higher_is_better)
    earlier, rows = _earlier(folder)
    primary, secondary = choose_roles(recipe.evaluation.primary, recipe.evaluation.secondary, metrics, kind)
    asked = Asked(
        kind=kind,
        base=resolve(recipe.model.base),
        dtype=recipe.model.dtype,
        method=recipe.adapter.method,
        adapters={"tuned": folder.adapter} | _further(recipe, folder),
        test=read_rows(folder.rows("test")),
        train=read_rows(folder.rows("train")),
        metrics=metrics,
        primary=primary,
        baseline=recipe.evaluation.baseline,
        max_length=recipe.data.max_length,
        max_new_tokens=recipe.evaluation.max_new_tokens,
        seed=recipe.seed,
        folder=folder.evaluation,
        vectors=folder.vectors,
        identity=_identity(recipe, folder),
        earlier=rows,
        earlier_run=earlier,
    )
    return asked, secondary


def _further(recipe: Recipe, folder: RunFolder) -> dict[str, Path]:
    """Return the adapters of the training seeds after the first, by who answers with them."""
    return {f"tuned-seed-{seed}": folder.training_of(seed).adapter for seed in (recipe.training.seeds or [])[1:]}


def _earlier(folder: RunFolder) -> tuple[str, list[Row]]:
    """Return the newest earlier run of this recipe that was tested on other rows, and those rows.

    Left out are rows whose text is in any split of this run: they would say nothing of what was forgotten.
    """
    from luthier.run.folder import list_runs

    runs = list_runs(folder.path.parent.parent, folder.path.parent.name)
    before = [run for run in runs if run.id < folder.id and run.comparison.is_file()]
    own = {whole_text(row) for split in SPLITS for row in read_rows(folder.rows(split))} if before else set()
    for run in before:
        rows = [row for row in read_rows(run.rows("test")) if whole_text(row) not in own]
        if len(rows) >= FEWEST_EARLIER:
            return run.id, rows
    return "", []


def _judge(
    recipe: Recipe, folder: RunFolder, answers: Mapping[str, Sequence[Mapping[str, Any]]], progress: Progress
) -> None:
    asked, by = recipe.evaluation.judge, recipe.teacher
    if asked is None or by is None:
        return
    from luthier.evaluate.judge import judge
    from luthier.models.remote.client import teacher_of

    teacher = teacher_of({**by.asking(), "temperature": 0.0}, by.paying())
    before = answers[recipe.evaluation.baseline]
    judged = judge(before, answers["tuned"], teacher, asked.criteria, recipe.seed, asked.rows, progress)
    write_jsonl(folder.judgements, judged.lines)
    write_json(folder.judge, judged.summary)
    progress.say(f"  judge: {judged.summary['sentence']} ({teacher.told})")


def _identity(recipe: Recipe, folder: RunFolder) -> list[Any]:
    """Return what decides the outcome: what was made under other conditions is not gone on with."""
    from luthier.run.manifest import digest_outputs, read_manifest
    from luthier.run.record import versions

    trained = read_manifest(folder.training)
    return [recipe.model.model_dump(mode="json"), digest_outputs(trained) if trained else None, versions()]
