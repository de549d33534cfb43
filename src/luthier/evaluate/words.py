"""Words and sentences for scoring, in any script.

The reference tokenizers of the metrics know ASCII only: rouge-score gives 0 for two identical Chinese sentences. So a
data set is scored in one of three scripts, decided once from its references, and named in metrics.json.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal

Script = Literal["latin", "unicode", "spaceless"]

# Share of letters outside a–z above which the ASCII tokenizers would lose too much. French has 3–5 %, Vietnamese 20 %.
FOREIGN_SHARE = 0.1
# Scripts written without spaces between words: each character is a token.
SPACELESS = ("CJK", "HIRAGANA", "KATAKANA", "THAI", "LAO", "KHMER", "MYANMAR", "TIBETAN", "IDEOGRAPHIC")
SENTENCE_END = re.compile(r"(?<=[.!?…؟।])\s+|(?<=[。！？])\s*|\n+")


@dataclass(frozen=True)
class Tokenizer:
    """Splits text into lower-case words; the interface that rouge-score asks for."""

    script: Script

    def tokenize(self, text: str) -> list[str]:
        """Return the words of `text`: those of rouge-score for latin, else runs of letters, marks and digits."""
        return re.findall(r"[a-z0-9]+", text.lower()) if self.script == "latin" else words(text)


def script_of(texts: Iterable[str]) -> Script:
    """Return the script in which texts are scored, from the share of their letters.

    "latin": at most a tenth outside a–z. "spaceless": at least a tenth from a script without spaces (Chinese, Japanese,
    Thai, …). "unicode": any other.
    """
    letters = foreign = spaceless = 0
    for text in texts:
        for character in text:
            if character.isascii():
                letters += character.isalpha()
            elif character.isalpha() or unicodedata.category(character) == "So":
                letters, foreign = letters + 1, foreign + 1
                spaceless += _is_spaceless(character)
    if foreign <= FOREIGN_SHARE * letters:
        return "latin"
    return "spaceless" if spaceless > FOREIGN_SHARE * letters else "unicode"


def words(text: str) -> list[str]:
    """Return the words of a text in any script, compatibility-normalised (NFKC) and case-folded.

    A word is a run of letters, marks and digits. A character of a script without spaces is a word of its own, and so is
    a symbol such as an emoji. Punctuation is left out.
    """
    found: list[str] = []
    run: list[str] = []
    for character in unicodedata.normalize("NFKC", text).casefold():
        kind = _kind(character)
        if kind == "part":
            run.append(character)
            continue
        if run:
            found.append("".join(run))
            run = []
        if kind == "alone":
            found.append(character)
    if run:
        found.append("".join(run))
    return found


def sentences(text: str) -> list[str]:
    """Return the sentences of a text: split at line breaks and after . ! ? and their kin. Empty ones are left out."""
    return [part.strip() for part in SENTENCE_END.split(text) if part and part.strip()]


@lru_cache(maxsize=65536)
def stem(word: str) -> str:
    """Return the stem of an English word (Porter, nltk); other words come back as they are, or nearly."""
    return str(_stemmer().stem(word))


@lru_cache(maxsize=1)
def _stemmer() -> Any:
    from nltk.stem.porter import PorterStemmer

    return PorterStemmer()


@lru_cache(maxsize=65536)
def _kind(character: str) -> str:
    category = unicodedata.category(character)
    if category[0] in "LN":
        return "alone" if _is_spaceless(character) else "part"
    if category[0] == "M":
        return "part"
    return "alone" if category == "So" else "gap"


@lru_cache(maxsize=65536)
def _is_spaceless(character: str) -> bool:
    return unicodedata.name(character, "").startswith(SPACELESS)
