"""Augmentation by rules: other ways to ask the same question, with the same answer, for training rows only."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from copy import deepcopy

from luthier.data.augment import Augmented
from luthier.data.augment.quality import Limits, Quality
from luthier.data.augment.table import Rules, Variant, shipped_rules
from luthier.data.augment.taking import KnownQuestions, Supply, Taking, group_of, shortfall
from luthier.data.rows import Row, question

SHORTEST = 8  # characters of a question
SIMILARITY = (0.3, 1.0)  # a contraction changes a letter or two of a long question, and is still another question
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
    similarity: tuple[float, float] | None = None,
) -> Augmented:
    """Return variants of training questions until `train` with them has `target` rows, or the rules are exhausted.

    Only chat rows with one user turn are varied; the question is reworded, the answer stays byte for byte. Variants
    are spread evenly: each source gets its first before any gets its second. A variant is refused by the filter (see
    `quality`), when its question equals any other ("equal"), and when it is a near-duplicate of a row in another group
    or on a held-out side ("near-duplicate"). It inherits group and labels; a source without a group gives its variants
    its id as group. Its id is "<source id>~<n>".

    Args:
        train: the training rows. Rows that were augmented themselves are not varied again.
        target: training rows wanted in all.
        seed: of the choice among rules and of the order of rows.
        others: held-out rows; never varied.
        near_threshold: Jaccard similarity, as for near-duplicates; None: not checked.
        max_characters: a whole row above this is refused.
        context: what the rows are about, such as the system message; framings that ask for a word look for it here
            and in the row's own messages.
        similarity: lowest and highest similarity of a question to its source; None: `SIMILARITY`.
    """
    sources = [row for row in train if can_vary(row)]
    warnings = _left_alone(train, len(sources))
    wanted = target - len(train)
    if wanted <= 0:
        return Augmented(
            [], {}, [*warnings, f"The target of {target:,} training rows is reached without augmentation."]
        )
    limits = Limits(similarity or SIMILARITY, SHORTEST, max_characters, LONGEST_GROWTH)
    work = Taking(train, others, Quality(limits), KnownQuestions(), near_threshold, varied)
    draw = random.Random(seed)
    order = list(range(len(sources)))
    draw.shuffle(order)
    supply = [_supply(_candidates(shipped_rules(), row, context, seed)) for row in sources]
    work.until(wanted, order, sources, supply)
    return work.result([*warnings, *shortfall(work, wanted, len(sources))])


def _supply(candidates: Iterator[Variant]) -> Supply:
    """Return a supply that gives its candidates in their own order, whatever has been taken."""
    return lambda _own, _all: candidates


def can_vary(row: Row) -> bool:
    """Tell whether a row is a conversation with a single question that was not made from another row."""
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
        Variant(framed.text, f"{form.rule}+{framed.rule}", "form and framing")
        for form in forms
        for framed in rules.framed(form.text, about)
    ]
    draw.shuffle(both)
    yield from both


def _alternating(left: Sequence[Variant], right: Sequence[Variant]) -> Iterator[Variant]:
    for place in range(max(len(left), len(right))):
        yield from left[place : place + 1]
        yield from right[place : place + 1]


def varied(source: Row, variant: Variant) -> Row:
    """Return the row of a variant: its source's, with another question, and its origin."""
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
        group=group_of(source),
        split=source.split,
        made_from=source.id,
        made_by=variant.rule,
    )
