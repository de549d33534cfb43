"""A run folder in which every stage up to the report has written its files: made by hand, without a model."""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from luthier.evaluate import forgetting
from luthier.evaluate.compare import compare
from luthier.evaluate.measured import of_seeds
from luthier.recipe.load import load_recipe
from luthier.run.atomic import read_json, write_json, write_jsonl, write_text
from luthier.run.folder import RunFolder
from luthier.run.progress import Silent
from luthier.run.record import start_record

TITLES = {"rougeL": "ROUGE-L", "chrf": "chrF", "perplexity": "Perplexity"}
CATEGORIES = ("length", "repetition", "generic", "missing", "topic", "unsupported", "inaccurate", "structure")
SEEDS = (1, 2, 7)
STAGES = ("prepare", "plan", "train", "evaluate", "diagnose", "report")
RECIPE = """\
name: coach
model: {base: starter}
data:
  source: rows.csv
  fields: {prompt: question, completion: answer, topic: topic}
  split: {stratify: topic}
"""


def make(path: Path, items: int = 40, seed: int = 1, words: str = "", topics: Sequence[str] = ()) -> RunFolder:
    """Write a run into `path` and return it.

    Args:
        items: of the test split. seed: of all numbers. words: stand in every text that data or a model could bring.
        topics: of the items, in turn.
    """
    folder = RunFolder(path / f"2026-01-01T10-00-0{seed}")
    folder.path.mkdir(parents=True)
    draw = random.Random(seed)
    topics = [*(topics or ("statistics", "deep learning", "coding")), *([words] if words else [])]
    start_record(folder, "coach", "causal-lm", seed, "digest", list(STAGES))
    prepare(folder, seed, words)
    train(folder, draw, words)
    evaluate(folder, draw, items, words, topics)
    beside(folder, draw, words)
    diagnose(folder, draw, items, words)
    return folder


def prepare(folder: RunFolder, seed: int, words: str) -> None:
    """Run the stage itself, on a few rows: its report has many parts."""
    from luthier.stages.prepare import prepare as stage

    draw = random.Random(seed)
    source = folder.path.parent / f"rows-{seed}.csv"
    lines = ["question,answer,topic"]
    for place in range(30 + draw.randrange(9)):
        said = " ".join(f"w{draw.randrange(10**6)}" for _ in range(6 + draw.randrange(20)))
        lines.append(f"what is {said}?,it is {said[::-1]} and {place},t{place % 3}")
    lines += [lines[1], "what is left open?,,t1"]
    write_text(source, "\n".join(lines))
    recipe = RECIPE.replace("rows.csv", str(source))
    write_text(folder.recipe, recipe)
    stage(load_recipe(folder.recipe).recipe, folder, Silent())
    report, draw = read_json(folder.data_report), random.Random(seed)
    keys = ("distinct_1", "distinct_2", "similarity_to_source", "similarity_to_each_other")
    made = {"variations": 9 + draw.randrange(90), **{key: draw.random() for key in keys}}
    refused = {words or "too like its source": draw.randrange(100, 200)}
    augmentation = {"rows": made["variations"], "refused": refused, "categories": {words or "word_order": made}}
    write_json(folder.data_report, {**report, "augmentation": augmentation})
    write_text(folder.recipe, recipe + (f"# {' '.join(words.split())}\n" if words else ""))


def train(folder: RunFolder, draw: random.Random, words: str) -> None:
    """Write plan.json, metrics.jsonl, guards.jsonl and train.json."""
    steps, lines, loss = 120, [], 5.0 + draw.random()
    for step in range(1, steps + 1):
        loss *= 0.995
        phase = "warmup" if step <= 10 else "cosine"
        line = {"step": step, "loss": loss + draw.random() / 9, "learning_rate": draw.random() / 500, "phase": phase}
        lines.append({**line, "tokens_per_second": 900 + 99 * draw.random()})
        if step % 20 == 0:
            lines.append({"step": step, "validation_loss": 4 + abs(step - 80) / 99 + draw.random() / 999})
    write_jsonl(folder.metrics, lines)
    best = min((line["validation_loss"], line["step"]) for line in lines if "validation_loss" in line)
    report = {
        "steps": steps,
        "seconds": 200 + 99 * draw.random(),
        "best_step": best[1],
        "best_validation_loss": best[0],
        "stopped_early": False,
        "tokens_per_second": 900 + 99 * draw.random(),
        "notes": [words] if words else [],
        "trainable": draw.randrange(10**5),
        "total": 10**7 + draw.randrange(10**5),
        "dtype": "float32",
        "rows": {"train": 100 + draw.randrange(99), "validation": 9},
        "peak_memory_gib": 1 + draw.random(),
        "adapter_proof": {"holds": True, "moved": True, "finite": True, "merges": None},
    }
    proof = {"holds": True}
    each = [
        {"seed": seed, "steps": steps, "seconds": 99 + draw.random(), "best_validation_loss": draw.random()}
        for seed in SEEDS
    ]
    write_json(folder.train_report, {**report, "seeds": [{**one, "adapter_proof": proof} for one in each]})
    seen = {"what": "loss spike", "step": 31, "value": 9 + draw.random(), "threshold": 7 + draw.random()}
    write_jsonl(folder.guards, [{**seen, "action": "skip", "rows": []}])
    memory = {"total": 1 + draw.random()}
    write_json(folder.plan_report, {"seconds": {"estimate": 150 + 99 * draw.random()}, "memory_gib": memory})


def evaluate(folder: RunFolder, draw: random.Random, items: int, words: str, topics: Sequence[str]) -> None:
    """Write answers, scores, metrics, comparison and breakdowns."""
    base = [draw.random() / 5 for _ in range(items)]
    tuned = [score + draw.gauss(0.06, 0.05) for score in base]
    seeds = [tuned, *([score + draw.gauss(0.05, 0.05) for score in base] for _ in SEEDS[1:])]
    slow = [[9 * one + draw.gauss(0, 0.1) for one in base] for _ in SEEDS]
    far = [[3.0 + draw.gauss(0, 0.1) + one for one in each] for each in seeds]
    measured = {
        "rougeL": of_seeds("ROUGE-L", [base], seeds),
        "chrf": of_seeds("chrF", [[9 * one for one in base]], slow),
        "perplexity": of_seeds("Perplexity", [[4.0 + one for one in base]], far, None, False, True),
    }
    write_json(folder.comparison, compare(measured, "rougeL", seed=1, resamples=500))
    names = [f"q{place}" for place in range(items)]
    lines = []
    for name, one in measured.items():
        for item, first, second in zip(names, map(float, one.base), map(float, one.seeds.tuned[0]), strict=True):
            line = {"id": item, "metric": name, "base": first, "tuned": second, "difference": second - first}
            flip = "won" if second > first else "lost"
            lines.append(line | ({"flip": flip} if name == "rougeL" else {}))
    write_jsonl(folder.scores, lines)
    answers = {"asked": items, "stopped": items // 2, "mean_tokens": 50 + draw.random()}
    titles = {name: {"base": {"title": title}, "tuned": {"title": title}} for name, title in TITLES.items()}
    write_json(folder.metrics_report, {"answers": {"base": answers, "tuned": answers}, "metrics": titles})
    for who in ("base", "tuned"):
        lines = [answer(item, who, draw, words, topics[place % len(topics)]) for place, item in enumerate(names)]
        write_jsonl(folder.answers(who), lines)
    cells = [cell(topic, base[place :: len(topics)], tuned[place :: len(topics)]) for place, topic in enumerate(topics)]
    write_json(folder.breakdowns, {f"../{words}": cells, "topic": cells} if words else {"topic": cells})


def beside(folder: RunFolder, draw: random.Random, words: str) -> None:
    """Write forgetting.json and verify.json."""
    base = [3 + draw.random() for _ in range(20)]
    losses = {forgetting.GENERAL: base, forgetting.EARLIER: base[:12]}
    after = {name: [one + draw.gauss(0.1, 0.02) for one in found] for name, found in losses.items()}
    rows = [(f"e{place}", None, ([], [])) for place in range(12)]
    probes = forgetting.Probes([([], [])] * 20, rows, words or "2025-12-31T10-00-00")
    write_json(folder.forgetting, forgetting.judge(losses, after, probes, 1))
    kept = {"max_abs_logit_difference": draw.random() / 999, "tolerance": draw.random() / 99, "greedy_equal": True}
    found = {"merged": {**kept, "passed": True, "texts": 8}, "onnx": {"min_cosine": 1 - draw.random() / 1e6}}
    write_json(folder.verification, found | {"onnx": {**found["onnx"], "passed": True, "texts": 8}})


def answer(item: str, who: str, draw: random.Random, words: str, topic: str) -> dict[str, Any]:
    """Return a line of answers-<who>.jsonl."""
    return {
        "id": item,
        "question": f"What is {item}? {words}",
        "reference": f"It is the reference of {item}. {words}",
        "answer": f"{who} says {item}. {words}",
        "tokens": draw.randrange(9, 90),
        "reference_tokens": 40,
        "labels": {"topic": topic},
    }


def cell(value: str, base: Sequence[float], tuned: Sequence[float]) -> dict[str, Any]:
    """Return a cell of breakdowns.json."""
    mean = {"base": sum(base) / len(base), "tuned": sum(tuned) / len(tuned)}
    difference = mean["tuned"] - mean["base"]
    interval = [difference - 0.0123, difference + 0.0234]
    size = {"n": len(base), "items": len(base), "small": len(base) < 12}
    return {"value": value, **size, **mean, "difference": difference, "ci95": interval}


def diagnose(folder: RunFolder, draw: random.Random, items: int, words: str) -> None:
    """Write summary.json in the shape that luthier.diagnose.summary describes."""
    size = len(CATEGORIES) + 1
    matrix = [[0] * size for _ in range(size)]
    for _ in range(items):
        matrix[draw.randrange(size)][draw.choice((1, 3, size - 1))] += 1
    found = {
        "base": [sum(row) for row in matrix],
        "tuned": [sum(row[place] for row in matrix) for place in range(size)],
    }
    counts = {}
    for place, name in enumerate(CATEGORIES):
        by = {
            who: {"items": found[who][place], "share": found[who][place] / items, "ci95": [0.0, draw.random()]}
            for who in found
        }
        certainty = "suspected" if name == "inaccurate" else "measured"
        counts[name] = {"title": name.title(), "certainty": certainty, "by": by, "subcategories": {}}
    answers = {
        who: {
            "items": items,
            "asked": items,
            "flagged": items - found[who][-1],
            "clean": found[who][-1],
            "suspected_only": 3,
        }
        for who in found
    }
    pattern = {"side": "tuned", "field": "topic", "value": words or "coding", "category": "length", "n": 9, "failed": 5}
    pattern |= {"rest_rate": draw.random(), "lift": 1 + draw.random(), "small": True}
    exemplar = {"id": "q1", "question": f"Why? {words}", "answer": f"So. {words}", "sentence": f"It repeats. {words}"}
    summary = {
        "items": items,
        "sides": ["base", "tuned"],
        "answers": answers,
        "counts": counts,
        "flow": {
            "labels": [*CATEGORIES, "clean"],
            "titles": [*(one.title() for one in CATEGORIES), "Clean"],
            "matrix": matrix,
        },
        "patterns": [pattern],
        "clusters": [{"side": "tuned", "size": 7, "terms": ["model", words], "exemplar": exemplar}],
        "suggestions": [{"key": "training.epochs", "now": 2, "proposed": 4, "sentence": f"It was falling. {words}"}],
        "notes": [words] if words else [],
    }
    write_json(folder.diagnosis, summary)
