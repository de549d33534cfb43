"""evaluate: base against tuned on the same held-out items."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from luthier.errors import UserError
from luthier.run.atomic import read_jsonl, write_json, write_jsonl
from luthier.run.folder import RunFolder
from luthier.run.journal import Journal
from luthier.run.progress import Progress

if TYPE_CHECKING:
    from luthier.recipe.schema import Recipe


def evaluate(recipe: Recipe, folder: RunFolder, progress: Progress) -> None:
    """Answer the test split with base and tuned, score both, and compare them.

    Writes answers-base.jsonl, answers-tuned.jsonl, scores.jsonl, metrics.json and comparison.json. Killed on the way,
    it goes on from the last finished batch of answers.

    Raises:
        UserError: the test split is empty, or nothing in it can be asked.
    """
    from luthier.data.rows import from_json
    from luthier.engine.threads import use_cores
    from luthier.evaluate.compare import compare
    from luthier.evaluate.scoring import choose_metrics, score
    from luthier.kinds import kind_named

    use_cores()
    kind = kind_named(recipe.kind)
    names = choose_metrics(recipe.evaluation.metrics, kind.higher_is_better)
    rows = [from_json(line) for line in read_jsonl(folder.rows("test"))]
    if not rows:
        raise UserError(
            "The test split has no rows, so there is nothing to compare base and tuned on.",
            "data.split.test",
            "Give the test split a share, or add rows.",
        )
    target = folder.evaluation
    answers, journals = _answers(recipe, folder, rows, progress)
    scored = score(answers["base"], answers["tuned"], names, kind.higher_is_better, kind.primary_metric)
    comparison = compare(scored.measured, scored.primary, recipe.seed)
    for who, lines in answers.items():
        write_jsonl(target / f"answers-{who}.jsonl", lines)
    write_jsonl(target / "scores.jsonl", scored.lines)
    write_json(target / "metrics.json", scored.metrics)
    write_json(target / "comparison.json", comparison)
    for journal in journals:
        journal.remove()
    progress.say(f"  {comparison['verdict']}: {comparison['sentence']}")


def _answers(
    recipe: Recipe, folder: RunFolder, rows: list[Any], progress: Progress
) -> tuple[dict[str, list[dict[str, Any]]], list[Journal]]:
    """Return the answers of base and tuned, and the part files that hold them until they are written."""
    from luthier.evaluate.answers import answer_questions, read_questions
    from luthier.kinds import kind_named
    from luthier.models.engines import TransformersAnswerer, context_of, decode
    from luthier.models.load import load_config, resolve
    from luthier.models.pair import Pair

    kind, base = kind_named(recipe.kind), resolve(recipe.model.base)
    tokenizer, _ = kind.model.load_tokenizer(base)
    questions = read_questions(rows, kind.rows, tokenizer, context_of(load_config(base)))
    ends = kind.rows.end_ids(tokenizer)
    limit = recipe.evaluation.max_new_tokens
    identity = _identity(recipe, folder, [[one.prompt, one.reference_ids] for one in questions])
    pair = Pair(
        lambda: kind.model.load_base(base, recipe.model.dtype, recipe.adapter.method),
        folder.adapter,
    )
    answers, journals = {}, []
    for who, lend in ((recipe.evaluation.baseline, pair.base), ("tuned", pair.tuned)):
        journal = Journal(folder.evaluation / f"answers-{who}.part", [who, *identity])
        with lend() as model:
            answerer = TransformersAnswerer(model, int(tokenizer.pad_token_id or 0), ends)
            answers[who] = answer_questions(
                questions, answerer, lambda ids: decode(tokenizer, ids), limit, journal, progress, f"answers of {who}"
            )
        journals.append(journal)
    return answers, journals


def _identity(recipe: Recipe, folder: RunFolder, questions: list[Any]) -> list[Any]:
    """Return what decides the answers: answers made under other conditions are not gone on with."""
    from luthier.run.manifest import digest_code, digest_outputs, read_manifest
    from luthier.run.record import versions

    trained = read_manifest(folder.training)
    return [
        recipe.model.model_dump(mode="json"),
        recipe.evaluation.max_new_tokens,
        digest_outputs(trained) if trained else None,
        [digest_code(part) for part in ("models/engines.py", "evaluate/answers.py")],
        versions(),
        questions,
    ]
