"""Technical terms in a text: longest match, whole words, any case, simple plurals."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterator
from pathlib import Path

from luthier.data.words import words
from luthier.errors import UserError


class TermMatcher:
    """Finds terms in word lists. Looks up runs of words in a dictionary: the number of terms does not slow it.

    Args:
        terms: words or phrases in the singular. "fine-tuning" and "fine tuning" are one term.
    """

    def __init__(self, terms: Collection[str]) -> None:
        self._names: dict[tuple[str, ...], str] = {}
        lengths: defaultdict[str, set[int]] = defaultdict(set)
        for term in terms:
            found = words(term)
            if not found:
                continue
            for last in (found[-1], *_plurals(found[-1])):
                form = (*found[:-1], last)
                self._names.setdefault(form, " ".join(found))
                lengths[form[0]].add(len(form))
        self._lengths = {first: sorted(sizes, reverse=True) for first, sizes in lengths.items()}

    def __len__(self) -> int:
        return len(set(self._names.values()))

    def find(self, found: list[str]) -> Iterator[str]:
        """Yield each term in a list of words, as given to the matcher, in order; the longest match, no overlaps."""
        position = 0
        while position < len(found):
            for size in self._lengths.get(found[position], ()):
                name = self._names.get(tuple(found[position : position + size]))
                if name is not None:
                    yield name
                    position += size
                    break
            else:
                position += 1


def read_terms(path: Path) -> list[str]:
    """Return the terms of a file: one a line, # begins a comment, each term once.

    Raises:
        UserError: the file cannot be read as UTF-8 text.
    """
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(
            f"The list of terms cannot be read: {error}.", str(path), "Give a UTF-8 text file, one term a line."
        ) from error
    terms = (line.partition("#")[0].strip() for line in lines)
    return list(dict.fromkeys(term for term in terms if term))


def _plurals(word: str) -> tuple[str, ...]:
    if word.endswith(("s", "x", "z", "ch", "sh")):
        # "matrix" has two plurals; "indices" and "matrices" are the ones in use
        return (f"{word}es", f"{word[:-2]}ices") if word.endswith(("rix", "dex", "tex")) else (f"{word}es",)
    if word.endswith("y") and word[-2:-1] not in tuple("aeiou"):
        return (f"{word[:-1]}ies",)
    return (f"{word}s",)
