"""How long one comparison takes: 10,000 items, 12 metrics, 10,000 resamples, and the memory it needs.

    OMP_NUM_THREADS=2 taskset -c 0,1 python benchmarks/comparison.py

Two of the metrics are corpus metrics with the counts of BLEU and chrF, one is right or wrong, the others means.
"""

from __future__ import annotations

import argparse
import resource
import time

import numpy as np

from luthier.evaluate import resampling
from luthier.evaluate.compare import compare
from luthier.evaluate.corpus import Counts, bleu_value, chrf_value
from luthier.evaluate.measured import Measured


def bleu_counts(random: np.random.Generator, items: int, quality: float) -> np.ndarray:
    """Return n-gram counts of answers of about 30 words: [length, reference length, 4 × matches, 4 × n-grams]."""
    length, reference = random.integers(15, 45, (2, items))
    total = length[:, None] - np.arange(4)
    matches = random.binomial(total, quality ** np.arange(1, 5))
    return np.column_stack([length, reference, matches, total]).astype(float)


def chrf_counts(random: np.random.Generator, items: int, quality: float) -> np.ndarray:
    """Return n-gram counts of answers of about 150 characters: [answer, reference, matches] for six orders."""
    answer, reference = random.integers(80, 220, (2, items, 1)) - np.arange(6)
    matches = random.binomial(np.minimum(answer, reference), quality ** np.arange(1, 7))
    return np.stack([answer, reference, matches], axis=2).reshape(items, 18).astype(float)


def make(items: int, metrics: int) -> dict[str, Measured]:
    """Return scores of two models that differ by little."""
    random = np.random.default_rng(0)
    made = {}
    for place in range(metrics):
        item = random.normal(-1.3, 0.7, items)
        base, tuned = (1 / (1 + np.exp(-item - shift - random.normal(0, 0.5, items))) for shift in (0.0, 0.02))
        corpus = None
        if place == 0:
            base, tuned = (base > 0.3).astype(float), (tuned > 0.3).astype(float)
        if place == 1:
            corpus = Counts(bleu_counts(random, items, 0.5), bleu_counts(random, items, 0.51), bleu_value)
        if place == 2:
            corpus = Counts(chrf_counts(random, items, 0.6), chrf_counts(random, items, 0.61), chrf_value)
        made[f"metric {place + 1}"] = Measured(f"Metric {place + 1}", base.tolist(), tuned.tolist(), corpus=corpus)
    return made


def main() -> None:
    """Time one comparison and print seconds and the peak of memory."""
    parser = argparse.ArgumentParser(description="Time of one comparison.")
    parser.add_argument("--items", type=int, default=10_000)
    parser.add_argument("--metrics", type=int, default=12)
    given = parser.parse_args()
    measured = make(given.items, given.metrics)
    started = time.perf_counter()
    comparison = compare(measured, "metric 4")
    seconds = time.perf_counter() - started
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(f"{given.items:,} items × {given.metrics} metrics × {resampling.RESAMPLES + 1:,} resamples: ", end="")
    print(f"{seconds:.1f} s, {peak:.2f} GiB at most; {comparison['verdict']}")


main()
