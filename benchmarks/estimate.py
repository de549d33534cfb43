"""Hold the estimate of memory and time against a training of the same shape with random weights, on the CPU.

    python benchmarks/estimate.py small      # a Llama of 17 million parameters
    python benchmarks/estimate.py SmolLM2-135M-Instruct

Each run is a process of its own, as the peak memory of a process never falls. Time is the process's CPU time over its
threads, so that a busy machine does not count; run it on one thread (OMP_NUM_THREADS=1) for a fair comparison.
"""

from __future__ import annotations

import json
import resource
import sys
import tempfile
import time
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
from transformers import AutoModelForCausalLM, LlamaConfig

from luthier.engine.batches import Measured, Steps, measure_language
from luthier.engine.settings import FitSettings
from luthier.engine.trainer import Material, fit
from luthier.kinds.causal_lm import learn
from luthier.kinds.causal_lm.rows import Example
from luthier.models import estimate, lora
from luthier.models.load import load_config, resolve
from luthier.models.rate import _measure

STEPS = int(sys.argv[2]) if len(sys.argv) > 2 else 4


def examples(vocabulary: int, count: int) -> list[Example]:
    """Rows of log-normal length (median 88, at most 256 tokens), the second half of each trained."""
    random = np.random.default_rng(0)
    lengths = np.clip(random.lognormal(np.log(88), 0.5, count).astype(int), 16, 256)
    rows = []
    for place, length in enumerate(lengths.tolist()):
        ids = random.integers(0, vocabulary, length).tolist()
        rows.append(Example(str(place), ids, [-100] * (length // 2) + ids[length // 2 :]))
    return rows


def planned(rows: list[Example], settings: FitSettings) -> estimate.Work:
    """Return the work of these steps, from the micro-batches that the trainer will make."""
    measured: list[Measured] = [measure_language(row) for row in rows]
    steps = Steps(rows, measured, (STEPS, settings.batch_size, 0), lambda part: part, settings.micro("cpu"))
    parts = [part for step in range(STEPS) for part in steps[step]["micro_batches"]]
    sizes = [(len(part), max(len(row.input_ids) for row in part)) for part in parts]
    trained = [sum(measure_language(row).weight for row in part) for part in parts]
    place = max(range(len(parts)), key=lambda number: sizes[number][0] * sizes[number][1])
    padded = sum(count * length for count, length in sizes)
    return estimate.Work((*sizes[place], trained[place]), padded, sum(trained), len(parts))


def main() -> None:
    """Measure one model."""
    name = sys.argv[1]
    small = LlamaConfig(
        vocab_size=8192, hidden_size=384, intermediate_size=1024, num_hidden_layers=8,
        num_attention_heads=6, num_key_value_heads=6, tie_word_embeddings=True,
    )  # fmt: skip
    config = small if name == "small" else load_config(resolve(name))
    adapter = estimate.AdapterShape("lora", 8, "all-linear")
    rows, settings = examples(config.vocab_size, 8 * STEPS), FitSettings(steps=STEPS, checkpoint_every=10_000)
    work = planned(rows, settings)
    parameters, _ = estimate.count(config, adapter)
    cost = estimate.cost_per_token(config, adapter, torch.float32, work.longest[1])
    rate = _measure("cpu", torch.float32, time.process_time)
    expected = estimate.memory(config, parameters, "lora", torch.float32, cost, work)
    seconds = estimate.seconds(config, "lora", cost, work, rate)
    model = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    adapted = lora.attach(model, "lora", 8, 16, 0.0, "all-linear", 0)
    start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    began = time.process_time()
    with tempfile.TemporaryDirectory() as folder:
        material = Material(rows, [], lambda part: learn.collate(part, 0), learn.loss_sum)
        fit(adapted, material, settings, Path(folder))
    took = time.process_time() - began
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    told = {
        "model": name,
        "work": asdict(work),
        "gflops_per_second": round(rate / 1e9, 1),
        "seconds": {"estimate": round(seconds, 2), "measured": round(took, 2)},
        "memory_gib": {"estimate": round(expected.total, 3), "measured": round(peak, 3), "before": round(start, 3)},
        "parts": asdict(expected),
    }
    print(json.dumps(told, indent=2))


if __name__ == "__main__":
    main()
