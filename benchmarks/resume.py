"""Kill trainings at random moments, start them again, and compare the adapters with those of undisturbed runs.

Each training is the train stage on a tiny model, in a process of its own that is killed (SIGKILL) once: two of three
times at a moment drawn uniformly from its whole run, else while it writes a checkpoint. Then it is started again until
it ends. Equal means the same sha256 of the adapter, and the same lines of metrics.jsonl but for their times.

    python benchmarks/resume.py                     all configurations, 25 kills each
    python benchmarks/resume.py --kills 5 --only three-phase --jobs 1
"""

from __future__ import annotations

import argparse
import hashlib
import json
import multiprocessing
import os
import random
import shutil
import signal
import sys
import tempfile
import time
import traceback
from pathlib import Path
from typing import Any

os.environ["OMP_NUM_THREADS"] = "1"  # before torch is imported: the same bytes need the same number of threads
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"
os.environ["HF_HUB_DISABLE_PROGRESS_BARS"] = "1"
ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

RESULTS = ROOT / "benchmarks" / "results" / "resume.json"
PATIENCE = 120.0  # seconds for one process
STEPS, BATCH = 12, 4
EARLY = {"early_stopping": {"patience": 2}}
CONFIGURATIONS: dict[str, dict[str, Any]] = {
    "cosine": {},
    "linear, warm-up, dropout": {"schedule": {"name": "linear", "warmup": 3}, "dropout": 0.2},
    "polynomial, every step": {"schedule": {"name": "polynomial", "power": 2.0}, "checkpoint_every": 1},
    "warm-up–stable–decay, two kept": {
        "schedule": {"name": "warmup-stable-decay", "warmup": 2},
        "keep_checkpoints": 2,
        "dropout": 0.1,
    },
    "one-cycle, padded": {"schedule": {"name": "one-cycle"}, "base": "falcon", "dropout": 0.1},
    "three-phase, dropout": {"schedule": {"name": "three-phase"}, "learning_rate": None, "dropout": 0.2},
    "plateau": {"schedule": {"name": "plateau", "plateau": {"patience": 1, "factor": 0.5}}, "checkpoint_every": 2},
    "early stopping": {**EARLY, "schedule": {"name": "constant"}, "learning_rate": 0.3, "checkpoint_every": 1},
    "curriculum by length": {"curriculum": {"by": "length"}, "dropout": 0.1},
    "curriculum by field": {"curriculum": {"by": "level", "order": ["easy", "hard"], "pacing": "step"}},
    "curriculum by loss, padded": {"curriculum": {"by": "loss", "pacing": "linear"}, "base": "falcon"},
    "dora, weight decay": {"method": "dora", "weight_decay": 0.1, "dropout": 0.1},
    "whole model": {"method": "full", "learning_rate": 1e-3, "weight_decay": 0.1},
    "embedding, pairs": {"kind": "embedding", "dropout": 0.1},
    "embedding, titles, three-phase": {
        "kind": "embedding",
        "rows": "title",
        "schedule": {"name": "three-phase"},
        "learning_rate": None,
        "dropout": 0.1,
    },
    "embedding, curriculum, plateau": {
        "kind": "embedding",
        "curriculum": {"by": "length"},
        "schedule": {"name": "plateau"},
        "checkpoint_every": 2,
    },
}


def main() -> None:
    """Run all configurations, print a table and write the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=25, help="kills of each configuration")
    parser.add_argument("--jobs", type=int, default=2, help="configurations at one time")
    parser.add_argument("--only", default="", help="configurations whose name has this in it")
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    parser.add_argument("--out", type=Path, default=RESULTS, help="where the results go")
    asked = parser.parse_args()
    from luthier.run.record import machine, versions

    started = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        tasks = [(name, folder, asked.kills, asked.seed) for name in CONFIGURATIONS if asked.only in name]
        print("| configuration | kills | while writing | at different lines | equal |\n| --- | --- | --- | --- | --- |")
        with multiprocessing.get_context("spawn").Pool(asked.jobs, maxtasksperchild=1) as pool:
            results = []
            for one in pool.imap(measure, tasks):
                results.append(one)
                told = (
                    one["name"],
                    one["kills"],
                    one["in_writing"],
                    one["at_lines"],
                    f"{one['equal']} of {one['kills']}",
                )
                print(f"| {' | '.join(map(str, told))} |", flush=True)
    whole = {
        "command": " ".join(["python", *sys.argv]),
        "machine": machine(),
        "versions": versions(),
        "seconds": round(time.monotonic() - started, 1),
        "configurations": results,
    }
    asked.out.parent.mkdir(parents=True, exist_ok=True)
    asked.out.write_text(json.dumps(whole, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    kills, equal = (sum(one[name] for one in results) for name in ("kills", "equal"))
    print(f"{equal} of {kills} killed trainings ended with the same adapter and the same metrics")
    if equal != kills:
        sys.exit(1)


def measure(task: tuple[str, str, int, int]) -> dict[str, Any]:
    """Return how the killed trainings of one configuration ended."""
    name, root, kills, seed = task
    draw = random.Random(f"{seed} {name}")
    place = Path(root) / hashlib.sha256(name.encode()).hexdigest()[:8]
    changes = CONFIGURATIONS[name]
    recipe = _recipe(changes, _base(changes, place))
    _train(recipe, _prepared(place / "plain", changes))  # here, so that the processes to come are warm
    plain = _prepared(place / "plain", changes)
    took = _run(recipe, plain, None)
    expected, told = _adapter(plain), {"in_writing": 0, "equal": 0}
    lines: set[int] = set()
    done = 0
    while done < kills:
        folder = _prepared(place / "killed", changes)
        moment = ("writing", draw.randrange(8)) if done % 3 == 2 else ("time", draw.uniform(0.0, took))
        if _run(recipe, folder, moment) is not None:
            continue  # it was done before that moment
        done += 1
        told["in_writing"] += any((folder / "4-train").glob(".writing-*"))
        lines.add(_lines(folder))
        while _run(recipe, folder, None) is None:
            pass
        told["equal"] += _adapter(folder) == expected
    return {"name": name, "kills": kills, **told, "at_lines": len(lines), "settings": changes}


def _run(recipe: Any, folder: Path, moment: tuple[str, float] | None) -> float | None:
    """Train in a process of its own; return the seconds it took, None when it was killed at the moment."""
    started = time.monotonic()
    child = os.fork()
    if child == 0:
        _train_and_end(recipe, folder)
    writings, was = 0, False
    while time.monotonic() - started < PATIENCE:
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            if status:
                raise SystemExit(f"A training failed: {(folder / 'errors.txt').read_text(encoding='utf-8')}")
            return time.monotonic() - started
        if moment is not None and moment[0] == "writing":
            now = any((folder / "4-train").glob(".writing-*-checkpoint-*"))
            writings, was = writings + (now and not was), now
            due = now and writings > moment[1]
        else:
            due = moment is not None and time.monotonic() - started >= moment[1]
        if due:
            os.kill(child, signal.SIGKILL)
            _, status = os.waitpid(child, 0)
            return None if os.WIFSIGNALED(status) else time.monotonic() - started
        time.sleep(0.0005)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    raise SystemExit(f"{folder}: a training took longer than {PATIENCE:.0f} s")


def _train_and_end(recipe: Any, folder: Path) -> None:
    """Train and end this process, whatever happens."""
    status = 1
    try:
        with open(folder / "errors.txt", "w", encoding="utf-8") as file:
            os.dup2(file.fileno(), 2)
            try:
                _train(recipe, folder)
                status = 0
            except BaseException:
                traceback.print_exc(file=file)
    finally:
        os._exit(status)


def _train(recipe: Any, folder: Path) -> None:
    from luthier.run.folder import RunFolder
    from luthier.run.progress import Silent
    from luthier.stages.train import train

    train(recipe, RunFolder(folder), Silent())


def _recipe(changes: dict[str, Any], base: Path) -> Any:
    import torch
    import transformers

    from luthier.recipe.schema import Recipe

    torch.set_num_threads(1)
    transformers.logging.disable_progress_bar()
    keys = ("schedule", "curriculum", "early_stopping", "checkpoint_every", "keep_checkpoints", "weight_decay")
    training = {"steps": STEPS, "batch_size": BATCH, "learning_rate": 0.01, "checkpoint_every": 3}
    training |= {key: changes[key] for key in (*keys, "learning_rate") if key in changes}
    return Recipe.model_validate(
        {
            "name": "resume",
            "kind": changes.get("kind", "causal-lm"),
            "model": {"base": str(base)},
            "data": {"source": "none.jsonl", "max_length": 96},
            "adapter": {"r": 4, "dropout": changes.get("dropout", 0.0), "method": changes.get("method", "lora")},
            "training": {key: value for key, value in training.items() if value is not None},
        }
    )


def _base(changes: dict[str, Any], place: Path) -> Path:
    from tests.tiny import make

    return make(changes.get("base", "bert" if changes.get("kind") == "embedding" else "llama"), place / "base")


def _prepared(folder: Path, changes: dict[str, Any]) -> Path:
    """Return a new run folder with rows in it."""
    from luthier.run.atomic import write_jsonl
    from luthier.run.folder import RunFolder

    shutil.rmtree(folder, ignore_errors=True)
    run = RunFolder(folder)
    form = changes.get("rows", "pair" if changes.get("kind") == "embedding" else "chat")
    for split, count, first in (("train", 24, 0), ("validation", 6, 100)):
        write_jsonl(run.rows(split), [_row(form, first + number) for number in range(count)])
    return folder


def _row(form: str, number: int) -> dict[str, Any]:
    from luthier.data.rows import Row

    words = " ".join(f"{word} {number * word % 17}" for word in range(2 + number % 7))
    content: dict[str, Any]
    if form == "pair":
        content = {"texts": [f"What is {number}? {words}", f"It is {number * 3}. {words}"]}
    elif form == "title":
        content = {"title": f"engineer {number} of {words}", "label": f"family {number % 3}"}
    else:
        answer = {"role": "assistant", "content": f"It is {number * 3}. {words}"}
        content = {"messages": [{"role": "user", "content": f"What is {number}?"}, answer]}
    labels = {"level": "hard" if number % 3 else "easy"}
    return Row(f"q:{number}", form, content, "q.jsonl", number + 1, labels).to_json()  # type: ignore[arg-type]


def _lines(folder: Path) -> int:
    metrics = folder / "4-train" / "metrics.jsonl"
    return metrics.read_bytes().count(b"\n") if metrics.exists() else 0


def _adapter(folder: Path) -> tuple[str, list[Any]]:
    """Return sha256 of the weights, and the metrics without their times."""
    adapter = folder / "4-train" / "adapter"
    weights = next(path for name in ("adapter_model", "model") if (path := adapter / f"{name}.safetensors").exists())
    lines = [json.loads(line) for line in (folder / "4-train" / "metrics.jsonl").read_text().splitlines()]
    times = ("seconds", "tokens_per_second")
    timeless = [{key: value for key, value in line.items() if key not in times} for line in lines]
    return hashlib.sha256(weights.read_bytes()).hexdigest(), timeless


if __name__ == "__main__":
    main()
