"""How often a verdict is wrong, how often an interval covers, and whether the power said is the power reached.

    python benchmarks/calibration.py            all tables of docs/evidence.md, about five minutes on one core
    python benchmarks/calibration.py --quick    fewer simulated comparisons

Each cell simulates comparisons whose truth is known. They are decided by the code that decides real ones, many columns
at once; the first of each cell go through `luthier.compare_scores` as well and must agree.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy import optimize, special, stats

from luthier.evaluate import resampling, seeds, statistics, yes_no
from luthier.evaluate.compare import compare_scores

Array = NDArray[np.float64]
# (generator, units, comparisons, effect) → scores of base and tuned, shape (units, comparisons), or with a third axis
# for the items of a unit.
Scores = Callable[[np.random.Generator, int, int, float], tuple[Array, Array]]

REAL = json.loads((Path(__file__).parent / "results" / "interviewmate-scores.json").read_text())
SIZES = (20, 46, 200)
CHECKED = 5  # comparisons of each cell that compare_scores decides as well
COLUMNS = 500  # comparisons held at once
FEWER = 1_999  # resamples where verdicts alone are counted: with fewer than the 9,999 a verdict is no more likely
POPULATION = 100_000  # units from which a truth is first found; forty times as many make it exact


def normal(random: np.random.Generator, n: int, m: int, effect: float) -> tuple[Array, Array]:
    """Scores with a normal part of the item and a normal part of their own."""
    item = random.normal(0, 1, (n, m))
    return item + random.normal(0, 1, (n, m)), item + effect + random.normal(0, 1, (n, m))


def rouge_like(random: np.random.Generator, n: int, m: int, effect: float) -> tuple[Array, Array]:
    """Scores between 0 and 1, most of them low, hard items hard for both."""
    item = random.normal(-1.3, 0.7, (n, m))
    base, tuned = (special.expit(item + shift + random.normal(0, 0.5, (n, m))) for shift in (0.0, effect))
    return base, tuned


def skewed(random: np.random.Generator, n: int, m: int, effect: float) -> tuple[Array, Array]:
    """Log-normal scores, such as lengths or perplexities of single items."""
    item = random.normal(0, 0.5, (n, m))
    return np.exp(item + random.normal(0, 0.7, (n, m))), np.exp(item + effect + random.normal(0, 0.7, (n, m)))


def half_zero(random: np.random.Generator, n: int, m: int, effect: float) -> tuple[Array, Array]:
    """Scores of which half are zero, such as ROUGE-2 of short answers."""
    base, tuned = (random.beta(2, 5, (n, m)) * (random.random((n, m)) < 0.5 + shift) for shift in (0.0, effect))
    return base, tuned


def ties(random: np.random.Generator, n: int, m: int, effect: float) -> tuple[Array, Array]:
    """Key points found of four; on half of the items both find the same."""
    base, own = random.binomial(4, 0.4, (n, m)) / 4, random.binomial(4, min(0.4 + effect, 1.0), (n, m)) / 4
    return base, np.where(random.random((n, m)) < 0.5, base, own)


def right_or_wrong(random: np.random.Generator, n: int, m: int, effect: float) -> tuple[Array, Array]:
    """Right or wrong, easy items easy for both; decided by McNemar's test."""
    ease = random.beta(1.2, 1.2, (n, m))
    base = (random.random((n, m)) < ease).astype(float)
    return base, (random.random((n, m)) < np.minimum(ease + effect, 1.0)).astype(float)


def real(metric: str, grouped: bool = False) -> Scores:
    """Return scores drawn from a real run; without an effect the two models change places at random.

    With an effect they change places less often: never at 1, where the whole gain of the run is there.
    """
    base, tuned = (np.array(REAL[metric][who]) for who in ("base", "tuned"))
    if not grouped:
        base, tuned = base.reshape(-1, 1), tuned.reshape(-1, 1)

    def draw(random: np.random.Generator, n: int, m: int, effect: float) -> tuple[Array, Array]:
        drawn = random.integers(0, len(base), (n, m))
        swapped = (random.random((n, m)) < (1 - effect) / 2)[..., None]
        first, second = np.where(swapped, tuned[drawn], base[drawn]), np.where(swapped, base[drawn], tuned[drawn])
        return (first, second) if grouped else (first[..., 0], second[..., 0])

    return draw


def clustered(random: np.random.Generator, n: int, m: int, effect: float) -> tuple[Array, Array]:
    """Groups of four items, half of whose difference is the group's."""
    shape = (n, m, 4)
    item, common = random.normal(0, 1, shape), random.normal(0, 1, (n, m, 1))
    return item, item + effect + common + random.normal(0, 1, shape)


def uneven(random: np.random.Generator, n: int, m: int, effect: float) -> tuple[Array, Array]:
    """Groups of one to eight items; items that are not there are nan."""
    shape = (n, m, 8)
    there = np.arange(8) < random.integers(1, 9, (n, m, 1))
    item, common = random.normal(0, 1, shape), random.normal(0, 1, (n, m, 1))
    base, tuned = item, item + effect + common + random.normal(0, 1, shape)
    return np.where(there, base, np.nan), np.where(there, tuned, np.nan)


def skewed_difference(draw: Callable[[np.random.Generator, tuple[int, int]], Array], mean: float) -> Scores:
    """Return differences that are skewed although their mean is zero, or `effect`."""

    def scores(random: np.random.Generator, n: int, m: int, effect: float) -> tuple[Array, Array]:
        return np.zeros((n, m)), draw(random, (n, m)) - mean + effect

    return scores


EXCHANGEABLE: dict[str, Scores] = {
    "normal": normal,
    "0–1, ROUGE-like": rouge_like,
    "skewed scores": skewed,
    "half of the scores zero": half_zero,
    "heavy ties": ties,
    "right or wrong": right_or_wrong,
    "real ROUGE-L": real("rougeL"),
    "real ROUGE-2": real("rouge2"),
    "real log perplexity": real("perplexity"),
}
CLUSTERED: dict[str, Scores] = {
    "groups of 4": clustered,
    "groups of 1 to 8": uneven,
    "real ROUGE-L, groups of 3": real("rougeL", grouped=True),
    "real ROUGE-2, groups of 3": real("rouge2", grouped=True),
}
LOPSIDED: dict[str, Scores] = {
    "gamma(8), skewness 0.7": skewed_difference(lambda random, shape: random.gamma(8, 1, shape), 8),
    "gamma(3), skewness 1.2": skewed_difference(lambda random, shape: random.gamma(3, 1, shape), 3),
    "exponential, skewness 2": skewed_difference(lambda random, shape: random.exponential(1, shape), 1),
    "half zero, half exponential, 2.6": skewed_difference(
        lambda random, shape: random.exponential(1, shape) * (random.random(shape) < 0.5), 0.5
    ),
    "log-normal, skewness 6.2": skewed_difference(lambda random, shape: random.lognormal(0, 1, shape), np.exp(0.5)),
}


POWERED: dict[str, Scores] = {
    name: scores
    for name, scores in (EXCHANGEABLE | CLUSTERED).items()
    if not name.startswith(("real ROUGE-2", "real log"))  # their whole gain has less power, or far more
}
REAL_ONES = {name: scores for name, scores in (EXCHANGEABLE | CLUSTERED).items() if name.startswith("real")}


@dataclass(frozen=True)
class Decided:
    """What was said of many comparisons: whether improved or worse, the interval, and the p of a naive t-test."""

    said: Array
    low: Array
    high: Array
    naive: Array

    def covers(self, truth: float) -> float:
        """Return the share of intervals that hold the truth."""
        edge = 1e-9
        return float(np.mean((self.low <= truth + edge) & (truth - edge <= self.high)))


@dataclass(frozen=True)
class Size:
    """How much is simulated: comparisons for shares of verdicts, for coverage, for power, for seeds; resamples."""

    verdicts: int
    intervals: int
    power: int
    seeds: int
    resamples: int


def decide(base: Array, tuned: Array, resamples: int) -> Decided:
    """Decide comparisons, one for each column, as `compare_scores` would with seed 0."""
    naive = _naive(base, tuned)
    differences = _per_unit(base, tuned)
    if np.isin(base, (0, 1)).all() and np.isin(tuned, (0, 1)).all():
        return _right_or_wrong(differences, naive)
    parts = []
    for start in range(0, base.shape[1], COLUMNS):
        sample, p = _sampled(differences[:, start : start + COLUMNS], resamples)
        low, high = resampling.intervals(sample)
        parts.append(((p < resampling.ALPHA) & ((low > 0) | (high < 0)), low, high))
    said, low, high = (np.concatenate(part) for part in zip(*parts, strict=True))
    return Decided(said, low, high, naive)


def said_of(base: Array, tuned: Array, resamples: int) -> float:
    """Return the share of comparisons that end with improved or worse, by their p alone, which takes half the time."""
    differences = _per_unit(base, tuned)
    if np.isin(base, (0, 1)).all() and np.isin(tuned, (0, 1)).all():
        return float(_right_or_wrong(differences, differences).said.mean())
    parts = [differences[:, start : start + COLUMNS] for start in range(0, base.shape[1], COLUMNS)]
    return float(np.mean(np.concatenate([_sampled(part, resamples)[1] for part in parts]) < resampling.ALPHA))


def _sampled(values: Array, resamples: int) -> tuple[resampling.Sampled, Array]:
    mean, n = values.mean(axis=0), len(values)
    p = resampling.share_as_extreme(resampling.flipped_sums(values, 0, resamples) / n, mean, n)
    sample = resampling.sampled(values, mean, resampling.resampled_sums(values, 0, resamples) / n)
    return sample, np.maximum(np.maximum(p, resampling.bootstrap_p(sample)), resampling.t_p(sample))


def _per_unit(base: Array, tuned: Array) -> Array:
    return np.nanmean(tuned, axis=2) - np.nanmean(base, axis=2) if base.ndim == 3 else tuned - base


def _naive(base: Array, tuned: Array) -> Array:
    """Return the p of paired t-tests that take every item for independent."""
    differences = (tuned - base).transpose(1, 0, *range(2, base.ndim)).reshape(base.shape[1], -1)
    with np.errstate(all="ignore"):
        return np.nan_to_num(stats.ttest_1samp(differences, 0, axis=1, nan_policy="omit").pvalue, nan=1.0)


def _right_or_wrong(differences: Array, naive: Array) -> Decided:
    tables = [yes_no.count_disagreements(column) for column in differences.T]
    found = np.array([_table(one) for one in tables])
    return Decided(found[:, 0] < resampling.ALPHA, found[:, 1], found[:, 2], naive)


@cache
def _table(one: yes_no.Disagreements) -> tuple[float, float, float]:
    return (yes_no.mcnemar(one), *yes_no.score_interval(one))


def agree(base: Array, tuned: Array, decided: Decided, n: int) -> None:
    """Let `compare_scores` decide the first comparisons as well; it must say the same."""
    for at in range(CHECKED):
        before, after = base[:, at].ravel(), tuned[:, at].ravel()
        there = np.isfinite(before)
        groups = np.repeat(np.arange(n), base.shape[2])[there].tolist() if base.ndim == 3 else None
        entry = compare_scores(before[there].tolist(), after[there].tolist(), groups)
        assert (entry["verdict"] in ("improved", "worse")) == decided.said[at], entry
        assert np.allclose(entry["ci95"], (decided.low[at], decided.high[at])), entry


def truth_of(scores: Scores, effect: float, units: int = POPULATION) -> tuple[float, float, float, float]:
    """Return mean and standard deviation of a unit's difference, and the shares of units that win and lose."""
    sums, block = np.zeros(4), POPULATION
    for part in range(units // block):
        base, tuned = scores(np.random.default_rng((1, part)), block, 1, effect)
        unit = _per_unit(base, tuned)
        sums += unit.sum(), (unit**2).sum(), (unit > 0).sum(), (unit < 0).sum()
    mean, square, won, lost = sums / units
    return float(mean), float((square - mean**2) ** 0.5), float(won), float(lost)


def power_said(scores: Scores, effect: float, n: int, units: int = POPULATION) -> float:
    """Return the power that an entry would say if it knew the truth."""
    mean, spread, won, lost = truth_of(scores, effect, units)
    return yes_no.power(won, lost, n) if scores is right_or_wrong else statistics.power_reached(mean / spread, n)


def tabulate(title: str, head: list[str], rows: list[list[str]]) -> None:
    """Print a table in Markdown."""
    print(f"\n{title}\n\n| {' | '.join(head)} |\n|{'---|' * len(head)}")
    for row in rows:
        print(f"| {' | '.join(row)} |")
    print(flush=True)


def wrong_verdicts(title: str, cases: dict[str, Scores], size: Size, naive: str) -> None:
    """Tabulate false verdicts and coverage without a difference."""
    rows = []
    for place, (name, scores) in enumerate(cases.items()):
        cells: list[list[str]] = [[], [], []]
        for n in SIZES:
            base, tuned = scores(np.random.default_rng((place, n)), n, size.verdicts, 0.0)
            found = decide(base[:, : size.intervals], tuned[:, : size.intervals], size.resamples)
            if size.resamples == resampling.RESAMPLES:
                agree(base, tuned, found, n)
            blind = _naive(base, tuned) < resampling.ALPHA
            shares = (said_of(base, tuned, FEWER), blind.mean(), found.covers(0.0))
            for cell, share in zip(cells, shares, strict=True):
                cell.append(f"{100 * share:.1f}")
        rows.append([name, *(" · ".join(cell) for cell in cells)])
    head = [f"% at n = {' · '.join(map(str, SIZES))}", "improved or worse", naive, "interval covers"]
    tabulate(f"{title} {size.verdicts:,} comparisons, {size.intervals:,} intervals.", head, rows)


def coverage(cases: dict[str, Scores], count: int, resamples: int) -> None:
    """Tabulate coverage where there is a difference: one with a power of one half, or the gain of a real run."""
    rows = []
    for place, (name, scores) in enumerate(cases.items()):
        cells = []
        for n in SIZES:
            effect = 1.0 if name.startswith("real") else _effect(scores, n, 0.5)
            found = decide(*scores(np.random.default_rng((place, n, 7)), n, count, effect), resamples)
            cells.append(f"{100 * found.covers(truth_of(scores, effect, 40 * POPULATION)[0]):.1f}")
        rows.append([name, *cells])
    tabulate("A true difference: how often the interval covers it.", [f"% of {count:,}", *map(str, SIZES)], rows)


def power(cases: dict[str, Scores], count: int, resamples: int) -> None:
    """Tabulate the power that an entry would say if it knew the truth, and the share of verdicts reached."""
    rows = []
    for place, (name, scores) in enumerate(cases.items()):
        cells = []
        for wanted in (0.5, 0.8):
            for n in SIZES:
                effect = _effect(scores, n, wanted)
                base, tuned = scores(np.random.default_rng((place, n, 11)), n, count, effect)
                said, reached = power_said(scores, effect, n, 40 * POPULATION), said_of(base, tuned, resamples)
                cells.append(f"{said:.2f} / {reached:.3f} ({reached - said:+.3f})")
        rows.append([name, *cells])
    head = [f"said / reached, {count:,}", *(f"{wanted} at {n}" for wanted in (0.5, 0.8) for n in SIZES)]
    tabulate("Power.", head, rows)


def _effect(scores: Scores, n: int, wanted: float) -> float:
    """Return the effect to which the formula gives the wanted power, or the largest that the scores allow."""
    largest = 0.5 if scores in (half_zero, ties, right_or_wrong) else 1.0 if scores in REAL_ONES.values() else 4.0
    if power_said(scores, largest, n) < wanted:
        return largest
    found = optimize.brentq(lambda effect: power_said(scores, effect, n) - wanted, 1e-6, largest, xtol=1e-3)
    return float(found)


def seed_noise(count: int) -> None:
    """Tabulate false verdicts over several training seeds, with and without their noise."""
    rows = []
    for runs in (2, 3, 5):
        for noise in (0.0, 0.15, 0.5):
            random = np.random.default_rng((runs, int(100 * noise)))
            wrong = blind = 0
            for _ in range(count):
                item = random.normal(0, 1, 46)
                tuned = noise * random.normal(0, 1, (runs, 1)) + random.normal(0, 1, (runs, 46)) + item
                wrong += seeds.uncertainty(np.zeros((1, 46)), tuned).p < resampling.ALPHA
                blind += stats.ttest_1samp(tuned.mean(axis=0), 0).pvalue < resampling.ALPHA
            rows.append([str(runs), f"{noise:g}", f"{100 * wrong / count:.1f}", f"{100 * blind / count:.1f}"])
    head = ["seeds", "noise of a seed", "with seed noise", "over items alone"]
    tabulate(f"False verdicts over seeds, % of {count:,}, 46 items of standard deviation 1.", head, rows)


def main() -> None:
    """Print all tables."""
    parser = argparse.ArgumentParser(description="Calibration of verdicts, intervals and power.")
    parser.add_argument("--quick", action="store_true", help="fewer simulated comparisons and resamples")
    quick = parser.parse_args().quick
    started = time.monotonic()
    size = Size(1_000, 400, 500, 200, FEWER) if quick else Size(10_000, 2_000, 4_000, 2_000, resampling.RESAMPLES)
    wrong_verdicts("No true difference, items independent.", EXCHANGEABLE, size, "paired t-test")
    wrong_verdicts("No true difference, items in groups.", CLUSTERED, size, "t-test over items")
    wrong_verdicts("Mean difference zero, but lopsided.", LOPSIDED, size, "paired t-test")
    coverage(EXCHANGEABLE | CLUSTERED, size.intervals, size.resamples)
    power(POWERED, size.power, size.resamples)
    seed_noise(size.seeds)
    print(f"{time.monotonic() - started:.0f} s, of which this process computed {time.process_time():.0f}")


if __name__ == "__main__":
    main()
