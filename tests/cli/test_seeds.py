"""Several training seeds from the outside."""

from __future__ import annotations

import json
import time
from pathlib import Path

from tests.cli import forked
from tests.cli.conftest import Luthier


def test_killed_between_seeds_the_run_goes_on_and_compares_all(
    luthier: Luthier, recipe: Path, own_folder: Path
) -> None:
    seeds = ("--set", "training.seeds=[1, 2]")
    started = forked.start("run", recipe, *seeds, "--quiet", told=own_folder / "told.txt")
    while not list(own_folder.glob("runs/small/*/4-train/seed-2/metrics.jsonl")):
        assert started.is_alive(), (own_folder / "told.txt").read_text()
        time.sleep(0.01)
    started.kill()
    started.join()
    [folder] = (own_folder / "runs" / "small").iterdir()
    first = folder / "4-train"
    assert not (first / "manifest.json").exists()
    losses, [mark] = (first / "metrics.jsonl").read_bytes(), first.glob("checkpoint-*/checkpoint.json")
    made = mark.stat().st_mtime_ns
    ended = luthier("run", recipe, *seeds)
    assert ended.status == 0, ended.err
    assert "training seed 1, 1 of 2" in ended.err and "training seed 2, 2 of 2" in ended.err
    assert ((first / "metrics.jsonl").read_bytes(), mark.stat().st_mtime_ns) == (losses, made)
    weights = [(path / "adapter" / "adapter_model.safetensors").read_bytes() for path in (first, first / "seed-2")]
    assert weights[0] != weights[1]
    assert [one["seed"] for one in json.loads((first / "train.json").read_text())["seeds"]] == [1, 2]
    comparison = json.loads((folder / "5-evaluate" / "comparison.json").read_text())
    assert comparison["seeds"]["count"] == 2
    assert "2 training seeds" in comparison["seeds"]["sentence"]
    assert "2 training seeds" in (folder / "8-report" / "index.html").read_text()
    told = luthier("train", recipe, "--set", "training.seeds=[1]")
    assert told.status == 2
    assert "One training seed" in told.err
