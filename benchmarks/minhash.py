"""rensa against datasketch: hashing a text of 50 word 3-grams, and inserting and looking it up, in turn.

python benchmarks/minhash.py
"""

from __future__ import annotations

import random
import statistics
import time
from collections.abc import Callable

from datasketch import MinHash, MinHashLSH
from rensa import RMinHash, RMinHashLSH

BANDS, ROWS = 18, 7  # what a threshold of 0.85 asks for
TEXTS, ROUNDS = 500, 5


def with_datasketch(texts: list[list[str]]) -> None:
    """Hash, look up and insert each text."""
    index = MinHashLSH(num_perm=BANDS * ROWS, params=(BANDS, ROWS))
    for position, grams in enumerate(texts):
        signature = MinHash(num_perm=BANDS * ROWS)
        signature.update_batch([gram.encode() for gram in grams])
        index.query(signature)
        index.insert(str(position), signature)


def with_rensa(texts: list[list[str]]) -> None:
    """Hash, look up and insert each text."""
    index = RMinHashLSH(0.85, BANDS * ROWS, BANDS)
    for position, grams in enumerate(texts):
        signature = RMinHash(BANDS * ROWS, 0)
        signature.update(grams)
        index.query(signature)
        index.insert(position, signature)


def microseconds(way: Callable[[list[list[str]]], None], texts: list[list[str]]) -> float:
    """Return the time of one text."""
    started = time.perf_counter()
    way(texts)
    return (time.perf_counter() - started) / len(texts) * 1e6


def main() -> None:
    """Run the two in turn and print the median of each, and of the ratios."""
    draw = random.Random(0)
    vocabulary = [f"word{number}" for number in range(5000)]
    texts = [[" ".join(draw.choices(vocabulary, k=3)) for _ in range(50)] for _ in range(TEXTS)]
    pairs = [(microseconds(with_datasketch, texts), microseconds(with_rensa, texts)) for _ in range(ROUNDS)]
    print(f"datasketch {statistics.median(one for one, _ in pairs):.1f} µs a text")
    print(f"rensa      {statistics.median(other for _, other in pairs):.1f} µs a text")
    print(f"ratio      {statistics.median(one / other for one, other in pairs):.1f} (median of {ROUNDS})")


main()
