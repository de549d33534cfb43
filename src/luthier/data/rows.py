"""The row: one training example with its origin, as it walks through ingest, clean, split and augment."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from luthier.run.atomic import read_jsonl

Form = Literal["chat", "text", "preference", "pair", "triplet", "title"]
SplitName = Literal["train", "validation", "test"]
SPLITS: tuple[SplitName, ...] = ("train", "validation", "test")


@dataclass(slots=True)
class Row:
    """One example.

    Attributes:
        id: unique in the data set; from the declared field, else `<file stem>:<line>`.
        form: which keys `content` has. chat: `messages` (list of {role, content}, the last one by the assistant) ·
            text: `text` · preference: `prompt`, `chosen`, `rejected` · pair: `texts` (two strings), optional `score` ·
            triplet: `texts` (anchor, positive, negatives…) · title: `title`, `label`.
        content: the example itself, in one canonical shape whatever layout it came in.
        labels: declared fields and all other columns of the source (topic, difficulty, key_points, …), kept as found.
        group: rows of one group never straddle two splits. None: alone.
        file: name of the source file, as given.
        line: 1-based line (JSONL, CSV) or 1-based position (JSON array, Parquet) in that file.
        split: the side that a file given for a split asked for, else None.
        made_from: id of the row this one was augmented from, else None.
        made_by: the rule or teacher that made it, else None.
    """

    id: str
    form: Form
    content: dict[str, Any]
    file: str
    line: int
    labels: dict[str, Any] = field(default_factory=dict)
    group: str | None = None
    split: SplitName | None = None
    made_from: str | None = None
    made_by: str | None = None

    @property
    def place(self) -> str:
        """Where the row stands, as `file:line`."""
        return f"{self.file}:{self.line}"

    def label(self, name: str) -> Any:
        """Return a declared field by name: id, group, a title's family, or one of the labels; None without it."""
        if name == "group":
            return self.group
        if name in ("family", "label") and self.form == "title":
            return self.content["label"]
        return self.id if name == "id" else self.labels.get(name)

    def to_json(self) -> dict[str, Any]:
        """Return the line of train.jsonl: content and labels side by side, origin under `source`."""
        line: dict[str, Any] = {
            "id": self.id,
            "form": self.form,
            **self.content,
            "labels": self.labels,
            "group": self.group,
        }
        line["source"] = {"file": self.file, "line": self.line}
        if self.made_from is not None:
            line["source"] |= {"made_from": self.made_from, "made_by": self.made_by}
        return line


@dataclass(frozen=True, slots=True)
class Rejected:
    """A row that was not taken, with its reason: one line of rejected.jsonl.

    Attributes:
        file: name of the source file. line: 1-based, as for `Row`.
        reason: a short stable word for counting: "malformed", "missing-field", "empty", "too-long", "encoding",
            "ragged", "duplicate", "near-duplicate", "duplicate-id", "control-characters".
        detail: one sentence for the reader.
        raw: the row as it was found (parsed value, or the text of the line), so that nothing is lost.
        duplicate_of: id of the row that was kept in its place, for duplicates.
    """

    file: str
    line: int
    reason: str
    detail: str
    raw: Any
    duplicate_of: str | None = None

    def to_json(self) -> dict[str, Any]:
        """Return the line of rejected.jsonl."""
        return {
            "file": self.file,
            "line": self.line,
            "reason": self.reason,
            "detail": self.detail,
            "duplicate_of": self.duplicate_of,
            "raw": self.raw,
        }


def question(row: Row) -> str:
    """Return what the model is given: all but the last message, the prompt, or the first text. "" for plain text."""
    content = row.content
    if row.form == "chat":
        return "\n".join(message["content"] for message in content["messages"][:-1] if message["role"] != "system")
    if row.form == "preference":
        return str(content["prompt"])
    if row.form in ("pair", "triplet"):
        return str(content["texts"][0])
    return str(content["title"]) if row.form == "title" else ""


def answer(row: Row) -> str:
    """Return what the model is to say: the last message, the chosen answer, the other texts, the label, the text."""
    content = row.content
    if row.form == "chat":
        return str(content["messages"][-1]["content"])
    if row.form == "preference":
        return str(content["chosen"])
    if row.form in ("pair", "triplet"):
        return "\n".join(content["texts"][1:])
    return str(content["label"] if row.form == "title" else content["text"])


def whole_text(row: Row) -> str:
    """Return question and answer as one text, for lengths, duplicates and overlap."""
    if row.form == "title":
        return str(row.content["title"])
    asked = question(row)
    return f"{asked}\n{answer(row)}" if asked else answer(row)


def from_json(line: Mapping[str, Any]) -> Row:
    """Return the row that `Row.to_json` wrote."""
    source = line["source"]
    keys = {"id", "form", "labels", "group", "source"}
    return Row(
        id=line["id"],
        form=line["form"],
        content={key: value for key, value in line.items() if key not in keys},
        file=source["file"],
        line=source["line"],
        labels=line["labels"],
        group=line["group"],
        made_from=source.get("made_from"),
        made_by=source.get("made_by"),
    )


def read_rows(path: Path) -> list[Row]:
    """Return the rows of one split, as the prepare stage wrote them."""
    return [from_json(line) for line in read_jsonl(path)]


def count_by(rows: Iterable[Row], name: str) -> dict[str, int]:
    """Count rows by the value of a declared field, in order of first appearance; absent counts as "(none)"."""
    counts: dict[str, int] = {}
    for row in rows:
        value = row.label(name)
        key = "(none)" if value is None else str(value)
        counts[key] = counts.get(key, 0) + 1
    return counts
