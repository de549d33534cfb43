"""Groups of failing answers that are alike, with an exemplar each (scikit-learn)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from luthier.diagnose.base import Line
from luthier.diagnose.case import Case, Ground
from luthier.diagnose.taxonomy import categories

if TYPE_CHECKING:
    import numpy as np

LEAST = 6  # failing answers without which there is nothing to group
MOST_GROUPS = 8
MOST_ANSWERS = 2_000
TERMS = 8
# How much it counts that two answers fail alike, beside what they say.
CATEGORY_WEIGHT = 0.7


def clusters(
    lines: Sequence[Line],
    cases: Mapping[str, Case],
    findings: Mapping[str, Sequence[Mapping[str, Any]]],
    ground: Ground,
    side: str,
    seed: int,
) -> list[dict[str, Any]]:
    """Return the groups of the failing answers of a side, the largest first.

    Answers are grouped by what they say (the vectors of `ground.meaning`) and by their categories, with k-means; of 2
    to 8 groups the number with the best silhouette is taken. The exemplar is the answer nearest to the centre.

    Args:
        lines: of answers-*.jsonl. cases, findings: by id. seed: of k-means.
    """
    failing = [line for line in lines if findings.get(line["id"])][:MOST_ANSWERS]
    if len(failing) < LEAST:
        return []
    points = _points([cases[line["id"]] for line in failing], [findings[line["id"]] for line in failing], ground)
    places, centres = _grouped(points, seed)
    overall = Counter(unit for line in failing for unit in cases[line["id"]].answer.stems)
    made = []
    for group in range(len(centres)):
        members = [place for place, one in enumerate(places) if one == group]
        nearest = min(members, key=lambda place: (float(((points[place] - centres[group]) ** 2).sum()), place))
        made.append(_cluster(side, [failing[place] for place in members], failing[nearest], cases, findings, overall))
    return sorted(made, key=lambda one: (-one["size"], str(one["ids"][0])))


def _points(cases: Sequence[Case], findings: Sequence[Sequence[Mapping[str, Any]]], ground: Ground) -> np.ndarray:
    import numpy as np

    names = [one.name for one in categories()]
    said = np.stack([ground.meaning.vector(case.answer.raw) for case in cases])
    marks = np.zeros((len(cases), len(names)))
    for place, found in enumerate(findings):
        for one in found:
            marks[place, names.index(one["category"])] = CATEGORY_WEIGHT
    return np.hstack([said, marks]).astype(np.float64)


def _grouped(points: np.ndarray, seed: int) -> tuple[list[int], np.ndarray]:
    """Return the group of each point and the centres; one group where all points are the same."""
    import numpy as np
    from sklearn.cluster import KMeans
    from sklearn.metrics import silhouette_score

    different = len(np.unique(points.round(6), axis=0))
    best: tuple[float, Any] | None = None
    for count in range(2, min(MOST_GROUPS, len(points) - 1, different) + 1):
        model = KMeans(count, n_init=4, random_state=seed).fit(points)
        score = float(silhouette_score(points, model.labels_))
        if best is None or score > best[0] + 1e-9:
            best = (score, model)
    if best is None:
        return [0] * len(points), points.mean(axis=0, keepdims=True)
    return [int(label) for label in best[1].labels_], best[1].cluster_centers_


def _cluster(
    side: str,
    members: Sequence[Line],
    exemplar: Line,
    cases: Mapping[str, Case],
    findings: Mapping[str, Sequence[Mapping[str, Any]]],
    overall: Counter[str],
) -> dict[str, Any]:
    counted = Counter(name for line in members for name in sorted({one["category"] for one in findings[line["id"]]}))
    return {
        "side": side,
        "size": len(members),
        "terms": _terms([cases[line["id"]] for line in members], overall),
        "categories": dict(counted.most_common()),
        "exemplar": {
            "id": exemplar["id"],
            "question": exemplar["question"],
            "answer": exemplar["answer"],
            "sentence": " ".join(one["sentence"] for one in findings[exemplar["id"]]),
        },
        "ids": [line["id"] for line in members],
    }


def _terms(cases: Sequence[Case], overall: Counter[str]) -> list[str]:
    """Return the words that are more frequent in these answers than in the other failing ones, as they are written."""
    here = Counter(unit for case in cases for unit in case.answer.stems)
    written = {token.stem: token.word for case in cases for token in case.answer.content}
    scored = sorted(here, key=lambda unit: (-here[unit] * here[unit] / overall[unit], unit))
    return [written.get(unit, unit) for unit in scored[:TERMS]]
