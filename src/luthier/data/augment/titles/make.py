"""Augmentation of titles by rules: variations in five categories, of the same family, for training rows only."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from copy import deepcopy
from itertools import islice

from luthier.data.augment import Augmented
from luthier.data.augment.quality import Limits, Quality, kept_similarity, language_of
from luthier.data.augment.table import Variant
from luthier.data.augment.taking import Counts, Supply, Taking, group_of, shortfall
from luthier.data.augment.titles.lexicon import canonical
from luthier.data.augment.titles.reading import CATEGORIES, in_category, read
from luthier.data.augment.titles.wording import variations
from luthier.data.normal import normalised
from luthier.data.rows import Row
from luthier.data.words import words

# "RN" and "Registered Nurse" share few letters; known synonyms are put in before the lower bound is looked at.
SIMILARITY = (0.3, 0.97)
SHORTEST = 2  # characters: "RN"
LONGEST = 200  # characters of a title that is varied
TURN = 10  # variations of one category that are tried before the next category has its turn
SOURCE = "rules"


def augment(
    train: Sequence[Row],
    target: int,
    seed: int,
    others: Sequence[Row] = (),
    *,
    near_threshold: float | None = 0.85,
    max_characters: int = 100_000,
    context: str = "",  # noqa: ARG001 - a title says itself what it is about
    similarity: tuple[float, float] | None = None,
) -> Augmented:
    """Return variations of training titles until `train` with them has `target` rows, or the rules are exhausted.

    Each source gets its first before any gets its second; a source gives other categories before it gives one again,
    the rarest so far first. A variation has the family, group and labels of its source, with two labels more: its
    `category` and `source`, "rules". It is refused by the filter (see `quality`), when it is not in its category, when
    it equals a known title ("equal"), and when it says the same as a title of another family ("other-family"). Left
    alone are titles that say the same as one of another family, and those that the English rules cannot read: in
    another script or language, without a word, or with more than 200 characters.

    Args:
        train: the training rows. Rows that were augmented themselves are not varied again.
        target: training rows wanted in all.
        seed: of every draw.
        others: held-out rows; never varied, and their titles never made.
        near_threshold: Jaccard similarity, as for near-duplicates; None: not checked.
        max_characters: above which a variation is refused.
        context: not read: a title says itself what it is about.
        similarity: lowest and highest similarity of a variation to its source; None: `SIMILARITY`.
    """
    known = KnownTitles()
    for row in (*train, *others):
        known.add(row)
    readable = [row for row in train if row.form == "title" and row.made_from is None and _readable(row)]
    sources = [row for row in readable if not known.elsewhere(row)]
    warnings = [*_left_alone(train, len(readable)), *_ambiguous(len(readable) - len(sources), len(train))]
    wanted = target - len(train)
    if wanted <= 0:
        told = f"The target of {target:,} training rows is reached without augmentation."
        return Augmented([], {}, [*warnings, told])
    limits = Limits(similarity or SIMILARITY, SHORTEST, min(max_characters, 2 * LONGEST))
    work = Taking(train, others, Quality(limits, meaning, in_category), known, near_threshold, varied)
    order = list(range(len(sources)))
    random.Random(seed).shuffle(order)
    work.until(wanted, order, sources, [_supply(row, seed) for row in sources])
    return work.result([*warnings, *shortfall(work, wanted, len(sources))])


class KnownTitles:
    """Titles with their families: a title that says what a title of another family says is a clash."""

    def __init__(self) -> None:
        self._titles: set[str] = set()
        self._families: dict[tuple[str, object], set[str]] = {}

    def add(self, row: Row) -> None:
        """Remember a title."""
        title = str(row.content["title"])
        self._titles.add(normalised(title))
        for key in self._keys(title):
            self._families.setdefault(key, set()).add(str(row.content["label"]))

    def clash(self, row: Row) -> str | None:
        """Return "other-family" or "equal" when the title is known, else None.

        Titles say the same when they have the same words, or the same core and level. Where another family has this
        core at another level, levels tell the two apart, so a variation in level is a clash as well.
        """
        title = str(row.content["title"])
        if self.elsewhere(row, by_core=row.labels.get("category") == "seniority"):
            return "other-family"
        return "equal" if normalised(title) in self._titles else None

    def elsewhere(self, row: Row, by_core: bool = False) -> bool:
        """Tell whether another family has a title that says the same, or, by core, the same at another level."""
        family = str(row.content["label"])
        keys = self._keys(str(row.content["title"]))[: 3 if by_core else 2]
        return any(self._families.get(key, set()) - {family} for key in keys)

    @staticmethod
    def _keys(title: str) -> list[tuple[str, object]]:
        known = read(title)
        return [("words", tuple(sorted(words(title)))), ("key", known.key), ("core", known.core)]


def _readable(row: Row) -> bool:
    title = str(row.content["title"])
    return (
        len(title) <= LONGEST
        and bool(words(title))
        and bool(read(title).core)
        and all(ord(character) < 0x250 or not character.isalpha() for character in title)
        and language_of(title) in (None, "en")
    )


def _left_alone(train: Sequence[Row], varied: int) -> list[str]:
    made = sum(row.made_from is not None for row in train)
    alone = len(train) - made - varied
    if not alone:
        return []
    are = "is" if alone == 1 else "are"
    return [
        f"{alone:,} of {len(train):,} training titles {are} left alone: the rules vary English titles of at most "
        f"{LONGEST} characters."
    ]


def _ambiguous(count: int, rows: int) -> list[str]:
    if not count:
        return []
    say = "says" if count == 1 else "say"
    return [
        f"{count:,} of {rows:,} training titles {say} the same as a title of another family and are left alone: whose "
        "their variations would be is not known."
    ]


def _supply(row: Row, seed: int) -> Supply:
    """Return the variations of a title; each category is made when it is first wanted."""
    title = str(row.content["title"])
    made = {name: variations(title, name, random.Random(f"{seed}:{row.id}:{name}")) for name in CATEGORIES}

    def offers(own: Counts, taken: Counts) -> Iterator[Variant]:
        for name in sorted(CATEGORIES, key=lambda one: (own.get(one, 0), taken.get(one, 0))):
            yield from islice(made[name], TURN)  # its end does not close what goes on in a later turn

    return offers


def meaning(source: str, text: str) -> float:
    """Return how much of the source's words, or of their known meanings, the other title has; order does not count."""
    return max(kept_similarity(source, text), kept_similarity(canonical(source), canonical(text)))


def varied(source: Row, variant: Variant) -> Row:
    """Return the row of a variation: its source's, with another title, its category, and its origin."""
    return Row(
        id=source.id,
        form=source.form,
        content={**source.content, "title": variant.text},
        file=source.file,
        line=source.line,
        labels={**deepcopy(source.labels), "category": variant.category, "source": SOURCE},
        group=group_of(source),
        split=source.split,
        made_from=source.id,
        made_by=variant.rule,
    )
