"""Evidence by answers in words: base and tuned answer the same questions, and both are scored against references."""

from __future__ import annotations

from typing import Any

from luthier.evaluate import forgetting
from luthier.evaluate.answers import answer_questions, read_questions
from luthier.evaluate.evidence import Asked, Gathered
from luthier.evaluate.scoring import score
from luthier.run.journal import Journal
from luthier.run.progress import Progress


def gather(asked: Asked, progress: Progress) -> Gathered:
    """Answer the test rows with base, tuned and those of further seeds, and score them.

    Killed on the way, it goes on from the last batch.

    Raises:
        UserError: nothing in the test rows can be asked.
    """
    from luthier.kinds.remembered import remembered
    from luthier.models.engines import TransformersAnswerer, context_of, decode
    from luthier.models.load import load_config
    from luthier.models.pair import Pair
    from luthier.run.manifest import digest_code

    kind = asked.kind
    tokenizer, _ = kind.model.load_tokenizer(asked.base)
    questions = read_questions(asked.test, remembered(kind), tokenizer, context_of(load_config(asked.base)))
    ends = kind.rows.end_ids(tokenizer)
    code = [digest_code(part) for part in ("models/engines.py", "evaluate/answers.py")]
    prompts: list[Any] = [[one.prompt, one.reference_ids] for one in questions]
    identity = [*asked.identity, asked.max_new_tokens, code, prompts]
    pair = Pair(lambda: kind.model.load_base(asked.base, asked.dtype, asked.method), asked.adapters["tuned"])
    probes = _probes(asked, tokenizer, context_of(load_config(asked.base)))
    answers, journals, losses = {}, [], {}
    lent = {asked.baseline: pair.base()} | {who: pair.tuned(folder) for who, folder in asked.adapters.items()}
    for who, model_of in lent.items():
        journal = Journal(asked.folder / f"answers-{who}.part", [who, *identity])
        with model_of as model:
            answerer = TransformersAnswerer(model, int(tokenizer.pad_token_id or 0), ends)
            answers[who] = answer_questions(
                questions,
                answerer,
                lambda ids: decode(tokenizer, ids),
                asked.max_new_tokens,
                journal,
                progress,
                f"answers of {who}",
            )
            if who in (asked.baseline, "tuned"):
                losses[who] = forgetting.losses(answerer, probes)
        journals.append(journal)
    base, tuned, *others = answers.values()
    scored = score(base, tuned, asked.metrics, kind.higher_is_better, asked.primary, others)

    def finish() -> None:
        for journal in journals:
            journal.remove()

    forgotten = forgetting.judge(losses[asked.baseline], losses["tuned"], probes, asked.seed)
    return Gathered(answers, scored, finish, forgotten)


def _probes(asked: Asked, tokenizer: Any, context: int | None) -> forgetting.Probes:
    """Return the general passages, and the rows of an earlier run that this model can read."""
    general = forgetting.read_passages(tokenizer, context)
    if not asked.earlier:
        return forgetting.Probes(general)
    questions = read_questions(asked.earlier, asked.kind.rows, tokenizer, context)
    rows = [(one.id, one.group, (one.reference_ids, one.reference_labels)) for one in questions if one.reference_ids]
    return forgetting.Probes(general, rows, asked.earlier_run)
