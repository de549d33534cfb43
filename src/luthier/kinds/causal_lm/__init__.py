"""The kind `causal-lm`: language models that answer in words."""

from __future__ import annotations

from typing import TYPE_CHECKING

from luthier.kinds.base import Kind

KIND = Kind("causal-lm", __name__)

if TYPE_CHECKING:
    from luthier.kinds.base import Learn, Model, Rows, Score
    from luthier.kinds.causal_lm import learn, model, rows, score

    # The modules are what the protocols say: the type checker proves it here.
    _rows: Rows = rows
    _model: Model = model
    _learn: Learn = learn
    _score: Score = score
