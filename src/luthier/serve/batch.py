"""Batch prediction: a table in, the same table with answers out. Errors cost a row, not the file.

Finished batches are kept in a part file beside the output, so that a killed prediction goes on; the output appears
whole, at the end.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from luthier.errors import UserError, did_you_mean
from luthier.models.engines import Sampling
from luthier.run.journal import Journal
from luthier.run.progress import Progress, Silent
from luthier.serve.load import Message, RunModel, too_long
from luthier.serve.tables import FORMATS, Table, free, read_table, write_table

if TYPE_CHECKING:
    from luthier.models.engines import TransformersAnswerer

WINDOW = 16  # batches that are sorted by length together: rows are encoded as they are needed, not all at once
USUAL_COLUMNS = ("prompt", "question", "instruction", "input", "text", "messages")


@dataclass(frozen=True)
class Predicted:
    """What a prediction did. `resumed`: rows taken over from an attempt that was killed. `seconds`: of this attempt."""

    output: Path
    rows: int
    answered: int
    failed: int
    resumed: int
    column: str
    answer_column: str
    error_column: str
    seconds: float


@dataclass(frozen=True)
class Asked:
    """What is asked, and how.

    Attributes:
        column: holds the prompt: text, a number, or a list of {role, content} (default: the recipe's, else the first of
            `USUAL_COLUMNS` that is there).
        base: the base answers, not the tuned model. max_new_tokens: of an answer (default: as the recipe evaluates).
        sampling: default greedy.
    """

    column: str | None = None
    base: bool = False
    max_new_tokens: int | None = None
    sampling: Sampling = field(default_factory=Sampling)


def predict(
    model: RunModel,
    source: Path,
    output: Path | None = None,
    asked: Asked = Asked(),
    *,
    raw: bool = False,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> Predicted:
    """Answer every row of a file.

    All columns of the input are kept, in their order, and two are added: `answer` and `error`, of which one is empty
    (`model_answer` and `model_error` where the input has columns of these names).

    Args:
        source: JSONL, JSON, CSV, TSV or Parquet. output: its suffix is its format (default: beside the source,
            questions.csv → questions.answers.csv).
        asked: which column, and how it is answered.
        raw: write cells of CSV and TSV as they are; see `tables.write_table`. overwrite: replace an existing output.
        progress: where to tell (default: nowhere).

    Raises:
        UserError: the source cannot be read, has no such column, or the output cannot be written.
    """
    started = time.monotonic()
    output = _output(source, output, overwrite)
    table = read_table(source)
    asked = replace(
        asked,
        column=_column(table, asked.column, model.prompt_field),
        max_new_tokens=model.max_new_tokens if asked.max_new_tokens is None else asked.max_new_tokens,
    )
    if asked.max_new_tokens is not None and asked.max_new_tokens < 1:
        raise UserError("max_new_tokens is at least 1.", "--max-new-tokens")
    identity = [table.digest, asdict(asked), _model_identity(model)]
    journal = Journal(output.with_name(f"{output.name}.part"), identity)
    answers, resumed = _answer_rows(model, table, asked, journal, progress or Silent())
    answer_column, error_column = (
        name if name not in table.columns else f"model_{name}" for name in ("answer", "error")
    )
    added = {answer_column: [answer for answer, _ in answers], error_column: [error for _, error in answers]}
    write_table(output, table, added, raw)
    journal.remove()
    answered = sum(answer is not None for answer, _ in answers)
    return Predicted(
        output=output,
        rows=len(answers),
        answered=answered,
        failed=len(answers) - answered,
        resumed=resumed,
        column=str(asked.column),
        answer_column=answer_column,
        error_column=error_column,
        seconds=time.monotonic() - started,
    )


Answer = tuple[str | None, str | None]  # answer and error: one of them is None


def _answer_rows(
    model: RunModel, table: Table, asked: Asked, journal: Journal, progress: Progress
) -> tuple[list[Answer], int]:
    """Return an answer or an error for each row, and how many were taken over from the journal."""
    answers: list[Answer] = []
    resumed, column, limit = 0, str(asked.column), asked.max_new_tokens or 1
    with model.answering(asked.base) as answerer, progress.task("answers", len(table.rows), "rows") as advance:
        size = WINDOW * answerer.batch
        for start in range(0, len(table.rows), size):
            prompts, told = _window(model, table, column, range(start, min(start + size, len(table.rows))), answerer)
            advance(len(told))
            for number, batch in enumerate(_batches(prompts, answerer)):
                texts = journal.get(f"{start}-{number}")
                if texts is None:
                    generated = answerer.answer([prompts[place] for place in batch], limit, asked.sampling)
                    texts = [model.decode(one.ids) for one in generated]
                    journal.add(f"{start}-{number}", texts)
                else:
                    resumed += len(texts)
                told |= {place: (text, None) for place, text in zip(batch, texts, strict=True)}
                advance(len(batch))
            answers += [told[place] for place in sorted(told)]
    return answers, resumed


def _batches(asked: dict[int, list[int]], answerer: TransformersAnswerer) -> Iterator[list[int]]:
    places = list(asked)
    for batch in answerer.plan(list(asked.values())):
        yield [places[at] for at in batch]


def _window(
    model: RunModel, table: Table, column: str, places: Sequence[int], answerer: TransformersAnswerer
) -> tuple[dict[int, list[int]], dict[int, Answer]]:
    """Return the rows that can be asked, as tokens, and the errors of the others."""
    asked: dict[int, list[int]] = {}
    told: dict[int, Answer] = {}
    for place in places:
        try:
            if table.errors[place]:
                raise UserError(table.errors[place])
            ids = model.encode(_messages(model, table.rows[place], column))
            if problem := too_long(answerer, len(ids)):
                raise UserError(problem)
            asked[place] = ids
        except UserError as error:
            told[place] = (None, " ".join(error.problem.split()))
    return asked, told


def _messages(model: RunModel, row: dict[str, Any], column: str) -> list[Message]:
    """Return the conversation that a row asks to go on with.

    Raises:
        UserError: there is no prompt in it.
    """
    if column not in row:
        raise UserError(f"The row has no {column!r}.")
    value = row[column]
    if isinstance(value, list) and value and all(isinstance(one, dict) for one in value):
        return _conversation(model, value)
    if isinstance(value, bool) or not isinstance(value, str | int | float | None):
        raise UserError(f"{column!r} holds neither text nor a list of messages.")
    if value is None or not str(value).strip():
        raise UserError(f"{column!r} is empty.")
    return model.conversation(str(value))


def _conversation(model: RunModel, value: list[dict[str, Any]]) -> list[Message]:
    for one in value:
        if not isinstance(one.get("role"), str) or not isinstance(one.get("content"), str):
            raise UserError("A message has no role or no content.")
    messages: list[Message] = [{"role": one["role"], "content": one["content"]} for one in value]
    if messages[-1]["role"] != "user" or not messages[-1]["content"].strip():
        raise UserError("The last message is not a question of the user.")
    has_system = messages[0]["role"] == "system" or not model.system
    return messages if has_system else [{"role": "system", "content": model.system or ""}, *messages]


def _column(table: Table, asked: str | None, declared: str | None) -> str:
    wanted = [asked] if asked else [name for name in (declared, *USUAL_COLUMNS) if name]
    for name in wanted:
        if name in table.columns:
            return name
    known = f"Its columns are {', '.join(table.columns)}. Name one with --column."
    remedy = did_you_mean(asked, table.columns, known) if asked else known
    problem = f"There is no column {asked!r}." if asked else "None of the columns is known to hold the prompt."
    raise UserError(problem, str(table.source), remedy)


def _output(source: Path, output: Path | None, overwrite: bool) -> Path:
    if output is None:
        name = source.name
        for suffix in (".gz", ".xz", ".bz2"):
            name = name.removesuffix(suffix)
        stem = Path(name)
        output = source.with_name(f"{stem.stem}.answers{stem.suffix if stem.suffix in FORMATS else '.jsonl'}")
    output = output.absolute()
    if output.suffix not in FORMATS:
        raise UserError(
            f"The format of the output is not known (suffix {output.suffix or 'none'}).",
            str(output),
            f"Use one of {', '.join(FORMATS)}.",
        )
    return free(source, output, overwrite)


def _model_identity(model: RunModel) -> Any:
    """Return what identifies the weights that answer: the digest of what was trained, and the run's recipe."""
    from luthier.run.manifest import digest_file, digest_outputs, read_manifest

    trained = read_manifest(model.folder.training)
    return [model.name, digest_file(model.folder.recipe), digest_outputs(trained) if trained else None]
