"""The kind `embedding`: models that turn a text into a vector, for search and similarity."""

from __future__ import annotations

from typing import TYPE_CHECKING

from luthier.kinds.base import Kind

KIND = Kind("embedding", __name__)

if TYPE_CHECKING:
    from luthier.kinds.base import Learn, Model, Rows, Score
    from luthier.kinds.embedding import learn, model, rows, score

    # The modules are what the protocols say: the type checker proves it here.
    _rows: Rows = rows
    _model: Model = model
    _learn: Learn = learn
    _score: Score = score
