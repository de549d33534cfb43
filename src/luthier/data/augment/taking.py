"""Variants are offered, checked and taken, round by round: what rules and teacher have in common."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Protocol

from luthier.data.augment import Augmented, Refusal
from luthier.data.augment.quality import Quality, diversity
from luthier.data.augment.table import Variant
from luthier.data.near import SHORT, near_pairs_between
from luthier.data.normal import normalised
from luthier.data.rows import Row, question, whole_text
from luthier.data.words import words

PATIENCE = 50  # variants of one source refused in a row before it is given up: what is left of it will fare no better
Counts = Mapping[str, int]
# Of one source: (categories taken from it, categories taken in all) → what else it has, the most wanted first.
Supply = Callable[[Counts, Counts], Iterator[Variant]]


class Known(Protocol):
    """The texts that variants must not repeat."""

    def add(self, row: Row) -> None:
        """Remember a row."""

    def clash(self, row: Row) -> str | None:
        """Return why a new row repeats what is known, a reason as in `Refusal`; None when it does not."""


class KnownQuestions:
    """Known texts of which no two may be equal."""

    def __init__(self) -> None:
        self._questions: set[str] = set()

    def add(self, row: Row) -> None:
        """Remember a row."""
        self._questions.add(normalised(question(row)))

    def clash(self, row: Row) -> str | None:
        """Return "equal" when the text is known."""
        return "equal" if normalised(question(row)) in self._questions else None


class Taking:
    """Takes variants that pass every check.

    Args:
        train: rows before augmentation. others: held-out rows.
        quality: the filter of texts. known: what must not be repeated; the rows are added to it.
        near_threshold: Jaccard similarity from which a variant is too close to another group; None: not checked.
        row_of: (source, variant) → the new row, without its number.
    """

    def __init__(
        self,
        train: Sequence[Row],
        others: Sequence[Row],
        quality: Quality,
        known: Known,
        near_threshold: float | None,
        row_of: Callable[[Row, Variant], Row],
    ) -> None:
        self.taken: list[Row] = []
        self.refusals: list[Refusal] = []
        self._quality, self._known, self._row_of = quality, known, row_of
        self._near_threshold = near_threshold
        self._rows = [*train, *others]
        self._groups = [*map(group_of, train), *(None for _ in others)]  # held-out rows have none
        for row in self._rows:
            known.add(row)
        self._sources = {row.id: row for row in train}
        self._ids = {row.id for row in self._rows}
        self._numbers: Counter[str] = Counter()
        self._categories: Counter[str] = Counter()
        self._category_of: dict[str, str] = {}
        self._own: dict[str, Counter[str]] = {row.id: Counter() for row in train}

    def until(self, wanted: int, order: Sequence[int], sources: Sequence[Row], supply: Sequence[Supply]) -> None:
        """Take rounds until `wanted` rows are there or the supply is exhausted. `order` holds positions of sources."""
        places = list(order)
        while places and wanted > len(self.taken):
            places = self._round(places, sources, supply, wanted - len(self.taken))

    def result(self, warnings: Sequence[str]) -> Augmented:
        """Return what was taken, in the order of the sources, with the account of what was not."""
        position = {name: place for place, name in enumerate(self._sources)}
        rows = sorted(self.taken, key=lambda row: position[str(row.made_from)])  # stable: numbers stay in order
        pairs: dict[str, list[tuple[str, str]]] = {}
        for row in rows:
            source = self._sources[str(row.made_from)]
            pairs.setdefault(self._category_of[row.id], []).append((question(source), question(row)))
        return Augmented(
            rows,
            dict(Counter(refusal.reason for refusal in self.refusals)),
            list(warnings),
            dict(Counter(str(row.made_by) for row in rows)),
            self.refusals,
            dict(self._category_of),
            diversity(pairs),
        )

    def _round(self, places: list[int], sources: Sequence[Row], supply: Sequence[Supply], room: int) -> list[int]:
        """Take up to `room` rows, at most one of each source; return who is next, exhausted sources left out.

        Sources whose turn did not come are first, so that a refusal afterwards does not give another a second variant.
        """
        made: list[tuple[Row, Variant]] = []
        again: list[int] = []
        turns = 0
        for place in places:
            if len(made) == room:
                break
            turns += 1
            source = sources[place]
            offers = islice(supply[place](self._own[source.id], self._categories), PATIENCE)
            found = next(filter(None, (self._checked(source, variant) for variant in offers)), None)
            if found is not None:
                self._categories[found[1].category] += 1
                made.append(found)
                again.append(place)
        for row, variant in self._far_from_other_groups(made):
            self._take(row, variant)
        return places[turns:] + again

    def _take(self, row: Row, variant: Variant) -> None:
        self.taken.append(self._numbered(row))
        self._rows.append(row)
        self._groups.append(row.group)
        self._own[str(row.made_from)][variant.category] += 1
        self._category_of[row.id] = variant.category

    def _checked(self, source: Row, variant: Variant) -> tuple[Row, Variant] | None:
        """Return the variant as a row, or remember why not."""
        row = self._row_of(source, variant)
        reason = self._quality.fault(question(source), question(row), variant.category)
        if reason is None and len(whole_text(row)) > self._quality.limits.longest:
            reason = "length"
        reason = reason or self._known.clash(row)
        if reason is not None:
            self._refuse(source, variant, reason)
            return None
        self._known.add(row)
        return row, variant

    def _refuse(self, source: Row, variant: Variant, reason: str) -> None:
        self.refusals.append(Refusal(source.id, variant.text, variant.category, variant.rule, reason))

    def _far_from_other_groups(self, made: list[tuple[Row, Variant]]) -> list[tuple[Row, Variant]]:
        """Return what is no near-duplicate; short titles are not looked at: equal words are a clash already."""
        if self._near_threshold is None or not made:
            return made
        groups = [*self._groups, *(row.group for row, _ in made)]
        against = [*self._rows, *(row for row, _ in made)]
        close: set[int] = set()
        for text_of in (_long_title,) if made[0][0].form == "title" else (question, whole_text):
            left, right = [text_of(row) for row, _ in made], [text_of(row) for row in against]
            for pair in near_pairs_between(left, right, self._near_threshold):
                if groups[pair.second] != made[pair.first][0].group:
                    close.add(pair.first)
        for place in sorted(close):
            row, variant = made[place]
            self._categories[variant.category] -= 1
            self._refuse(self._sources[str(row.made_from)], variant, "near-duplicate")
        return [each for place, each in enumerate(made) if place not in close]

    def _numbered(self, row: Row) -> Row:
        source = str(row.made_from)
        while True:
            self._numbers[source] += 1
            row.id = f"{source}~{self._numbers[source]}"
            if row.id not in self._ids:
                self._ids.add(row.id)
                return row


def _long_title(row: Row) -> str:
    title = question(row)
    return title if len(words(title)) >= SHORT else ""


def group_of(row: Row) -> str:
    """Return the group of a training row; a row without one is a group alone."""
    return row.id if row.group is None else row.group


def shortfall(taking: Taking, wanted: int, sources: int) -> list[str]:
    """Return a warning when fewer rows were taken than wanted."""
    if len(taking.taken) >= wanted:
        return []
    counted = Counter(refusal.reason for refusal in taking.refusals)
    refused = ", ".join(f"{reason} {count:,}" for reason, count in counted.items()) or "none"
    return [
        f"The rules made {len(taking.taken):,} of the {wanted:,} rows that were wanted: {sources:,} rows could "
        f"be varied, and no other variant of them is left. Refused: {refused}."
    ]
