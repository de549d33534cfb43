"""Several models on one test set: every pair compared, corrected for their number, and a ranking that says no more.

Means alone rank everything, chance included. Here a model's rank is one more than the number of models that are better
beyond chance, so that those that cannot be told apart share a rank. All pairs of one metric are corrected together by
Holm's method. Where a model was trained with several seeds, their noise is part of each comparison (see `seeds`).
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np

from luthier.errors import UserError
from luthier.evaluate import resampling, statistics
from luthier.evaluate.compare import FEWEST_UNITS
from luthier.evaluate.seeds import compare_seeds
from luthier.evaluate.sentences import exponential, listed

BETTER, WORSE, NO_EVIDENCE, TOO_FEW = "better", "worse", "no evidence", "too few examples"


@dataclass(frozen=True)
class Contender:
    """One model in a ranking.

    Attributes:
        name: for people. scores: metric name to one list of scores for each training seed, all in the order of items.
        runs: where the scores are from, one for each seed.
    """

    name: str
    scores: Mapping[str, Sequence[Sequence[float]]]
    runs: Sequence[str] = ()


@dataclass(frozen=True)
class Yardstick:
    """A metric as far as ranking needs it.

    Attributes:
        title: for people. higher_is_better: its direction. logarithmic: scores are logarithms of what people read.
        groups: of the items that have a score.
    """

    title: str
    higher_is_better: bool
    logarithmic: bool
    groups: Sequence[Hashable]


def standings(
    contenders: Sequence[Contender], metrics: Mapping[str, Yardstick], primary: str, seed: int = 0
) -> dict[str, Any]:
    """Rank models on each metric, every pair compared.

    Returns:
        `sentence`, `primary`, `alpha`, and `metrics`: name to {`title`, `higher_is_better`, `items`, `n`, `correction`,
        `ranking` (best mean first: `rank`, `name`, `runs`, `seeds`, `mean`), `pairs` (`first`, `second`, `difference`
        (first − second), `ci95`, `p`, `p_adjusted`, `verdict`: first is better, worse, no evidence, too few examples)}.

    Raises:
        UserError: fewer than two models, or two of one name.
    """
    names = [one.name for one in contenders]
    if len(names) < 2 or len(set(names)) < len(names):
        raise UserError("A ranking needs two models or more, each of them once.", "", "Name runs of different models.")
    ranked = {name: _ranked(contenders, name, metric, seed) for name, metric in metrics.items()}
    return {
        "sentence": _sentence(ranked[primary]),
        "primary": primary,
        "alpha": resampling.ALPHA,
        "metrics": ranked,
    }


def _ranked(contenders: Sequence[Contender], name: str, metric: Yardstick, seed: int) -> dict[str, Any]:
    pairs = [_pair(first, second, name, metric, seed) for first, second in combinations(contenders, 2)]
    for one, p in zip(pairs, statistics.holm([pair["p"] for pair in pairs]), strict=True):
        one["p_adjusted"] = p
        one["verdict"] = _verdict(one, metric.higher_is_better)
    beaten = {one.name: 0 for one in contenders}
    for one in pairs:
        if one["verdict"] in (BETTER, WORSE):
            beaten[one["second"] if one["verdict"] == BETTER else one["first"]] += 1
    unit = statistics.units(metric.groups, len(metric.groups))
    means = {one.name: _mean(one.scores[name], unit, metric.logarithmic) for one in contenders}
    ordered = sorted(contenders, key=lambda one: -means[one.name] if metric.higher_is_better else means[one.name])
    ranking = [
        {
            "rank": 1 + beaten[one.name],
            "name": one.name,
            "runs": list(one.runs),
            "seeds": len(one.scores[name]),
            "mean": means[one.name],
        }
        for one in ordered
    ]
    return {
        "title": metric.title,
        "higher_is_better": metric.higher_is_better,
        "items": len(metric.groups),
        "n": int(unit.max()) + 1,
        "correction": f"Holm over {len(pairs)} pairs",
        "ranking": sorted(ranking, key=lambda one: one["rank"]),
        "pairs": pairs,
    }


def _pair(first: Contender, second: Contender, name: str, metric: Yardstick, seed: int) -> dict[str, Any]:
    entry = compare_seeds(
        second.scores[name],
        first.scores[name],
        metric.groups,
        seed,
        metric.higher_is_better,
        metric.title,
        metric.logarithmic,
    )
    return {
        "first": first.name,
        "second": second.name,
        "difference": entry["difference"],
        "ci95": entry["ci95"],
        "p": entry["p"],
        "p_adjusted": entry["p"],
        "decided_by": entry["decided_by"],
        "n": entry["n"],
    }


def _verdict(one: Mapping[str, Any], higher_is_better: bool) -> str:
    if one["n"] < FEWEST_UNITS or one["ci95"] is None:
        return TOO_FEW if one["difference"] else NO_EVIDENCE
    low, high = one["ci95"]
    if one["p_adjusted"] >= resampling.ALPHA or low <= 0 <= high:
        return NO_EVIDENCE
    return BETTER if (one["difference"] > 0) == higher_is_better else WORSE


def _mean(scores: Sequence[Sequence[float]], unit: statistics.Places, logarithmic: bool) -> float:
    """Return the mean over units and seeds."""
    items = np.asarray(scores, dtype=np.float64).mean(axis=0)
    mean = float((np.bincount(unit, items) / np.bincount(unit)).mean())
    return exponential(mean) if logarithmic else mean


def _sentence(ranked: Mapping[str, Any]) -> str:
    ranking, title = ranked["ranking"], ranked["title"]
    leader = ranking[0]["name"]
    tied = [one["name"] for one in ranking[1:] if one["rank"] == 1]
    if ranked["n"] < FEWEST_UNITS:
        return f"{ranked['n']} test items are too few to rank anything by {title}."
    if not tied:
        return f"{leader} is best by {title}, beyond chance."
    if len(tied) == len(ranking) - 1:
        return f"By {title}, no model is better than another beyond chance."
    return f"{leader} leads by {title}, but cannot be told from {listed(tied)}."
