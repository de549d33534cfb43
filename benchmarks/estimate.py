"""Hold what `luthier plan` predicts against trainings: peak memory and time, over shapes, batch sizes and lengths.

    python benchmarks/estimate.py                          # a, b and the starter; three batch sizes, three lengths
    python benchmarks/estimate.py --shape a --length 96 --batch 8
    OMP_NUM_THREADS=1 python benchmarks/estimate.py --cpu-time   # on a busy machine

This machine is calibrated first, as `luthier plan` does it. Each training is a process of its own, on the path of the
train stage, with weights drawn at random (the starter: its own) and rows of log-normal length. Memory is its peak.
Time is that of all steps but the first, which warms up. With --cpu-time both are counted in the process's CPU time,
which on one thread leaves out what other programs take.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

SHAPES, BATCHES, LENGTHS = ("a", "b", "starter"), (4, 8, 16), (32, 96, 384)
LONGEST = 512
WITHIN = {"memory": 0.15, "seconds": 0.25}


def rows(vocabulary: int, count: int, length: int) -> list[Any]:
    """Return rows of log-normal length (median `length`, at most 512 tokens), the last 52 % of each trained."""
    from luthier.kinds.causal_lm.rows import Example
    from shapes import PROMPT

    random = np.random.default_rng(0)
    made = []
    lengths = np.clip(random.lognormal(np.log(length), 0.4, count).astype(int), 16, LONGEST)
    for place, each in enumerate(lengths.tolist()):
        ids = random.integers(4, vocabulary, each).tolist()
        prompt = round(PROMPT * each)
        made.append(Example(str(place), ids, [-100] * prompt + ids[prompt:]))
    return made


def train(shape: str, batch: int, length: int, steps: int) -> dict[str, float]:
    """Train in this process; return its peak memory and the time of the steps after the first."""
    from luthier.engine.settings import FitSettings
    from luthier.engine.threads import use_cores
    from luthier.kinds.base import Encoded, Objective
    from luthier.kinds.causal_lm import learn
    from luthier.kinds.path import fit_on_path
    from luthier.models.bases import resolve
    from luthier.models.load import device_type, load_tokenizer, pick_dtype
    from luthier.models.peak import begin, peak_gib
    from shapes import model

    use_cores()
    device = device_type()
    made = model(shape, dtype=pick_dtype("auto")).to(device)
    begin(device)
    base = resolve("starter")
    examples = rows(made.config.vocab_size, batch * steps, length)
    taught = learn.material(made, Encoded(examples), None, load_tokenizer(base), base, Objective(), 0)
    settings = FitSettings(steps=steps, batch_size=batch, schedule="constant", checkpoint_every=10**6)
    with tempfile.TemporaryDirectory() as folder:
        fit_on_path(made, taught, settings, Path(folder), None, 0)
        lines = [json.loads(line) for line in (Path(folder) / "metrics.jsonl").read_text().splitlines()]
    ends = [line["seconds"] for line in lines if "loss" in line]
    return {"memory": peak_gib(device), "seconds": ends[-1] - ends[0]}


def predicted(shape: str, batch: int, length: int, steps: int, machine: Any, cost: dict[str, Any]) -> dict[str, float]:
    """Return what the plan predicts of the same steps. `cost`: of a token of this shape, filled at the first call."""
    from luthier.engine.batches import measure_language
    from luthier.kinds.predict import Asked, predict
    from luthier.models import estimate
    from luthier.models.load import device_type, pick_dtype
    from shapes import config

    wanted, adapter = config(shape), estimate.AdapterShape("lora", 8, "all-linear")
    parameters, _ = estimate.count(wanted, adapter)
    dtype = pick_dtype("auto")
    measured = [measure_language(row) for row in rows(wanted.vocab_size, batch * steps, length)]
    asked = Asked("causal-lm", wanted, adapter, parameters, dtype, device_type(), measured, [], batch, steps, 0, 10**6)
    cost.setdefault(shape, estimate.cost_per_token(wanted, adapter, dtype, 96))
    whole = predict(asked, machine, cost[shape])
    timed = [row for step in range(2, steps + 1) for row in _rows_of(step, measured, batch)]
    later = Asked("causal-lm", wanted, adapter, parameters, dtype, device_type(), timed, [], batch, steps - 1, 0, 10**6)
    found = predict(later, machine, cost[shape])
    saving = machine.seconds
    seconds = found.seconds - found.work.saves * (saving.save + saving.saved * parameters.trainable)
    return {"memory": whole.memory.total, "seconds": seconds}


def _rows_of(step: int, measured: list[Any], batch: int) -> list[Any]:
    from luthier.engine.batches import rows_of_step

    return [measured[row] for row in rows_of_step(step, len(measured), batch, 0)]


def _child(arguments: list[str], cpu_time: bool) -> Any:
    command = [sys.executable, __file__, *arguments, *(["--cpu-time"] if cpu_time else [])]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{' '.join(arguments)} failed:\n{done.stderr[-4000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def calibrate() -> dict[str, Any]:
    """Calibrate in this process, as `python -m luthier.kinds.calibrate` does."""
    from luthier.engine.threads import use_cores
    from luthier.kinds.calibrate import measure
    from luthier.models.load import device_type, pick_dtype

    use_cores()
    began = time.perf_counter()
    return {**measure(device_type(), pick_dtype("auto")).to_json(), "took": time.perf_counter() - began}


def compare(asked: argparse.Namespace) -> dict[str, Any]:
    """Calibrate, train and predict; return the table."""
    from luthier.models.machine import Machine, Seconds

    told = _child(["--calibrate"], asked.cpu_time)
    took = told.pop("took")
    machine = Machine(**{**told, "seconds": Seconds(**told["seconds"])})
    table, cost = [], {}
    for shape in asked.shape or SHAPES:
        for batch in asked.batch or BATCHES:
            for length in asked.length or LENGTHS:
                case = [shape, str(batch), str(length), str(asked.steps)]
                measured = _child(["--one", *case], asked.cpu_time)
                expected = predicted(shape, batch, length, asked.steps, machine, cost)
                ratios = {name: expected[name] / measured[name] for name in WITHIN}
                table.append({"shape": shape, "batch": batch, "length": length,
                              **{name: {"predicted": round(expected[name], 3), "measured": round(measured[name], 3),
                                        "ratio": round(ratios[name], 3)} for name in WITHIN}})  # fmt: skip
                print(_line(table[-1]), file=sys.stderr, flush=True)
    return {"machine": _machine(), "cpu_time": asked.cpu_time, "steps": asked.steps, "calibration_seconds": took,
            "constants": told, "table": table, "summary": _summary(table)}  # fmt: skip


def _summary(table: list[dict[str, Any]]) -> dict[str, Any]:
    errors = {name: [abs(row[name]["ratio"] - 1) for row in table] for name in WITHIN}
    return {
        name: {"median_error": round(median(errors[name]), 3), "largest_error": round(max(errors[name]), 3),
               "within": f"{sum(error <= bound for error in errors[name])} of {len(table)} within {bound:.0%}"}
        for name, bound in WITHIN.items()
    }  # fmt: skip


def _line(row: dict[str, Any]) -> str:
    memory, seconds = row["memory"], row["seconds"]
    return (
        f"{row['shape']:8s} batch {row['batch']:3d} length {row['length']:4d}  "
        f"memory {memory['predicted']:6.2f} GiB, was {memory['measured']:6.2f} ({memory['ratio']:.2f})  "
        f"time {seconds['predicted']:7.2f} s, was {seconds['measured']:7.2f} ({seconds['ratio']:.2f})"
    )


def _machine() -> dict[str, Any]:
    from luthier.engine.threads import usable_cores
    from luthier.models.rate import _cpu_name

    return {"cpu": _cpu_name(), "cores": usable_cores()}


def main() -> None:
    """Measure what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", action="append", choices=SHAPES)
    parser.add_argument("--batch", action="append", type=int)
    parser.add_argument("--length", action="append", type=int)
    parser.add_argument("--steps", type=int, default=4)
    parser.add_argument("--cpu-time", action="store_true", help="count CPU time; on one thread, for a busy machine")
    parser.add_argument("--one", nargs=4, metavar=("SHAPE", "BATCH", "LENGTH", "STEPS"), help="train in this process")
    parser.add_argument("--calibrate", action="store_true", help="calibrate in this process")
    parser.add_argument("--to", type=Path, default=Path(__file__).parent / "results" / "estimate.json")
    asked = parser.parse_args()
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    if asked.cpu_time:
        time.perf_counter = time.process_time
    if asked.one:
        print(json.dumps(train(asked.one[0], *map(int, asked.one[1:]))))
        return
    if asked.calibrate:
        print(json.dumps(calibrate()))
        return
    result = compare(asked)
    asked.to.parent.mkdir(parents=True, exist_ok=True)
    asked.to.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    print(json.dumps(result["summary"], indent=2))


if __name__ == "__main__":
    main()
