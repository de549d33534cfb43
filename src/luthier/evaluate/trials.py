"""What a retrieval is measured on: queries, the corpus that is searched, and what is relevant to each query.

Titles: every held-out title is a query; the corpus is all other held-out titles; relevant are those of its family. As
the families of the test split were never trained on, this is the headline. Beside it stand the titles that training
held back of families that it knows, searched for among the titles it was trained on.

Pairs and triplets: every distinct first text is a query; the corpus is all second texts and negatives; relevant are the
second texts of its rows.

Texts that are equal but for case and spaces are one: a title of two families belongs to both.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from luthier.data.rows import Row


@dataclass(frozen=True)
class Query:
    """One query.

    Attributes:
        id, group, labels: of the row; the group of a title is its family. text: what is searched for.
        own: its place in the corpus, -1 where it is not there. relevant: places of what should be found; never empty.
    """

    id: str
    group: str | None
    labels: dict[str, Any]
    text: str
    own: int
    relevant: tuple[int, ...]


@dataclass(frozen=True)
class Trial:
    """Queries and the corpus they are searched in.

    Attributes:
        corpus: distinct texts. ids: of the first row of each. families: of each, for people. alone: titles that are no
            query, as nothing of their family is held out.
    """

    queries: list[Query]
    corpus: list[str]
    ids: list[str]
    families: list[tuple[str, ...]]
    alone: int = 0


@dataclass
class _Corpus:
    texts: list[str] = field(default_factory=list)
    ids: list[str] = field(default_factory=list)
    families: list[dict[str, None]] = field(default_factory=list)
    place: dict[str, int] = field(default_factory=dict)

    def add(self, text: str, row: Row, family: str | None = None) -> int:
        """Return the place of a text, which is added where it is new."""
        at = self.place.setdefault(folded(text), len(self.texts))
        if at == len(self.texts):
            self.texts.append(text)
            self.ids.append(row.id)
            self.families.append({})
        if family is not None:
            self.families[at][family] = None
        return at

    def told(self) -> list[tuple[str, ...]]:
        """Return the families of each text."""
        return [tuple(one) for one in self.families]


def held_out(rows: Sequence[Row]) -> Trial | None:
    """Return the trial of the rows of a held-out split; None where they have scores and are not searched."""
    if any(row.form == "title" for row in rows):
        return among_titles(rows, rows)
    searched = [row for row in rows if row.content.get("score") is None]
    return _pairs(searched) if searched else None


def among_titles(asked: Sequence[Row], searched: Sequence[Row]) -> Trial:
    """Return the trial of titles among titles, a title itself left out. Both are rows of the form title."""
    corpus = _Corpus()
    for row in searched:
        corpus.add(str(row.content["title"]), row, str(row.content["label"]))
    members: defaultdict[str, list[int]] = defaultdict(list)
    for at, families in enumerate(corpus.families):
        for family in families:
            members[family].append(at)
    families_of: defaultdict[str, dict[str, None]] = defaultdict(dict)
    first: dict[str, Row] = {}
    for row in asked:
        text = folded(str(row.content["title"]))
        families_of[text][str(row.content["label"])] = None
        first.setdefault(text, row)
    queries = []
    for text, row in first.items():
        own = corpus.place.get(text, -1)
        relevant = {at for family in families_of[text] for at in members[family]} - {own}
        if relevant:
            label = str(row.content["label"])
            queries.append(Query(row.id, label, row.labels, str(row.content["title"]), own, tuple(sorted(relevant))))
    return Trial(queries, corpus.texts, corpus.ids, corpus.told(), len(first) - len(queries))


def _pairs(rows: Sequence[Row]) -> Trial:
    corpus = _Corpus()
    relevant: defaultdict[str, dict[int, None]] = defaultdict(dict)
    first: dict[str, Row] = {}
    for row in rows:
        anchor, positive, *negatives = (str(text) for text in row.content["texts"])
        first.setdefault(folded(anchor), row)
        relevant[folded(anchor)][corpus.add(positive, row)] = None
        for text in negatives:
            corpus.add(text, row)
    queries = []
    for text, row in first.items():
        own = corpus.place.get(text, -1)
        places = tuple(sorted(set(relevant[text]) - {own}))
        if places:
            group = row.group or text
            queries.append(Query(row.id, group, row.labels, str(row.content["texts"][0]), own, places))
    return Trial(queries, corpus.texts, corpus.ids, corpus.told(), len(first) - len(queries))


def folded(text: str) -> str:
    """Return a text as equality sees it here: case folded, spaces as one."""
    return " ".join(text.casefold().split())
