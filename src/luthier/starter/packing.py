"""Turn documents into rows of equal length, in an order that a few integers remember.

Every document begins and ends with ``<|endoftext|>``. Documents follow each other in a seeded shuffle, a new one each
pass, and rows are cut from this stream wherever they are full; what a row cuts off continues in the next row. Beside
the tokens each row tells which document each belongs to, so that attention and targets stay within documents.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from luthier.starter.model import IGNORE
from luthier.starter.text import Document, Exchange

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

Tokens = NDArray[np.uint16]


def encode_documents(tokenizer: PreTrainedTokenizerFast, documents: Sequence[Document]) -> list[Tokens]:
    """Token ids of each document, between two ``<|endoftext|>``."""
    border = tokenizer.pad_token_id
    rows: list[Tokens] = []
    for start in range(0, len(documents), 1000):  # in portions: the encodings are larger than the text
        texts = [document.text for document in documents[start : start + 1000]]
        encoded = tokenizer(texts, verbose=False)["input_ids"]
        rows.extend(np.array([border, *ids, border], dtype=np.uint16) for ids in encoded)
    return rows


def encode_exchanges(tokenizer: PreTrainedTokenizerFast, exchanges: Sequence[Exchange], longest: int) -> list[Tokens]:
    """Token ids of each exchange as a chat; those of more than ``longest`` tokens are left out."""
    rows: list[Tokens] = []
    for exchange in exchanges:
        turns = [
            {"role": "user", "content": exchange.instruction},
            {"role": "assistant", "content": exchange.response},
        ]
        text = tokenizer.apply_chat_template(turns, tokenize=False)
        ids = tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"]
        if len(ids) <= longest:
            rows.append(np.array([*ids, tokenizer.pad_token_id], dtype=np.uint16))
    return rows


@dataclass
class Batch:
    """Rows of equal length: tokens, targets (the next token of the same document, or IGNORE), document numbers.

    The last token of a row has no target.
    """

    tokens: Tensor
    targets: Tensor
    documents: Tensor

    def to(self, device: str) -> tuple[Tensor, Tensor, Tensor]:
        """The three on a device."""
        return self.tokens.to(device), self.targets.to(device), self.documents.to(device)


@dataclass
class Stream:
    """An endless shuffle of documents; its position is (epoch, index in the shuffle, offset in the document)."""

    rows: Sequence[Tokens]
    seed: int
    epoch: int = 0
    index: int = 0
    offset: int = 0
    _order: NDArray[np.int64] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self._shuffle()

    def _shuffle(self) -> None:
        self._order = np.random.default_rng((self.seed, self.epoch)).permutation(len(self.rows))

    @property
    def position(self) -> dict[str, int]:
        """What ``seek`` needs."""
        return {"epoch": self.epoch, "index": self.index, "offset": self.offset}

    def seek(self, position: dict[str, int]) -> None:
        """Continue from a position."""
        self.epoch, self.index, self.offset = position["epoch"], position["index"], position["offset"]
        self._shuffle()

    def take(self, room: int) -> Tokens:
        """Up to ``room`` tokens of the document at hand."""
        document = self.rows[self._order[self.index]]
        piece: Tokens = document[self.offset : self.offset + room]
        self.offset += len(piece)
        if self.offset >= len(document) - 1:  # one token alone predicts nothing
            self.offset, self.index = 0, self.index + 1
            if self.index >= len(self._order):
                self.index, self.epoch = 0, self.epoch + 1
                self._shuffle()
        return piece


class Packer:
    """Draws batches from the documents and, in the decay phase, from the chats."""

    def __init__(self, documents: Sequence[Tokens], chats: Sequence[Tokens], seed: int) -> None:
        self.documents = Stream(documents, seed)
        self.chats = Stream(chats, seed + 1) if chats else None
        self._choice = np.random.default_rng(seed + 2)

    def state(self) -> dict[str, Any]:
        """Everything that the next batch depends on, JSON-ready."""
        chats = self.chats.position if self.chats else None
        return {"documents": self.documents.position, "chats": chats, "choice": self._choice.bit_generator.state}

    def restore(self, state: dict[str, Any]) -> None:
        """Continue where ``state`` was taken."""
        self.documents.seek(state["documents"])
        if self.chats:
            self.chats.seek(state["chats"])
        self._choice.bit_generator.state = state["choice"]

    def batch(self, count: int, length: int, chat_share: float = 0.0) -> Batch:
        """``count`` rows of ``length`` tokens; a share of the rows, 0 to 1, consists of chats."""
        tokens = np.zeros((count, length), dtype=np.int64)
        targets = np.full((count, length), IGNORE, dtype=np.int64)
        numbers = np.zeros((count, length), dtype=np.int64)
        for row in range(count):
            use_chats = self.chats is not None and self._choice.random() < chat_share
            stream = self.chats if use_chats and self.chats else self.documents
            filled, number = 0, 0
            while filled < length:
                piece = stream.take(length - filled)
                end = filled + len(piece)
                tokens[row, filled:end] = piece
                targets[row, filled : end - 1] = piece[1:]
                numbers[row, filled:end] = number
                filled, number = end, number + 1
        return Batch(torch.from_numpy(tokens), torch.from_numpy(targets), torch.from_numpy(numbers))
