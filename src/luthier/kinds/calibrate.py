"""Calibration of this machine: a few short trainings of small models, on the path that real ones take.

Each trial is large in one sort of work: wide products, many micro-batches, a large vocabulary, long rows, a large
adapter. The constants of `models.machine` are fitted to what the trials took and held. They run in a process of their
own, so that the peak memory of the caller stays its own: `python -m luthier.kinds.calibrate cpu float32 2`.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from luthier.models.machine import Machine, Seconds, fit_seconds, known, remember, shipped
from luthier.run import ranks

if TYPE_CHECKING:
    import torch

    from luthier.models.estimate import Work

LIMIT = 120  # seconds after which a machine that is too slow or too busy is left as it is; it usually takes under 20
STEPS = 4  # of a trial; the first one warms up
RATE = 1.0e11  # matrix products of a machine on which the trials have the rows of the table; a faster one gets more
MOST = 64.0


@dataclass(frozen=True)
class Trial:
    """One small training.

    Attributes:
        hidden, inner, layers, vocabulary: of a Llama whose heads have 64 values. rows, length: of an optimizer step.
            Rows are from half of the length to half as long again, as equal ones would not fragment memory.
        trained: share of the tokens that are. r: of the adapter. budget: tokens of a micro-batch; 0: all at once.
    """

    hidden: int
    inner: int
    layers: int
    vocabulary: int
    rows: int
    length: int
    trained: float = 0.5
    r: int = 8
    budget: int = 0


WARM_UP = Trial(64, 128, 1, 512, 2, 32)
TRIALS = (
    Trial(128, 256, 4, 1024, 8, 32),
    Trial(384, 1024, 4, 4096, 6, 96, budget=300),
    Trial(384, 1024, 4, 4096, 8, 96, r=64),
    Trial(384, 1024, 4, 4096, 12, 48, budget=1),
    Trial(576, 1536, 3, 4096, 6, 64, budget=200),
    Trial(1024, 2816, 2, 2048, 4, 96, budget=256),
    Trial(256, 512, 2, 32768, 8, 64, trained=1.0),
    Trial(256, 640, 3, 1024, 2, 768, trained=0.1),
)


@dataclass(frozen=True)
class Observed:
    """What a trial took: work and seconds of a step and of a checkpoint; GiB kept by the walk, and the rise of memory.

    `rise` leaves out gradients, moments and the logits' pieces, which need no calibration.
    """

    work: dict[str, float]
    step: float
    saving: dict[str, float]
    save: float
    kept: float
    rise: float


def machine_for(device: str, dtype: torch.dtype, rough: bool, again: bool = False) -> Machine:
    """Return the constants of this machine: measured before, else measured now, else those that ship with Luthier.

    Args:
        device: "cpu", "mps" or "cuda". dtype: of the base. rough: do not measure now.
        again: measure now although that was done before, as on a machine that was busy then; what was kept stays where
            that fails.
    """
    kept = known(device, dtype)
    if kept is not None and not again:
        return kept
    found = None if rough else calibrate(device, dtype)
    if found is None:
        return kept or shipped(device, dtype)
    remember(device, dtype, found)
    return found


def calibrate(device: str, dtype: torch.dtype) -> Machine | None:
    """Measure this machine in a process of its own; None when that fails, as when memory is short."""
    import torch

    words = (device, str(dtype).removeprefix("torch."), str(torch.get_num_threads()))
    command = [sys.executable, "-m", "luthier.kinds.calibrate", *words]
    try:
        done = subprocess.run(  # noqa: S603  (our own module)
            command, env=ranks.apart(), capture_output=True, text=True, check=True, timeout=LIMIT
        )
        told = json.loads(done.stdout.splitlines()[-1])
    except (subprocess.SubprocessError, OSError, ValueError, IndexError):
        return None
    return Machine(**{**told, "seconds": Seconds(**told["seconds"])})


def measure(device: str, dtype: torch.dtype, trials: Sequence[Trial] = TRIALS) -> Machine:
    """Run the trials in this process and fit the constants."""
    from luthier.models.peak import held_gib
    from luthier.models.rate import matmul_rate

    scale = min(max(matmul_rate(device, dtype) / RATE, 1.0), MOST)
    _run(WARM_UP, 1.0, device, dtype)
    process = 0.0 if device == "cuda" else held_gib(device)
    observed = [_run(trial, scale, device, dtype) for trial in trials]
    pairs = [(one.work, one.step) for one in observed] + [(one.saving, one.save) for one in observed]
    held, besides = _fit_held(observed)
    return Machine(fit_seconds(pairs), held, process + besides, measured=True)


def _fit_held(observed: Sequence[Observed]) -> tuple[float, float]:
    """Return what the allocator takes for a byte that is kept, and the GiB that every training takes besides."""
    import numpy as np
    from scipy.optimize import nnls

    rows = np.array([[one.kept, 1.0] for one in observed])
    (held, besides), _ = nnls(rows, np.array([max(one.rise, 0.0) for one in observed]))
    return float(held), float(besides)


def _run(trial: Trial, scale: float, device: str, dtype: torch.dtype) -> Observed:
    """Train the model of a trial for a few steps."""
    from luthier.models import estimate
    from luthier.models.lora import count_parameters
    from luthier.models.peak import begin, held_gib, peak_gib

    rows = max(1, round(trial.rows * scale))
    trial = replace(trial, budget=round(trial.budget * scale) if trial.budget > 1 else trial.budget)
    model = _model(trial, device, dtype)
    examples = _examples(trial, rows)
    asked = _asked(trial, examples, device)
    parameters = estimate.Parameters(*count_parameters(model))
    shape = estimate.AdapterShape("lora", trial.r, "all-linear")
    config = _config(trial)
    cost = estimate.cost_per_token(config, shape, dtype, trial.length)
    before = held_gib(device)
    begin(device)
    steps, save = _train(model, trial, examples)
    rise = peak_gib(device) - before
    kept = asked.longest[1] * cost.kept_bytes / estimate.GIB
    named = estimate.memory(config, parameters, "lora", dtype, cost, asked, shipped(device, dtype, rate=1.0))
    besides = named.gradients + named.optimizer + named.logits
    work = asdict(estimate.work(config, parameters, "lora", cost, asked))  # other programs only ever add to a time
    saving = {"save": 1.0, "saved": float(parameters.trainable)}
    return Observed(work, min(steps), saving, save, kept, rise - besides)


def _asked(trial: Trial, examples: Sequence[Any], device: str) -> Work:
    """Return the work of one step, as a plan would."""
    from luthier.engine.settings import FitSettings
    from luthier.kinds import kind_named
    from luthier.models.estimate import Work

    learn = kind_named("causal-lm").learn
    measured = [learn.measure(example) for example in examples]
    micro = FitSettings(token_budget=_budget(trial, examples)).micro(device, padded=False)
    longest, load = learn.reading(_config(trial), device, measured, micro)
    return Work(longest, steps=1, learned=load)


def _budget(trial: Trial, examples: Sequence[Any]) -> int:
    return trial.budget or sum(len(example.input_ids) for example in examples)


def _train(model: Any, trial: Trial, examples: Sequence[Any]) -> tuple[list[float], float]:
    """Return the seconds of each step after the first, and of the checkpoint at the end."""
    from luthier.engine.settings import FitSettings
    from luthier.engine.trainer import fit
    from luthier.kinds import kind_named
    from luthier.kinds.base import Encoded, Objective
    from luthier.models.blocks import lean_blocks
    from luthier.models.lean import lean_lora
    from luthier.run.atomic import read_jsonl

    tokenizer: Any = SimpleNamespace(pad_token_id=0)
    nowhere: Any = None
    learn = kind_named("causal-lm").learn
    taught = learn.material(model, Encoded(examples), None, tokenizer, nowhere, Objective(), 0)
    settings = FitSettings(
        steps=STEPS,
        batch_size=len(examples),
        schedule="constant",
        checkpoint_every=10**6,
        token_budget=_budget(trial, examples),
        guards=None,
    )
    with tempfile.TemporaryDirectory() as folder, lean_lora(model), lean_blocks(model):
        fitted = fit(model, taught.material, settings, Path(folder))
        ends = [line["seconds"] for line in read_jsonl(Path(folder) / "metrics.jsonl") if "loss" in line]
    steps = [after - before for before, after in pairwise(ends)]
    return steps, max(fitted.seconds - ends[-1], 0.0)


def _examples(trial: Trial, rows: int) -> list[Any]:
    import numpy as np

    from luthier.kinds.causal_lm.rows import IGNORED, Example

    random = np.random.default_rng(0)
    made = []
    for row in range(rows):
        length = round(trial.length * (0.5 + (row + 0.5) / rows))
        ids, asked = random.integers(0, trial.vocabulary, length).tolist(), length - round(length * trial.trained)
        made.append(Example(str(row), ids, [IGNORED] * asked + ids[asked:]))
    return made


def _config(trial: Trial) -> Any:
    from transformers import LlamaConfig

    heads = trial.hidden // 64
    return LlamaConfig(
        vocab_size=trial.vocabulary,
        hidden_size=trial.hidden,
        intermediate_size=trial.inner,
        num_hidden_layers=trial.layers,
        num_attention_heads=heads,
        num_key_value_heads=heads,
        tie_word_embeddings=True,
    )


def _model(trial: Trial, device: str, dtype: torch.dtype) -> Any:
    import torch
    from transformers import AutoModelForCausalLM

    from luthier.models.lora import attach

    torch.manual_seed(0)
    build: Any = AutoModelForCausalLM
    made: Any = attach(build.from_config(_config(trial), dtype=dtype), "lora", trial.r, 16, 0.0, "all-linear", 0)
    return made.to(device)


def main() -> None:
    """Measure in this process and print the constants: device, precision and threads are the arguments."""
    import torch

    device, dtype, threads = sys.argv[1:4]
    torch.set_num_threads(int(threads))
    print(json.dumps(measure(device, getattr(torch, dtype)).to_json()))


if __name__ == "__main__":
    main()
