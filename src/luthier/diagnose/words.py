"""Text taken apart for the detectors: words, sentences and clauses with their places, stems, and what is content.

Places are offsets in characters of the text as it stands, so that a finding can show the words that it means.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from importlib.resources import files
from typing import Any

import yaml

Span = tuple[int, int]

# Characters of an answer that are looked at; a text of 100,000 characters would only repeat what these show.
CHARACTERS = 20_000
LOOKED_AT = 300  # words by which the language of a text is told
LANGUAGES = {"de": "german", "es": "spanish", "fr": "french"}
SPACELESS = "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7af\u0e00-\u0eff"
TOKEN = re.compile(rf"[{SPACELESS}]|\d+(?:[.,]\d+)*|[^\W\d_{SPACELESS}](?:[^\W{SPACELESS}]|(?<=\w)['’.](?=\w))*")
SENTENCE = re.compile(r"(?:[^.!?…؟।。！？\n]|[.!?…](?=[^\s]))+[.!?…؟।。！？]*")
CLAUSE = re.compile(r"(?:[^,;:，；：、(){}\n]|(?<=\d)[,.](?=\d))+")


@dataclass(frozen=True, slots=True)
class Token:
    """One word. `word` is case-folded, `stem` what is compared, `content` whether it is more than grammar."""

    word: str
    stem: str
    start: int
    end: int
    content: bool


@dataclass(frozen=True)
class Text:
    """A text and its parts, each found when it is first asked for. Only the first 20,000 characters are looked at."""

    raw: str
    tokens: tuple[Token, ...] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "tokens", tuple(_tokens(self.raw[:CHARACTERS])))

    @cached_property
    def words(self) -> int:
        """Number of words of the whole text; a character of a script without spaces counts as half a word."""
        spaceless = sum(len(token.word) == 1 and ord(token.word) > 0x2E80 for token in self.tokens)
        looked = len(self.tokens) - spaceless + (spaceless + 1) // 2
        return round(looked * len(self.raw) / CHARACTERS) if len(self.raw) > CHARACTERS else looked

    @cached_property
    def content(self) -> list[Token]:
        """The words that are more than grammar."""
        return [token for token in self.tokens if token.content]

    @cached_property
    def stems(self) -> frozenset[str]:
        """The stems of its content words; of a script without spaces the pairs of neighbouring characters."""
        return frozenset(units(self.tokens))

    @cached_property
    def sentences(self) -> list[Span]:
        """Places of its sentences."""
        return spans(SENTENCE, self.raw[:CHARACTERS], (0, min(len(self.raw), CHARACTERS)))

    @cached_property
    def clauses(self) -> list[Span]:
        """Places of its clauses: parts of sentences between commas, semicolons, colons and brackets."""
        found = (spans(CLAUSE, self.raw, sentence) for sentence in self.sentences)
        return [span for part in found for span in part]

    def within(self, span: Span) -> list[Token]:
        """Return the words of a place."""
        first = bisect_left(self._starts, span[0])
        return list(self.tokens[first : bisect_left(self._starts, span[1], first)])

    @cached_property
    def _starts(self) -> list[int]:
        return [token.start for token in self.tokens]

    @cached_property
    def by_clause(self) -> list[tuple[Span, list[Token]]]:
        """Each clause that has words, with them."""
        return [(span, found) for span in self.clauses if (found := self.within(span))]

    @cached_property
    def by_sentence(self) -> list[tuple[Span, list[Token]]]:
        """Each sentence that has words, with them."""
        return [(span, found) for span in self.sentences if (found := self.within(span))]


def units(tokens: Sequence[Token]) -> list[str]:
    """Return what is compared of words: stems of content words, and pairs of neighbours in scripts without spaces."""
    found = []
    for place, token in enumerate(tokens):
        if len(token.word) == 1 and ord(token.word) > 0x2E80:
            if place + 1 < len(tokens) and tokens[place + 1].start == token.end and len(tokens[place + 1].word) == 1:
                found.append(token.word + tokens[place + 1].word)
        elif token.content:
            found.append(token.stem)
    return found


def spans(pattern: re.Pattern[str], text: str, inside: Span) -> list[Span]:
    """Return the places of a pattern inside a place, without the white space around them; empty ones are left out."""
    found = []
    for match in pattern.finditer(text, *inside):
        words = match.group()
        start = match.start() + len(words) - len(words.lstrip())
        end = match.start() + len(words.rstrip())
        if end > start:
            found.append((start, end))
    return found


@lru_cache(maxsize=1)
def stopwords() -> frozenset[str]:
    """Return the words of grammar of all languages that Luthier has a list of."""
    listed = table("stopwords.yaml")
    return frozenset(word for words in listed.values() for word in words.split())


@lru_cache(maxsize=1)
def common_words() -> frozenset[str]:
    """Return the stems of the commonest English words, and the words of grammar of the other languages."""
    lines = files("luthier.diagnose").joinpath("common.txt").read_text(encoding="utf-8").splitlines()
    return frozenset(stem(line) for line in lines if line and not line.startswith("#")) | stopwords()


@lru_cache(maxsize=8)
def table(name: str) -> Any:
    """Return a table that is shipped beside the detectors."""
    return yaml.safe_load(files("luthier.diagnose").joinpath(name).read_text(encoding="utf-8"))


@lru_cache(maxsize=65536)
def stem(word: str, language: str = "en") -> str:
    """Return the stem of a word (nltk): Porter's of English, Snowball's of German, Spanish and French."""
    return str(_stemmer(language).stem(word)) if word.isalpha() and len(word) > 3 else word


def language_of(words: Sequence[str]) -> str:
    """Return the language whose words of grammar a text has most of: "de", "es" or "fr"; "en" where none has more."""
    counted = {name: sum(word in listed for word in words) for name, listed in _grammar().items()}
    best = max(counted, key=lambda name: counted[name])
    return best if counted[best] > counted["en"] and best in LANGUAGES else "en"


def _tokens(text: str) -> Iterable[Token]:
    grammar = stopwords()
    found = [(match.group().casefold(), match.start(), match.end()) for match in TOKEN.finditer(text)]
    language = language_of([word for word, _, _ in found[:LOOKED_AT]])
    for word, start, end in found:
        yield Token(word, stem(word, language), start, end, word not in grammar)


@lru_cache(maxsize=1)
def _grammar() -> dict[str, frozenset[str]]:
    return {name: frozenset(words.split()) for name, words in table("stopwords.yaml").items()}


@lru_cache(maxsize=4)
def _stemmer(language: str) -> Any:
    if language == "en":
        from nltk.stem.porter import PorterStemmer

        return PorterStemmer()
    from nltk.stem.snowball import SnowballStemmer

    return SnowballStemmer(LANGUAGES[language])
