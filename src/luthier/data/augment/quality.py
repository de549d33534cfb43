"""What a variation must be before it is trained on: of fit length, in its source's language, near but not too near.

Works on texts alone, for rules and teacher, for titles and questions. Similarity is that of rapidfuzz: the normalised
indel similarity of the normalised texts, of their words in alphabetical order, or of the words that they share.
"""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from importlib.resources import files

from luthier.data.normal import normalised
from luthier.data.words import words

Similarity = Callable[[str, str], float]

REASONS = ("empty", "length", "language", "too-close", "too-far", "category")  # in the order of the checks
FOREIGN_LETTERS = 0.2  # share of letters in a script that the source does not use
HITS = 2  # function words from which a text is said to be in a language
SAMPLE = 200  # texts of a category whose pairs are compared


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds of a variation.

    Attributes:
        similarity: lowest and highest similarity to the source, 0 to 1. Above it nothing is learned; below it the
            meaning is probably another.
        shortest: characters. longest: characters.
        growth: a variation has at most this many times its source's characters, plus so many.
    """

    similarity: tuple[float, float]
    shortest: int
    longest: int = 100_000
    growth: tuple[float, int] = (2.0, 80)


@dataclass(frozen=True, slots=True)
class Quality:
    """The filter.

    Attributes:
        limits: the bounds.
        meaning: similarity that the lower bound is held against; None: `kept_similarity`. It may be one that knows
            synonyms, or the cosine of embeddings. The upper bound is always on letters in their order.
        fits: (source, variation, category) → whether the variation is in its category; None: not asked.
    """

    limits: Limits
    meaning: Similarity | None = None
    fits: Callable[[str, str, str], bool] | None = None

    def fault(self, source: str, text: str, category: str) -> str | None:
        """Return why a variation is not to be taken, one of `REASONS`; None when it is good."""
        low, high = self.limits.similarity
        faults: Sequence[Callable[[], bool]] = (
            lambda: not words(text),
            lambda: not self._fits_length(source, text),
            lambda: not same_language(source, text),
            lambda: normalised(source) == normalised(text) or literal_similarity(source, text) > high,
            lambda: (self.meaning or kept_similarity)(source, text) < low,
            lambda: self.fits is not None and not self.fits(source, text, category),
        )
        return next((reason for reason, is_so in zip(REASONS, faults, strict=True) if is_so()), None)

    def _fits_length(self, source: str, text: str) -> bool:
        factor, more = self.limits.growth
        longest = min(self.limits.longest, factor * len(source) + more)
        return self.limits.shortest <= len(text) <= longest


def literal_similarity(one: str, other: str) -> float:
    """Return how similar two texts are by their characters in their order, 0 to 1."""
    from rapidfuzz import fuzz

    return float(fuzz.ratio(normalised(one), normalised(other))) / 100


def lexical_similarity(one: str, other: str) -> float:
    """Return how similar two texts are by their characters, 0 to 1, whatever the order of their words."""
    from rapidfuzz import fuzz

    left, right = normalised(one), normalised(other)
    return float(max(fuzz.ratio(left, right), fuzz.token_sort_ratio(left, right))) / 100


def kept_similarity(source: str, text: str) -> float:
    """Return how much of a source's words a text keeps, 0 to 1; what it adds counts little."""
    from rapidfuzz import fuzz

    return float(fuzz.token_set_ratio(normalised(source), normalised(text))) / 100


def same_language(source: str, text: str) -> bool:
    """Tell whether a text has no letters of a script foreign to its source, and no other language's function words.

    A coarse check that only says no when it is sure: a title has few words, and a language is claimed only where two of
    its function words stand, more than of any other language, and two more than in the source. A source that claims
    none may be English.
    """
    scripts = _scripts(source)
    if scripts:
        found = _scripts(text)
        if sum(count for name, count in found.items() if name not in scripts) > FOREIGN_LETTERS * found.total():
            return False
    claimed = language_of(text)
    if claimed is None or claimed == (language_of(source) or "en"):
        return True
    return _hits(text)[claimed] < _hits(source)[claimed] + HITS


def language_of(text: str) -> str | None:
    """Return the language whose function words stand in a text, by its two-letter code; None when in doubt."""
    hits = _hits(text)
    first, second = sorted(hits.values(), reverse=True)[:2]
    return max(hits, key=lambda name: hits[name]) if first >= HITS and first > second else None


@lru_cache(maxsize=50_000)
def _hits(text: str) -> dict[str, int]:
    """Return for each language how many different function words of it stand in a text."""
    found = set(words(text))
    return {name: len(found & held) for name, held in _function_words().items()}


def diversity(pairs: Mapping[str, Sequence[tuple[str, str]]]) -> dict[str, dict[str, float]]:
    """Return for each category how various its texts are.

    - variations: how many. distinct_1, distinct_2: share of different words, and pairs of words, among all (Li et al.,
      2016, "A Diversity-Promoting Objective Function").
    - similarity_to_source: mean. similarity_to_each_other: mean over all pairs of at most 200 texts, evenly chosen.

    Args:
        pairs: category → (source, variation).
    """
    return {name: _described(found) for name, found in sorted(pairs.items()) if found}


def _described(found: Sequence[tuple[str, str]]) -> dict[str, float]:
    from itertools import combinations

    texts = [text for _, text in found]
    step = max(1, len(texts) // SAMPLE)
    some = [lexical_similarity(one, other) for one, other in combinations(texts[::step][:SAMPLE], 2)]
    near = [lexical_similarity(source, text) for source, text in found]
    return {
        "variations": len(found),
        "distinct_1": round(_distinct(texts, 1), 4),
        "distinct_2": round(_distinct(texts, 2), 4),
        "similarity_to_source": round(sum(near) / len(near), 4),
        "similarity_to_each_other": round(sum(some) / len(some), 4) if some else 0.0,
    }


def _distinct(texts: Sequence[str], size: int) -> float:
    grams = [gram for text in texts for gram in zip(*(words(text)[at:] for at in range(size)), strict=False)]
    return len(set(grams)) / len(grams) if grams else 0.0


@lru_cache(maxsize=50_000)
def _scripts(text: str) -> Counter[str]:
    if text.isascii():
        count = sum(character.isalpha() for character in text)
        return Counter({"LATIN": count} if count else {})
    return Counter(_script(character) for character in text if character.isalpha())


@cache
def _script(character: str) -> str:
    """Return the first word of a letter's name, which is its script: LATIN, CYRILLIC, CJK."""
    return unicodedata.name(character, "UNKNOWN").split()[0]


@cache
def _function_words() -> dict[str, frozenset[str]]:
    import yaml

    text = files("luthier.data.augment").joinpath("languages.yaml").read_text(encoding="utf-8")
    return {name: frozenset(found) for name, found in yaml.safe_load(text).items()}
