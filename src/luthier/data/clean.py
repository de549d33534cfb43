"""Normalise texts, reject what cannot be trained on, and find what stands there twice."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, overload

import orjson

from luthier.data.near import clusters, near_pairs
from luthier.data.rows import Rejected, Row, answer, question, whole_text
from luthier.data.tidy import share_of_controls, tidy
from luthier.run.progress import Progress, Silent

_STEP = 1000
_MOST_CONTROLS = 0.1  # share of control characters above which a text is binary rather than dirty
_ASKED = ("chat", "preference", "title")  # forms in which one question has one answer


@dataclass(frozen=True, slots=True)
class Contradiction:
    """One question with different answers. Reported, not removed: which answer is right only the user knows.

    Attributes:
        question: as the first row has it. ids, places, answers: of the rows concerned, in their order.
    """

    question: str
    ids: list[str]
    places: list[str]
    answers: list[str]


@dataclass(frozen=True, slots=True)
class Cleaned:
    """What is left of the rows.

    Attributes:
        rows: kept, in their order. rejected: the others.
        clusters: row id -> id of the first row of its cluster of near-duplicates, for clusters of two rows or more.
        counts: rows in and out, changed texts, rejected by reason, contradictions, near-duplicates and clusters.
    """

    rows: list[Row]
    rejected: list[Rejected]
    contradictions: list[Contradiction]
    clusters: dict[str, str]
    counts: dict[str, int]


def clean(
    rows: Iterable[Row], max_characters: int, near_duplicates: float | None, progress: Progress | None = None
) -> Cleaned:
    """Clean rows. `len(rows)` going in is kept + rejected coming out.

    Texts are normalised (see `tidy`), in the rows themselves: a million rows are not held twice. Rejected are rows with
    an empty question or answer ("empty"), with text that is mostly control characters ("control-characters"),
    conversations that do not alternate ("malformed"), rows longer than `max_characters` ("too-long") and exact copies
    of an earlier row ("duplicate"). Rows given for different splits are no copies of each other: that is a leak, for
    the overlap report to show. Near-duplicates are kept and put into clusters.

    Args:
        rows: taken over and changed in place.
        max_characters: of all texts of a row together.
        near_duplicates: Jaccard similarity of word 3-grams from which two rows are near-duplicates (see `near`);
            None: do not look for them.
        progress: told the number of rows done.
    """
    tell = progress or Silent()
    work = _Work(max_characters)
    with tell.task("cleaning", total=len(rows) if isinstance(rows, Sequence) else None) as advance:
        for number, row in enumerate(rows, 1):
            work.take(row)
            if number % _STEP == 0:
                advance(_STEP)
        advance(work.seen % _STEP)
    contradictions = work.contradictions()
    found = {} if near_duplicates is None else _clusters(work.kept, near_duplicates, tell)
    counts = {
        "rows": work.seen,
        "kept": len(work.kept),
        "rejected": len(work.rejected),
        "normalised": work.changed,
        "contradictions": len(contradictions),
        "near_duplicates": len(found),
        "clusters": len(set(found.values())),
    }
    counts |= {f"rejected_{reason}": number for reason, number in Counter(r.reason for r in work.rejected).items()}
    return Cleaned(work.kept, work.rejected, contradictions, found, counts)


class _Work:
    """The pass over the rows: what was kept, and short keys to know it again.

    Keys are 64-bit hashes, since a million digests as bytes objects take memory; what has an equal key is compared.
    """

    def __init__(self, max_characters: int) -> None:
        self.kept: list[Row] = []
        self.rejected: list[Rejected] = []
        self.seen = 0
        self.changed = 0
        self._max = max_characters
        self._contents: dict[int, int] = {}
        self._questions: dict[int, int] = {}
        self._again: dict[int, list[int]] = {}

    def take(self, row: Row) -> None:
        """Keep or reject one row."""
        self.seen += 1
        content = tidy_content(row.content)
        changed = content is not row.content
        reason, detail = self._fault(row, content)
        original = None
        if not reason:
            original = self._copy_of(row, content)
            if original is not None:
                reason, detail = "duplicate", f"The row equals the one at {original.place}."
        if reason:
            raw = row.to_json()
            duplicate_of = None if original is None else original.id
            self.rejected.append(Rejected(row.file, row.line, reason, detail, raw, duplicate_of))
            return
        self.changed += changed
        row.content = content
        self._remember_question(row, len(self.kept))
        self.kept.append(row)

    def contradictions(self) -> list[Contradiction]:
        """Return every question that was met with more than one answer, in order of its first row."""
        found: list[Contradiction] = []
        for first, others in sorted((members[0], members) for members in self._again.values()):
            alike = [self.kept[place] for place in others]
            if len({_folded(answer(row)) for row in alike}) > 1:
                found.append(
                    Contradiction(
                        question(self.kept[first]),
                        [row.id for row in alike],
                        [row.place for row in alike],
                        [answer(row) for row in alike],
                    )
                )
        return found

    def _fault(self, row: Row, content: dict[str, Any]) -> tuple[str, str]:
        texts = _texts(row.content)
        if any(share_of_controls(text) > _MOST_CONTROLS for text in texts):
            return "control-characters", "The text is mostly control characters."
        if row.form == "chat" and (wrong := conversation_fault(content["messages"])):
            return "malformed", wrong
        if any(not text for text in _texts(content)):
            return "empty", f"{_empty_part(row.form, content)} is empty."
        length = sum(map(len, _texts(content)))
        if length > self._max:
            return "too-long", f"The row has {length:,} characters; at most {self._max:,} are allowed."
        return "", ""

    def _copy_of(self, row: Row, content: dict[str, Any]) -> Row | None:
        key = _key(row.form, row.split or "", orjson.dumps(content, option=orjson.OPT_SORT_KEYS))
        place = self._contents.setdefault(key, len(self.kept))
        if place == len(self.kept):
            return None
        other = self.kept[place]
        same = other.form == row.form and other.split == row.split and other.content == content
        return other if same else None

    def _remember_question(self, row: Row, place: int) -> None:
        if row.form not in _ASKED:
            return
        key = _key(row.form, _system(row), _folded(question(row)).encode())
        first = self._questions.setdefault(key, place)
        if first != place:
            self._again.setdefault(key, [first]).append(place)


def tidy_content(content: dict[str, Any]) -> dict[str, Any]:
    """Return the content of a row with every text normalised; the same object when nothing changes."""
    fresh: dict[str, Any] | None = None
    for name, value in content.items():
        new: Any = value
        if isinstance(value, str):
            new = tidy(value)
        elif name == "messages":
            new = [_tidy_message(message) for message in value]
        elif name == "texts":
            new = [tidy(text) for text in value]
        # Unchanged texts come back as the same objects, so that comparing them costs nothing.
        if new != value:
            fresh = dict(content) if fresh is None else fresh
            fresh[name] = new
    return content if fresh is None else fresh


def conversation_fault(messages: Sequence[dict[str, str]]) -> str:
    """Return what is wrong with a conversation, "" when it is sound.

    Sound: an optional system message first, then user and assistant in turn, the last word the assistant's.
    """
    start = 1 if messages and messages[0]["role"] == "system" else 0
    turns = messages[start:]
    if not turns:
        return "The conversation has no turn by user and assistant."
    for place, message in enumerate(turns):
        wanted = ("user", "assistant")[place % 2]
        if message["role"] != wanted:
            return f"Message {place + start + 1} is by {message['role']!r}; here {wanted!r} should speak."
    return "" if len(turns) % 2 == 0 else "The last message is by 'user'; it should be by 'assistant'."


class _Texts(Sequence[str]):
    """The whole texts of rows, made when asked for: together they would take as much memory as the rows."""

    def __init__(self, rows: Sequence[Row]) -> None:
        self._rows = rows

    def __len__(self) -> int:
        return len(self._rows)

    @overload
    def __getitem__(self, place: int) -> str: ...
    @overload
    def __getitem__(self, place: slice) -> list[str]: ...
    def __getitem__(self, place: int | slice) -> str | list[str]:
        if isinstance(place, slice):
            return [whole_text(row) for row in self._rows[place]]
        return whole_text(self._rows[place])


def _clusters(rows: Sequence[Row], threshold: float, progress: Progress) -> dict[str, str]:
    members = clusters(near_pairs(_Texts(rows), threshold, progress=progress))
    return {rows[member].id: rows[first].id for member, first in members.items()}


def _tidy_message(message: dict[str, str]) -> dict[str, str]:
    text = message["content"]
    new = tidy(text)
    return message if new is text else message | {"content": new}


def _texts(content: dict[str, Any]) -> list[str]:
    texts: list[str] = []
    for name, value in content.items():
        if isinstance(value, str):
            texts.append(value)
        elif name == "messages":
            texts += [message["content"] for message in value]
        elif name == "texts":
            texts += value
    return texts


def _empty_part(form: str, content: dict[str, Any]) -> str:
    if form == "chat":
        place, message = next((n, m) for n, m in enumerate(content["messages"], 1) if not m["content"])
        return f"Message {place} (by {message['role']!r})"
    if "texts" in content:
        return f"Text {next(n for n, text in enumerate(content['texts'], 1) if not text)}"
    return f"The {next(name for name, value in content.items() if value == '')}"


def _system(row: Row) -> str:
    messages = row.content.get("messages") or [{"role": ""}]
    return str(messages[0]["content"]) if messages[0]["role"] == "system" else ""


def _folded(text: str) -> str:
    return " ".join(text.casefold().split())


def _key(first: str, second: str, rest: bytes) -> int:
    digest = hashlib.blake2b(f"{first}\n{second}\n".encode() + rest, digest_size=8).digest()
    return int.from_bytes(digest, "little", signed=True)
