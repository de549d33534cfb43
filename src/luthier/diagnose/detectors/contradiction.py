"""The answer against its reference, clause by clause: opposites, other terms, another order."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from functools import lru_cache
from itertools import combinations

from luthier.diagnose.case import Case, Ground, Seen
from luthier.diagnose.words import Span, Text, Token, common_words, stem, table, units

CLAUSES = 80
ALIKE = 0.7  # likeness, word by word, of two clauses that differ in a word or two
NEGATIVE = re.compile(r"(?:un|im|in|ir|non|dis)[a-z]{4}")
MANY_CAPITALS = 0.25
NEAR = 0.5  # share of the smaller clause's words that two clauses must have in common to be about the same


@dataclass(frozen=True)
class Pair:
    """A clause of the answer and the clause of the reference that it is nearest to."""

    span: Span
    mine: list[Token]
    theirs: list[Token]
    place: int
    overlap: float


def opposites(case: Case, ground: Ground) -> Seen:
    """Clauses that say the opposite of the reference's clause: an antonym in its place, or a negation too many or few.

    Sees: large for small, before for after, with for without, where the rest of the clause is nearly the same.
    Cannot see: a reversal in other words, or one that needs knowledge. The list of opposites is antonyms.yaml.
    """
    found = [pair.span for pair in _pairs(case) if _opposed(pair) or _negated(pair)]
    return _seen(found)


def exchanged_terms(case: Case, ground: Ground) -> Seen:
    """Clauses in which a term of the reference gave way to another of its terms (1) or to a foreign one (0.5).

    Sees: terms swapped between two clauses, and a foreign term in a clause that is otherwise the reference's.
    Cannot see: a wrong term in a sentence of the answer's own; a synonym that is right counts as wrong.
    """
    found = [(value, pair.span) for pair in _pairs(case) if (value := _exchanged(pair, case))]
    return Seen(sum(value for value, _ in found), max(found)[1] if found else None)


def wrong_names(case: Case, ground: Ground) -> Seen:
    """Names, acronyms and identifiers that stand where the reference's clause has another.

    Sees: Kafka for Nessie, CSV for JSON, in a clause that is otherwise the reference's.
    Cannot see: a wrong name in a sentence of the answer's own; in German, where every noun has a capital, anything but
        acronyms and identifiers.
    """
    found = []
    for pair in _pairs(case):
        if _likeness(pair) < ALIKE:
            continue
        for mine, theirs in replaced(pair):
            new = [token for token in mine if is_name(token, case.answer) and token.stem not in case.reference.stems]
            if new and any(token.content for token in theirs):
                found.append((new[0].start, new[-1].end))
    return _seen(found)


def mixed_facts(case: Case, ground: Ground) -> Seen:
    """Share of the pairs of terms in one clause of the answer that the reference has only in different sentences.

    Sees: what belongs to one thing told of another, in the reference's terms.
    Cannot see: errors in other words; a good summary that joins two sentences looks the same.
    """
    where: defaultdict[str, set[int]] = defaultdict(set)
    for place, (_, tokens) in enumerate(case.reference.by_sentence):
        for unit in units(tokens):
            where[unit].add(place)
    if len(case.reference.by_sentence) < 2:
        return Seen(0.0)
    mixed: list[Span] = []
    pairs = 0
    for span, tokens in case.answer.by_clause[:CLAUSES]:
        told = [unit for unit in dict.fromkeys(units(tokens)) if unit in where and unit not in case.question.stems]
        for one, other in combinations(told[:12], 2):
            pairs += 1
            if not where[one] & where[other]:
                mixed.append(span)
    return Seen(len(mixed) / pairs, max(set(mixed), key=mixed.count)) if mixed else Seen(0.0)


def other_order(case: Case, ground: Ground) -> Seen:
    """Words of order (first, then, before, after …) beyond those of the reference, and steps out of its order.

    The value is the number of such words for each sentence beyond the reference's and the question's, plus the share of
    pairs of clauses that come in another order than in the reference, where the answer has such words.

    Sees: steps told in a sequence that the reference does not have.
    Cannot see: a wrong order without such words; a sequence that is right although the reference does not tell it.
    """
    mine, theirs = _order_words(case.answer), _order_words(case.reference) + _order_words(case.question)
    beyond = len(mine) - len(theirs)
    if beyond <= 0:
        return Seen(0.0)
    value = beyond / max(len(case.answer.by_sentence), 1) + _inversions([pair.place for pair in _pairs(case)])
    return Seen(value, (mine[0].start, mine[-1].end))


def is_name(token: Token, text: Text) -> bool:
    """Return whether a word looks like a name: an acronym, an identifier, or a capital inside a sentence."""
    word = text.raw[token.start : token.end]
    if re.search(r"[_\d]|[a-z][A-Z]", word) and not word[0].isdigit():
        return True
    if len(word) > 1 and word.isupper():
        return True
    starts = {sentence[0] for sentence in text.sentences}
    return word[:1].isupper() and token.start not in starts and _capitals(text) < MANY_CAPITALS


def _capitals(text: Text) -> float:
    """Return the share of the words that begin with a capital; German has many, English few."""
    return sum(text.raw[token.start].isupper() for token in text.tokens) / max(len(text.tokens), 1)


def _pairs(case: Case) -> list[Pair]:
    return list(_align(case.answer, case.reference))


def _align(answer: Text, reference: Text) -> Iterator[Pair]:
    """Yield each clause of the answer with the nearest clause of the reference, where they share enough words."""
    known = [(tokens, frozenset(units(tokens))) for _, tokens in reference.by_clause[:CLAUSES]]
    for span, tokens in answer.by_clause[:CLAUSES]:
        mine = frozenset(units(tokens))
        if len(mine) < 2:
            continue
        scored = [
            (len(mine & theirs) / min(len(mine), len(theirs)), len(mine & theirs), -place)
            for place, (_, theirs) in enumerate(known)
            if len(theirs) >= 2
        ]
        if not scored:
            return
        overlap, shared, place = max(scored)
        if overlap >= NEAR and shared >= 1:
            yield Pair(span, tokens, known[-place][0], -place, overlap)


def _opposed(pair: Pair) -> bool:
    mine, theirs = _stems(pair.mine), _stems(pair.theirs)
    new, lost = mine - theirs, theirs - mine
    if any(lost & _opposite().get(word, frozenset()) for word in new):
        return True
    same_polarity = _negations(pair.mine) % 2 == _negations(pair.theirs) % 2
    return same_polarity and any(_prefixed(word) & lost for word in new)


def _negated(pair: Pair) -> bool:
    """Whether one of two nearly equal clauses is negated and the other is not."""
    if _negations(pair.mine) % 2 == _negations(pair.theirs) % 2 or len(pair.mine) < 4:
        return False
    if any(NEGATIVE.match(token.word) for token in (*pair.mine, *pair.theirs)):
        return False  # "never changes" and "is immutable" agree
    return _likeness(pair) >= ALIKE


def _exchanged(pair: Pair, case: Case) -> float:
    """Return 1 for a term of the reference in the wrong place, a half for a foreign one, 0 for neither."""
    if _likeness(pair) < ALIKE:
        return 0.0
    elsewhere = case.reference.stems | case.question.stems
    own = _stems(pair.theirs)
    value = 0.0
    for mine, theirs in replaced(pair):
        lost = [token for token in theirs if _is_term(token)]
        new = [token.stem for token in mine if _is_term(token) and token.stem not in own]
        if lost and new:
            value = max(value, 1.0 if any(unit in elsewhere for unit in new) else 0.5)
    return value


def replacements(case: Case) -> list[tuple[list[Token], list[Token]]]:
    """Return the places where a clause that is nearly the reference's has other words than it."""
    return [one for pair in _pairs(case) if _likeness(pair) >= ALIKE for one in replaced(pair)]


def replaced(pair: Pair) -> list[tuple[list[Token], list[Token]]]:
    """Return the places where a clause has up to three other words than the reference's, in the same surroundings."""
    codes = _matcher(pair).get_opcodes()
    found = []
    for place, (what, start, end, other_start, other_end) in enumerate(codes):
        if what != "replace" or end - start > 3 or other_end - other_start > 3:
            continue
        before = place > 0 and codes[place - 1][0] == "equal"
        after = place + 1 < len(codes) and codes[place + 1][0] == "equal"
        if (before or start == 0) and (after or end == len(pair.mine)) and (before or after):
            found.append((pair.mine[start:end], pair.theirs[other_start:other_end]))
    return found


def _is_term(token: Token) -> bool:
    """Return whether a word is neither grammar, nor a number, nor an everyday word."""
    return token.content and not token.word[0].isdigit() and token.stem not in common_words()


def _likeness(pair: Pair) -> float:
    """Return how alike two clauses are word by word (0 to 1), grammar included."""
    return _matcher(pair).ratio()


def _matcher(pair: Pair) -> SequenceMatcher[str]:
    return SequenceMatcher(None, [token.stem for token in pair.mine], [token.stem for token in pair.theirs], False)


def _stems(tokens: Sequence[Token]) -> set[str]:
    return {token.stem for token in tokens}


def _prefixed(word: str) -> set[str]:
    """Return the opposites of a word that differ by a prefix: mutable, immutable."""
    prefixes = ("un", "im", "in", "non", "dis", "de")
    made = {prefix + word for prefix in prefixes}
    return made | {
        word[len(prefix) :] for prefix in prefixes if word.startswith(prefix) and len(word) > len(prefix) + 3
    }


def _negations(tokens: Sequence[Token]) -> int:
    listed = _words("negation")
    return sum(token.word in listed or token.word.endswith(("n't", "n’t")) for token in tokens)


def _order_words(text: Text) -> list[Token]:
    listed = _words("order")
    return [token for token in text.tokens if token.word in listed]


def _inversions(places: Sequence[int]) -> float:
    pairs = list(combinations(places[:40], 2))
    return sum(one > other for one, other in pairs) / len(pairs) if pairs else 0.0


@lru_cache(maxsize=1)
def _opposite() -> dict[str, frozenset[str]]:
    found: defaultdict[str, set[str]] = defaultdict(set)
    for one, other in table("antonyms.yaml"):
        found[stem(one)].add(stem(other))
        found[stem(other)].add(stem(one))
    return {word: frozenset(others) for word, others in found.items()}


@lru_cache(maxsize=4)
def _words(name: str) -> frozenset[str]:
    return frozenset(str(word) for word in table("order.yaml")[name])


def _seen(found: list[Span]) -> Seen:
    return Seen(float(len(found)), found[0] if found else None)


def opposites_of(word: str) -> str:
    """Return an opposite of a word, the first in the list; "" where it has none."""
    for one, other in table("antonyms.yaml"):
        if word in (one, other):
            return str(other if word == one else one)
    return ""
