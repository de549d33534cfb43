"""What the starter's bits per byte stand beside: n-gram models and xz, on the same training and held-out text.

python -m luthier.starter.references --tokenizer FOLDER --text FOLDER --out references.json
"""

from __future__ import annotations

import argparse
import json
import lzma
import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, cast

import numpy as np
from numpy.typing import NDArray

from luthier.starter.packing import encode_documents
from luthier.starter.text import Corpus, Document, read_corpus

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

Ids = NDArray[np.int64]
_BASE = 1 << 16  # ids are below this, so a pair (context number, id) fits into 64 bits


class KneserNey:
    """Interpolated Kneser-Ney over sequences of ids, one discount per order, estimated from the counts.

    Contexts are numbered per order and a gram is the pair (number of its context, last id), so that arrays of integers
    do instead of dictionaries.
    """

    def __init__(self, sequences: Sequence[Ids], vocabulary: int, order: int = 4) -> None:
        self.order, self.vocabulary = order, vocabulary
        starts = np.zeros(sum(map(len, sequences)), dtype=bool)
        starts[np.cumsum([0, *map(len, sequences[:-1])])] = True
        ids = np.concatenate(list(sequences)).astype(np.int64)
        self._grams: list[Ids] = []
        self._build(ids, np.cumsum(starts))

    def _build(self, ids: Ids, owner: Ids) -> None:
        """Grams of every order with their counts: raw at the highest order, continuation counts below."""
        grams_at: list[tuple[Ids, NDArray[np.bool_]]] = []
        context = np.zeros(len(ids), dtype=np.int64)  # number of the gram that ends before each position
        for n in range(1, self.order + 1):
            valid = np.ones(len(ids), dtype=bool)
            if n > 1:
                valid[: n - 1] = False
                valid[n - 1 :] = owner[n - 1 :] == owner[: -(n - 1)]
            keys = context * _BASE + ids
            known, inverse = np.unique(keys[valid], return_inverse=True)
            self._grams.append(known)
            number = np.full(len(ids), -1, dtype=np.int64)
            number[valid] = inverse
            grams_at.append((number, valid))
            context = np.zeros(len(ids), dtype=np.int64)
            context[1:] = number[:-1]
        self._counts = [self._count(n, grams_at) for n in range(1, self.order + 1)]
        self._summarise()

    def _count(self, n: int, grams_at: list[tuple[Ids, NDArray[np.bool_]]]) -> NDArray[np.float64]:
        number, valid = grams_at[n - 1]
        size = len(self._grams[n - 1])
        if n == self.order:
            return np.bincount(number[valid], minlength=size).astype(np.float64)
        longer, longer_valid = grams_at[n]
        # Each distinct longer gram counts once for the shorter gram that it ends with.
        _, first = np.unique(longer[longer_valid], return_index=True)
        counts = np.bincount(number[longer_valid][first], minlength=size).astype(np.float64)
        return np.maximum(counts, 1.0)  # grams that only ever begin a sequence

    def _summarise(self) -> None:
        """Per order: the discount, and per context the total count and the number of distinct continuations."""
        self._discounts, self._totals, self._distinct = [], [], []
        for n, (grams, counts) in enumerate(zip(self._grams, self._counts, strict=True), 1):
            once, twice = float((counts == 1).sum()), float((counts == 2).sum())
            self._discounts.append(once / max(1.0, once + 2 * twice))
            contexts = 1 if n == 1 else len(self._grams[n - 2])
            owner = grams // _BASE
            self._totals.append(np.bincount(owner, counts, minlength=contexts))
            self._distinct.append(np.bincount(owner, minlength=contexts).astype(np.float64))

    def nats(self, ids: Ids) -> NDArray[np.float64]:
        """Negative log-probability of each id given those before it."""
        probability = np.full(len(ids), 1.0 / self.vocabulary)
        context = np.zeros(len(ids), dtype=np.int64)
        for n in range(1, self.order + 1):
            grams, counts = self._grams[n - 1], self._counts[n - 1]
            keys = context * _BASE + ids
            place = np.minimum(np.searchsorted(grams, keys), len(grams) - 1)
            found = (context >= 0) & (grams[place] == keys)
            count = np.where(found, counts[place], 0.0)
            safe = np.maximum(context, 0)
            total = np.where(context >= 0, self._totals[n - 1][safe], 0.0)
            discount = self._discounts[n - 1]
            known = total > 0
            divisor = np.where(known, total, 1.0)
            lower = discount * self._distinct[n - 1][safe] / divisor
            mixed = np.maximum(count - discount, 0.0) / divisor + lower * probability
            probability = np.where(known, mixed, probability)
            context = np.full(len(ids), -1, dtype=np.int64)
            context[1:] = np.where(found, place, -1)[:-1]
        nats: NDArray[np.float64] = -np.log(probability)
        return nats


def ngram_nats(train: Sequence[Ids], held_out: Sequence[Ids], vocabulary: int, order: int) -> float:
    """Nats of the held-out documents under the model; the first id of each, its border, is given and not counted."""
    model = KneserNey(train, vocabulary, order)
    return float(sum(model.nats(ids)[1:].sum() for ids in held_out))


def xz_bits_per_byte(train: Sequence[str], held_out: Sequence[str]) -> dict[str, float]:
    """Bits per held-out byte of ``xz -9e``: of the held-out text alone, and as what it adds to the training text.

    The second is the fairer reference: the compressor, too, has then seen the training text, as far as its window of
    64 MiB reaches.
    """
    filters = [{"id": lzma.FILTER_LZMA2, "preset": 9 | lzma.PRESET_EXTREME, "dict_size": 1 << 26}]

    def size(data: bytes) -> int:
        return len(lzma.compress(data, format=lzma.FORMAT_XZ, filters=filters))

    known, new = "\n\n".join(train).encode(), "\n\n".join(held_out).encode()
    return {"alone": 8 * size(new) / len(new), "primed": 8 * (size(known + new) - size(known)) / len(new)}


def references(tokenizer: PreTrainedTokenizerFast, corpus: Corpus) -> dict[str, float]:
    """Bits per byte of the same held-out text under n-gram models of tokens and of bytes, and xz."""
    size = sum(len(document.text.encode()) for document in corpus.held_out)
    bits = 1 / size / math.log(2)

    def tokens(documents: Sequence[Document]) -> list[Ids]:
        return [ids[:-1].astype(np.int64) for ids in encode_documents(tokenizer, documents)]

    def bytes_(documents: Sequence[Document]) -> list[Ids]:
        return [np.frombuffer(b"\0" + d.text.encode(), dtype=np.uint8).astype(np.int64) for d in documents]

    found = {
        "token_4gram": ngram_nats(tokens(corpus.train), tokens(corpus.held_out), len(tokenizer), 4) * bits,
        "byte_6gram": ngram_nats(bytes_(corpus.train), bytes_(corpus.held_out), 256, 6) * bits,
    }
    xz = xz_bits_per_byte([d.text for d in corpus.train], [d.text for d in corpus.held_out])
    found |= {f"xz_{name}": value for name, value in xz.items()}
    return {name: round(value, 4) for name, value in found.items()}


def main(arguments: list[str] | None = None) -> None:
    """The command line."""
    from transformers import AutoTokenizer

    parser = argparse.ArgumentParser(
        "python -m luthier.starter.references",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--tokenizer", type=Path, required=True, help="a transformers folder")
    parser.add_argument("--text", type=Path, required=True, help="the folder of text")
    parser.add_argument("--out", type=Path, required=True, help="JSON file to write")
    parser.add_argument("--hold-out", type=float, default=0.01, help="the share that pretrain held out")
    known = parser.parse_args(arguments)
    tokenizer = cast("PreTrainedTokenizerFast", AutoTokenizer.from_pretrained(known.tokenizer))
    found = references(tokenizer, read_corpus(known.text, known.hold_out))
    known.out.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
    print(json.dumps(found, indent=2))


if __name__ == "__main__":
    main()
