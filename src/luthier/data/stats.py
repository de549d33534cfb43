"""Statistics of the splits: lengths, truncation, term density, topics, difficulty, histograms."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from luthier.data.rows import SPLITS, Row, SplitName, answer, count_by, question, whole_text
from luthier.data.terms import TermMatcher
from luthier.data.words import words

CHARACTERS_PER_TOKEN = 3.5  # English under vocabularies of 8,000 to 50,000: 3.45 to 4.5; the low end overestimates
BINS = 20
_NICE = (1, 2, 2.5, 5, 10)  # widths of bins that read well

CountTokens = Callable[[Sequence[str]], list[int]]


def describe(
    sides: Mapping[SplitName, Sequence[Row]],
    count_tokens: CountTokens | None,
    max_length: int,
    terms: Collection[str],
    topic_field: str | None,
    *,
    difficulty_field: str = "difficulty",
    group_of: Mapping[str, str] | None = None,
    duplicates: Mapping[str, int] | None = None,
) -> dict[str, Any]:
    """Return the statistics of each split and of all rows together, as plain values.

    Args:
        sides: rows by split.
        count_tokens: tokens of each of some texts; None: estimated as characters / 3.5, rounded up, and marked so.
            What a chat template adds is not counted.
        max_length: tokens above which a row (question and answer) is cut.
        terms: technical terms, in the singular.
        topic_field, difficulty_field: labels to count rows by; None: no topics.
        group_of: row id → joined group (`Division.group_of`); None: the rows' own groups.
        duplicates: counts by kind from cleaning, taken over as they are.

    Returns:
        `splits` {train, validation, test, all: {rows, groups, characters, tokens, truncation, terms, topics,
        difficulty, histograms}}, `histogram_edges`, `tokens_estimated`, `max_length`, `duplicates`. A length summary is
        {mean, median, p95, max}; p95 interpolates linearly. Term density is `per_question` (mean number of different
        terms in a question) and `per_100_answer_words` (all occurrences). Topics and difficulty are {value: {rows,
        share}}, with the values of all splits in each, so that a missing one shows as 0.
    """
    rows: dict[str, list[Row]] = {name: list(sides.get(name, ())) for name in SPLITS}
    matcher = TermMatcher(terms)
    columns = {name: _columns(part, count_tokens, matcher) for name, part in rows.items()}
    rows["all"] = [row for part in list(rows.values()) for row in part]
    columns["all"] = {key: np.concatenate([part[key] for part in list(columns.values())]) for key in columns["train"]}
    edges = {key: _edges(columns["all"][key]) for key in _DRAWN}
    values = {field: list(count_by(rows["all"], field)) for field in (topic_field, difficulty_field) if field}
    splits = {
        name: {
            "rows": len(part),
            "groups": len({_group(row, group_of) for row in part}),
            **_measures(columns[name], max_length, edges),
            "topics": _coverage(part, topic_field, values),
            "difficulty": _coverage(part, difficulty_field, values),
        }
        for name, part in rows.items()
    }
    return {
        "splits": splits,
        "histogram_edges": edges,
        "tokens_estimated": count_tokens is None,
        "max_length": max_length,
        "term_list": len(matcher),
        "duplicates": dict(duplicates or {}),
    }


_TEXTS = ("question", "answer", "whole")
_DRAWN = ("question_characters", "answer_characters", "whole_tokens")
Columns = dict[str, NDArray[np.int64]]


def _columns(rows: Sequence[Row], count_tokens: CountTokens | None, matcher: TermMatcher) -> Columns:
    """Return the numbers of each row, (rows,) each."""
    texts = {
        "question": [question(row) for row in rows],
        "answer": ["" if row.form == "title" else answer(row) for row in rows],  # the label of a title is no text
        "whole": [whole_text(row) for row in rows],
    }
    columns: Columns = {}
    for name, found in texts.items():
        lengths = np.array([len(text) for text in found], dtype=np.int64)
        columns[f"{name}_characters"] = lengths
        if count_tokens is None:
            columns[f"{name}_tokens"] = np.ceil(lengths / CHARACTERS_PER_TOKEN).astype(np.int64)
        else:
            columns[f"{name}_tokens"] = np.array(count_tokens(found) if found else [], dtype=np.int64)
    asked = [len(set(matcher.find(words(text)))) for text in texts["question"]]
    said = [words(text) for text in texts["answer"]]
    columns["question_terms"] = np.array(asked, dtype=np.int64)
    columns["answer_words"] = np.array([len(found) for found in said], dtype=np.int64)
    columns["answer_terms"] = np.array([sum(1 for _ in matcher.find(found)) for found in said], dtype=np.int64)
    return columns


def _measures(held: Columns, max_length: int, edges: Mapping[str, list[float]]) -> dict[str, Any]:
    """Return what the numbers of the rows of one split come to."""
    return {
        "characters": {text: _summary(held[f"{text}_characters"]) for text in _TEXTS},
        "tokens": {text: _summary(held[f"{text}_tokens"]) for text in _TEXTS},
        "truncation": _truncation(held["whole_tokens"], max_length),
        "terms": _density(held),
        "histograms": {key: np.histogram(held[key], _closed(edges[key]))[0].tolist() for key in _DRAWN},
    }


def _group(row: Row, group_of: Mapping[str, str] | None) -> tuple[str, str]:
    name = row.group if group_of is None else group_of.get(row.id, row.group)
    return ("alone", row.id) if name is None else ("group", name)


def _summary(lengths: NDArray[np.int64]) -> dict[str, float]:
    if not len(lengths):
        return {"mean": 0.0, "median": 0.0, "p95": 0.0, "max": 0}
    return {
        "mean": float(lengths.mean()),
        "median": float(np.median(lengths)),
        "p95": float(np.percentile(lengths, 95)),
        "max": int(lengths.max()),
    }


def _truncation(tokens: NDArray[np.int64], max_length: int) -> dict[str, float]:
    over = int((tokens > max_length).sum())
    return {"rows": over, "share": over / len(tokens) if len(tokens) else 0.0}


def _density(held: Columns) -> dict[str, float]:
    answered = int(held["answer_words"].sum())
    return {
        "per_question": float(held["question_terms"].mean()) if len(held["question_terms"]) else 0.0,
        "per_100_answer_words": 100 * int(held["answer_terms"].sum()) / answered if answered else 0.0,
    }


def _coverage(
    rows: Sequence[Row], field: str | None, values: Mapping[str, Sequence[str]]
) -> dict[str, dict[str, float]]:
    if field is None or set(values[field]) <= {"(none)"}:
        return {}
    counts = count_by(rows, field)
    return {
        value: {"rows": counts.get(value, 0), "share": counts.get(value, 0) / len(rows) if rows else 0.0}
        for value in values[field]
    }


def _edges(lengths: NDArray[np.int64]) -> list[float]:
    """Return the lower edges of 20 equal bins of a round width that reach the 99th percentile; the last has no end.

    One set of edges for all splits, so that their histograms can be laid over each other.
    """
    reach = max(1.0, float(np.percentile(lengths, 99)) if len(lengths) else 1.0) / BINS
    power = 10.0 ** np.floor(np.log10(reach))
    width = max(1.0, next(nice * power for nice in _NICE if nice * power >= reach - 1e-9))
    return [float(width * bin_) for bin_ in range(BINS)]


def _closed(edges: list[float]) -> NDArray[np.float64]:
    return np.array([*edges, np.inf])
