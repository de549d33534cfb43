"""Which attention is quicker, by device, precision and length: read from a measured table.

Torch's fused attention (SDPA) wins wherever rows are long. On a CPU its backward pass is slow for short rows in
bfloat16, and plain products and a softmax ("eager") are quicker.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson

if TYPE_CHECKING:
    import torch

TABLE = Path(__file__).with_name("attention.json")


def eager_up_to(device: str, dtype: torch.dtype) -> int:
    """Return the row length in tokens up to which eager attention is the quicker one; 0: never."""
    return int(_table()["eager_up_to"].get(f"{device} {str(dtype).removeprefix('torch.')}", 0))


@cache
def _table() -> dict[str, Any]:
    table: dict[str, Any] = orjson.loads(TABLE.read_bytes())
    return table
