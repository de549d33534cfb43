"""Words and word n-grams of a text in any script: what near-duplicates and overlap are measured on."""

from __future__ import annotations

import re
import unicodedata
from functools import cache

# Scripts that are written without spaces between words (Thai, Lao, Burmese, Khmer, kana, Han): each character counts
# as a word there, since `\w+` would take a whole sentence for one word.
_SPACELESS = (
    "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003fffd"
)
_ASCII_WORD = re.compile(r"\w+", re.ASCII)

Ngrams = set[tuple[str, ...]]


def words(text: str) -> list[str]:
    r"""Return the casefolded words (`\w+`) of `text` in order.

    Combining marks belong to their letter (`\w` alone would cut Hindi words at every vowel sign). In scripts without
    spaces each character, with its marks, is a word.
    """
    if text.isascii():
        return _ASCII_WORD.findall(text.lower())
    return _any_word().findall(text.casefold())


def word_ngrams(text: str, n: int) -> Ngrams:
    """Return the set of word n-grams of `text`; of a text with fewer than `n` words, the set of its single words.

    Raises:
        ValueError: n is below 1.
    """
    if n < 1:
        raise ValueError(f"n-grams need n of at least 1, not {n}")
    return ngrams_of(words(text), n)


def ngrams_of(found: list[str], n: int) -> Ngrams:
    """Return the set of n-grams of a list of words; of fewer than `n` words, the set of single words."""
    size = n if len(found) >= n else 1
    return set(zip(*(found[start:] for start in range(size)), strict=False))


@cache
def _any_word() -> re.Pattern[str]:
    marks = "".join(chr(code) for code in range(0x300, 0x10000) if unicodedata.category(chr(code)).startswith("M"))
    letters = rf"[^\W{_SPACELESS}]"
    return re.compile(rf"[{_SPACELESS}][{marks}]*|{letters}+(?:[{marks}]+{letters}*)*")
