"""diagnose: what is wrong with the answers, and what failures have in common."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from luthier.data.rows import read_rows
from luthier.errors import UserError
from luthier.run.atomic import read_json, read_jsonl, write_json, write_jsonl
from luthier.run.folder import RunFolder
from luthier.run.progress import Progress

if TYPE_CHECKING:
    from luthier.diagnose.base import Given
    from luthier.recipe.schema import Recipe


def inputs(recipe: Recipe) -> list[Path]:
    """Return the list of phrases of the recipe, if it has one."""
    if recipe.diagnose.phrases is None:
        return []
    path = Path(recipe.diagnose.phrases)
    if not path.is_file():
        raise UserError(
            "There is no such list of phrases.", f"diagnose.phrases: {path}", "Name a file with a phrase a line."
        )
    return [path]


def diagnose(recipe: Recipe, folder: RunFolder, progress: Progress) -> dict[str, Any]:
    """Sort the failures of base and tuned in the way of the kind, and say what they have in common.

    Writes errors.jsonl, one line for each finding, and summary.json, whose shape `luthier.diagnose.summary` describes.

    Raises:
        UserError: the list of phrases cannot be read.
    """
    from luthier.diagnose import diagnosis_named
    from luthier.engine.threads import use_cores
    from luthier.kinds import kind_named

    use_cores()
    run = diagnosis_named(kind_named(recipe.kind).score.DIAGNOSIS)
    diagnosis = run(_given(recipe, folder), progress)
    write_jsonl(folder.errors, diagnosis.findings)
    write_json(folder.diagnosis, diagnosis.summary)
    flagged = {who: counts["flagged"] for who, counts in diagnosis.summary["answers"].items()}
    for who, counts in diagnosis.summary["answers"].items():
        progress.say(f"  {who}: {counts['flagged']} of {counts['asked']} answers have a finding")
    return {"flagged": flagged}


def _given(recipe: Recipe, folder: RunFolder) -> Given:
    from luthier.data.terms import read_terms
    from luthier.diagnose.base import Given

    baseline = recipe.evaluation.baseline
    return Given(
        answers={who: list(read_jsonl(folder.answers(who))) for who in (baseline, "tuned")},
        scores=list(read_jsonl(folder.scores)),
        train=read_rows(folder.rows("train")),
        validation=read_rows(folder.rows("validation")),
        report=read_json(folder.data_report) if folder.data_report.is_file() else {},
        metrics=read_json(folder.metrics_report) if folder.metrics_report.is_file() else {},
        settings={
            "data.max_length": recipe.data.max_length,
            "evaluation.max_new_tokens": recipe.evaluation.max_new_tokens,
            "training.learning_rate": recipe.training.learning_rate,
        },
        phrases=tuple(read_terms(Path(recipe.diagnose.phrases))) if recipe.diagnose.phrases else (),
        seed=recipe.seed,
    )
