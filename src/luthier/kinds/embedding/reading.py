"""How much of a step is read and held at once, and what a plan makes of it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from luthier.models.estimate import Load

if TYPE_CHECKING:
    from transformers import PretrainedConfig

    from luthier.engine.batches import Measured, Micro

# Padded tokens that are read at once, and values (tokens x hidden x layers) that are held for the backward pass before
# gradients are cached instead; autograd keeps some 34 numbers for each: 1.1 GiB at 2**23.
AT_ONCE = {"cpu": 1024, "mps": 4096, "cuda": 16384}
HELD = {"cpu": 2**23, "mps": 2**24, "cuda": 2**26}


def reading(
    config: PretrainedConfig,
    device: str,
    rows: Sequence[Measured],
    micro: Micro,  # noqa: ARG001  (a protocol names the arguments)
) -> tuple[tuple[int, int, int], Load]:
    """Return what a step holds at once, and reads; see `kinds.base.Learn.reading`.

    Padding is left out, as texts are read by length. A row is taken for two texts of one length.
    """
    tokens, at_once = sum(row.tokens for row in rows), AT_ONCE.get(device, AT_ONCE["cuda"])
    size = int(config.hidden_size) * int(config.num_hidden_layers)
    parts = math.ceil(tokens / at_once)
    cached = parts > 1 and tokens * size > HELD.get(device, HELD["cuda"])
    squares = sum(row.tokens**2 for row in rows) // 2
    held = min(tokens, at_once) if cached else tokens
    return (1, held, len(rows)), Load(parts, tokens, len(rows), squares, times=2 if cached else 1)
