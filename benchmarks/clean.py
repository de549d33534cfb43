"""Time and memory of cleaning and near-duplicate detection, and how many planted near-duplicates are found.

    python benchmarks/clean.py --rows 1000000

Writes synthetic questions and answers (about 300 characters a row, word frequencies as in English, after Zipf) as JSON
Lines, 5 % of them near-copies of earlier rows with a word or two changed, reads them, cleans them, and prints seconds,
rows a second, the peak of resident memory, and recall and precision against the exact Jaccard similarity of the planted
pairs. Target: a million rows in under 240 s and 4 GiB on two cores.
"""

from __future__ import annotations

import argparse
import json
import resource
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from luthier.data.clean import clean
from luthier.data.ingest import ingest
from luthier.data.near import shingles
from luthier.data.rows import whole_text

VOCABULARY = 50_000
PLANTED = 0.05


def main() -> None:
    """Run the benchmark once."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--threshold", type=float, default=0.85)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "rows.jsonl"
        planted = write(path, options.rows, options.seed)
        started = time.perf_counter()
        rows = ingest(path).rows
        read = time.perf_counter() - started
    characters = sum(len(whole_text(row)) for row in rows[:10_000]) / min(len(rows), 10_000)
    real = {copy: source for copy, source in planted.items() if jaccard(rows, copy, source) >= options.threshold}
    ids = [row.id for row in rows]
    started, worked = time.perf_counter(), time.process_time()
    cleaned = clean(rows, 100_000, options.threshold)
    seconds, processor = time.perf_counter() - started, time.process_time() - worked
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2 ** (30 if sys.platform == "darwin" else 20)
    removed = {rejected.raw["id"] for rejected in cleaned.rejected}  # exact copies among the planted: no longer there
    real = {copy: source for copy, source in real.items() if not {ids[copy], ids[source]} & removed}
    found = sum(
        cleaned.clusters.get(ids[copy], "a") == cleaned.clusters.get(ids[source], "b") for copy, source in real.items()
    )
    clustered = set(cleaned.clusters)
    true = {ids[place] for pair in real.items() for place in pair}
    result = {
        "rows": options.rows,
        "characters_a_row": round(characters),
        "seconds_reading": round(read, 1),
        "seconds_cleaning": round(seconds, 1),
        "processor_seconds": round(processor, 1),
        "rows_a_second": round(options.rows / seconds),
        "peak_gib": round(peak, 2),
        "planted": len(planted),
        "planted_above_threshold": len(real),
        "recall": round(found / max(1, len(real)), 4),
        "precision": round(len(clustered & true) / max(1, len(clustered)), 4),
        "counts": cleaned.counts,
    }
    print(json.dumps(result, indent=2))


def write(path: Path, count: int, seed: int) -> dict[int, int]:
    """Write the rows; return which row is a near-copy of which earlier one."""
    generator = np.random.default_rng(seed)
    letters = generator.integers(97, 123, size=(VOCABULARY, 12), dtype=np.uint8)
    lengths = generator.integers(2, 12, size=VOCABULARY)
    vocabulary = [bytes(row[:length]).decode() for row, length in zip(letters, lengths, strict=True)]
    weights = 1 / (np.arange(VOCABULARY) + 2.7)
    weights /= weights.sum()
    planted: dict[int, int] = {}
    recent: list[list[str]] = []
    with open(path, "w", encoding="utf-8") as file:
        for start in range(0, count, 10_000):
            size = min(10_000, count - start)
            drawn = generator.choice(VOCABULARY, size=(size, 50), p=weights)
            cuts = generator.integers(34, 50, size=size)
            copies = generator.random(size) < PLANTED
            for place in range(size):
                words = [vocabulary[word] for word in drawn[place, : cuts[place]]]
                if copies[place] and len(recent) > 100:
                    source = int(generator.integers(len(recent)))
                    planted[start + place] = start + place - len(recent) + source
                    words = list(recent[source])
                    words[int(generator.integers(len(words)))] = "changed"
                recent.append(words)
                recent = recent[-5000:] if len(recent) > 10_000 else recent
                row = {"prompt": " ".join(words[:12]), "completion": " ".join(words[12:]), "topic": words[0]}
                file.write(json.dumps(row) + "\n")
    return planted


def jaccard(rows: list, one: int, other: int) -> float:
    """Return the exact similarity of two rows."""
    first, second = shingles(whole_text(rows[one])), shingles(whole_text(rows[other]))
    return len(first & second) / len(first | second)


if __name__ == "__main__":
    main()
