"""Luthier beside sentence-transformers: training pairs a second on the same loss, sentences a second, and quality.

    python benchmarks/embedding.py                          # speed of training and of reading, taking turns
    python benchmarks/embedding.py --titles titles.csv      # quality too: recall@10 and MRR on families left out

Both have the base minilm, LoRA r 16 on all linear layers, and multiple negatives over the same pairs in the same
batches. Each contender runs in a process of its own, round by round, so that a change of the machine meets both.

    luthier         what `luthier run` does: kinds.path.fit_on_path; models.vectors.Embedder
    stock           SentenceTransformerTrainer with MultipleNegativesRankingLoss; SentenceTransformer.encode

The time of a training is from the end of its first step to the end of its last. With --titles, one family in five is
left out; stock trains on 12,000 pairs drawn from the others, as its users do (learning rate 2e-4, batch 32), and
Luthier on what `luthier init` proposes.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
TITLES = HERE.parent / "src" / "luthier" / "recipes" / "jobtitles" / "data" / "titles.csv"
CONTENDERS = ("luthier", "stock")
BATCH, STEPS, SENTENCES = 64, 12, 2000
STOCK_PAIRS, STOCK_BATCH, STOCK_RATE = 12_000, 32, 2e-4


def read_titles(path: Path) -> dict[str, list[str]]:
    """Return the titles of each family of a table whose first two columns are title and family."""
    families: dict[str, list[str]] = {}
    with open(path, newline="", encoding="utf-8") as file:
        for title, family, *_ in list(csv.reader(file))[1:]:
            families.setdefault(family, []).append(title)
    return families


def pairs(families: dict[str, list[str]], count: int, seed: int = 0) -> list[tuple[str, str]]:
    """Draw pairs of different titles of one family."""
    draw = random.Random(seed)
    usable = [own for own in families.values() if len(set(own)) > 1]
    drawn = [draw.sample(sorted(set(draw.choice(usable))), 2) for _ in range(count)]
    return [(first, second) for first, second in drawn]


def sentences(families: dict[str, list[str]], count: int) -> list[str]:
    """Return distinct texts of the lengths of titles and of short descriptions, as a corpus has them."""
    draw = random.Random(1)
    titles = [title for own in families.values() for title in own]
    return [", ".join(draw.sample(titles, draw.choice([1, 1, 1, 2, 3, 5]))) + f" {n}" for n in range(count)]


def train_luthier(found: list[tuple[str, str]], steps: int, folder: Path) -> dict[str, Any]:
    """Train as the train stage does on given pairs."""
    from luthier.data.rows import Row
    from luthier.engine.settings import FitSettings
    from luthier.kinds import kind_named
    from luthier.kinds.base import Objective
    from luthier.kinds.path import fit_on_path
    from luthier.models import lora
    from luthier.models.bases import resolve
    from luthier.models.load import pick_dtype

    kind, base = kind_named("embedding"), resolve("minilm")
    tokenizer, _ = kind.model.load_tokenizer(base)
    rows = [Row(str(at), "pair", {"texts": list(own)}, "pairs", at + 1) for at, own in enumerate(found)]
    encoded = kind.rows.encode(rows, tokenizer, 256)
    model = lora.attach(kind.model.load_base(base, "auto"), "lora", 16, 32, 0.0, "all-linear", 0)
    taught = kind.learn.material(model, encoded, None, tokenizer, base, Objective("multiple-negatives"), 0)
    settings = FitSettings(steps=steps, batch_size=BATCH, learning_rate=2e-4, schedule="linear", checkpoint_every=10**6)
    fitted, path = fit_on_path(model, taught, settings, folder, None, 0)
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    ends = [line["seconds"] for line in lines if "loss" in line]
    rate = BATCH * (len(ends) - 1) / (ends[-1] - ends[0])
    return {"pairs_a_second": rate, "loss": fitted.final_train_loss, "dtype": str(pick_dtype("auto")), "path": path}


def train_stock(
    found: list[tuple[str, str]], steps: int, folder: Path, batch: int = BATCH, rate: float = 2e-4
) -> dict[str, Any]:
    """Train with sentence-transformers' own trainer on the same pairs; `model` is the trained one."""
    from datasets import Dataset
    from peft import LoraConfig, TaskType
    from sentence_transformers import (
        SentenceTransformer,
        SentenceTransformerTrainer,
        SentenceTransformerTrainingArguments,
    )
    from sentence_transformers.sentence_transformer.losses import MultipleNegativesRankingLoss
    from transformers import TrainerCallback

    from luthier.models.bases import resolve

    ends: list[float] = []

    class Clock(TrainerCallback):
        def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            ends.append(time.perf_counter())

    model = SentenceTransformer(resolve("minilm").source, device="cpu")
    targets = ["query", "key", "value", "dense"]
    model.add_adapter(LoraConfig(task_type=TaskType.FEATURE_EXTRACTION, r=16, lora_alpha=32, target_modules=targets))
    data = Dataset.from_dict({"anchor": [one for one, _ in found], "positive": [other for _, other in found]})
    arguments = SentenceTransformerTrainingArguments(
        output_dir=str(folder),
        max_steps=steps,
        per_device_train_batch_size=batch,
        learning_rate=rate,
        warmup_steps=steps // 10,
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
        use_cpu=True,
    )
    loss = MultipleNegativesRankingLoss(model)
    trainer = SentenceTransformerTrainer(
        model=model, args=arguments, train_dataset=data, loss=loss, callbacks=[Clock()]
    )
    trained = trainer.train()
    return {
        "pairs_a_second": batch * (len(ends) - 1) / (ends[-1] - ends[0]),
        "loss": trained.training_loss,
        "seconds": trained.metrics["train_runtime"],
        "model": model,
    }


def encode_luthier(texts: list[str]) -> dict[str, Any]:
    """Read texts with Luthier's embedder."""
    from luthier.kinds import kind_named
    from luthier.models.bases import resolve

    kind, base = kind_named("embedding"), resolve("minilm")
    tokenizer, _ = kind.model.load_tokenizer(base)
    embedder = kind.model.embedder(kind.model.load_base(base, "auto"), base, tokenizer, 256)
    embedder.embed(texts[:64])
    start = time.perf_counter()
    vectors = embedder.embed(texts)
    return {"sentences_a_second": len(texts) / (time.perf_counter() - start), "sample": vectors[:8].tolist()}


def encode_stock(texts: list[str]) -> dict[str, Any]:
    """Read texts with SentenceTransformer.encode as it comes."""
    from sentence_transformers import SentenceTransformer

    from luthier.models.bases import resolve

    model = SentenceTransformer(resolve("minilm").source, device="cpu")
    model.encode(texts[:64])
    start = time.perf_counter()
    vectors = model.encode(texts)
    return {"sentences_a_second": len(texts) / (time.perf_counter() - start), "sample": vectors[:8].tolist()}


def speed(contender: str, what: str, path: Path, steps: int) -> dict[str, Any]:
    """Run one measurement in this process."""
    from luthier.engine.threads import use_cores

    use_cores()
    families = read_titles(path)
    if what == "encode":
        return (encode_luthier if contender == "luthier" else encode_stock)(sentences(families, SENTENCES))
    found = pairs(families, BATCH * steps)
    with tempfile.TemporaryDirectory() as folder:
        made = (train_luthier if contender == "luthier" else train_stock)(found, steps, Path(folder))
    made.pop("model", None)
    return made


def quality(contender: str, path: Path) -> dict[str, Any]:
    """Train on four families in five and search for the titles of the fifth, in this process."""
    import numpy as np

    from luthier.engine.threads import use_cores
    from luthier.evaluate.ranking import RANKED, ranks_of_relevant
    from luthier.evaluate.trials import among_titles

    use_cores()
    families = read_titles(path)
    names = sorted(families)
    random.Random(0).shuffle(names)
    left_out = {name: families[name] for name in names[: len(names) // 5]}
    trained = {name: families[name] for name in names[len(names) // 5 :]}
    start = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        embed = (_tuned_luthier if contender == "luthier" else _tuned_stock)(trained, Path(folder))
    seconds = time.perf_counter() - start
    trial = among_titles(_rows(left_out), _rows(left_out))
    told: dict[str, Any] = {"seconds_in_all": round(seconds, 1), "queries": len(trial.queries)}
    for who in ("base", "tuned"):
        corpus, queries = (embed(some, who == "base") for some in (trial.corpus, [one.text for one in trial.queries]))
        relevant, own = [one.relevant for one in trial.queries], [one.own for one in trial.queries]
        ranks = ranks_of_relevant(queries, corpus, relevant, own)
        told[who] = {name: round(float(np.mean([one(rank) for rank in ranks])), 4) for name, (_, one) in RANKED.items()}
    return told | {"training_seconds": embed.seconds}  # type: ignore[attr-defined]


def _rows(families: dict[str, list[str]]) -> list[Any]:
    from luthier.data.rows import Row

    found = [(title, family) for family, own in families.items() for title in own]
    return [
        Row(str(at), "title", {"title": title, "label": family}, "titles", at + 1, {}, family)
        for at, (title, family) in enumerate(found)
    ]


def _tuned_stock(families: dict[str, list[str]], folder: Path) -> Any:
    from sentence_transformers import SentenceTransformer

    from luthier.models.bases import resolve

    steps = STOCK_PAIRS // STOCK_BATCH
    made = train_stock(pairs(families, STOCK_PAIRS), steps, folder, STOCK_BATCH, STOCK_RATE)
    base = SentenceTransformer(resolve("minilm").source, device="cpu")

    def embed(texts: list[str], of_base: bool) -> Any:
        return (base if of_base else made["model"]).encode(texts, normalize_embeddings=True)

    embed.seconds = made["seconds"]  # type: ignore[attr-defined]
    return embed


def _tuned_luthier(families: dict[str, list[str]], folder: Path) -> Any:
    """Walk the recipe that `luthier init` proposes, up to its training."""
    import luthier
    from luthier.data.ingest import inspect
    from luthier.recipe.init import draft
    from luthier.run.atomic import read_json
    from luthier.run.folder import RunFolder

    table = folder / "titles.csv"
    with open(table, "w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([("title", "code"), *((row.content["title"], row.group) for row in _rows(families))])
    recipe = folder / "recipe.yaml"
    recipe.write_text(draft(inspect(str(table)), table, "titles", folder), encoding="utf-8")
    shares = {"data.split.train": 0.95, "data.split.validation": 0.05, "data.split.test": 0.0}
    run = luthier.run(luthier.load_recipe(recipe, shares), folder / "runs", until="train")
    seconds = read_json(RunFolder(run.path).train_report)["seconds"]
    model = luthier.load(str(run.path))
    model.answer(["a"], base=True)
    model.answer(["a"])  # type: ignore[unused-ignore]

    def embed(texts: list[str], of_base: bool) -> Any:
        return model.answer(texts, base=of_base)

    embed.seconds = seconds  # type: ignore[attr-defined]
    return embed


def own_process(*arguments: str) -> dict[str, Any]:
    """Run this file with arguments, and return the JSON of its last line."""
    command = [sys.executable, __file__, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(done.stderr)
    told: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return told


def main() -> None:
    """Measure what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--titles", type=Path, help="table of title and family: compare quality on it too")
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--one", nargs=2, metavar=("CONTENDER", "WHAT"), help="one measurement in this process")
    parser.add_argument("--to", type=Path, default=HERE / "results" / "embedding.json")
    asked = parser.parse_args()
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    path = asked.titles or TITLES
    if asked.one:
        contender, what = asked.one
        told = quality(contender, path) if what == "quality" else speed(contender, what, path, asked.steps)
        print(json.dumps(told))
        return
    shared = ["--steps", str(asked.steps), *(["--titles", str(path)] if asked.titles else [])]
    runs: dict[str, dict[str, list[dict[str, Any]]]] = {}
    for _ in range(asked.rounds):
        for what in ("train", "encode"):
            for contender in CONTENDERS:
                found = own_process("--one", contender, what, *shared)
                runs.setdefault(what, {}).setdefault(contender, []).append(found)
    result = {"machine": _machine(), "rounds": asked.rounds, "steps": asked.steps, "batch": BATCH, **_table(runs)}
    if asked.titles:
        result["quality"] = {one: own_process("--one", one, "quality", *shared) for one in CONTENDERS}
    asked.to.parent.mkdir(parents=True, exist_ok=True)
    asked.to.write_text(json.dumps(result, indent=2) + "\n")
    print(json.dumps(result, indent=2))


def _table(runs: dict[str, dict[str, list[dict[str, Any]]]]) -> dict[str, Any]:
    import numpy as np

    table: dict[str, Any] = {}
    for what, key in (("train", "pairs_a_second"), ("encode", "sentences_a_second")):
        rates = {one: [round(each[key], 1) for each in found] for one, found in runs[what].items()}
        ratios = [mine / other for mine, other in zip(rates["luthier"], rates["stock"], strict=True)]
        table[what] = {key: rates, "median_ratio": round(statistics.median(ratios), 3)}
    table["train"]["path"] = runs["train"]["luthier"][0]["path"]
    table["train"]["dtype"] = runs["train"]["luthier"][0]["dtype"]
    mine, other = (np.array(runs["encode"][one][0]["sample"]) for one in CONTENDERS)
    table["encode"]["least_cosine"] = float((mine * other).sum(1).min())
    return table


def _machine() -> dict[str, Any]:
    from importlib.metadata import version

    from luthier.engine.threads import usable_cores
    from luthier.models.rate import _cpu_name

    packages = {name: version(name) for name in ("torch", "transformers", "peft", "sentence-transformers")}
    return {"cpu": _cpu_name(), "cores": usable_cores(), "packages": packages}


if __name__ == "__main__":
    main()
