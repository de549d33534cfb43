"""Text made safe for a format: what a data row or a topic says is shown, and never does anything."""

from __future__ import annotations

import re
import unicodedata

LONGEST_WORD = 32  # letters without a place to break the line
# What XML cannot hold, what typst and LaTeX cannot draw, and what turns the direction of the text around it.
_UNSEEN = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u200b\u2028\u2029\u202a-\u202e\u2060-\u206f\ud800-\udfff\ufeff\ufff0-\uffff]"
)
_UNBROKEN = re.compile(rf"\S{{{LONGEST_WORD},}}")
_LATEX = {
    "\\": r"\textbackslash{}",
    "{": r"\{",
    "}": r"\}",
    "$": r"\$",
    "&": r"\&",
    "#": r"\#",
    "%": r"\%",
    "_": r"\_",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    '"': r"\textquotedbl{}",
    "'": r"\textquotesingle{}",
    "`": r"\textasciigrave{}",
    "-": "-{}",  # no ligatures: two hyphens stay two
    "[": "{[}",
    "]": "{]}",
    "\xa0": "~",
    "�": "?",  # LuaTeX takes it for a broken sequence and stops
    "\n": r"\newline{}",
    "\t": r"\quad{}",
}


def plain(text: str) -> str:
    """Return the text without control characters and direction marks; each becomes U+FFFD, but CR LF becomes LF."""
    return _UNSEEN.sub("�", text.replace("\r\n", "\n").replace("\r", "\n"))


def shortened(text: str, most: int, lines: int = 8) -> str:
    """Return at most `most` characters and `lines` lines of the text, saying how many characters there are in all."""
    told = re.sub(r"\n\s*\n", "\n", text[: most * 2].strip())
    told = "\n".join(told[:most].split("\n")[:lines]).rstrip()
    whole = len(text) <= most and len(told) >= len(re.sub(r"\n\s*\n", "\n", text.strip()))
    return told if whole else f"{told} … ({len(text):,} characters in all)"


def uncounted(text: str) -> str:
    """Return what `shortened` made without the number of characters."""
    return re.sub(r" … \([\d,]+ characters in all\)$", " …", text)


def breakable(text: str, mark: str = "\u200b") -> str:
    """Return the text with `mark`, a place to break the line, inside words that are too long for a line."""

    def broken(found: re.Match[str]) -> str:
        word = found.group()
        return mark.join(_pieces(word, LONGEST_WORD // 2))

    return _UNBROKEN.sub(broken, text)


def latex(text: str) -> str:
    """Return LaTeX that shows the text: no command, no ligature, no paragraph comes of it."""
    marked = breakable(re.sub(r"\n{2,}", "\n", plain(text).strip("\n")), "\u200b")
    return "".join(r"\allowbreak{}" if one == "\u200b" else _LATEX.get(one, one) for one in marked)


def _pieces(word: str, length: int) -> list[str]:
    """Cut a word, never between a letter and the accents or joiners that belong to it."""
    pieces, start = [], 0
    for end in range(length, len(word) + 1):
        follows = word[end : end + 1]
        joined = follows and (
            unicodedata.combining(follows) or follows in "\u200d\ufe0e\ufe0f" or word[end - 1] == "\u200d"
        )
        if end - start >= length and not joined:
            pieces.append(word[start:end])
            start = end
    return [*pieces, word[start:]] if start < len(word) else pieces
