"""Luthier beside TRL's SFTTrainer: the same model, rows, examples of each step and loss, in one run, taking turns.

    python benchmarks/train.py --shape a --steps 12 --rounds 5
    python benchmarks/train.py --reference --steps 8      # 905 rows, two epochs, on the shape of Falcon-RW-1B
    python benchmarks/train.py --overhead --steps 20      # the engine's time besides forward, backward and optimizer
    python benchmarks/train.py --products --steps 10      # the share of matrix products in its time

It needs TRL: pip install --constraint constraints.txt --editable '.[bench]'. Each contender trains in a process of its
own, one after the other, round by round, so that a change of the machine meets all of them and peak memory is its own.

    luthier          what `luthier run` does: kinds.path.fit_on_path
    luthier-bf16     the same with the base in bfloat16, also where a CPU only emulates it: for the losses, not the time
    trl-default      SFTTrainer as it comes, 1 example x 8: bf16 autocast and gradient checkpointing (use_cpu=True
                     without a GPU, as bf16 is refused otherwise)
    trl-default-fp32 the same in float32, for machines that have no bf16 instructions
    trl-8x1          float32, 8 x 1, no gradient checkpointing
    trl-padding-free float32, 8 x 1 flattened by TRL, no gradient checkpointing
    trl-bf16, trl-bf16-padding-free   these two in bf16 autocast

The time of a run is from the end of its first step to the end of its last.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

BATCH = 8
REFERENCE_ROWS, REFERENCE_EPOCHS, REFERENCE_RATE = 905, 2, 0.345  # the rate in samples a second
CONTENDERS: dict[str, dict[str, Any]] = {
    "luthier": {},
    "luthier-bf16": {"dtype": "bfloat16"},
    "trl-default": {"bf16": None, "checkpointing": True, "examples": 1},
    "trl-default-fp32": {"bf16": False, "checkpointing": True, "examples": 1},
    "trl-8x1": {"bf16": False, "checkpointing": False, "examples": BATCH},
    "trl-padding-free": {"bf16": False, "checkpointing": False, "examples": BATCH, "padding_free": True},
    "trl-bf16": {"bf16": True, "checkpointing": False, "examples": BATCH},
    "trl-bf16-padding-free": {"bf16": True, "checkpointing": False, "examples": BATCH, "padding_free": True},
}
DEFAULT = ("luthier", "trl-default-fp32", "trl-8x1", "trl-padding-free")


def train_luthier(
    shape: str, steps: int, folder: Path, count: int = 900, budget: int = 0, dtype: str = "auto"
) -> dict[str, Any]:
    """Train as the train stage does; return the loss and the time of each step's end."""
    from luthier.engine.settings import FitSettings
    from luthier.kinds.base import Encoded, Objective
    from luthier.kinds.causal_lm import learn
    from luthier.kinds.path import fit_on_path
    from luthier.models.bases import resolve
    from luthier.models.load import load_tokenizer, pick_dtype
    from shapes import model, rows

    made = model(shape, dtype=pick_dtype(dtype))
    examples = rows(made.config.vocab_size, count)
    base = resolve("starter")
    taught = learn.material(made, Encoded(examples), None, load_tokenizer(base), base, Objective(), 0)
    settings = FitSettings(
        steps=steps, batch_size=BATCH, schedule="constant", checkpoint_every=10**6, token_budget=budget
    )
    _, path = fit_on_path(made, taught, settings, folder, None, 0)
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    told = [line for line in lines if "loss" in line]
    return {"losses": [line["loss"] for line in told], "ends": [line["seconds"] for line in told], "path": path}


def train_trl(shape: str, steps: int, folder: Path, how: dict[str, Any]) -> dict[str, Any]:
    """Train with SFTTrainer on the same rows in the same order."""
    import torch
    from datasets import Dataset
    from transformers import TrainerCallback
    from trl import SFTConfig, SFTTrainer

    from luthier.engine.batches import rows_of_step
    from luthier.models.bases import resolve
    from luthier.models.load import load_tokenizer
    from shapes import model, rows

    made = model(shape)
    examples = rows(made.config.vocab_size)
    order = [row for step in range(1, steps + 1) for row in rows_of_step(step, len(examples), BATCH, 0)]
    data = Dataset.from_list([{"input_ids": examples[n].input_ids, "labels": examples[n].labels} for n in order])
    arguments = SFTConfig(
        output_dir=str(folder),
        max_steps=steps,
        per_device_train_batch_size=how["examples"],
        gradient_accumulation_steps=BATCH // how["examples"],
        gradient_checkpointing=how["checkpointing"],
        bf16=how["bf16"],
        padding_free=how.get("padding_free", False),
        max_length=None,
        learning_rate=2e-4,
        lr_scheduler_type="constant",
        train_sampling_strategy="sequential",
        dataset_kwargs={"skip_prepare_dataset": True},
        logging_steps=1,
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
        use_cpu=not torch.cuda.is_available(),  # without it bf16 is refused where there is no GPU
    )
    ends: list[float] = []

    class Clock(TrainerCallback):
        def on_step_end(self, *_: Any, **__: Any) -> None:
            ends.append(time.perf_counter())

    trainer = SFTTrainer(made, arguments, train_dataset=data, processing_class=load_tokenizer(resolve("starter")))
    trainer.add_callback(Clock())
    trainer.train()
    losses = [line["loss"] for line in trainer.state.log_history if "loss" in line]
    return {"losses": losses, "ends": ends, "path": {"bf16": arguments.bf16, "packages": _packages()}}


def one(contender: str, shape: str, steps: int, budget: int = 0) -> dict[str, Any]:
    """Train one contender in this process and return what came out."""
    from luthier.engine.threads import use_cores

    threads = use_cores()
    how = CONTENDERS[contender]
    with tempfile.TemporaryDirectory() as folder:
        if contender.startswith("luthier"):
            made = train_luthier(shape, steps, Path(folder), budget=budget, **how)
        else:
            made = train_trl(shape, steps, Path(folder), how)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    seconds = made["ends"][-1] - made["ends"][0]
    return {**_rates(shape, steps, seconds), "losses": made["losses"], "peak_gib": round(peak, 3),
            "path": made["path"], "threads": threads}  # fmt: skip


def reference(steps: int) -> dict[str, Any]:
    """Measure the workload of 905 rows and two epochs over some of its steps; return it beside the known rate."""
    from luthier.engine.batches import count_steps

    total = count_steps(REFERENCE_ROWS, BATCH, REFERENCE_EPOCHS)
    with tempfile.TemporaryDirectory() as folder:
        made = train_luthier("c", steps, Path(folder), REFERENCE_ROWS)
    rates = _rates("c", steps, made["ends"][-1] - made["ends"][0], REFERENCE_ROWS)
    faster = round(rates["samples_per_second"] / REFERENCE_RATE, 2)
    return {"steps_of_the_workload": total, "steps_measured": steps - 1, **rates, "reference": REFERENCE_RATE,
            "times_the_reference": faster, "path": made["path"], "machine": _machine()}  # fmt: skip


def overhead(shape: str, steps: int) -> dict[str, Any]:
    """Return the share of the time of a training that is not in forward, backward, clipping or the optimizer."""
    from accelerate import Accelerator
    from torch.optim import AdamW

    from luthier.kinds.causal_lm import learn

    begun: list[bool] = []
    spent: dict[str, list[float]] = {"forward": [], "backward": [], "optimizer": [], "clipping": []}

    def timed(owner: Any, name: str, key: str) -> None:
        inner = getattr(owner, name)

        def wrapper(*args: Any, **kwargs: Any) -> Any:
            began = time.perf_counter()
            made = inner(*args, **kwargs)
            spent[key].append(time.perf_counter() - began)
            if key == "optimizer" and not begun:  # the first step warms up: its times are left out
                begun.append(True)
                for each in spent.values():
                    each.clear()
            return made

        setattr(owner, name, wrapper)

    timed(learn, "loss_sum", "forward")
    timed(Accelerator, "backward", "backward")
    timed(Accelerator, "clip_grad_norm_", "clipping")
    timed(AdamW, "step", "optimizer")
    with tempfile.TemporaryDirectory() as folder:
        made = train_luthier(shape, steps, Path(folder))
    total = made["ends"][-1] - made["ends"][0]
    parts = {key: sum(each) for key, each in spent.items()}
    return {"shape": shape, "steps": steps - 1, "seconds": round(total, 3),
            **{key: round(value, 3) for key, value in parts.items()},
            "engine_percent": round(100 * (1 - sum(parts.values()) / total), 2), "machine": _machine()}  # fmt: skip


def products(shape: str, steps: int) -> dict[str, Any]:
    """Return the share of a training's processor time that is in matrix products, and the machine's rate of them."""
    import torch
    from torch.profiler import profile

    from luthier.engine.threads import use_cores
    from luthier.models.rate import matmul_rate

    threads = use_cores()
    with tempfile.TemporaryDirectory() as folder, profile() as seen:
        train_luthier(shape, steps, Path(folder))
    times = {one.key: one.self_cpu_time_total for one in seen.key_averages()}
    own = sum(times.get(f"aten::{name}", 0) for name in ("mm", "addmm", "addmm_", "bmm"))
    rate = matmul_rate("cpu", torch.float32)
    return {"shape": shape, "steps": steps, "threads": threads, "percent": round(100 * own / sum(times.values()), 1),
            "gigaflops_per_second": round(rate / 1e9, 1), "machine": _machine()}  # fmt: skip


def _rates(shape: str, steps: int, seconds: float, count: int = 900) -> dict[str, float]:
    """Return real and trained tokens and samples a second, over all steps but the first."""
    from luthier.engine.batches import measure_language, rows_of_step
    from shapes import config, rows

    examples = rows(config(shape).vocab_size, count)
    chosen = [row for step in range(2, steps + 1) for row in rows_of_step(step, len(examples), BATCH, 0)]
    measured = [measure_language(examples[row]) for row in chosen]
    return {
        "tokens_per_second": round(sum(each.tokens for each in measured) / seconds, 2),
        "supervised_per_second": round(sum(each.weight for each in measured) / seconds, 2),
        "samples_per_second": round(len(chosen) / seconds, 4),
        "seconds_a_step": round(seconds / (steps - 1), 4),
    }


def compare(shape: str, contenders: list[str], steps: int, rounds: int) -> dict[str, Any]:
    """Let the contenders take turns; return medians, ratios and the largest difference of their losses."""
    made: dict[str, list[dict[str, Any]]] = {name: [] for name in contenders}
    for number in range(rounds):
        for name in contenders if number % 2 == 0 else contenders[::-1]:
            made[name].append(_in_process(name, shape, steps))
            told = made[name][-1]
            rate, peak = told["tokens_per_second"], told["peak_gib"]
            print(f"round {number + 1}  {name:22s} {rate:9.1f} tokens/s  {peak:.2f} GiB", file=sys.stderr, flush=True)
    table = {name: _medians(results) for name, results in made.items()}
    own = next((name for name in contenders if name.startswith("luthier")), None)
    for name, row in table.items():
        if own is not None and name != own:
            ratios = [ours["tokens_per_second"] / theirs["tokens_per_second"]
                      for ours, theirs in zip(made[own], made[name], strict=True)]  # fmt: skip
            row["luthier_is_faster_by"] = round(statistics.median(ratios), 3)
            pairs = zip(made[own][0]["losses"], made[name][0]["losses"], strict=True)
            row["largest_loss_difference"] = max(abs(mine - theirs) for mine, theirs in pairs)
    return {"shape": shape, "steps": steps, "rounds": rounds, "machine": _machine(), "contenders": table}


def _medians(results: list[dict[str, Any]]) -> dict[str, Any]:
    keys = ("tokens_per_second", "supervised_per_second", "samples_per_second", "seconds_a_step", "peak_gib")
    told: dict[str, Any] = {key: statistics.median(result[key] for result in results) for key in keys}
    rates = sorted(result["tokens_per_second"] for result in results)
    return {**told, "slowest": rates[0], "fastest": rates[-1], "path": results[0]["path"],
            "losses": results[0]["losses"]}  # fmt: skip


def _in_process(contender: str, shape: str, steps: int) -> dict[str, Any]:
    command = [sys.executable, __file__, "--one", contender, "--shape", shape, "--steps", str(steps)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{contender} failed:\n{done.stderr[-4000:]}")
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result


def _machine() -> dict[str, Any]:
    from luthier.engine.threads import usable_cores
    from luthier.models.rate import _cpu_name

    return {"cpu": _cpu_name(), "cores": usable_cores(), "system": platform.platform(), "packages": _packages()}


def _packages() -> dict[str, str]:
    from importlib.metadata import version

    return {name: version(name) for name in ("torch", "transformers", "peft", "trl")}


def _keep(told: dict[str, Any], target: Path | None, name: str) -> None:
    target = target or Path(__file__).parent / "results" / f"{name}.json"
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(json.dumps(told, indent=2) + "\n", encoding="utf-8")


def main() -> None:
    """Measure what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", default="a", choices=("a", "b", "c", "starter"))
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument(
        "--contender", action="append", choices=CONTENDERS, help="may be given again; default: the fair four"
    )
    parser.add_argument("--reference", action="store_true", help="the workload of 905 rows and two epochs")
    parser.add_argument("--overhead", action="store_true", help="the engine's own time")
    parser.add_argument("--products", action="store_true", help="the share of matrix products in its time")
    parser.add_argument("--budget", type=int, default=0, help="tokens of Luthier's micro-batches, instead of its own")
    parser.add_argument("--one", choices=CONTENDERS, help="train one contender in this process")
    parser.add_argument("--to", type=Path, help="write the result there; default: benchmarks/results/train-SHAPE.json")
    asked = parser.parse_args()
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    if asked.one:
        print(json.dumps(one(asked.one, asked.shape, asked.steps, asked.budget)))
        return
    if asked.reference or asked.overhead or asked.products:
        measure = overhead if asked.overhead else products
        told = reference(asked.steps) if asked.reference else measure(asked.shape, asked.steps)
        _keep(told, asked.to, "reference" if asked.reference else f"{measure.__name__}-{asked.shape}")
        print(json.dumps(told, indent=2))
        return
    result = compare(asked.shape, asked.contender or list(DEFAULT), asked.steps, asked.rounds)
    _keep(result, asked.to, f"train-{asked.shape}")
    for name, row in result["contenders"].items():
        print(name, {key: value for key, value in row.items() if key not in ("losses", "path")})


if __name__ == "__main__":
    main()
