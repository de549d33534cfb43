"""Augmentation by a teacher: sources are asked about until there are rows enough, or every source has been."""

from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from copy import deepcopy
from dataclasses import dataclass, replace
from typing import Protocol

from luthier.data.augment import Augmented, rules
from luthier.data.augment.quality import Limits, Quality
from luthier.data.augment.table import Variant
from luthier.data.augment.taking import Counts, KnownQuestions, Supply, Taking
from luthier.data.augment.teacher.asking import Template, parse, plain_category
from luthier.data.augment.titles import make as titles
from luthier.data.rows import Row, question
from luthier.data.words import words

PASSES = 3  # times a source is asked about, with another seed each
SEEDS = 1000  # between one pass and the next
YIELD = 2.5  # variations taken of an answer, for how many sources to ask about first
REASONS_TOLD = 5


class Answered(Protocol):
    """What the teacher said: `text`, or None and why in `failed`."""

    @property
    def text(self) -> str | None:
        """The answer."""

    @property
    def failed(self) -> str:
        """Why there is none."""


Ask = Callable[[Sequence[tuple[str, int]]], Sequence[Answered]]  # (prompt, seed) of each → what was said


@dataclass(frozen=True)
class TeacherAugmenter:
    """An `Augmenter` whose variations a teacher writes.

    Attributes:
        ask: asks the teacher many questions at once. template: what it is asked. model: its name.
    """

    ask: Ask
    template: Template
    model: str

    def __call__(
        self,
        train: Sequence[Row],
        target: int,
        seed: int,
        others: Sequence[Row] = (),
        *,
        near_threshold: float | None = 0.85,
        max_characters: int = 100_000,
        context: str = "",
        similarity: tuple[float, float] | None = None,
    ) -> Augmented:
        """Return variations that bring `train` to `target` rows; arguments as for every `Augmenter`.

        Sources are asked about in an order drawn from the seed, and again with another seed while rows are missing, up
        to `PASSES` times. Every variation passes the filter that the rules' variations pass, and is in a category that
        the template names. Labels say who made a row: category, source "teacher", model, and the hash of the prompt.
        """
        wanted = target - len(train)
        if wanted <= 0:
            told = f"The target of {target:,} training rows is reached without augmentation."
            return Augmented([], {}, [told])
        work = self._taking(train, others, near_threshold, max_characters, similarity)
        order = _sources(train, others)
        count = len(order)
        random.Random(seed).shuffle(order)
        failures: Counter[str] = Counter()
        for again in range(PASSES):
            waiting, order = order, []
            while waiting and len(work.taken) < wanted:
                some = max(1, math.ceil((wanted - len(work.taken)) / YIELD))
                order += self._round(work, waiting[:some], wanted, again, failures)
                waiting = waiting[some:]
        return work.result([*_told(failures), *_shortfall(work, wanted, count, len(train))])

    def _round(self, work: Taking, asked: Sequence[Row], wanted: int, again: int, failures: Counter[str]) -> list[Row]:
        """Ask about some sources and take what is good; return the sources that were answered."""
        replies = self.ask([(self.template.filled(question(row)), again * SEEDS) for row in asked])
        failures.update(reply.failed for reply in replies if reply.text is None)
        answered = [(row, reply.text) for row, reply in zip(asked, replies, strict=True) if reply.text is not None]
        sources = [row for row, _ in answered]
        work.until(wanted, list(range(len(sources))), sources, [_supply(text) for _, text in answered])
        return sources

    def _taking(
        self,
        train: Sequence[Row],
        others: Sequence[Row],
        near_threshold: float | None,
        max_characters: int,
        similarity: tuple[float, float] | None,
    ) -> Taking:
        if train and train[0].form == "title":
            bounds = Limits(similarity or titles.SIMILARITY, titles.SHORTEST, min(max_characters, 2 * titles.LONGEST))
            quality = Quality(bounds, titles.meaning, self._fits)
            return Taking(train, others, quality, titles.KnownTitles(), near_threshold, self._row(titles.varied))
        bounds = Limits(similarity or rules.SIMILARITY, rules.SHORTEST, max_characters, rules.LONGEST_GROWTH)
        quality = Quality(bounds, None, self._fits)
        return Taking(train, others, quality, KnownQuestions(), near_threshold, self._row(rules.varied))

    def _fits(self, _source: str, _text: str, category: str) -> bool:
        return category in self.template.categories or not self.template.categories

    def _row(self, varied: Callable[[Row, Variant], Row]) -> Callable[[Row, Variant], Row]:
        made = {"source": "teacher", "model": self.model, "prompt_hash": self.template.digest}

        def row_of(source: Row, variant: Variant) -> Row:
            row = varied(source, variant)
            by = {"category": variant.category, **made}
            own = deepcopy(source.labels)  # those of a question are fields that the evidence is broken down by
            return replace(row, labels={**own, **by} if source.form == "title" else {**by, **own})

        return row_of


def _sources(train: Sequence[Row], others: Sequence[Row]) -> list[Row]:
    """Return the rows to ask about: those that the rules would vary, and titles in any language."""
    known = titles.KnownTitles()
    for row in (*train, *others):
        if row.form == "title":
            known.add(row)
    return [row for row in train if (_is_source(row, known) if row.form == "title" else rules.can_vary(row))]


def _is_source(row: Row, known: titles.KnownTitles) -> bool:
    title = str(row.content["title"])
    return row.made_from is None and len(title) <= titles.LONGEST and bool(words(title)) and not known.elsewhere(row)


def _supply(text: str) -> Supply:
    """Return a supply of the variations in an answer, each once."""
    found = [Variant(one.text.strip(), "teacher", plain_category(one.category)) for one in parse(text)]
    variants = iter(found)

    def offers(_own: Counts, _all: Counts) -> Iterator[Variant]:
        return variants

    return offers


def _told(failures: Counter[str]) -> list[str]:
    told = [
        f"The teacher gave no usable answer for {count:,} titles or questions: {why}."
        for why, count in failures.most_common(REASONS_TOLD)
    ]
    rest = sum(failures.values()) - sum(count for _, count in failures.most_common(REASONS_TOLD))
    return [*told, f"Nor for {rest:,} more, for other reasons."] if rest else told


def _shortfall(work: Taking, wanted: int, sources: int, rows: int) -> list[str]:
    if len(work.taken) >= wanted:
        return []
    counted = Counter(refusal.reason for refusal in work.refusals)
    refused = ", ".join(f"{reason} {count:,}" for reason, count in counted.items()) or "none"
    return [
        f"The teacher wrote {len(work.taken):,} of the {wanted:,} rows that were wanted, asked about {sources:,} of "
        f"{rows:,} training rows up to {PASSES} times. Refused: {refused}."
    ]
