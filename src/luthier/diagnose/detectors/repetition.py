"""The same words, phrases or thoughts again."""

from __future__ import annotations

from collections import Counter

from luthier.diagnose.case import Case, Ground, Seen
from luthier.diagnose.words import Span, Text, Token

GRAM = 4  # words; of a script without spaces, characters
SPACELESS_GRAM = 8
SENTENCES = 30


def repeated_words(case: Case, ground: Ground) -> Seen:
    """Share of the words that repeat the word, or the two words, right before them.

    Sees: stuttering, "the the model", and loops of one or two words.
    Cannot see: the same word again and again with others between.
    """
    words = [token.word for token in case.answer.tokens]
    again = [
        place
        for place, word in enumerate(words)
        if place
        and (word == words[place - 1] or (place > 3 and words[place - 1 : place + 1] == words[place - 3 : place - 1]))
    ]
    return _seen(case.answer.tokens, again)


def repeated_phrases(case: Case, ground: Ground) -> Seen:
    """Share of the words that lie in a phrase of four words (eight characters of Chinese) which stood before.

    Sees: repeated phrases, sentences and lines, however far apart.
    Cannot see: the same thought in other words.
    """
    tokens = case.answer.tokens
    again: set[int] = set()
    before: set[tuple[str, ...]] = set()
    for start in range(len(tokens)):
        size = SPACELESS_GRAM if ord(tokens[start].word[0]) > 0x2E80 else GRAM
        gram = tuple(token.word for token in tokens[start : start + size])
        if len(gram) == size:
            if gram in before:
                again.update(range(start, start + size))
            before.add(gram)
    again.update(_repeated_lines(case))
    return _seen(tokens, sorted(again))


def repeated_content(case: Case, ground: Ground) -> Seen:
    """How near each sentence is to the nearest one before it, on average (cosine, 0 to 1).

    Sees: one thought said again in other words, as far as the embedding model sees it; by shared words without one.
    Cannot see: repetition inside one sentence. It looks at the first 30 sentences.
    """
    places = _places(case.answer)
    texts = sentences_of(case.answer)
    if len(texts) < 2:
        return Seen(0.0)
    ground.meaning.prepare(texts)
    nearest = [
        max(ground.meaning.near(texts[place], earlier) for earlier in texts[:place]) for place in range(1, len(texts))
    ]
    worst = max(range(len(nearest)), key=nearest.__getitem__)
    return Seen(max(0.0, sum(nearest) / len(nearest)), places[worst + 1])


def sentences_of(text: Text) -> list[str]:
    """Return the sentences that are compared with each other: the first 30 of more than two words."""
    return [text.raw[start:end] for start, end in _places(text)]


def _places(text: Text) -> list[Span]:
    return [span for span, tokens in text.by_sentence if len(tokens) > 2][:SENTENCES]


def _repeated_lines(case: Case) -> set[int]:
    """Return the places of the words of lines and sentences that stood before.

    Of one or two words they count from the third time on: a list may come back to an item.
    """
    seen: Counter[tuple[str, ...]] = Counter()
    again: set[int] = set()
    place = 0
    for _, tokens in case.answer.by_sentence:
        words = tuple(token.word for token in tokens)
        if seen[words] > (0 if len(words) > 2 else 1):
            again.update(range(place, place + len(words)))
        seen[words] += 1
        place += len(words)
    return again


def _seen(tokens: tuple[Token, ...], again: list[int]) -> Seen:
    if not again:
        return Seen(0.0)
    return Seen(len(again) / len(tokens), (tokens[again[0]].start, tokens[again[-1]].end))
