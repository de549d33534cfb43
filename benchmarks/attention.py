"""Eager against fused attention on short rows, forward and backward: what models/attention.json rests on.

    OMP_NUM_THREADS=1 python benchmarks/attention.py
    OMP_NUM_THREADS=1 python benchmarks/attention.py --dtype bfloat16     # only where the CPU has instructions for it

Prints milliseconds for each length and number of heads. `eager_up_to` in models/attention.json is the greatest length
up to which eager is never the slower one by more than 5 %, 0 where it is so from the shortest on.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable

import torch

from luthier.engine.threads import use_cores
from luthier.models import segments
from luthier.models.rate import _cpu_name

LENGTHS = (16, 32, 64, 96, 128, 192, 256, 512, 1024)
HEADS = ((6, 6), (9, 3), (32, 32))  # of the queries, of keys and values: the shapes a, b and c
SIZE = 64
TOLERATED = 1.05


def milliseconds(work: Callable[[], None], repeats: int = 15) -> float:
    """Return the median time of one call."""
    work()
    times = []
    for _ in range(repeats):
        began = time.perf_counter()
        work()
        times.append(time.perf_counter() - began)
    return 1000 * statistics.median(times)


def measure(heads: tuple[int, int], length: int, dtype: torch.dtype) -> dict[str, float]:
    """Return the time of both implementations on one row."""
    query = torch.randn(1, length, heads[0], SIZE, dtype=dtype, requires_grad=True)
    key, value = (torch.randn(1, length, heads[1], SIZE, dtype=dtype, requires_grad=True) for _ in range(2))
    pulled = torch.randn(1, heads[0], length, SIZE, dtype=dtype)

    def attend(limit: int) -> None:
        part = (query.transpose(1, 2), key.transpose(1, 2), value.transpose(1, 2))
        segments._attend_one(part, SIZE**-0.5, 0.0, None, limit).backward(pulled)

    return {"eager": milliseconds(lambda: attend(length)), "sdpa": milliseconds(lambda: attend(0))}


def main() -> None:
    """Measure all lengths and say what the table should hold."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dtype", default="float32", choices=("float32", "bfloat16"))
    asked = parser.parse_args()
    use_cores()
    dtype = getattr(torch, asked.dtype)
    limit, quicker = 0, True
    for length in LENGTHS:
        each = {f"{heads[0]}/{heads[1]}": measure(heads, length, dtype) for heads in HEADS}
        quicker &= all(one["eager"] <= TOLERATED * one["sdpa"] for one in each.values())
        limit = length if quicker else limit
        rounded = {name: {how: round(took, 2) for how, took in one.items()} for name, one in each.items()}
        print(json.dumps({"length": length, **rounded}), flush=True)
    machine = {"cpu": _cpu_name(), "threads": torch.get_num_threads(), "dtype": asked.dtype}
    print(json.dumps({**machine, "eager_up_to": limit}))


if __name__ == "__main__":
    main()
