"""What of one split can be found again in another: exact, near and n-gram overlap, and groups astride."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from difflib import SequenceMatcher
from typing import Any

import numpy as np
from numpy.typing import NDArray

from luthier.data.containment import (
    FEWEST_WORDS,
    Containment,
    Side,
    Vocabulary,
    boilerplate_rows,
    contained,
    template_positions,
)
from luthier.data.near import near_pairs_between
from luthier.data.normal import normalised
from luthier.data.rows import Row, SplitName, answer, question, whole_text
from luthier.data.words import words

EXAMPLES = 5
TEXT_SHOWN = 300  # characters of an example's text
QUESTION_WORDS = 8  # from here a question's own n-grams count (the lower bound of GPT-3's n)
TEMPLATE_WORDS = 8  # long enough to be a template and not a turn of phrase
PAIRS: tuple[tuple[SplitName, SplitName], ...] = (("train", "validation"), ("train", "test"), ("validation", "test"))


@dataclass(frozen=True, slots=True)
class Example:
    """A held-out row and where it was found.

    Attributes:
        held_out_id, held_out_text, found_in_id, found_in_text: the two rows; texts cut at 300 characters.
        similarity: 1 for equal texts, the Jaccard similarity, or the share of n-grams found.
        span: the longest run of words that both have, for n-grams; the group's name, for groups astride.
    """

    held_out_id: str
    held_out_text: str
    found_in_id: str
    found_in_text: str
    similarity: float
    span: str | None = None


@dataclass(frozen=True, slots=True)
class Measure:
    """One way of looking.

    Attributes:
        rows: held-out rows that were found on the other side. share: of all held-out rows.
        measured: held-out rows that could be looked for; too short or empty texts cannot.
        set_aside: equal questions, or distinct n-grams, that were templates and did not count.
        mean, largest: of the share of n-grams found, over the measured rows; None for the other ways.
        examples: up to five, most similar first.
    """

    rows: int
    share: float
    measured: int
    set_aside: int = 0
    mean: float | None = None
    largest: float | None = None
    examples: list[Example] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class PairOverlap:
    """What of `held_out` is found in `reference`, both named splits. `near` is None when it was switched off."""

    reference: SplitName
    held_out: SplitName
    reference_rows: int
    held_out_rows: int
    exact_question: Measure
    exact_whole: Measure
    near: Measure | None
    ngram: Measure
    group: Measure


@dataclass(frozen=True, slots=True)
class OverlapReport:
    """Overlap of each pair of splits, with the settings it was measured by."""

    pairs: list[PairOverlap]
    ngram: int
    leak_threshold: float
    near_threshold: float | None

    def to_json(self) -> dict[str, Any]:
        """Return plain values, with a sentence on what was set aside and the leaks in words."""
        note = (
            "Texts that 5 % of the training rows share (10 at least; in sets of fewer than 20 rows, half of them) are "
            "templates: they do not count as overlap."
        )
        return {**asdict(self), "leaks": leaks(self), "note": note}


def measure_overlap(
    sides: Mapping[SplitName, Sequence[Row]],
    near_threshold: float | None,
    ngram: int,
    leak_threshold: float,
    group_of: Mapping[str, str],
    seed: int,
) -> OverlapReport:
    """Measure how much of validation is found in train, and of test in train and in validation.

    - exact: the same question, and the same whole text, once case, punctuation and space are normalised.
    - near: Jaccard similarity of word n-grams of the whole text, as for near-duplicates. Words in a template of 8
      words or more are left out first.
    - n-gram: share of a row's word n-grams found on the other side (see `containment`); a row counts when its whole
      text, or its question of 8 words or more, reaches `leak_threshold`.
    - group: rows whose group has rows on the other side.

    Of titles alone only equal ones and families are looked at: that a title is much like one of another family, or
    stands within one, is what a model is to tell apart, and no leak.

    Args:
        sides: rows by split; absent is empty.
        near_threshold: Jaccard similarity from which rows are near-duplicates, above 0 up to 1; None: not measured.
        ngram: words of an n-gram; shorter texts count as one n-gram, fewer than 5 words are not measured.
        leak_threshold: share of n-grams, above 0 up to 1.
        group_of: row id → group; absent ids are alone. `Division.group_of` fits.
        seed: of MinHash.
    """
    vocabulary = Vocabulary()
    texts = {name: [_parts(row) for row in sides.get(name, ())] for name in ("train", "validation", "test")}
    numbered = {name: vocabulary.side(parts) for name, parts in texts.items()}
    pairs = []
    for reference, held_out in PAIRS:
        there, here = sides.get(reference, ()), sides.get(held_out, ())
        found = _Found(there, here)
        near, titles = None, bool(here) and all(row.form == "title" for row in (*there, *here))
        if near_threshold is not None and not titles:
            near = _near(found, numbered[reference], numbered[held_out], near_threshold, seed)
        pairs.append(
            PairOverlap(
                reference,
                held_out,
                len(there),
                len(here),
                _exact(found, lambda row: "" if row.form == "text" else question(row), templates=True),
                _exact(found, whole_text, templates=False),
                near,
                found.measure({}, 0)
                if titles
                else _ngram(found, numbered[reference], numbered[held_out], ngram, leak_threshold),
                _astride(found, group_of),
            )
        )
    return OverlapReport(pairs, ngram, leak_threshold, near_threshold)


def leaks(report: OverlapReport) -> list[str]:
    """Return one plain sentence for each leak: nothing to mend when empty."""
    return [sentence for pair in report.pairs for sentence in _leaks_of(pair, report)]


def _leaks_of(pair: PairOverlap, report: OverlapReport) -> Iterable[str]:
    most = f"{100 * report.leak_threshold:g} % or more"
    ways = [
        (pair.group, f"have rows of the same group in {pair.reference}"),
        (pair.exact_whole, f"are in {pair.reference} as well, word for word"),
        (pair.exact_question, f"ask a question that {pair.reference} asks too"),
        (pair.ngram, f"have {most} of their {report.ngram}-word sequences in {pair.reference}"),
    ]
    if pair.near is not None:
        likeness = f"are near-duplicates (similarity {report.near_threshold:g} or more) of rows in {pair.reference}"
        ways.insert(3, (pair.near, likeness))
    for measure, what in ways:
        if measure.rows:
            example = measure.examples[0]
            rows = f"{measure.rows:,} of {pair.held_out_rows:,} {pair.held_out} rows"
            yield (
                f"{rows} ({100 * measure.share:.1f} %) {what}; "
                f"for example {example.held_out_id!r} and {example.found_in_id!r}."
            )


class _Found:
    """Two lists of rows and the way to tell a finding: held-out rows, other rows, similarity."""

    def __init__(self, reference: Sequence[Row], held_out: Sequence[Row]) -> None:
        self.reference, self.held_out = reference, held_out

    def measure(
        self,
        best: Mapping[int, tuple[int, float]],
        measured: int,
        span: Callable[[Row, Row], str | None] = lambda _here, _there: None,
        **more: Any,
    ) -> Measure:
        """Return the measure of `best`: held-out position → (reference position, similarity)."""
        order = sorted(best, key=lambda here: (-best[here][1], here))[:EXAMPLES]
        examples = []
        for here in order:
            there, similarity = best[here]
            mine, other = self.held_out[here], self.reference[there]
            shown = whole_text(mine)[:TEXT_SHOWN], whole_text(other)[:TEXT_SHOWN]
            examples.append(Example(mine.id, shown[0], other.id, shown[1], similarity, span(mine, other)))
        share = len(best) / len(self.held_out) if self.held_out else 0.0
        return Measure(len(best), share, measured, examples=examples, **more)


def _parts(row: Row) -> tuple[str, ...]:
    return (whole_text(row),) if row.form in ("text", "title") else (question(row), answer(row))


def _exact(found: _Found, text_of: Callable[[Row], str], templates: bool) -> Measure:
    counts: Counter[str] = Counter()
    first: dict[str, int] = {}
    for position, row in enumerate(found.reference):
        text = normalised(text_of(row))
        counts[text] += 1
        first.setdefault(text, position)
    limit = boilerplate_rows(len(found.reference)) if templates else float("inf")
    best: dict[int, tuple[int, float]] = {}
    aside: set[str] = set()
    measured = 0
    for position, row in enumerate(found.held_out):
        text = normalised(text_of(row))
        measured += bool(text)
        if text and counts[text] >= limit:
            aside.add(text)
        elif text in first and text:
            best[position] = (first[text], 1.0)
    return found.measure(best, measured, set_aside=len(aside))


def _near(found: _Found, there: Side, here: Side, threshold: float, seed: int) -> Measure:
    if not found.reference or not found.held_out:
        return found.measure({}, 0)
    masks = template_positions({"there": there, "here": here}, "there", TEMPLATE_WORDS)
    mine = _without_templates(found.held_out, here, masks["here"])
    others = _without_templates(found.reference, there, masks["there"])
    best: dict[int, tuple[int, float]] = {}
    for pair in near_pairs_between(mine, others, threshold, seed):
        if pair.similarity > best.get(pair.first, (0, 0.0))[1]:
            best[pair.first] = (pair.second, pair.similarity)
    return found.measure(best, sum(bool(text) for text in mine))


def _without_templates(rows: Sequence[Row], side: Side, mask: NDArray[np.bool_]) -> list[str]:
    """Return whole texts, the words of templates left out; "" where too few words remain to be compared."""
    touched: dict[int, list[int]] = {}
    for text in np.flatnonzero(np.add.reduceat(np.append(mask, False), side.starts[:-1]) * (side.lengths > 0)).tolist():
        touched.setdefault(int(side.row[text]), []).append(text)
    texts = [whole_text(row) for row in rows]
    for position in touched:
        kept: list[str] = []
        first = int(np.searchsorted(side.row, position))
        for text, part in enumerate(_parts(rows[position]), first):
            inside = mask[side.starts[text] : side.starts[text + 1]]
            kept += [word for word, gone in zip(words(part), inside.tolist(), strict=True) if not gone]
        texts[position] = " ".join(kept) if len(kept) >= FEWEST_WORDS else ""
    return texts


def _ngram(found: _Found, there: Side, here: Side, n: int, threshold: float) -> Measure:
    if not found.reference or not found.held_out:
        return found.measure({}, 0)
    result = contained(here, there, n)
    shares, sources = _by_row(result, here)
    known = ~np.isnan(shares)
    best = {
        int(position): (int(sources[position]), float(shares[position]))
        for position in np.flatnonzero(known & (shares >= threshold))
    }
    return found.measure(
        best,
        int(known.sum()),
        span=_longest_run,
        set_aside=result.boilerplate,
        mean=float(shares[known].mean()) if known.any() else None,
        largest=float(shares[known].max()) if known.any() else None,
    )


def _by_row(result: Containment, side: Side) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Return the share of each row, (rows,), and where it was found: of its texts together, or its question alone."""
    found = np.bincount(side.row, weights=result.found, minlength=side.rows)
    total = np.bincount(side.row, weights=result.total, minlength=side.rows)
    shares = np.divide(found, total, out=np.full(side.rows, np.nan), where=total > 0)
    sources = np.full(side.rows, -1, np.int64)
    for text in np.argsort(result.found, kind="stable"):  # the text with the most found names the source
        if result.source[text] >= 0:
            sources[side.row[text]] = result.source[text]
    opening = np.flatnonzero(np.diff(side.row, prepend=-1) > 0)  # the question, or the only text
    own = opening[(side.lengths[opening] >= QUESTION_WORDS) & (result.total[opening] > 0)]
    higher = own[result.share[own] > shares[side.row[own]]]
    shares[side.row[higher]] = result.share[higher]
    sources[side.row[higher]] = result.source[higher]
    return shares, sources


def _longest_run(mine: Row, other: Row) -> str | None:
    """Return the longest run of words that a text of one row shares with a text of the other."""
    longest: list[str] = []
    for part in _parts(mine):
        left = words(part)
        for across in _parts(other):
            right = words(across)
            match = SequenceMatcher(None, left, right, autojunk=False).find_longest_match()
            if match.size > len(longest):
                longest = left[match.a : match.a + match.size]
    return " ".join(longest) or None


def _astride(found: _Found, group_of: Mapping[str, str]) -> Measure:
    first: dict[str, int] = {}
    for position, row in enumerate(found.reference):
        if row.id in group_of:
            first.setdefault(group_of[row.id], position)
    best = {
        position: (first[group_of[row.id]], 1.0)
        for position, row in enumerate(found.held_out)
        if group_of.get(row.id) in first
    }
    return found.measure(best, len(found.held_out), span=lambda mine, _other: group_of[mine.id])
