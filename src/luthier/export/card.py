"""The model card: README.md with the metadata that the Hugging Face Hub reads (Mitchell et al. 2019, model cards).

Every number comes from the run folder; what a stage did not write is left out.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from luthier.run.atomic import read_json
from luthier.run.folder import RunFolder
from luthier.run.record import read_record
from luthier.version import __version__

LIBRARIES = ("torch", "transformers", "peft", "sentence-transformers")
# What a kind gives for a text: (task on the Hub, library that loads the merged folder).
TASKS = {"words": ("text-generation", "transformers"), "vectors": ("sentence-similarity", "sentence-transformers")}
USAGE = {
    "words": """from transformers import pipeline

coach = pipeline("text-generation", model="7-export/merged")
reply = coach([{"role": "user", "content": "..."}], max_new_tokens=128)
print(reply[0]["generated_text"][-1]["content"])""",
    "vectors": """from sentence_transformers import SentenceTransformer

model = SentenceTransformer("7-export/merged")
vectors = model.encode(["...", "..."])
print(model.similarity(vectors, vectors))""",
}
# Lower-case spellings that the Hub knows as licences, as far as Luthier's bases have them.
KNOWN_LICENCES = ("apache-2.0", "mit", "cc-by-sa-4.0", "cc-by-4.0", "llama3.1", "llama3.2", "gemma", "openrail")


def card(folder: RunFolder, name: str, gives: str, licence: str | None, system: str | None = None) -> str:
    """Return the card of a run.

    Args:
        folder: the run; its data, plan, training and evaluation are complete. name: of the recipe.
        gives: what the kind gives for a text, "words" or "vectors". licence: of the base, where it is known.
        system: the system message of every conversation, where there is one.
    """
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=False,  # noqa: S701 - Markdown; every text goes through `plain`
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters.update(plain=plain, thousands=lambda number: f"{number:,}")
    return environment.get_template("card.md.j2").render(
        **_facts(folder, name, gives), metadata=_metadata(folder, name, gives, licence), system=system
    )


def plain(value: Any) -> str:
    """Return a text that Markdown shows as it is, on one line."""
    line = " ".join("".join(one if one.isprintable() else " " for one in str(value)).split())
    return re.sub(r"([\\`*_{}\[\]<>|#])", r"\\\1", line)


def _facts(folder: RunFolder, name: str, gives: str) -> dict[str, Any]:
    data, plan, trained = (read_json(path) for path in (folder.data_report, folder.plan_report, folder.train_report))
    comparison, record = read_json(folder.comparison), read_record(folder)
    first = comparison["metrics"][comparison["primary"]]
    return {
        "title": name,
        "version": __version__,
        "base": plan["base"],
        "method": trained["method"],
        "rows": data["rows"],
        "leaks": data["leaks"],
        "usage": USAGE[gives],
        "merged": folder.merged.is_dir(),
        "training": _training(plan, trained),
        "comparison": comparison,
        "items": first["items"],
        "units": first["n"],
        "results": [_result(metric, entry) for metric, entry in comparison["metrics"].items()],
        "limits": _limits(comparison, first, trained),
        "seed": record["seed"],
        "versions": [(one, record["versions"][one]) for one in LIBRARIES if record["versions"].get(one)],
    }


def _training(plan: Mapping[str, Any], trained: Mapping[str, Any]) -> list[tuple[str, str]]:
    told = [
        ("trained parameters", f"{trained['trainable']:,} of {trained['total']:,}"),
        ("optimizer steps", f"{trained['steps']:,} ({trained['epochs']:g} epochs)"),
        ("time", f"{trained['seconds']:,.0f} s"),
        ("precision of the base", plan["base"]["dtype"]),
    ]
    if trained["best_validation_loss"] is not None:
        told.append(("lowest validation loss", f"{trained['best_validation_loss']:.4f}, step {trained['best_step']}"))
    holds = "holds" if trained["adapter_proof"]["holds"] else "does not hold"
    return [*told, ("adapter proof (moved, finite, reloads, changes the output, merges)", holds)]


def _result(name: str, entry: Mapping[str, Any]) -> dict[str, str]:
    bounds = entry["ci95"]
    return {
        "name": name,
        "base": f"{entry['base']:.4g}",
        "tuned": f"{entry['tuned']:.4g}",
        "difference": f"{entry['difference']:+.4g}",
        "interval": f"{bounds[0]:+.4g} to {bounds[1]:+.4g}" if bounds else "none",
        "verdict": entry["verdict"],
    }


def _limits(comparison: Mapping[str, Any], first: Mapping[str, Any], trained: Mapping[str, Any]) -> list[str]:
    told = [
        f"All figures are of {first['items']:,} held-out items of the same source as the training rows: they say "
        "nothing of other topics, languages or users."
    ]
    if first["minimum_detectable"] is not None:
        told.append(
            f"This test set shows a difference in {comparison['primary']} of {first['minimum_detectable']:.3g} four "
            "times in five; a smaller one may have been missed."
        )
    told += [str(note) for note in trained["notes"]]
    return [*told, "No human has judged the answers. Look at them before anybody relies on them."]


def _metadata(folder: RunFolder, name: str, gives: str, licence: str | None) -> str:
    """Return the YAML head: licence, base, task, library, and the results as the Hub's model-index has them."""
    import yaml

    plan, comparison = read_json(folder.plan_report), read_json(folder.comparison)
    task, library = TASKS[gives]
    values = [
        {"type": metric, "value": entry["tuned"], "name": f"{metric} on held-out rows"}
        for metric, entry in comparison["metrics"].items()
    ]
    head: dict[str, Any] = {
        "license": licence if licence in KNOWN_LICENCES else "other",
        "library_name": library,
        "pipeline_tag": task,
        "tags": ["luthier", "fine-tuned"],
    }
    if plan["base"]["hub_id"]:
        head["base_model"] = plan["base"]["hub_id"]
    results = [{"task": {"type": task}, "dataset": {"name": name, "type": name}, "metrics": values}]
    head["model-index"] = [{"name": name, "results": results}]
    return str(yaml.safe_dump(head, sort_keys=False, allow_unicode=True))
