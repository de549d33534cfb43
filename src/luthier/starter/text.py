"""Read a folder of text into documents, clean them, and hold some out.

A folder may hold, at its top level:

- ``*.txt`` and ``*.txt.xz``: UTF-8 text whose documents are separated by ``<|endoftext|>``;
- ``*.jsonl`` and ``*.jsonl.xz``: instruction rows, one JSON object a line, with ``instruction`` (or ``prompt``),
  optionally ``input``, and ``response`` (or ``output`` or ``completion``), or the same inside ``instances``.

Nothing here knows which corpus it reads.
"""

from __future__ import annotations

import hashlib
import html
import json
import lzma
import re
import unicodedata
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

SEPARATOR = "<|endoftext|>"
MINIMUM_CHARACTERS = 60
"""Shorter documents are titles without a text."""


@dataclass(frozen=True)
class Document:
    """One text and the file that it came from."""

    source: str
    text: str

    @property
    def key(self) -> str:
        """What decides on which side of the hold-out the document falls: its text alone."""
        return self.text


@dataclass(frozen=True)
class Exchange:
    """One instruction and its answer."""

    source: str
    instruction: str
    response: str

    @property
    def key(self) -> str:
        """What decides on which side of the hold-out the exchange falls: the instruction alone."""
        return self.instruction


Held = TypeVar("Held", Document, Exchange)


@dataclass(frozen=True)
class Corpus:
    """What a folder holds, after cleaning, by side of the hold-out."""

    train: list[Document]
    held_out: list[Document]
    train_exchanges: list[Exchange]
    held_out_exchanges: list[Exchange]


def _read(path: Path) -> str:
    if path.suffix == ".xz":
        with lzma.open(path, "rt", encoding="utf-8", errors="replace") as file:
            return file.read()
    return path.read_text(encoding="utf-8", errors="replace")


def _files(folder: Path, ending: str) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.name.endswith((ending, ending + ".xz")))


def _source(path: Path) -> str:
    return path.name.split(".", 1)[0]


# What template expansion leaves behind in encyclopaedia dumps: "Shanghai () is", "covers . The", stray mark-up.
_SUBSTITUTIONS = [
    (re.compile(r"<(?:ref|br|span|div|small|sup|sub|nowiki|math)\b[^<>\n]*/?>|</[a-z]{1,10}>", re.I), " "),
    (re.compile(r"\{\{[^{}\n]{0,400}\}\}|\[\[(?:File|Image|Category):[^\]\n]*\]\]", re.I), " "),
    (re.compile(r"\[\[(?:[^|\]\n]*\|)?([^\]\n]*)\]\]"), r"\1"),
    (re.compile(r"'{3,}"), ""),
    (re.compile(r"\((?:[\s,;:.–-]|or)*\)"), ""),
    (re.compile(r"\(\s*[;,]\s*"), "("),
    (re.compile(r"[ \t\u00a0\u2000-\u200a\u202f]+"), " "),
    (re.compile(r" +([,.;:!?)])(?=\s|$)"), r"\1"),
]
_INVISIBLE = re.compile(r"[\u200b-\u200f\u2028-\u202e\u2060\ufeff\u00ad\ufffd\x00-\x08\x0b-\x1f\x7f]")
_BLANK_LINES = re.compile(r"\n{3,}")


def _clean_line(line: str) -> str | None:
    """The line without left-overs of mark-up; ``None`` if nothing worth reading stays. Indentation is kept."""
    line = line.expandtabs(4).rstrip()
    body = line.lstrip(" ")
    indent = line[: len(line) - len(body)]
    for pattern, replacement in _SUBSTITUTIONS:
        body = pattern.sub(replacement, body)
    body = body.strip()
    if line and not body:
        return None
    if len(body) > 30 and sum(c.isalnum() or c.isspace() for c in body) < 0.5 * len(body):
        return None  # tables, rulers and other lines made of punctuation
    return indent + body if body else ""


def clean(text: str) -> str:
    """One document without mark-up left-overs, invisible characters and runs of blank lines (NFC)."""
    text = unicodedata.normalize("NFC", html.unescape(text)).replace("\r\n", "\n").replace("\r", "\n")
    text = text.replace(SEPARATOR, " ").replace("<|im_start|>", " ").replace("<|im_end|>", " ")
    lines = (_clean_line(line) for line in _INVISIBLE.sub("", text).split("\n"))
    return _BLANK_LINES.sub("\n\n", "\n".join(line for line in lines if line is not None)).strip()


def read_documents(folder: Path) -> list[Document]:
    """Every distinct document of the folder, cleaned, in the order of file names and of the files."""
    documents: dict[str, Document] = {}
    for path in _files(folder, ".txt"):
        for piece in _read(path).split(SEPARATOR):
            text = clean(piece)
            if len(text) >= MINIMUM_CHARACTERS:
                documents.setdefault(text, Document(_source(path), text))
    return list(documents.values())


def _exchange(source: str, row: dict[str, Any]) -> Exchange | None:
    if row.get("instances"):
        row = {**row, **row["instances"][0]}
    instruction = clean(str(row.get("instruction") or row.get("prompt") or ""))
    extra = clean(str(row.get("input") or ""))
    response = clean(str(row.get("response") or row.get("output") or row.get("completion") or ""))
    if not instruction or not response:
        return None
    return Exchange(source, f"{instruction}\n{extra}" if extra else instruction, response)


def read_exchanges(folder: Path) -> list[Exchange]:
    """Every distinct instruction of the folder with its (first) answer, cleaned."""
    exchanges: dict[str, Exchange] = {}
    for path in _files(folder, ".jsonl"):
        for line in _read(path).splitlines():
            exchange = _exchange(_source(path), json.loads(line)) if line.strip() else None
            if exchange is not None:
                exchanges.setdefault(exchange.instruction, exchange)
    return list(exchanges.values())


def is_held_out(key: str, share: float) -> bool:
    """Whether the document with this key is held out; a hash decides, so neither order nor seed matters."""
    digest = hashlib.sha256(key.encode("utf-8")).digest()
    return int.from_bytes(digest[:8], "big") < share * 2**64


def split(items: Iterable[Held], share: float) -> tuple[list[Held], list[Held]]:
    """The items in two lists, (train, held out), whole items only."""
    train: list[Held] = []
    held_out: list[Held] = []
    for item in items:
        (held_out if is_held_out(item.key, share) else train).append(item)
    return train, held_out


def read_corpus(folder: Path, share: float = 0.01, exchange_share: float = 0.03) -> Corpus:
    """The folder's documents and exchanges, ``share`` and ``exchange_share`` (fractions) of them held out."""
    train, held_out = split(read_documents(folder), share)
    train_exchanges, held_out_exchanges = split(read_exchanges(folder), exchange_share)
    return Corpus(train, held_out, train_exchanges, held_out_exchanges)


def texts(corpus: Corpus) -> Iterator[str]:
    """All text of the training side, for the tokenizer."""
    for document in corpus.train:
        yield document.text
    for exchange in corpus.train_exchanges:
        yield exchange.instruction
        yield exchange.response
