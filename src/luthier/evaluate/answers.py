"""What a model answers to the test items, and how likely it finds the reference answers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from luthier.data.rows import Row, answer, question
from luthier.run.journal import Journal
from luthier.run.progress import Progress

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from luthier.kinds.base import Rows
    from luthier.models.engines import TransformersAnswerer

UNLIMITED = 2**31


@dataclass(frozen=True)
class Question:
    """One test item as the model reads it.

    Attributes:
        id, group, labels, question: of the row. prompt: token ids up to the answer; None where the row asks nothing.
        reference: the answer it should give. reference_ids, reference_labels: prompt and reference as one example, the
            labels -100 outside the last answer; empty where it cannot be read.
        error: why the row is not asked; "" when it is, or is plain text.
    """

    id: str
    group: str | None
    labels: dict[str, Any]
    question: str
    prompt: list[int] | None
    reference: str
    reference_ids: list[int]
    reference_labels: list[int]
    error: str = ""


def read_questions(
    rows: Sequence[Row], reader: Rows, tokenizer: PreTrainedTokenizerBase, context: int | None
) -> list[Question]:
    """Turn test rows into questions, in their order.

    Args:
        rows: of the test split. reader: the kind's `rows`. tokenizer: ready, with a chat template.
        context: tokens that the model can hold; None: no limit. A prompt that fills it is not asked.

    Raises:
        UserError: no row fits the context, or the template refuses them all.
    """
    encoded = reader.encode(rows, tokenizer, context or UNLIMITED)
    dropped = dict(encoded.dropped)
    examples = {example.id: example for example in encoded.examples}
    prompts = {prompt.id: prompt for prompt in reader.prompts(rows, tokenizer)}
    questions = []
    for row in rows:
        prompt, example = prompts.get(row.id), examples.get(row.id)
        fits = prompt is not None and row.id not in dropped
        questions.append(
            Question(
                id=row.id,
                group=row.group,
                labels=row.labels,
                question=question(row),
                prompt=prompt.input_ids if fits and prompt is not None else None,
                reference=prompt.reference if prompt is not None else answer(row),
                reference_ids=example.input_ids if example is not None else [],
                reference_labels=_last_answer(example, prompt) if example is not None else [],
                error=dropped.get(row.id, ""),
            )
        )
    return questions


def answer_questions(
    questions: Sequence[Question],
    answerer: TransformersAnswerer,
    text_of: Callable[[Sequence[int]], str],
    max_new_tokens: int,
    journal: Journal,
    progress: Progress,
    name: str,
) -> list[dict[str, Any]]:
    """Answer all questions greedily, and measure how likely each reference is.

    Batches are a function of the questions alone, and a finished one is kept in the journal: a killed evaluation goes
    on and ends with the same bytes.

    Args:
        text_of: from an answer's tokens to its text. max_new_tokens: of each answer. name: what the progress calls it.

    Returns:
        Lines of answers-*.jsonl in the order of the questions: id, group, question, reference, answer, tokens, stopped,
        nll (sum of −log p over the reference's tokens, in nats, its end of turn included), reference_tokens, labels,
        error. `answer` is None where nothing was asked, `nll` where it could not be measured.
    """
    found: dict[int, dict[str, Any]] = {}
    batches = answerer.plan([one.reference_ids or one.prompt or [] for one in questions])
    with progress.task(name, len(questions), "answers") as advance:
        for number, places in enumerate(batches):
            lines = journal.get(str(number))
            if lines is None:
                lines = _answer_batch([questions[place] for place in places], answerer, text_of, max_new_tokens)
                journal.add(str(number), lines)
            found.update(zip(places, lines, strict=True))
            advance(len(places))
    return [found[place] for place in range(len(questions))]


def _answer_batch(
    questions: Sequence[Question],
    answerer: TransformersAnswerer,
    text_of: Callable[[Sequence[int]], str],
    max_new_tokens: int,
) -> list[dict[str, Any]]:
    asked = [place for place, one in enumerate(questions) if one.prompt]
    generated = answerer.answer([questions[place].prompt or [] for place in asked], max_new_tokens)
    answers = dict(zip(asked, generated, strict=True))
    losses = answerer.log_loss([(one.reference_ids, one.reference_labels) for one in questions])
    lines = []
    for place, (one, (nll, tokens)) in enumerate(zip(questions, losses, strict=True)):
        given = answers.get(place)
        lines.append(
            {
                "id": one.id,
                "group": one.group,
                "question": one.question,
                "reference": one.reference,
                "answer": None if given is None else text_of(given.ids).strip(),
                "tokens": 0 if given is None else len(given.ids),
                "stopped": given is not None and given.stopped,
                "nll": nll if tokens else None,
                "reference_tokens": tokens,
                "labels": one.labels,
                "error": one.error,
            }
        )
    return lines


def _last_answer(example: Any, prompt: Any) -> list[int]:
    """Return the labels of the last answer alone: earlier turns of the assistant are part of the question."""
    labels = list(example.labels)
    if prompt is not None:
        start = len(prompt.input_ids)
        if example.input_ids[:start] == prompt.input_ids:
            labels[:start] = [-100] * start
    return labels
