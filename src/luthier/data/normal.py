"""Texts as equality should see them."""

from __future__ import annotations

import re
import unicodedata

# Sentence punctuation and quotes mean nothing for equality; operators such as + - < > = # do.
_PUNCTUATION = re.compile(r"[.,;:!?…\"'“”‘’«»()\[\]{}]+")


def normalised(text: str) -> str:
    """Return `text` with NFKC, case folded, sentence punctuation and extra space dropped."""
    folded = text.casefold() if text.isascii() else unicodedata.normalize("NFKC", text).casefold()
    return " ".join(_PUNCTUATION.sub(" ", folded).split())
