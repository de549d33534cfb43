r"""Normalise a text without changing what it says.

NFC, not NFKC: NFKC rewrites characters that mean something (x² becomes x2, ½ becomes 1⁄2, full-width and mathematical
letters become plain ones), NFC only settles which of two equal spellings of a character is used.
"""

from __future__ import annotations

import re
import unicodedata

# C0 and C1 controls (without tab and line ends), soft hyphen, zero-width space, direction marks, word joiner and its
# invisible neighbours, byte-order mark, interlinear marks, noncharacters.
_CONTROL = re.compile(
    "[\x00-\x08\x0e-\x1f\x7f-\x84\x86-\x9f\u00ad\u200b\u200e\u200f\u202a-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb\ufffe\uffff]"
)
_BINARY = re.compile("[\x00-\x08\x0e-\x1f\x7f\ufffd]")
# The joiners shape Persian and Indic words and emoji: they stay between two characters beyond ASCII.
_JOINER = re.compile("(?<![^\x00-\x7f])[\u200c\u200d]+|[\u200c\u200d]+(?![^\x00-\x7f])")
_LINE_END = re.compile("\r\n?|[\x0b\x0c\x85\u2028\u2029]")
_SPACE = re.compile("[\u00a0\u1680\u2000-\u200a\u202f\u205f]")  # not the ideographic space, which is typography
_TRAILING = re.compile(r"[ \t\u3000]+$", re.MULTILINE)
_BLANK_LINES = re.compile(r"\n{4,}")
_UNUSUAL = re.compile("[\x00-\x08\x0b-\x1f\x7f]")


def tidy(text: str) -> str:
    r"""Return `text` normalised; the same object when there is nothing to do.

    NFC; line ends as \n; unusual spaces as plain ones; control and zero-width characters removed; spaces at line ends
    removed; three or more blank lines made two; blank lines at both ends removed, and of a single line the space around
    it. Indentation and spaces within a line stay: they mean something in code and tables.
    """
    if not text.isascii():
        text = _tidy_unicode(text)
    if _UNUSUAL.search(text):
        text = _CONTROL.sub("", _LINE_END.sub("\n", text))
    if "\n" not in text:
        return text.strip()
    if " \n" in text or "\t\n" in text or "\u3000\n" in text or text[-1].isspace():
        text = _TRAILING.sub("", text)
    text = _BLANK_LINES.sub("\n\n\n", text).strip("\n")
    return text if "\n" in text else text.strip()


def share_of_controls(text: str) -> float:
    """Return the share of characters that no text has: controls and the replacement character, 0 to 1."""
    found = _BINARY.search(text)
    return 0.0 if found is None else len(_BINARY.findall(text)) / len(text)


def _tidy_unicode(text: str) -> str:
    text = _LINE_END.sub("\n", text)
    text = _SPACE.sub(" ", _CONTROL.sub("", text))
    if "\u200c" in text or "\u200d" in text:
        text = _JOINER.sub("", text)
    # Last: a removed character may have stood between a letter and its accent.
    return text if unicodedata.is_normalized("NFC", text) else unicodedata.normalize("NFC", text)
