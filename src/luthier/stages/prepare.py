"""prepare: from raw files to leak-free splits, with an account of every row."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from luthier.data.rows import SPLITS, Form, Rejected, Row, SplitName
from luthier.errors import GateError, UserError
from luthier.run.atomic import write_json, write_jsonl
from luthier.run.folder import RunFolder
from luthier.run.progress import Progress

if TYPE_CHECKING:
    from luthier.data.augment import Augmented, Augmenter
    from luthier.data.clean import Cleaned
    from luthier.data.ingest import Ingested
    from luthier.data.overlap import OverlapReport
    from luthier.data.split import Division
    from luthier.recipe.schema import Data, Recipe

CONTRADICTIONS_SHOWN = 20


def inputs(recipe: Recipe) -> list[Path]:
    """Return the files from outside the run that decide the outcome: data, list of terms, tokenizer of the base."""
    from luthier.data.ingest import source_files
    from luthier.models.bases import resolve
    from luthier.models.counting import tokenizer_file

    terms = [Path(recipe.data.terms)] if recipe.data.terms else []
    for path in terms:
        if not path.is_file():
            raise UserError("There is no such list of terms.", f"data.terms: {path}", "Name a file with a term a line.")
    tokenizer = tokenizer_file(resolve(recipe.model.base))
    found = [*source_files(recipe.data.source), *terms, *_prompts(recipe)]
    return [*found, *([tokenizer] if tokenizer else [])]


def _prompts(recipe: Recipe) -> list[Path]:
    augment = recipe.data.augment
    if augment is None or augment.prompt is None:
        return []
    from luthier.data.augment.teacher.asking import template

    template(Path(augment.prompt), "title")  # what is wrong with it is told before a run begins
    return [Path(augment.prompt)]


def prepare(recipe: Recipe, folder: RunFolder, progress: Progress) -> None:
    """Read, clean, split and augment the rows, and measure what the splits share.

    Writes train.jsonl, validation.jsonl, test.jsonl, rejected.jsonl and report.json into 1-data/; where rows were
    augmented, refused.jsonl as well, and for titles jittered_titles.csv.

    Raises:
        UserError: the data cannot be read or divided. GateError: the splits share more than the recipe allows.
    """
    from luthier.data.overlap import leaks, measure_overlap

    data = recipe.data
    found, cleaned = _read(recipe, progress)
    rejected = [*found.rejected, *cleaned.rejected]
    write_jsonl(folder.rejected, (row.to_json() for row in rejected))
    _require_rows(cleaned, rejected, str(folder.rejected))
    division = _divide(recipe, cleaned)
    overlap = measure_overlap(
        division.sides, data.near_duplicates, data.overlap.ngram, data.overlap.threshold, division.group_of, recipe.seed
    )
    found_leaks = leaks(overlap)
    augmented = _augment(recipe, division, progress)
    sides = {**division.sides, "train": [*division.sides["train"], *(augmented.rows if augmented else [])]}
    report = {
        "rows": _counts(found, rejected, sides, augmented),
        "rejected": dict(Counter(row.reason for row in rejected).most_common()),
        "leaks": found_leaks,
        "warnings": [*found.notes, *division.warnings, *(augmented.warnings if augmented else [])],
        **_account(found, cleaned, division, overlap, augmented),
        "statistics": _statistics(recipe, sides, division, cleaned),
    }
    for name in SPLITS:
        write_jsonl(folder.rows(name), (row.to_json() for row in sides[name]))
    if augmented:
        _write_augmentation(division.sides["train"], augmented, method_of(recipe), folder)
    write_json(folder.data_report, report)
    _gate(found_leaks, data.overlap.allow, folder)


def variations(recipe: Recipe, progress: Progress) -> tuple[list[Row], Augmented]:
    """Return the training rows and what augmentation makes of them; writes nothing.

    Raises:
        UserError: the recipe does not augment, or its data cannot be read or divided.
    """
    if recipe.data.augment is None:
        raise UserError(
            "The recipe makes no further training rows.",
            "data.augment",
            "Say how many training rows there should be in all: --set data.augment.target=2000",
        )
    found, cleaned = _read(recipe, progress)
    _require_rows(cleaned, [*found.rejected, *cleaned.rejected], "1-data/rejected.jsonl of a run")
    division = _divide(recipe, cleaned)
    augmented = _augment(recipe, division, progress)
    assert augmented is not None  # noqa: S101 - asked for, as seen above
    return division.sides["train"], augmented


def _read(recipe: Recipe, progress: Progress) -> tuple[Ingested, Cleaned]:
    from luthier.data.clean import clean
    from luthier.data.ingest import ingest

    data = recipe.data
    found = ingest(data.source, data.format, data.fields, recipe.model.system, progress)
    return found, clean(found.rows, data.max_characters, data.near_duplicates, progress)


def _divide(recipe: Recipe, cleaned: Cleaned) -> Division:
    from luthier.data.split import split

    by = recipe.data.split
    return split(cleaned.rows, _shares(recipe.data), by.stratify, by.group, cleaned.clusters, recipe.seed)


def method_of(recipe: Recipe) -> str:
    """Return who makes further training rows; "" where none are made."""
    return recipe.data.augment.method if recipe.data.augment else ""


def _write_augmentation(train: Sequence[Row], augmented: Augmented, method: str, folder: RunFolder) -> None:
    from luthier.data.augment.listing import COLUMNS, listed
    from luthier.run.delimited import write_csv

    write_jsonl(folder.refused, (asdict(refusal) for refusal in augmented.refusals))
    if any(row.form == "title" for row in train):
        write_csv(folder.variations, COLUMNS, listed(train, augmented, method))


def _require_rows(cleaned: Cleaned, rejected: Sequence[Rejected], listed_in: str) -> None:
    if not cleaned.rows:
        reasons = ", ".join(
            f"{count} {reason}" for reason, count in Counter(row.reason for row in rejected).most_common()
        )
        first = rejected[0]
        raise UserError(
            f"All {len(rejected)} rows were rejected ({reasons}). The first: {first.detail}",
            f"{first.file}:{first.line}",
            f"Mend the data; every row is in {listed_in} with its reason.",
        )


def _shares(data: Data) -> dict[SplitName, float]:
    return {"train": data.split.train, "validation": data.split.validation, "test": data.split.test}


def _augment(recipe: Recipe, division: Division, progress: Progress) -> Augmented | None:
    asked = recipe.data.augment
    if asked is None:
        return None
    held_out = [row for name in SPLITS if name != "train" for row in division.sides[name]]
    train = division.sides["train"]
    return _augmenter(recipe, train[0].form, progress)(
        train,
        asked.target,
        recipe.seed,
        others=held_out,
        near_threshold=recipe.data.near_duplicates,
        max_characters=recipe.data.max_characters,
        context=recipe.model.system or "",
        similarity=(asked.similarity[0], asked.similarity[1]) if asked.similarity else None,
    )


def _augmenter(recipe: Recipe, form: Form, progress: Progress) -> Augmenter:
    from luthier.data.augment import augmenter_named

    asked, by = recipe.data.augment, recipe.teacher
    if asked is None or asked.method == "rules" or by is None:
        return augmenter_named("rules", form)
    from luthier.data.augment.teacher.asking import schema, template, wrong_with
    from luthier.data.augment.teacher.make import TeacherAugmenter
    from luthier.models.remote.client import Question, Reply, teacher_of

    text = template(Path(asked.prompt) if asked.prompt else None, form)
    teacher, answers = teacher_of(by.asking(), by.paying()), schema(text.categories)

    def ask(questions: Sequence[tuple[str, int]]) -> list[Reply]:
        put = [Question(({"role": "user", "content": prompt},), answers, seed) for prompt, seed in questions]
        replies = teacher.ask(put, wrong_with, progress, "teacher: variations")
        progress.say(f"  teacher: {teacher.told}")
        return replies

    return TeacherAugmenter(ask, text, by.model)


def _counts(
    found: Ingested, rejected: Sequence[Rejected], sides: Mapping[SplitName, Sequence[Row]], augmented: Augmented | None
) -> dict[str, int]:
    """Count every row once: what was found is rejected or in a split; what was made comes on top."""
    counts = {
        "found": len(found.rows) + len(found.rejected),
        "rejected": len(rejected),
        "augmented": len(augmented.rows) if augmented else 0,
        **{str(name): len(sides[name]) for name in SPLITS},
    }
    if counts["found"] + counts["augmented"] != counts["rejected"] + sum(counts[name] for name in SPLITS):
        raise AssertionError(f"rows do not add up: {counts}")
    return counts


def _account(
    found: Ingested, cleaned: Cleaned, division: Division, overlap: OverlapReport, augmented: Augmented | None
) -> dict[str, Any]:
    return {
        "format": found.format,
        "fields": found.fields,
        "columns": found.columns,
        "files": [asdict(file) for file in found.files],
        "cleaning": cleaned.counts,
        "contradictions": {
            "count": len(cleaned.contradictions),
            "shown": [asdict(one) for one in cleaned.contradictions[:CONTRADICTIONS_SHOWN]],
        },
        "split": {"groups": division.groups, **division.deviation.to_json()},
        "overlap": asdict(overlap),
        "augmentation": _augmentation(augmented) if augmented else None,
    }


def _augmentation(augmented: Augmented) -> dict[str, Any]:
    return {"rows": len(augmented.rows), "refused": dict(augmented.refused), "categories": augmented.diversity}


def _statistics(
    recipe: Recipe, sides: Mapping[SplitName, Sequence[Row]], division: Division, cleaned: Cleaned
) -> dict[str, Any]:
    from luthier.data.stats import describe
    from luthier.data.terms import read_terms
    from luthier.models.bases import resolve
    from luthier.models.counting import token_counter

    terms = read_terms(Path(recipe.data.terms)) if recipe.data.terms else []
    topic = recipe.data.split.stratify or "topic"
    return describe(
        sides,
        token_counter(resolve(recipe.model.base)),
        recipe.data.max_length,
        terms,
        topic,
        group_of=division.group_of,
        duplicates=cleaned.counts,
    )


def _gate(leaks: Sequence[str], allowed: bool, folder: RunFolder) -> None:
    if leaks and not allowed:
        raise GateError(
            "The splits share rows. " + " ".join(leaks),
            str(folder.data_report),
            "Name the field that variants share (data.split.group), lower data.near_duplicates so that they are "
            "grouped, mend the files, or accept it: --set data.overlap.allow=true",
        )
