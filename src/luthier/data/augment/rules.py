"""Augmentation by rules: other ways to ask the same question, with the same answer, for training rows only."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator, Sequence
from copy import deepcopy
from dataclasses import dataclass, field

from luthier.data.augment import Augmented
from luthier.data.augment.table import Rules, Variant, shipped_rules
from luthier.data.near import near_pairs_between
from luthier.data.normal import normalised
from luthier.data.rows import Row, question, whole_text

SHORTEST = 8  # characters of a question
LONGEST_GROWTH = (2.0, 80)  # a variant has at most twice its source's characters, plus 80


def augment(
    train: Sequence[Row],
    target: int,
    seed: int,
    others: Sequence[Row] = (),
    *,
    near_threshold: float | None = 0.85,
    max_characters: int = 100_000,
    context: str = "",
    rules: Rules | None = None,
) -> Augmented:
    """Return variants of training questions until `train` with them has `target` rows, or the rules are exhausted.

    Only chat rows with one user turn are varied; the question is reworded, the answer stays byte for byte. Variants
    are spread evenly: each source gets its first before any gets its second. A variant is refused when its question
    equals any other ("equal"), when it is a near-duplicate of a row in another group or on a held-out side
    ("near-duplicate"), or when it is too short or long ("length"). It inherits group and labels; a source without a
    group gives its variants its id as group. Its id is "<source id>~<n>".

    Args:
        train: the training rows. Rows that were augmented themselves are not varied again.
        target: training rows wanted in all.
        seed: of the choice among rules and of the order of rows.
        others: held-out rows; never varied.
        near_threshold: Jaccard similarity, as for near-duplicates; None: not checked.
        max_characters: a whole row above this is refused.
        context: what the rows are about, such as the system message; framings that ask for a word look for it here
            and in the row's own messages.
        rules: the table; None: the shipped one.
    """
    sources = [row for row in train if _can_vary(row)]
    warnings = _left_alone(train, len(sources))
    wanted = target - len(train)
    if wanted <= 0:
        return Augmented(
            [], {}, [*warnings, f"The target of {target:,} training rows is reached without augmentation."]
        )
    work = _Work(train, others, near_threshold, max_characters)
    draw = random.Random(seed)
    order = list(range(len(sources)))
    draw.shuffle(order)
    table = rules or shipped_rules()
    supply = [_candidates(table, row, context, seed) for row in sources]
    while order and wanted > len(work.taken):
        order = work.round([(place, sources[place], supply[place]) for place in order], wanted - len(work.taken))
    if len(work.taken) < wanted:
        refused = ", ".join(f"{reason} {count:,}" for reason, count in work.refused.items()) or "none"
        warnings.append(
            f"The rules made {len(work.taken):,} of the {wanted:,} rows that were wanted: {len(sources):,} rows could "
            f"be varied, and no other variant of them is left. Refused: {refused}."
        )
    position = {row.id: place for place, row in enumerate(train)}
    rows = sorted(
        work.taken, key=lambda row: position[str(row.made_from)]
    )  # stable: variants keep their numbers' order
    return Augmented(rows, dict(work.refused), warnings, dict(Counter(str(row.made_by) for row in rows)))


def _can_vary(row: Row) -> bool:
    if row.form != "chat" or row.made_from is not None:
        return False
    roles = [message["role"] for message in row.content["messages"]]
    return [role for role in roles if role != "system"] == ["user", "assistant"]


def _left_alone(train: Sequence[Row], varied: int) -> list[str]:
    made = sum(row.made_from is not None for row in train)
    alone = len(train) - made - varied
    if not alone:
        return []
    are = "is" if alone == 1 else "are"
    return [
        f"{alone:,} of {len(train):,} training rows {are} left alone: the rules reword conversations with a single "
        "question, not several turns, pairs, titles or plain text."
    ]


def _candidates(rules: Rules, row: Row, context: str, seed: int) -> Iterator[Variant]:
    """Yield variants, the best first: other forms, other words or a framing, contractions, framings of other forms."""
    draw = random.Random(f"{seed}:{row.id}")
    asked = question(row)
    about = " ".join([context, *(message["content"] for message in row.content["messages"][:-1])])
    forms = list(rules.reworded(asked))
    framings = list(rules.framed(asked, about))
    wordings = [*rules.abbreviated(asked), *rules.synonymous(asked)]
    draw.shuffle(forms)
    draw.shuffle(framings)
    draw.shuffle(wordings)
    yield from forms[:1]
    yield from _alternating(wordings, framings)
    yield from forms[1:]
    yield from rules.contracted(asked)
    both = [
        Variant(framed.text, f"{form.rule}+{framed.rule}")
        for form in forms
        for framed in rules.framed(form.text, about)
    ]
    draw.shuffle(both)
    yield from both


def _alternating(left: Sequence[Variant], right: Sequence[Variant]) -> Iterator[Variant]:
    for place in range(max(len(left), len(right))):
        yield from left[place : place + 1]
        yield from right[place : place + 1]


@dataclass
class _Known:
    """The texts that variants are held against, with the group of each; held-out rows have none."""

    rows: list[Row]
    groups: list[str | None]
    questions: set[str] = field(default_factory=set)

    def add(self, row: Row, group: str | None) -> None:
        self.rows.append(row)
        self.groups.append(group)
        self.questions.add(normalised(question(row)))


class _Work:
    """Takes variants that pass every check, round by round."""

    def __init__(
        self, train: Sequence[Row], others: Sequence[Row], near_threshold: float | None, max_characters: int
    ) -> None:
        self.taken: list[Row] = []
        self.refused: Counter[str] = Counter()
        self._near_threshold, self._max_characters = near_threshold, max_characters
        self._known = _Known([], [])
        for row in train:
            self._known.add(row, _group(row))
        for row in others:
            self._known.add(row, None)
        self._ids = {row.id for row in (*train, *others)}
        self._numbers: Counter[str] = Counter()

    def round(self, supply: Sequence[tuple[int, Row, Iterator[Variant]]], room: int) -> list[int]:
        """Take up to `room` rows, at most one variant of each source; return who is next, exhausted sources left out.

        Sources whose turn did not come are first, so that a refusal afterwards does not give another a second variant.
        """
        made: list[Row] = []
        again: list[int] = []
        turns = 0
        for place, source, variants in supply:
            if len(made) == room:
                break
            turns += 1
            row = next(filter(None, (self._checked(source, variant) for variant in variants)), None)
            if row is not None:
                made.append(row)
                again.append(place)
        far = self._far_from_other_groups(made)
        for row in far:
            self.taken.append(self._numbered(row))
            self._known.rows.append(row)
            self._known.groups.append(row.group)
        return [place for place, _, _ in supply[turns:]] + again

    def _checked(self, source: Row, variant: Variant) -> Row | None:
        """Return the variant as a row, or count why not."""
        asked = question(source)
        factor, more = LONGEST_GROWTH
        row = _varied(source, variant)
        key = normalised(variant.text)
        if (
            not SHORTEST <= len(variant.text) <= factor * len(asked) + more
            or len(whole_text(row)) > self._max_characters
        ):
            self.refused["length"] += 1
        elif key in self._known.questions:
            self.refused["equal"] += 1
        else:
            self._known.questions.add(key)
            return row
        return None

    def _far_from_other_groups(self, made: list[Row]) -> list[Row]:
        if self._near_threshold is None or not made:
            return made
        groups = [*self._known.groups, *(row.group for row in made)]
        against = [*self._known.rows, *made]
        close: set[int] = set()
        for text_of in (question, whole_text):
            left, right = [text_of(row) for row in made], [text_of(row) for row in against]
            for pair in near_pairs_between(left, right, self._near_threshold):
                if groups[pair.second] != made[pair.first].group:
                    close.add(pair.first)
        self.refused["near-duplicate"] += len(close)
        self.refused += Counter()  # drops zeros
        return [row for place, row in enumerate(made) if place not in close]

    def _numbered(self, row: Row) -> Row:
        source = str(row.made_from)
        while True:
            self._numbers[source] += 1
            row.id = f"{source}~{self._numbers[source]}"
            if row.id not in self._ids:
                self._ids.add(row.id)
                return row


def _group(row: Row) -> str:
    return row.id if row.group is None else row.group


def _varied(source: Row, variant: Variant) -> Row:
    content = deepcopy(source.content)
    asked = next(message for message in content["messages"] if message["role"] == "user")
    asked["content"] = variant.text
    return Row(
        id=source.id,
        form=source.form,
        content=content,
        file=source.file,
        line=source.line,
        labels=deepcopy(source.labels),
        group=_group(source),
        split=source.split,
        made_from=source.id,
        made_by=variant.rule,
    )
