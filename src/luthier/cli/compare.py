"""The verb that ranks runs on one test set."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from luthier.cli.console import DEFAULT_RUNS, JsonOption, RunsOption, print_json
from luthier.errors import UserError

if TYPE_CHECKING:
    from luthier.evaluate.standings import Contender, Yardstick
    from luthier.run.folder import RunFolder

Scores = dict[str, dict[str, tuple[float, list[float]]]]  # metric, item, (base, tuned with each training seed)
BASE = "base"


def register(app: typer.Typer) -> None:
    """Add the verb of this module."""
    app.command("compare")(compare)


def compare(
    named: Annotated[list[str], typer.Argument(metavar="RUN...", help="Two runs or more: path, NAME/latest, NAME/ID.")],
    metric: Annotated[str | None, typer.Option(help="Rank by this metric instead of the primary one.")] = None,
    runs: RunsOption = DEFAULT_RUNS,
    as_json: JsonOption = False,
) -> None:
    """Rank runs on one test set, each pair compared; runs of one recipe with other seeds count as one."""
    found = rank_runs(named, runs, metric)
    if as_json:
        print_json(found)
    else:
        print(render(found))


@dataclass(frozen=True)
class Evaluated:
    """A run that was evaluated.

    Attributes:
        name: `<recipe name>/<id>`. primary: its metric. test: digest of its test split. recipe: digest of its recipe
            without the seed. scores: of base and tuned. seeds: how many were trained. groups: of the items.
        entries: of comparison.json. titles: of the metrics.
    """

    name: str
    primary: str
    test: str
    recipe: str
    scores: Scores
    seeds: int
    groups: Mapping[str, Any]
    entries: Mapping[str, Mapping[str, Any]]
    titles: Mapping[str, str]


def rank_runs(named: Sequence[str], runs: Path, metric: str | None = None) -> dict[str, Any]:
    """Return the ranking of runs: what `standings` returns, with `items` and `test_set` (digest of the test split).

    Args:
        named: the runs. runs: folder of all runs. metric: that ranks; None: the primary one of the first run.

    Raises:
        UserError: a run is not there or not evaluated, or the runs have different test sets or no metric in common.
    """
    from luthier.evaluate.standings import standings
    from luthier.run.folder import find_run

    folders = list({folder.path: folder for folder in (find_run(one, runs) for one in named)}.values())
    if len(folders) < 2:
        raise UserError("A comparison needs two runs or more.", "", "Name them: luthier compare RUN RUN.")
    evaluated = [_read(folder) for folder in folders]
    _require_one_test_set(evaluated)
    metrics, items = _common(evaluated)
    chosen = metric or evaluated[0].primary
    if chosen not in metrics:
        raise UserError(f"Not all of the runs have scores of {chosen}.", "", f"They share {', '.join(metrics)}.")
    ranked = standings(_contenders(evaluated, items), {name: metrics[name] for name in items}, chosen)
    return {**ranked, "test_set": evaluated[0].test}


def render(found: Mapping[str, Any]) -> str:
    """Return a ranking as text: the table of the metric that ranks, all pairs, and the leader by each metric."""
    from luthier.report.overview import columns

    one = found["metrics"][found["primary"]]
    table = [("rank", "run", "seeds", one["title"])]
    table += [(str(line["rank"]), line["name"], str(line["seeds"]), f"{line['mean']:.4g}") for line in one["ranking"]]
    pairs = [("first", "second", "difference", "95 % interval", "p corrected", "first is")]
    for line in one["pairs"]:
        low, high = line["ci95"] or (None, None)
        interval = "–" if low is None else f"{low:+.4f} to {high:+.4f}"
        told = (f"{line['difference']:+.4f}", interval, f"{line['p_adjusted']:.4f}", line["verdict"])
        pairs.append((line["first"], line["second"], *told))
    others = [("metric", "leaders (those that none beats beyond chance)")]
    for name, each in found["metrics"].items():
        others.append((name, ", ".join(line["name"] for line in each["ranking"] if line["rank"] == 1)))
    return "\n\n".join([columns(table), columns(pairs), columns(others), str(found["sentence"])])


def _read(folder: RunFolder) -> Evaluated:
    import yaml

    from luthier.run.atomic import read_json, read_jsonl
    from luthier.run.manifest import digest_value

    name = f"{folder.path.parent.name}/{folder.id}"
    if not folder.comparison.is_file():
        remedy = f"Run: luthier evaluate {folder.path.parent.name}"
        raise UserError(f"Run {name} is not evaluated.", str(folder.path), remedy)
    comparison, metrics = read_json(folder.comparison), read_json(folder.metrics_report)["metrics"]
    scores: Scores = {}
    for line in read_jsonl(folder.scores):
        scores.setdefault(line["metric"], {})[line["id"]] = (
            line["base"],
            line.get("tuned_seeds") or [line["tuned"]],
        )
    test = sorted(read_jsonl(folder.rows("test")), key=lambda line: str(line["id"]))
    content = [{key: value for key, value in line.items() if key not in ("labels", "source")} for line in test]
    recipe = {key: value for key, value in yaml.safe_load(folder.recipe.read_text()).items() if key != "seed"}
    return Evaluated(
        name=name,
        primary=comparison["primary"],
        test=digest_value(content),
        recipe=digest_value(recipe),
        scores=scores,
        seeds=(comparison.get("seeds") or {}).get("count", 1),
        groups={line["id"]: line["group"] for line in test},
        entries=comparison["metrics"],
        titles={name: metrics[name]["tuned"]["title"] for name in scores},
    )


def _require_one_test_set(evaluated: Sequence[Evaluated]) -> None:
    first = evaluated[0]
    for one in evaluated[1:]:
        if one.test != first.test:
            mine, theirs = set(first.groups), set(one.groups)
            told = f"they share {len(mine & theirs)} of {len(mine)} and {len(theirs)} items"
            if mine == theirs:
                told = "the items have the same names and other contents"
            raise UserError(
                f"{first.name} and {one.name} were measured on different test sets: {told}.",
                "",
                "Evaluate both on one test set: give the splits as files, or keep data and seed.",
            )


def _common(evaluated: Sequence[Evaluated]) -> tuple[dict[str, Yardstick], dict[str, list[str]]]:
    """Return the metrics that all runs have, and the items that all of them have a score for."""
    from luthier.evaluate.standings import Yardstick

    first = evaluated[0]
    metrics, items = {}, {}
    for name in first.scores:
        if all(name in one.scores for one in evaluated):
            shared = [item for item in first.scores[name] if all(item in one.scores[name] for one in evaluated)]
            if shared:
                items[name] = shared
                groups = [first.groups.get(item) for item in shared]
                entry = first.entries[name]
                metrics[name] = Yardstick(first.titles[name], entry["higher_is_better"], entry["logarithmic"], groups)
    return metrics, items


def _contenders(evaluated: Sequence[Evaluated], items: Mapping[str, Sequence[str]]) -> list[Contender]:
    """Return one contender for each recipe, its seeds together; the base too where all runs start from one."""
    from luthier.evaluate.standings import Contender

    together: dict[str, list[Evaluated]] = {}
    for one in evaluated:
        together.setdefault(one.recipe, []).append(one)
    found = []
    for group in together.values():
        each = [(one, seed) for one in group for seed in range(one.seeds)]
        scores = {
            name: [[one.scores[name][item][1][seed] for item in items[name]] for one, seed in each] for name in items
        }
        more = len(each) - group[0].seeds
        name = group[0].name if not more else f"{group[0].name} and {more} more seeds"
        found.append(Contender(name, scores, [one.name for one, _ in each]))
    bases = [{name: [one.scores[name][item][0] for item in items[name]] for name in items} for one in evaluated]
    if all(base == bases[0] for base in bases):
        found.append(Contender(BASE, {name: [scores] for name, scores in bases[0].items()}))
    return found
