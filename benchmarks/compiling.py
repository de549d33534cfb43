"""A training of shape a whose norms and gates torch.compile makes (`training.compile: true`) beside one without.

    OMP_NUM_THREADS=1 python benchmarks/compiling.py

They take turns, each training in a process of its own: plain, compiled for the first time, compiled again from what
torch.compile kept. Prints the mean seconds of a step, all but the first, over all rounds and with each step taken from
its quickest round, in which a busy machine shows less; the median seconds from a model at hand to the end of the first
step; the largest difference of a loss. It needs a C++ compiler.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

from luthier.run.progress import Advance, Silent

SIDES = ("plain", "compiled", "again")


class Clock(Silent):
    """Keeps when each step of a training ended."""

    def __init__(self) -> None:
        self.ends: list[float] = []

    @contextmanager
    def task(self, name: str, total: int | None = None, unit: str = "rows") -> Iterator[Advance]:
        """Yield a function that looks at the clock."""
        yield lambda *_, **__: self.ends.append(time.perf_counter())


def train(side: str, steps: int) -> dict[str, Any]:
    """Train shape a as the train stage does, in this process; return what its steps took, and their losses."""
    from luthier.engine.settings import FitSettings
    from luthier.engine.threads import use_cores
    from luthier.kinds.base import Encoded, Objective
    from luthier.kinds.causal_lm import learn
    from luthier.kinds.path import fit_on_path
    from luthier.models.bases import resolve
    from luthier.models.load import load_tokenizer
    from shapes import model, rows

    use_cores()
    made, base = model("a"), resolve("starter")
    encoded = Encoded(rows(made.config.vocab_size))
    taught = learn.material(made, encoded, None, load_tokenizer(base), base, Objective(), 0)
    settings = FitSettings(steps=steps, schedule="constant", checkpoint_every=10**6, compiled=side != "plain")
    clock = Clock()
    with tempfile.TemporaryDirectory() as folder:
        began = time.perf_counter()
        fit_on_path(made, taught, settings, Path(folder), clock, 0)
        told = [json.loads(line) for line in (Path(folder) / "metrics.jsonl").read_text().splitlines()]
    losses = [line["loss"] for line in told if "loss" in line]
    took = [after - before for before, after in pairwise(clock.ends)]
    return {"first": clock.ends[0] - began, "took": took, "losses": losses}


def in_process(side: str, steps: int, kept: str) -> dict[str, Any]:
    """Train in a new process, where torch.compile keeps what it makes in a folder."""
    command = [sys.executable, __file__, "--one", side, "--steps", str(steps)]
    variables = {**os.environ, "TORCHINDUCTOR_CACHE_DIR": kept, "TOKENIZERS_PARALLELISM": "false"}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=variables)
    if done.returncode:
        raise SystemExit(f"{side} failed:\n{done.stderr[-4000:]}")
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result


def main() -> None:
    """Let them take turns, and print what came out."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--one", choices=SIDES, help="train one of them in this process")
    asked = parser.parse_args()
    if asked.one:
        print(json.dumps(train(asked.one, asked.steps)))
        return
    made: dict[str, list[dict[str, Any]]] = {side: [] for side in SIDES}
    for number in range(asked.rounds):
        with tempfile.TemporaryDirectory() as kept:
            for side in SIDES if number % 2 == 0 else (*SIDES[1:], SIDES[0]):
                made[side].append(in_process(side, asked.steps, kept))
    plain = made["plain"][0]["losses"]
    for side, results in made.items():
        mean = statistics.mean(took for one in results for took in one["took"])
        quickest = statistics.mean(map(min, zip(*(one["took"] for one in results), strict=True)))
        first = statistics.median(one["first"] for one in results)
        apart = max(abs(ours - theirs) for ours, theirs in zip(results[0]["losses"], plain, strict=True))
        told = f"{mean:.3f} s a step, {quickest:.3f} in the quickest, {first:.1f} s to the end of the first"
        print(f"{side:9s} {told}, losses within {apart:.0e}")


if __name__ == "__main__":
    main()
