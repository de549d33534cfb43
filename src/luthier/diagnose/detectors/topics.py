"""Which topic of the training data an answer is nearest to."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

from luthier.diagnose.case import Case, Ground, Seen

if TYPE_CHECKING:
    import numpy as np

ANSWERS = 40  # of a topic, the first, whose mean is its centre


def topic_margin(case: Case, ground: Ground) -> Seen:
    """How much nearer the answer is to the centre of another topic than to that of its own (difference of cosines).

    Sees: answers that belong to another topic of the data.
    Cannot see: anything where rows have no topic, or only one; topics that overlap.
    """
    centres = centroids(ground)
    if case.topic not in centres or len(centres) < 2 or not case.answer.tokens:
        return Seen(0.0)
    vector = ground.meaning.vector(case.answer.raw)
    own = float(vector @ centres[case.topic])
    return Seen(max(float(vector @ centre) for topic, centre in centres.items() if topic != case.topic) - own)


def topic_nearness(case: Case, ground: Ground) -> Seen:
    """Cosine to the centre of the nearest topic; where rows have no topic, to the centre of all training answers.

    Sees: answers that have nothing to do with the data at all.
    Cannot see: off-topic answers inside the field.
    """
    centres = centroids(ground)
    if not centres or not case.answer.tokens:
        return Seen(0.0)
    vector = ground.meaning.vector(case.answer.raw)
    return Seen(max(float(vector @ centre) for centre in centres.values()))


def centroids(ground: Ground) -> dict[str, np.ndarray]:
    """Return the centre of the training answers of each topic, of unit length; a topic needs two answers."""
    if not ground.centres:
        ground.centres.update(_centroids(ground))
    return ground.centres


def _centroids(ground: Ground) -> dict[str, np.ndarray]:
    import numpy as np

    texts: defaultdict[str, list[str]] = defaultdict(list)
    for row in ground.rows:
        if len(texts[row.topic]) < ANSWERS:
            texts[row.topic].append(row.answer.raw)
    ground.meaning.prepare(text for some in texts.values() for text in some)
    found = {}
    for topic, some in sorted(texts.items()):
        vectors = [ground.meaning.vector(text) for text in some]
        if len(vectors) > 1:
            mean = np.mean(vectors, axis=0)
            found[topic] = mean / max(float(np.linalg.norm(mean)), 1e-9)
    return found
