"""What of the reference the answer covers, and how near it is to question and reference."""

from __future__ import annotations

from luthier.diagnose.case import Case, Ground, Seen
from luthier.diagnose.detectors.repetition import sentences_of
from luthier.diagnose.words import Text, units

SENTENCES = 40


def coverage(case: Case, ground: Ground) -> Seen:
    """Share of the reference's words of content that the answer has, rare words counting more (0 to 1).

    Where the row lists key points, it is the mean of that share and of the share of the key points' words.

    Sees: how much of the reference comes back, in any order.
    Cannot see: the same content in other words; whether what comes back is right; anything where the reference is no
        prose but a list of names or code, of which it is only one of many that would do.
    """
    if not is_prose(case.reference):
        return Seen(1.0)
    have = case.answer.stems
    found = ground.share(have, case.reference.stems)
    if not case.key_points:
        return Seen(found)
    points = [ground.share(have, _stems(point)) for point in case.key_points]
    return Seen((found + sum(points) / len(points)) / 2)


def missing_parts(case: Case, ground: Ground) -> Seen:
    """How uneven the coverage is: share of the reference's weight in sentences of which the answer has next to nothing.

    How well a sentence is covered is the mean of the share of its words that the answer has and its nearness in meaning
    to the nearest sentence of the answer. It is missing when it is covered less than half as well as the best one.

    Sees: whole parts of the reference that are left out while others are there.
    Cannot see: a part told in other words; a part that the question did not ask for.
    """
    if not is_prose(case.reference):
        return Seen(0.0)
    have = case.answer.stems
    places = [span for span, tokens in case.reference.by_sentence[:SENTENCES] if units(tokens)]
    if len(places) < 2:
        return Seen(0.0)
    said = sentences_of(case.answer)
    texts = [case.reference.raw[start:end] for start, end in places]
    ground.meaning.prepare([*said, *texts])
    parts = [units(case.reference.within(span)) for span in places]
    weights = [sum(ground.weight(unit) for unit in part) for part in parts]
    covered = [
        (ground.share(have, part) + max((ground.meaning.near(text, one) for one in said), default=0.0)) / 2
        for part, text in zip(parts, texts, strict=True)
    ]
    best = max(covered)
    missing = sum(weight for weight, share in zip(weights, covered, strict=True) if share < best / 2)
    return Seen(missing / sum(weights) if sum(weights) > 0 else 0.0)


def near_reference(case: Case, ground: Ground) -> Seen:
    """Nearness in meaning to the reference (cosine).

    Sees: answers that speak of something else than the reference.
    Cannot see: an error in an answer that speaks of the same things.
    """
    return Seen(ground.meaning.near(case.answer.raw, case.reference.raw))


def subject_named(case: Case, ground: Ground) -> Seen:
    """Share of the question's words of content that the answer takes up, rare words counting more (0 to 1).

    Sees: whether the answer speaks of the question's subject by its name.
    Cannot see: pronouns and synonyms.
    """
    return Seen(ground.share(case.answer.stems, case.question.stems))


def is_prose(text: Text) -> bool:
    """Return whether a text is prose: at least a tenth of its words are words of grammar."""
    return sum(not token.content for token in text.tokens) >= len(text.tokens) / 10


def _stems(text: str) -> frozenset[str]:
    return Text(text).stems
